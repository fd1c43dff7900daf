"""VizWiz: what blind people asked about their own photographs, ten answers each.

One row of val.json, https://vizwiz.org/tasks-and-datasets/vqa/:

    {"image": "VizWiz_val_00000000.jpg", "question": "Ok. There is another picture ...", "answerable": 0,
     "answer_type": "unanswerable", "answers": [{"answer": "unanswerable", "answer_confidence": "yes"}, ...]}

The picture is "val/VizWiz_val_00000000.jpg", and its name is the id: every picture has one question. LLaVA's answers
give the number at its end as their question_id.
"""

from __future__ import annotations

from collections.abc import Iterator

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_rows


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("val" unless said otherwise)."""
    split = split or "val"
    rows = read_rows(folder.find(f"{split}.json"), folder.tally)
    yield from folder.tally.each(rows, lambda row: _example(folder, split, row))


def _example(folder: Folder, split: str, row: Row) -> Example:
    name = row.text("image")
    return Example(
        id=name,
        image=folder.picture(row, name, split),
        question=row.text("question"),
        answers=tuple(answer.text("answer", empty=True) for answer in row.rows("answers")),
        group=name,
        dataset="vizwiz",
        metric="vizwiz",
        meta={"answer_type": row.fields.get("answer_type"), "answerable": row.fields.get("answerable")},
    )
