"""Readers of public benchmarks and of your own questions, one file each.

Each finds its files by their published names and makes Examples of them. Knows which benchmarks there are. Knows no
model, and opens no picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers import (
    chartqa,
    docvqa,
    gqa,
    llava,
    mmbench,
    mme,
    own,
    pope,
    scienceqa,
    textvqa,
    vizwiz,
    vqav2,
)
from training_data.readers.folder import Folder
from training_data.rows import Reading, Tally

__all__ = ["BENCHMARKS", "Reading", "read", "read_own"]

BENCHMARKS: dict[str, Callable[[Folder, str | None], Iterator[Example]]] = {
    "chartqa": chartqa.read,
    "docvqa": docvqa.read,
    "gqa": gqa.read,
    "llava": llava.read,
    "mmbench": mmbench.read,
    "mme": mme.read,
    "pope": pope.read,
    "scienceqa": scienceqa.read,
    "textvqa": textvqa.read,
    "vizwiz": vizwiz.read,
    "vqav2": vqav2.read,
}


def read(
    benchmark: str,
    folder: str | Path,
    *,
    split: str | None = None,
    skip_bad: bool = False,
    pictures: bool = True,
    text_only: bool = False,
) -> Reading:
    """Read a benchmark from its folder.

    Args:
        benchmark: a key of `BENCHMARKS`.
        folder: where its files lie, at any depth.
        split: which part, in the benchmark's own words; each reader names its default.
        skip_bad: count bad rows and missing pictures instead of raising the first.
        pictures: whether every picture must be there. To score answers none need be.
        text_only: keep questions that have no picture (half of ScienceQA's).

    Raises:
        DataError: an unknown benchmark; files missing, ambiguous or damaged; a bad row, unless `skip_bad`.
    """
    if benchmark not in BENCHMARKS:
        raise DataError(f"a benchmark must be one of {', '.join(BENCHMARKS)}, was: {benchmark!r}; or use read_own")
    if split is not None and not re.fullmatch(r"[\w.-]+", split):
        raise DataError(f"a split is one word, was: {split!r}; name it as the benchmark does")
    home = Folder(Path(folder), Tally(skip_bad), pictures)
    examples = tuple(example for example in BENCHMARKS[benchmark](home, split) if text_only or example.image != ())
    return _reading(examples, home.tally, f"{benchmark} in {home.path.name}")


def read_own(path: str | Path, *, skip_bad: bool = False, pictures: bool = True, gold: bool = True) -> Reading:
    """Read your own questions from a file; its row is shown in `training_data/readers/own.py`.

    Args:
        path: of the file.
        skip_bad: count bad rows and missing pictures instead of raising the first.
        pictures: whether every picture must be there.
        gold: whether every row must say what is right; questions that are only to be answered need not.

    Raises:
        DataError: as `read`.
    """
    path = Path(path)
    home = Folder(path.parent, Tally(skip_bad), pictures, anywhere=True)  # your own file may name any of your pictures
    return _reading(tuple(own.read(home, path, gold)), home.tally, path.name)


def _reading(examples: tuple[Example, ...], tally: Tally, source: str) -> Reading:
    if not examples:
        reason = f"{tally.bad} bad rows, the first: {tally.messages[0]}" if tally.bad else "no row"
        raise DataError(f"there must be at least one example, was: {reason}, from {source}; check files and split")
    return Reading(examples, tally.bad, tuple(tally.messages))
