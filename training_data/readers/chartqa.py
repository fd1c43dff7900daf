"""ChartQA: questions about charts, half written by people ("human"), half generated ("augmented").

One row of test/test_human.json, https://github.com/vis-nlp/ChartQA (ChartQA Dataset):

    {"imgname": "41699051005347.png", "query": "How many food item is shown in the bar graph?", "label": "14"}

The picture is "test/png/41699051005347.png". Rows have no ids: theirs is "human/1", the part and the row number. Answer
files repeat "imgname" and "query" beside their "prediction", and are joined on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_rows

PARTS = ("human", "augmented")


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("test" unless said otherwise): the human part, then the augmented one, where they are."""
    split = split or "test"
    parts = [part for part in PARTS if folder.find_all(f"{split}_{part}.json")]
    for part in parts or PARTS[:1]:
        rows = read_rows(folder.find(f"{split}_{part}.json"), folder.tally)
        yield from folder.tally.each(rows, partial(_example, folder, split, part))


def _example(folder: Folder, split: str, part: str, row: Row) -> Example:
    name = row.text("imgname")
    return Example(
        id=f"{part}/{row.place.split()[-1]}",
        image=folder.picture(row, name, f"{split}/png"),
        question=row.text("query"),
        answers=(row.name("label"),),
        group=name,
        dataset="chartqa",
        metric="relaxed",
        meta={"part": part},
    )
