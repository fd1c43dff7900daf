"""One answer of a log, and how the answers at several m become Outcomes.

Knows what must agree when logs are joined. Knows no log's format, and no score but the one it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from encoders.errors import DataError, shown
from training_data.outcomes import Outcomes

_REMEDY = "join logs of the same questions, asked in the same words"


@dataclass(frozen=True)
class Sample:
    """What a model answered to one question at one m.

    `same` holds what must not differ between the logs, such as prompt and target, under the names the log gives them;
    `where` is its file and line; `parsed` whether the rule could read the answer, where it was scored here.
    """

    id: str
    group: str
    dataset: str
    question: str
    text: str
    score: float
    where: str
    same: Mapping[str, str]
    meta: Mapping[str, Any] = field(default_factory=dict)
    parsed: bool | None = None


def join(logs: Mapping[int, Iterable[Sample]]) -> Outcomes:
    """Outcomes of the same questions answered at every m, in the order of the smallest m's log; m is the cost.

    Raises:
        DataError: fewer than two m; a question answered twice at one m, or not at all; questions that differ under one
            id; a log of empty answers. Each by its id, m, file and line.
    """
    if len(logs) < 2:
        raise DataError(f"a router chooses among two or more m, was: logs of m {sorted(logs)}; give one log per m")
    columns = {m: _by_id(logs[m], m) for m in sorted(logs)}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    for m, column in columns.items():
        if lost := [name for name in names if name not in column]:
            raise DataError(
                f"every question needs an answer at every m, missing: {lost[0]!r} at m {m} ({len(lost):,} of "
                f"{len(names):,} are missing there); {_REMEDY}"
            )
    rows = [[column[name] for column in columns.values()] for name in names]
    for first, *others in rows:
        for m, other in zip(list(columns)[1:], others, strict=True):
            _check_same(first, other, m)
    return _outcomes(rows, list(columns))


def _by_id(samples: Iterable[Sample], m: int) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in found:
            raise DataError(
                f"{sample.where}: a question is answered once per m, was twice at m {m}: {sample.id!r}, also in "
                f"{found[sample.id].where}; keep one"
            )
        found[sample.id] = sample
    if not any(sample.text.strip() for sample in found.values()):
        raise DataError(
            f"a log must hold answers, was: none or only empty ones at m {m} (some evaluators write an empty text "
            "where the model failed); run it again"
        )
    return found


def _check_same(first: Sample, other: Sample, m: int) -> None:
    for name in dict.fromkeys((*first.same, *other.same)):
        one, two = first.same.get(name), other.same.get(name)
        if one != two:
            raise DataError(
                f"{other.where}: {name!r} of {other.id!r} must agree across m, was: {shown(two)} at m {m} and "
                f"{shown(one)} in {first.where}; {_REMEDY}"
            )


def _outcomes(rows: list[list[Sample]], ladder: list[int]) -> Outcomes:
    firsts, scored_here = [row[0] for row in rows], all(sample.parsed is not None for row in rows for sample in row)
    return Outcomes(
        id=np.array([sample.id for sample in firsts]),
        group=np.array([sample.group for sample in firsts]),
        dataset=np.array([sample.dataset for sample in firsts]),
        question=np.array([sample.question for sample in firsts]),
        replicate=np.zeros(len(rows), dtype=np.int64),
        arms=tuple(map(str, ladder)),
        m=np.array(ladder),
        score=np.array([[sample.score for sample in row] for row in rows]),  # (n, k)
        cost=np.tile(np.array(ladder, dtype=np.float64), (len(rows), 1)),  # (n, k), in tokens
        text=np.array([[sample.text for sample in row] for row in rows], dtype=object),  # (n, k)
        meta=np.array([sample.meta for sample in firsts]) if any(sample.meta for sample in firsts) else None,
        parsed=np.array([[sample.parsed for sample in row] for row in rows], float) if scored_here else None,  # (n, k)
        unit="tokens",
    )
