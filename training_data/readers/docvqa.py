"""DocVQA: questions about scanned pages, one or more answers each.

One row under "data" of val_v1.0_withQT.json (or val_v1.0.json), https://rrc.cvc.uab.es/?ch=17&com=downloads:

    {"questionId": 49153, "question": "What is the 'actual' value per 1000, during the year 1975?", "docId": 14465,
     "image": "documents/pybv0228_81.png", "answers": ["0.28"], "question_types": ["figure/diagram"], ...}

Pages lie in spdocvqa_images/, as archives go with or without the "documents/" of their names.
"""

from __future__ import annotations

from collections.abc import Iterator

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_rows


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("val" unless said otherwise)."""
    split = split or "val"
    path = folder.find(f"{split}_v1.0_withQT.json", f"{split}_v*.json")
    yield from folder.tally.each(read_rows(path, folder.tally, "data"), lambda row: _example(folder, row))


def _example(folder: Folder, row: Row) -> Example:
    name = row.text("image")
    return Example(
        id=row.name("questionId"),
        image=folder.picture(row, name, "spdocvqa_images", flat=True),
        question=row.text("question"),
        answers=row.texts("answers"),
        group=name,
        dataset="docvqa",
        metric="anls",
    )
