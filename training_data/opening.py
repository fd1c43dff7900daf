"""Pictures on their way to the vision pass: opened, changed for replicates and prepared in worker processes.

Knows examples and what a tower wants done to a picture. Loads no torch, so that workers stay light.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from encoders.errors import ImageError, MatryoshkaError
from encoders.images import Preparation, open_image
from encoders.pixels import pixel_statistics
from training_data.example import Example, Source, drawn
from training_data.replicates import disturbed, replicate_of

Numbered = tuple[int, Example]  # an example and its place in the data


@dataclass(frozen=True)
class Opened:
    """A picture ready for the vision pass with its pixel statistics, or why it could not be opened."""

    pixels: np.ndarray | None
    statistics: np.ndarray | None
    reason: str = ""


def opened_batches(
    batches: Iterable[list[Numbered]], preparation: Preparation, replicate: int, workers: int | None
) -> Iterator[tuple[list[Numbered], list[Opened]]]:
    """Each batch with one `Opened` per example; questions about one picture share it, object and all.

    `workers` processes open pictures; None for half of the processors, at least one.
    """
    processes = max(1, (os.cpu_count() or 2) // 2) if workers is None else workers
    waiting: deque[tuple[list[Numbered], list[int]]] = deque()

    def tasks() -> Iterator[Any]:
        for batch in batches:
            sources, rows = _distinct([example for _, example in batch])
            waiting.append((batch, rows))
            ready = [tuple(map(_sendable, pictures)) for pictures in sources] if processes > 1 else sources
            yield delayed(_open_all)(ready, preparation, replicate)

    pending = tasks()
    with Parallel(n_jobs=processes, return_as="generator") as pool:
        # In windows: workers that outrun the model would otherwise fill the memory with pictures.
        while window := list(islice(pending, 2 * processes)):
            for opened in pool(window):
                batch, rows = waiting.popleft()
                yield batch, [opened[row] for row in rows]


def _distinct(examples: Sequence[Example]) -> tuple[list[tuple[Source, ...]], list[int]]:
    """The different pictures of a batch, and which one each example shows."""
    sources: dict[Any, tuple[Source, ...]] = {}
    keys = [picture_key(example) for example in examples]
    for key, example in zip(keys, examples, strict=True):
        sources.setdefault(key, example.images)
    row_of = {key: row for row, key in enumerate(sources)}
    return list(sources.values()), [row_of[key] for key in keys]


def picture_key(example: Example) -> tuple[object, ...]:
    """What tells an example's pictures from others: themselves, or what cannot be hashed by its place in memory."""
    return tuple(source if isinstance(source, Hashable) else id(source) for source in example.images)


def _sendable(source: Source) -> Source:
    """The source; of a PIL picture that cannot be read, and so not sent to a process, the error it raises."""
    if isinstance(source, Image.Image):
        try:
            source.load()
        except Exception as error:
            return _Torn(f"a picture must be whole, was: {error}")
    return source


@dataclass(frozen=True)
class _Torn:
    reason: str

    def __call__(self) -> Image.Image:
        raise ImageError(self.reason)


def _open_all(sources: Sequence[tuple[Source, ...]], preparation: Preparation, replicate: int) -> list[Opened]:
    return [_open(source, preparation, replicate) for source in sources]


def _open(sources: tuple[Source, ...], preparation: Preparation, replicate: int) -> Opened:
    try:
        if len(sources) != 1:
            raise ImageError(f"this backbone takes one picture per question, was: {len(sources)}")
        source, redrawn = replicate_of(sources[0], replicate)
        picture = open_image(drawn(source))
        if replicate and not redrawn:
            picture = disturbed(picture, replicate)
        return Opened(preparation(picture), pixel_statistics(picture))
    except MatryoshkaError as error:
        return Opened(None, None, str(error))
    except Exception as error:  # a picture may be a callable of yours, which may raise anything
        return Opened(None, None, f"a picture must open, was: {type(error).__name__}: {error}")
