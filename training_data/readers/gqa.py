"""GQA: compositional questions about scenes, one answer each.

One entry of testdev_balanced_questions.json, https://cs.stanford.edu/people/dorarad/gqa/download.html:

    "201307251": {"question": "Is it overcast?", "answer": "no", "imageId": "n161313", "isBalanced": true,
                  "fullAnswer": "No, it is clear.", "types": {"structural": "verify", ...}, ...}

The picture is "images/n161313.jpg".
"""

from __future__ import annotations

from collections.abc import Iterator

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_entries


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("testdev_balanced" unless said otherwise); of an unbalanced file, the balanced ones only.

    GQA's accuracy counts those with "isBalanced": https://cs.stanford.edu/people/dorarad/gqa/evaluate.html
    """
    path = folder.find(f"{split or 'testdev_balanced'}_questions.json")
    rows = (row for row in read_entries(path, folder.tally) if row.fields.get("isBalanced") is not False)
    yield from folder.tally.each(rows, lambda row: _example(folder, row))


def _example(folder: Folder, row: Row) -> Example:
    name = row.name("imageId")
    return Example(
        id=row.key,
        image=folder.picture(row, f"{name}.jpg", "images"),
        question=row.text("question"),
        answers=(row.text("answer"),),
        group=name,
        dataset="gqa",
        metric="gqa",
    )
