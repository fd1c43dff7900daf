"""Your own questions: one row per question, as JSON Lines, JSON, CSV, TSV, Parquet or an Excel sheet.

    {"image": "cats/1.jpg", "question": "How many cats?", "answer": "2"}
    {"image": ["a.jpg", "b.jpg"], "question": "Which is older?", "answers": ["the left", "left"], "id": "q7",
     "choices": ["left", "right"], "metric": "exact", "group": "pair 7", "dataset": "ages"}

    image,question,answer,choices
    cats/1.jpg,How many cats?,2,
    cats/2.jpg,Which colour?,B,red|black|white

Needed: image, question, and answer or answers. In a table, several answers or choices are parted by "|". The default of
id is the row's number, of group its image's path, of dataset the file's name, of metric "exact". Pictures are looked
for from the file's folder.

Where answers are letters of choices (the second row of the table, or metric "letter" or "mmbench"), the choices are put
below the question, "A. red" and so on a line each, unless it lists them under these letters already. Where answers are
spelled out, the question is asked as it is, and choices only tell the right answer's margin over the others. A row that
has choices and no answer, to be answered and not scored, says by its metric which of the two it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.rows import TABLES, Row, ending, read_rows
from training_data.scores import ANNOTATORS, LETTERED, LETTERS, METRICS, SOFT, YES_OR_NO, is_yes_or_no, listed


def read(folder: Folder, path: Path, gold: bool = True) -> Iterator[Example]:
    """Examples of the file `path` in `folder`; without `gold` rows need no answer."""
    table = ending(path) in TABLES
    yield from folder.tally.each(
        read_rows(path, folder.tally), lambda row: _example(folder, path.stem, row, table, gold)
    )


def _example(folder: Folder, dataset: str, row: Row, table: bool, gold: bool) -> Example:
    names = row.texts("image", "images")
    asked = gold or row.has("answers") or row.has("answer")
    answers = _parted(row, table, "answers", "answer") if asked else ()
    choices = _parted(row, table, "choices") if row.has("choices") else None
    metric = row.optional("metric") or "exact"
    if choices is not None and len(choices) < 2:
        row.refuse("the field 'choices' must hold two or more", list(choices), "write a list, or a|b in a table")
    if metric not in METRICS:
        row.refuse("the field 'metric' must name a metric", metric, f"use one of {', '.join(METRICS)}")
    if metric in LETTERED and not set(answers) <= set(LETTERS[: len(choices or ())]):
        row.refuse(f"the answer to metric {metric!r} must be the letter of a choice", answers)
    if metric in SOFT and asked and len(answers) < ANNOTATORS:
        row.refuse(f"metric {metric!r} needs {ANNOTATORS} answers or more, one of each annotator", answers)
    if metric in YES_OR_NO and asked and not is_yes_or_no(answers):
        row.refuse(f"the answer to metric {metric!r} must be yes or no, once", answers)
    question = row.name("question")
    if choices and not answers and not row.has("metric"):
        row.refuse(
            "with choices and no answer, the field 'metric' must say how to ask",
            "none",
            "write letter to have the choices listed below the question, exact to have it asked as it is",
        )
    if choices and _are_letters(answers, choices, metric):
        question, choices = _with_choices(question, choices)
    pictures = tuple(folder.picture(row, name) for name in names)
    return Example(
        id=row.name("id") if row.has("id") else row.place.split()[-1],
        image=pictures[0] if len(pictures) == 1 else pictures,
        question=question,
        answers=answers,
        group=row.name("group") if row.has("group") else "|".join(names),
        dataset=row.name("dataset", empty=True) or dataset if row.has("dataset") else dataset,
        choices=choices,
        metric=metric,
    )


def _are_letters(answers: Sequence[str], choices: Sequence[str], metric: str) -> bool:
    """Whether answers are letters of the choices, and not choices themselves ("A" of the choices "A" and "E")."""
    letters = set(LETTERS[: len(choices)])
    return metric in LETTERED or (bool(answers) and set(answers) <= letters and not set(answers) <= set(choices))


def _with_choices(question: str, choices: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The question with its choices listed, and the choices without letters of their own ("A. red", "(B) black")."""
    marked = [re.match(rf"\(?{letter}[.):]\s*(?=\S)", text) for letter, text in zip(LETTERS, choices, strict=False)]
    if len(marked) == len(choices) and all(marked):
        choices = tuple(text[mark.end() :] for mark, text in zip(marked, choices, strict=True) if mark)
    there = all(
        re.search(rf"(?<!\w){letter}\s*[.):\]-]\s*{re.escape(text)}(?!\w)", question, re.IGNORECASE)
        for letter, text in zip(LETTERS, choices, strict=False)
    )
    return (question if there else "\n".join([question, *listed(choices)])), choices


def _parted(row: Row, table: bool, *names: str) -> tuple[str, ...]:
    texts = row.texts(*names)
    whole = not table or isinstance(row.value(*names), list)  # Parquet has both lists and texts
    parted = texts if whole else tuple(part.strip() for text in texts for part in text.split("|"))
    if not all(part.strip() for part in parted):
        row.refuse(f"the field {names[-1]!r} must not hold blank texts", list(parted))
    return parted
