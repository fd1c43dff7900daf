"""VQAv2: open questions about COCO pictures, ten answers each.

One row under "questions" of v2_OpenEnded_mscoco_val2014_questions.json, and one under "annotations" of
v2_mscoco_val2014_annotations.json (either may be gzipped), https://visualqa.org/download.html:

    {"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000}
    {"question_id": 262148000, "image_id": 262148, "question_type": "none of the above", "answer_type": "other",
     "multiple_choice_answer": "down", "answers": [{"answer": "down", "answer_confidence": "yes", "answer_id": 1}, ...]}

The picture is "val2014/COCO_val2014_000000262148.jpg". Annotations without a question are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_rows


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("val2014" unless said otherwise), in the order of its questions."""
    split = split or "val2014"
    answers, questions = f"v2_mscoco_{split}_annotations.json", f"v2_OpenEnded_mscoco_{split}_questions.json"
    labels_path = folder.find(answers, f"{answers}.gz")
    labels = folder.tally.keyed(read_rows(labels_path, folder.tally, "annotations"), "question_id")
    rows = read_rows(folder.find(questions, f"{questions}.gz"), folder.tally, "questions")
    yield from folder.tally.each(rows, lambda row: _example(folder, split, row, labels))


def _example(folder: Folder, split: str, row: Row, labels: dict[str, Row]) -> Example:
    name, number = row.name("question_id"), row.integer("image_id")
    if name not in labels:
        row.refuse("every question must have an annotation", name, "fetch questions and annotations of one split")
    return Example(
        id=name,
        image=folder.picture(row, f"COCO_{split}_{number:012d}.jpg", split),
        question=row.text("question"),
        answers=tuple(answer.text("answer", empty=True) for answer in labels[name].rows("answers")),
        group=str(number),
        dataset="vqav2",
        metric="vqa",
        meta={"answer_type": labels[name].fields.get("answer_type")},
    )
