r"""ScienceQA: school questions with two to five choices, half of them with a picture.

One entry of problems.json, and pid_splits.json, https://github.com/lupantech/ScienceQA/tree/main/data/scienceqa:

    "4": {"question": "Which ...?", "choices": ["a sample", "..."], "answer": 0, "hint": "Passage: ...",
          "image": "image.png" or null, "subject": "natural science", "grade": "grade8", "split": "test", ...}
    {"test": ["4", "5", ...], "val": [...], "minitest": [...], ...}

The picture is "test/4/image.png". LLaVA's converted form (llava_test_CQM-A.json, in LLaVA's prompt) is read where
problems.json is not there; samples without a picture have no "image" key:

    {"id": "4", "image": "4/image.png", "conversations": [{"from": "human", "value": "<image>\nContext: ...\nA. ..."},
                                                          {"from": "gpt", "value": "The answer is A."}]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import Row, read_document, read_entries, read_rows
from training_data.scores import listed

LETTERS = "ABCDE"
_OPTION = re.compile(r"(?:^|\s)\(?([A-E])[.)] ")
# in LLaVA's order of answer, lecture and explanation: "B", "The answer is B. BECAUSE: ...", "... The answer is B.",
# "LECTURE: ... ### ANSWER: B."
_GOLD = re.compile(r"^([A-E])\.?$|^The answer is ([A-E])\.|(?:The answer is|ANSWER:) ([A-E])\.?$")


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of a split ("test" unless said otherwise) in its order, those without a picture too: `image` is ().

    `meta` holds the split as it was asked for ("minitest" questions are "test" ones in problems.json).
    """
    split = split or "test"
    if not folder.find_all("problems.json"):
        path = folder.find(f"llava_{split}_*.json")
        yield from folder.tally.each(read_rows(path, folder.tally), lambda row: _converted(folder, row, split))
        return
    splits = read_document(folder.find("pid_splits.json"))
    problems = {row.key: row for row in read_entries(folder.find("problems.json"), folder.tally)}
    names = splits.texts(split)
    for lost in (name for name in names if name not in problems):
        folder.tally.refuse(
            DataError(f"{splits.file}: every id of {split!r} must be in problems.json, was: {lost!r}; fetch both again")
        )
    rows = (problems[name] for name in names if name in problems)
    yield from folder.tally.each(rows, lambda row: _problem(folder, row, split))


def _problem(folder: Folder, row: Row, split: str) -> Example:
    choices, gold = row.texts("choices"), row.integer("answer")
    if not 0 <= gold < min(len(choices), len(LETTERS)):
        row.refuse(f"the field 'answer' must number one of {min(len(choices), len(LETTERS))} choices from 0", gold)
    home = row.optional("split") or split
    return Example(
        id=row.key,
        image=folder.picture(row, f"{row.key}/{row.text('image')}", home, f"images/{home}") if row.has("image") else (),
        question="\n".join(
            [*filter(None, [row.optional("hint")]), row.text("question"), *listed(choices[: len(LETTERS)])]
        ),
        answers=(LETTERS[gold],),
        group=row.key,
        dataset="scienceqa",
        choices=choices,
        metric="letter",
        meta={"subject": row.fields.get("subject"), "grade": row.fields.get("grade"), "split": split},
    )


def _converted(folder: Folder, row: Row, split: str) -> Example:
    turns = row.rows("conversations")
    if len(turns) < 2 or not (named := _GOLD.search(turns[1].text("value").strip())):
        row.refuse("the second turn must name the right letter", [turn.fields for turn in turns[1:2]])
    gold = next(filter(None, named.groups()))
    question = turns[0].text("value").replace("<image>", "").strip()
    letters = sorted(set(_OPTION.findall(question)) | {gold})
    return Example(
        id=row.name("id"),
        image=folder.picture(row, row.text("image"), split, f"images/{split}") if row.has("image") else (),
        question=question,
        answers=(gold,),
        group=row.name("id"),
        dataset="scienceqa",
        choices=tuple(letters),
        metric="letter",
        meta={"split": split},
    )
