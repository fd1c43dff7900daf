r"""POPE: is there a such-and-such in the picture? Three files of labels, balanced between yes and no.

One row of coco_pope_random.json (JSON Lines in spite of its name), https://github.com/AoiDragon/POPE:

    {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a cup in the image?", "label": "yes"}

Its ids start anew in every file. LLaVA asks through llava_pope_test.jsonl, whose ids are its own:

    {"question_id": 0, "image": "COCO_val2014_...jpg", "text": "Is there a cup in the image?\nAnswer the question ...",
     "category": "random"}

LLaVA's evaluator pairs the two by order, which goes wrong silently where a label file has more rows (the random one
grew from 2,910 to 3,000). Here a question finds its label by category, picture and question; where a word is misspelt
in one of the two ("imange" in early labels), by the one label left over for its picture that differs by one letter of
one longer word. What is found neither way is a bad row. Labels without a question are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.readers.llava import plain_question
from training_data.rows import Row, read_rows
from training_data.scores import edit_distance

CATEGORIES = ("adversarial", "popular", "random")
_TYPO_LENGTH = 5  # "cat" and "car" ask two questions, "image" and "imange" one


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples in the order of llava_pope_test.jsonl, or of the label files where there is none.

    `split` is one category. Ids are LLaVA's, or "category/id" from label files; `meta` holds the category.
    """
    files = {name: folder.find_all(f"*_pope_{name}.json") for name in ([split] if split else CATEGORIES)}
    if not any(files.values()):
        folder.find(f"*_pope_{split or '*'}.json")  # says what is missing
    asked_by_llava = bool(folder.find_all("llava_pope_test.jsonl"))
    labels = [label for name, found in files.items() if found for label in _labels(folder, name, asked_by_llava)]
    if not asked_by_llava:
        yield from labels
        return
    path = folder.find("llava_pope_test.jsonl")
    asked = folder.tally.each(read_rows(path, folder.tally), _checked)
    rows = [row for row in asked if split in (None, row.text("category"))]
    pairs = _pair(rows, labels)
    yield from folder.tally.each(rows, lambda row: _example(row, pairs))


def _labels(folder: Folder, category: str, by_place: bool) -> Iterator[Example]:
    """The labels of a category, as examples; their own ids count only where no question file has others."""
    path = folder.find(f"coco_pope_{category}.json", f"*_pope_{category}.json")
    rows = read_rows(path, folder.tally)
    yield from folder.tally.each(
        rows, lambda row: _label(folder, category, row.place if by_place else row.name("question_id"), row)
    )


def _label(folder: Folder, category: str, number: str, row: Row) -> Example:
    if (label := row.text("label")) not in ("yes", "no"):
        row.refuse("the field 'label' must be 'yes' or 'no'", label)
    name = row.text("image")
    return Example(
        id=f"{category}/{number}",
        image=folder.picture(row, name, "val2014"),
        question=row.text("text"),
        answers=(label,),
        group=name,
        dataset="pope",
        metric="yes_no",
        meta={"category": category, "question_id": number},
    )


def _checked(row: Row) -> Row:
    for name in ("text", "image", "category"):
        row.text(name)
    return row


def _pair(rows: list[Row], labels: list[Example]) -> dict[str, Example]:
    """The label of each question, by the question's place: first all that agree, then the misspelt ones."""
    left = defaultdict(list)
    for label in labels:
        left[label.meta["category"], label.group].append(label)
    pairs: dict[str, Example] = {}
    for agree in (str.__eq__, _misspelt):
        for row in rows:
            here = left[row.text("category"), row.text("image")]
            question = plain_question(row.text("text"))
            same = [label for label in here if agree(plain_question(label.question), question)]
            if row.place not in pairs and same and (agree is not _misspelt or len(same) == 1):
                pairs[row.place] = same[0]
                here.remove(same[0])
    return pairs


def _misspelt(one: str, other: str) -> bool:
    """Whether exactly one word differs, it is long, and by one letter."""
    words = list(zip(one.split(), other.split(), strict=False))
    different = [(a, b) for a, b in words if a != b]
    if len(one.split()) != len(other.split()) or len(different) != 1:
        return False
    return min(map(len, different[0])) >= _TYPO_LENGTH and edit_distance(*different[0]) == 1


def _example(row: Row, pairs: dict[str, Example]) -> Example:
    if row.place not in pairs:
        row.refuse(
            f"every question of {row.text('category')!r} must have a label of the same picture",
            f"{row.text('image')}: {row.text('text')}",
            "fetch label files and questions of the same version, or skip bad rows (skip_bad=True, --skip-bad)",
        )
    return replace(pairs[row.place], id=row.name("question_id"), question=row.text("text"))
