"""Where examples come from: a file of your own, a public benchmark's folder, or the scenes.

Knows names and arguments, and whether examples are the same as before. Reads nothing itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from PIL import Image
from tqdm import tqdm

from encoders.errors import DataError, MatryoshkaError, shown
from encoders.images import open_image
from encoders.prompts import is_unicode
from training_data.example import Example, Source, drawn
from training_data.outcomes import Outcomes
from training_data.readers import read, read_own
from training_data.rows import Reading
from training_data.scenes import STYLE_NAMES, examples
from training_data.scenes.facts import Split, StyleName

_SCENES = "scenes:"


@dataclass(frozen=True)
class SceneExamples:
    """Questions on procedural pictures, drawn as they are asked for: gone through as often as wanted, never held."""

    pictures: int
    style: StyleName = "a"
    split: Split = "train"
    questions: int = 1
    start: int = 0
    seed: int = 0

    def __iter__(self) -> Iterator[Example]:
        return examples(self.pictures, self.style, self.split, self.seed, self.start, self.questions)

    @classmethod
    def parse(cls, text: str) -> SceneExamples:
        """`scenes:STYLE:SPLIT:PICTURES[:QUESTIONS]`, such as scenes:a:test:2000.

        Raises:
            DataError: it is written otherwise.
        """
        parts = text.removeprefix(_SCENES).split(":")
        counts = [part for part in parts[2:] if part.isdecimal() and 0 < int(part) < 10**9]
        known = len(parts) in (3, 4) and parts[0] in STYLE_NAMES and parts[1] in get_args(Split)
        if not known or len(counts) != len(parts) - 2:
            raise DataError(
                f"scenes are named scenes:STYLE:SPLIT:PICTURES[:QUESTIONS], style {' or '.join(STYLE_NAMES)}, split "
                f"{', '.join(get_args(Split))}, was: {text!r}; for example scenes:a:test:2000"
            )
        return cls(int(counts[0]), cast(StyleName, parts[0]), cast(Split, parts[1]), *map(int, counts[1:]))


def open_data(
    data: str, benchmark: str | None = None, split: str | None = None, skip_bad: bool = False
) -> tuple[Iterable[Example], Reading | None]:
    """Examples that can be gone through more than once, and what was skipped where a file was read.

    Args:
        data: scenes as `SceneExamples.parse` takes them; a folder, with `benchmark`; or a file of your own questions.
        benchmark: a name of `training_data.readers.BENCHMARKS`.
        split: which part of the benchmark.
        skip_bad: count bad rows instead of raising the first.

    Raises:
        DataError: as the readers do.
    """
    if data.startswith(_SCENES):
        return SceneExamples.parse(data), None
    if benchmark is None and Path(data).is_dir():
        raise DataError(f"a folder needs the benchmark it holds, was: {Path(data).name!r} alone; give --benchmark")
    if benchmark is None:
        reading = read_own(data, skip_bad=skip_bad)
    else:
        reading = read(benchmark, data, split=split, skip_bad=skip_bad)
    return reading.examples, reading


def reopened(source: object, digest: str) -> Iterable[Example] | None:
    """The examples that a sweep was made of, by what its file says of `open_data`'s arguments.

    Relative paths are looked for from the present folder. None where they do not open, or are no longer the same.
    """
    if not isinstance(source, Mapping):
        return None
    benchmark, split = (None if source.get(name) is None else str(source[name]) for name in ("benchmark", "split"))
    try:
        examples, _ = open_data(str(source.get("data")), benchmark, split, bool(source.get("skip_bad")))
        drawn_once = list(tqdm(examples, desc="data", unit=" examples", delay=2))  # scenes take their time
        return drawn_once if fingerprint(drawn_once)[0] == digest else None
    except (MatryoshkaError, OSError):
        return None


def fingerprint(examples: Iterable[Example]) -> tuple[str, int]:
    """(sha256 over all that examples say, how many there are). Pictures count by name and folder, not by their pixels.

    Raises:
        DataError: an id comes twice, there is no example, or they can be gone through only once.
    """
    if isinstance(examples, str) or not isinstance(examples, Iterable) or iter(examples) is examples:
        raise DataError(
            f"examples must allow more than one pass, was: {type(examples).__name__}; give a list, or what "
            "`training_data.readers.read_own` reads"
        )
    hasher, ids, count = hashlib.sha256(), set(), 0
    for example in examples:
        if not isinstance(example, Example):
            raise DataError(f"examples must be Examples, was: {shown(example)}; see training_data.example")
        _check_names(example, count)
        if example.id in ids:
            raise DataError(f"every example needs an id of its own, was twice: {example.id!r}")
        ids.add(example.id)
        paths = [
            "/".join(Path(source).parts[-2:]) for source in example.images if isinstance(source, str | os.PathLike)
        ]
        said = (example.id, example.question, example.answers, example.group, example.dataset, example.choices)
        hasher.update(json.dumps([*said, example.metric, paths, dict(example.meta)], default=str).encode() + b"\n")
        count += 1
    if not count:
        raise DataError("a sweep needs at least one example, was: none")
    return hasher.hexdigest(), count


def _check_names(example: Example, place: int) -> None:
    """Refuse what no outcomes file could hold, before a model is asked."""
    for name in ("id", "group", "dataset"):
        value = getattr(example, name)
        if not isinstance(value, str) or not is_unicode(value):
            raise DataError(f"{name} of an example must be valid text, was: {shown(value)} at place {place}; mend it")
    try:
        json.dumps(dict(example.meta), default=str, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"meta must be what JSON can hold, with texts for keys, was: {shown(example.meta)} of {example.id!r} "
            f"({error}); mend it"
        ) from error


def pictures_of(examples: Iterable[Example]) -> Callable[[str], Image.Image | None]:
    """A function from a group to its picture, None where it cannot be read."""
    sources: dict[str, Source] = {}
    for example in examples:
        if example.images:
            sources.setdefault(example.group, example.images[0])

    def picture(group: str) -> Image.Image | None:
        source = sources.get(group)
        try:
            return None if source is None else open_image(drawn(source))
        except MatryoshkaError:
            return None

    return picture


def pictured(rows: Outcomes, home: Path) -> list[Example] | None:
    """Examples that hold the pictures which a table's rows name, looked for from `home`; None where none are named."""
    if rows.meta is None or not all(isinstance(one.get("image"), str) and one["image"] for one in rows.meta):
        return None
    columns = zip(rows.id.tolist(), rows.question.tolist(), rows.group.tolist(), rows.dataset.tolist(), strict=True)
    return [
        Example(name, home / facts["image"], question, (), group, dataset)
        for (name, question, group, dataset), facts in zip(columns, rows.meta, strict=True)
    ]
