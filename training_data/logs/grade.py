"""The score that a log itself gives an answer.

Knows in which shapes evaluators write one. Applies no rule of scoring (`training_data.logs.rule` does).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from training_data.rows import Row
from training_data.scores import METRICS

_WITHIN = ("score", "exact_match")  # where a metric is an object, the score stands under one of these


def grade(row: Row, fields: Iterable[str], metric: str | None = None) -> float | None:
    """The score that stands in one of the `fields` of a row, in [0, 1]; None where none of them holds a number.

    A score is a number, a bool, the text of one, or an object with a "score" or "exact_match". Several fields are one
    score as long as they agree (lmms-eval writes POPE's five times); where they differ, `metric` must name one.

    Raises:
        DataError: fields that differ, a `metric` that is not there, or a score outside [0, 1]; by file and line.
    """
    found = {name: value for name in fields if (value := _number(row.fields.get(name))) is not None}
    if metric is not None:
        if metric not in found:
            remedy = f"choose one of these, or a rule to score by here: {_list(METRICS)}"
            row.refuse(f"the metric {metric!r} must hold a number", f"only {_list(found)}", remedy)
        found = {metric: found[metric]}
    if len(set(found.values())) > 1:
        row.refuse("where several metrics differ, one must be chosen", found, f"choose the metric: {_list(found)}")
    for name, value in found.items():
        if not 0 <= value <= 1:
            row.refuse(f"the score {name!r} must lie in [0, 1]", value, "choose another metric, or import a table")
    return next(iter(found.values()), None)


def _number(value: object) -> float | None:
    if isinstance(value, dict):
        inner = next((value[name] for name in _WITHIN if name in value), None)
        return None if isinstance(inner, dict) else _number(inner)
    if isinstance(value, str):
        value = {"true": 1.0, "false": 0.0}.get(value.strip().lower(), value)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
