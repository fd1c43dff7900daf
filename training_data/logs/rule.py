"""The score of an answer for which a log has none: one of the published rules, applied here.

Knows choices that stand under letters, and which rules need them. Knows no log's format and no rule itself
(`training_data.scores` has those).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers.mmbench import CHOICES
from training_data.rows import Row
from training_data.scores import LETTERED, LETTERS, Scored, score

_EMPTY = ("", "nan")  # pandas writes an empty cell as NaN, and str() that as "nan"


def choices_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The choices from A on, up to the first that is empty, by their letters."""
    texts = {letter: "" if fields.get(letter) is None else str(fields[letter]) for letter in CHOICES}
    return dict(takewhile(lambda choice: choice[1].strip().lower() not in _EMPTY, texts.items()))


def answers_of(cell: object) -> tuple[str, ...]:
    """The gold answers of a cell: one, a list, or a list that evaluators have written as Python would."""
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = ast.literal_eval(cell)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return (str(cell),)
    return tuple(map(str, cell)) if isinstance(cell, list) else (str(cell),)


def by_rule(row: Row, text: str, example: Example) -> Scored:
    """Score an answer by the example's metric.

    Raises:
        DataError: a letter is asked for and the gold answer is none, or the choices are not there; what
            `training_data.scores.score` raises. By file and line.
    """
    if example.metric == "mmbench" and not example.choices:
        row.refuse("metric 'mmbench' needs the choices, in fields A, B, ...", list(row.fields), "choose 'letter'")
    letters = LETTERS[: len(example.choices or LETTERS)]
    if example.metric in LETTERED and not set(example.answers) <= set(letters):
        row.refuse(f"the answer to metric {example.metric!r} must be the letter of a choice", example.answers)
    try:
        return score(text, example)
    except DataError as error:
        raise DataError(f"{row.file}, {row.place}: {error}") from error
