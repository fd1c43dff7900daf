"""A study: the router beside everything it must beat, each refitted on the same pictures and scored by one rule.

Nulls say how little is needed, the privileged router how much could be known, the oracle what luck hides; ablations say
which columns carry it, permuted labels whether the machinery cheats, fewer pictures whether more labels would pay.
Scores competitors; makes none of them (`router.competitors`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from encoders.errors import DataError, shown
from router.competitors import Competitor, Competitors, out_of_fold
from router.evaluation import OPERATING, Evaluation, evaluate
from router.routed import named
from router.routing import Router
from training_data.outcomes import Outcomes

PARTS = ("nulls", "heads", "privileged", "probe", "groups", "permuted", "left-out", "labels")
_LAST = (f"{'vs hull':>10s}", f"{'skill':>9s}", f"{'G out of fold':>15s}")


@dataclass(frozen=True)
class Row:
    """One competitor: its part of the study, its name, its evaluation, and how many pictures it was fitted on.

    `count` is 0 where that is not what the row is about. `out_of_fold` is G on the rows fitted on, each predicted
    without its fold (NaN where nobody asked): who chooses between heads chooses by it, not by the test.
    """

    part: str
    name: str
    evaluation: Evaluation
    count: int = 0
    out_of_fold: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """The evaluation with G out of fold, for `json.dumps`."""
        gap = None if math.isnan(self.out_of_fold) else self.out_of_fold
        return {"out_of_fold_gap": gap, **self.evaluation.to_json()}


@dataclass(frozen=True)
class Study:
    """The router's own evaluation and its competitors', and the router's own G out of fold."""

    router: Evaluation
    rows: tuple[Row, ...]
    out_of_fold: float = math.nan

    def lines(self) -> tuple[Row, ...]:
        """The router's own row, then its competitors'."""
        return Row("", "this router", self.router, out_of_fold=self.out_of_fold), *self.rows

    def row(self, name: str) -> Evaluation:
        """The evaluation of a competitor.

        Raises:
            DataError: no such competitor.
        """
        for row in self.rows:
            if row.name == name:
                return row.evaluation
        raise DataError(f"a study's rows are {', '.join(row.name for row in self.rows)}, was: {name!r}")

    def to_json(self) -> dict[str, Any]:
        """Everything, for `json.dumps`."""
        own, *_ = self.lines()
        return {
            "router": own.to_json(),
            "rows": [{"part": row.part, "name": row.name, **row.to_json()} for row in self.rows],
        }

    def __str__(self) -> str:
        lines = [
            str(self.router),
            "",
            "".join([f"{'':34s}{'G [95 %]':24s}{'linear':8s}", f"{'over identity':26s}{'saves, 99 %':>12s}", *_LAST]),
        ]
        part = ""
        for row in self.lines():
            if row.part != part:
                part = row.part
                lines.append(f"-- {part}")
            lines.append(_line(row))
        return "\n".join(lines)


def _line(row: Row) -> str:
    found = row.evaluation
    saving = found.savings[OPERATING]
    gap, over = f"{found.gap_recovered:.3f}", f"{found.gap_recovered_over_identity:.3f}"
    return (
        f"{row.name:34s}{gap:24s}{found.gap_recovered_linear.value:<8.3f}{over:26s}{saving.against_full.value:12.1%}"
        f"{saving.against_hull.value:10.1%}{found.brier_skill.value:9.3f}"
        + ("" if math.isnan(row.out_of_fold) else f"{row.out_of_fold:15.3f}")
    )


def study(
    train: Outcomes,
    test: Outcomes,
    *,
    router: Router | None = None,
    parts: Sequence[str] = PARTS,
    resamples: int = 2000,
    seed: int = 0,
) -> Study:
    """Fit everything on `train`, score everything on `test`.

    Savings are against the router's own full arm, whoever makes them. What a data set's name says is taken from the
    rows that the competitor itself was fitted on.

    Args:
        train: outcomes to fit on; pictures are parted as `Router.fit` parts them.
        test: outcomes of other pictures.
        router: the one in question; None to fit it.
        parts: which competitors, of `PARTS`.
        resamples: of the test pictures, for every interval.
        seed: of the resamples, and of the router if it is fitted here.

    Raises:
        DataError: an unknown part, or outcomes that do not fit together.
    """
    return studies(train, {"": test}, router=router, parts=parts, resamples=resamples, seed=seed)[""]


def studies(
    train: Outcomes,
    tests: Mapping[str, Outcomes],
    *,
    router: Router | None = None,
    parts: Sequence[str] = PARTS,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Study]:
    """A `study` for each of several tests of different pictures; every competitor is fitted once for them all.

    Raises:
        DataError: as `study`; or two tests share a picture.
    """
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise DataError(f"parts of a study must be a list of names, was: {shown(parts)}; write ['nulls']")
    if unknown := [part for part in parts if part not in PARTS]:
        raise DataError(f"parts of a study are {', '.join(PARTS)}, was: {unknown[0]!r}")
    own = Router.fit(train, seed=seed) if router is None else router
    rows: dict[str, list[Row]] = {name: [] for name in tests}
    pictures = {name: named(np.unique(test.group)) for name, test in tests.items()}
    every = np.concatenate(list(pictures.values()))
    if np.unique(every).size < every.size:
        raise DataError("tests of one study must be of different pictures, was: one in two of them; study each alone")
    together = Outcomes.concat([own.matched(test).originals() for test in tests.values()])
    made = Competitors(own, own.matched(train).originals(), together)
    for part in parts:
        # Silent where nobody watches: a study's output is its table.
        for one in tqdm(getattr(made, part.replace("-", "_"))(), desc=part, unit=" competitors", disable=None):
            for name, names in pictures.items():
                tested = one.test.select(np.isin(one.test.group, names))
                if len(tested):
                    found = _scored(replace(one, test=tested), own, resamples, seed)
                    rows[name].append(Row(part, one.name, found, one.count, one.out_of_fold))
    return {
        name: Study(own.evaluate(test, resamples=resamples, seed=seed), tuple(rows[name]), out_of_fold(own))
        for name, test in tests.items()
    }


def _scored(one: Competitor, own: Router, resamples: int, seed: int) -> Evaluation:
    fixed = own.fixed._replace(
        calibration=one.calibration,
        known=one.known,
        prices=one.prices,
        operating=one.operating,
        routing_cost=one.routing_cost,
    )
    return evaluate(one.test, fixed, resamples=resamples, seed=seed)
