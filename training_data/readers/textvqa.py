"""TextVQA: questions about writing in pictures, ten answers each.

One row under "data" of TextVQA_0.5.1_val.json, https://textvqa.org/dataset/:

    {"question": "what is the brand of this camera?", "image_id": "003a8ae2ef43b901", "question_id": 34602,
     "answers": ["nous les gosses", "dakota", ...], "image_classes": ["Cassette deck", ...], "set_name": "val", ...}

The picture is "train_images/003a8ae2ef43b901.jpg".
"""

from __future__ import annotations

from collections.abc import Iterator

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_rows


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("val" unless said otherwise); LLaVA's answers call `meta["image_id"]` their question_id."""
    split = split or "val"
    path = folder.find(f"TextVQA_0.5.1_{split}.json", f"TextVQA_0.*_{split}.json")
    yield from folder.tally.each(read_rows(path, folder.tally, "data"), lambda row: _example(folder, row))


def question_line(prompt: str) -> str:
    """The line of a prompt that is the question: the first, or the second where OCR tokens stand before it.

    As https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_textvqa.py, `prompt_processor`, has it.
    """
    lines = prompt.split("\n")
    return lines[1] if len(lines) == 3 and lines[0].startswith("Reference OCR token:") else lines[0]


def _example(folder: Folder, row: Row) -> Example:
    name = row.name("image_id")
    return Example(
        id=row.name("question_id"),
        image=folder.picture(row, f"{name}.jpg", "train_images", "test_images"),
        question=row.text("question"),
        answers=row.texts("answers"),
        group=name,
        dataset="textvqa",
        metric="textvqa",
        meta={"image_id": name},
    )
