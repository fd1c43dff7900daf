"""A study: the router beside everything it must beat, each refitted on the same pictures and scored by one rule.

Nulls say how little is needed, the privileged router how much could be known, the oracle what luck hides; ablations say
which columns carry it, permuted labels whether the machinery cheats, fewer pictures whether more labels would pay.
Loads LightGBM and scikit-learn. Knows no model and no picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from encoders.errors import DataError
from router.calibration import FEWEST
from router.columns import TEXT, VISUAL, group_of
from router.evaluation import Evaluation, Routed, evaluate
from router.fitting import soft_target
from router.predictor import ComplexityPredictor, folds_of
from router.routing import _SPLIT, CALIBRATED, Router
from training_data.outcomes import Features, Outcomes

PARTS = ("nulls", "heads", "privileged", "groups", "permuted", "left-out", "labels")
_FEWER = (100, 150, 250, 500, 1000, 2000, 4000, 8000, 16000)
_MOST_DATASETS = 30
_MOST_WORDS = 50  # of one fact; what has more is a name, and a column for each would fill the memory
_LAST = (f"{'vs hull':>10s}", f"{'skill':>9s}")


@dataclass(frozen=True)
class Row:
    """One competitor: its part of the study, its name, its evaluation, and how many pictures it was fitted on.

    `count` is 0 where that is not what the row is about.
    """

    part: str
    name: str
    evaluation: Evaluation
    count: int = 0


@dataclass(frozen=True)
class Study:
    """The router's own evaluation and its competitors'."""

    router: Evaluation
    rows: tuple[Row, ...]

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
        rows = [{"part": row.part, "name": row.name, **row.evaluation.to_json()} for row in self.rows]
        return {"router": self.router.to_json(), "rows": rows}

    def __str__(self) -> str:
        lines = [
            str(self.router),
            "",
            "".join([f"{'':34s}{'G [95 %]':24s}{'linear':8s}", f"{'over identity':26s}{'saves, 99 %':>12s}", *_LAST]),
        ]
        part = ""
        for row in (Row("", "this router", self.router), *self.rows):
            if row.part != part:
                part = row.part
                lines.append(f"-- {part}")
            lines.append(_line(row))
        return "\n".join(lines)


def _line(row: Row) -> str:
    found = row.evaluation
    saving = found.savings[0.99]
    gap, over = f"{found.gap_recovered:.3f}", f"{found.gap_recovered_over_identity:.3f}"
    return (
        f"{row.name:34s}{gap:24s}{found.gap_recovered_linear.value:<8.3f}{over:26s}{saving.against_full.value:12.1%}"
        f"{saving.against_hull.value:10.1%}{found.brier_skill.value:9.3f}"
    )


def study(
    train: Outcomes,
    test: Outcomes,
    *,
    router: Router | None = None,
    parts: Sequence[str] = PARTS,
    resamples: int = 500,
    seed: int = 0,
) -> Study:
    """Fit everything on `train`, score everything on `test`.

    Args:
        train: outcomes to fit on; pictures are parted as `Router.fit` parts them.
        test: outcomes of other pictures.
        router: the one in question; None to fit it.
        parts: which competitors, of `PARTS`.
        resamples: of the test pictures, for every interval.
        seed: of everything random.

    Raises:
        DataError: an unknown part, or outcomes that do not fit together.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise DataError(f"parts of a study are {', '.join(PARTS)}, was: {unknown[0]!r}")
    own = Router.fit(train, seed=seed) if router is None else router
    bench = _Bench(own, own.fitting(train), own.fitting(test), resamples, seed)
    makers: dict[str, Callable[[], Iterator[Competitor]]] = {
        "nulls": bench.nulls,
        "heads": bench.heads,
        "privileged": bench.privileged,
        "groups": bench.groups,
        "permuted": bench.permuted,
        "left-out": bench.left_out,
        "labels": bench.labels,
    }
    rows = [
        Row(part, name, bench.scored(tested, calibrated), count)
        for part in parts
        for name, tested, calibrated, count in makers[part]()
    ]
    return Study(bench.scored(own.routed(bench.test), own.calibration.routed()), tuple(rows))


class Competitor(NamedTuple):
    """A name, its curves beside test rows and beside calibration rows, and how many pictures it was fitted on."""

    name: str
    test: Routed
    calibration: Routed
    count: int = 0


class _Bench:
    """Makes competitors: each a name, its curves on test rows and its curves on calibration rows."""

    def __init__(self, router: Router, train: Outcomes, test: Outcomes, resamples: int, seed: int) -> None:
        self.router, self.train, self.test = router, train, test
        self.resamples, self.seed = resamples, seed
        self.fitted, self.held = train.split((1 - CALIBRATED, CALIBRATED), seed=_SPLIT)

    def scored(self, test: Routed, calibration: Routed) -> Evaluation:
        return evaluate(
            test,
            calibration,
            arms=self.router.arms,
            full=self.router.calibration.full,
            known=self.router.calibration.known(),
            routing_cost=self.router.routing_cost,
            unit=self.router.unit,
            resamples=self.resamples,
            seed=self.seed,
        )

    def _with(self, test: np.ndarray, held: np.ndarray) -> tuple[Routed, Routed]:
        """Curves for the test rows and for calibration rows as routed rows."""
        typical = self.fitted.cost.mean(axis=0)
        return tuple(  # type: ignore[return-value]
            Routed(curve, rows.score, rows.cost, rows.group, rows.dataset, typical)
            for curve, rows in ((test, self.test), (held, self.held))
        )

    def _refit(self, train: Outcomes, test: Outcomes | None = None, **options: Any) -> tuple[Routed, Routed]:
        router = Router.fit(train, seed=self.seed, **options)
        tested = router.routed(router.fitting(self.test if test is None else test))
        return self._in_order(tested, router.arms), self._in_order(router.calibration.routed(), router.arms)

    def _in_order(self, routed: Routed, arms: Sequence[str]) -> Routed:
        """Columns as the router in question has them: on some of the rows, mean costs may rank the arms otherwise."""
        place = [arms.index(arm) for arm in self.router.arms]
        tables = ("curve", "score", "cost", "charged")
        return replace(routed, **{name: getattr(routed, name)[:, place] for name in tables})

    def nulls(self) -> Iterator[Competitor]:
        test, held = self.router.routed(self.test), self.router.calibration.routed()
        rng = np.random.default_rng(self.seed)
        yield Competitor(
            "shuffled router (same m)",
            replace(test, curve=test.curve[rng.permutation(len(test))]),
            replace(held, curve=held.curve[rng.permutation(len(held))]),
        )
        yield Competitor("question only", *self._refit(self.train, groups=TEXT))
        if self.router.features is not None:
            yield Competitor("image only", *self._refit(self.train, groups=VISUAL))
        yield Competitor("logistic regression per arm", *self._with(*self._logistic()))

    def _logistic(self) -> tuple[np.ndarray, np.ndarray]:
        """Per arm, the chance of a score of one half or more, from the router's own columns."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        columns = self.router.columns
        X, *others = (
            columns(rows.question.tolist(), *_visual(rows.features)) for rows in (self.fitted, self.test, self.held)
        )
        curves = [np.empty((len(rows), len(self.router.arms))) for rows in others]
        for arm in range(len(self.router.arms)):
            right = self.fitted.score[:, arm] >= 0.5
            if right.all() or not right.any():
                for curve in curves:
                    curve[:, arm] = right.mean()
                continue
            fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(X, right)
            for curve, rows in zip(curves, others, strict=True):
                curve[:, arm] = fitted.predict_proba(rows)[:, 1]
        return curves[0], curves[1]

    def heads(self) -> Iterator[Competitor]:
        for head in ("gain", "ordinal"):
            yield Competitor(f"head {head}", *self._refit(self.train, head=head))

    def privileged(self) -> Iterator[Competitor]:
        if self.train.meta is None or self.test.meta is None:
            return
        names = sorted({name for facts in self.train.meta for name in facts})
        if not names:
            return
        X, test, held = (_facts(rows, names, self.train) for rows in (self.fitted, self.test, self.held))
        fitted = ComplexityPredictor(seed=self.seed).fit(
            X, self.fitted.score, self.fitted.group, soft_target(self.fitted)
        )
        yield Competitor("privileged (knows the facts)", *self._with(fitted.predict(test), fitted.predict(held)))

    def groups(self) -> Iterator[Competitor]:
        there = list(dict.fromkeys(group_of(name) for name in self.router.columns.names))
        for left_out in there if len(there) > 1 else []:
            kept = [group for group in there if group != left_out]
            yield Competitor(f"without {left_out}", *self._refit(self.train, groups=kept))

    def permuted(self) -> Iterator[Competitor]:
        order = np.random.default_rng(self.seed).permutation(len(self.train))
        tables: dict[str, Any] = {
            name: None if (table := getattr(self.train, name)) is None else table[order]
            for name in ("score", "gold_logprob", "confidence", "text")
        }
        shuffled = replace(self.train, **tables)
        yield Competitor("permuted labels", *self._refit(shuffled))

    def left_out(self) -> Iterator[Competitor]:
        names, sizes = np.unique(self.test.dataset, return_counts=True)
        if len(names) < 2:
            return
        for name in names[np.argsort(-sizes, kind="stable")][:_MOST_DATASETS]:
            rest, own = self.train.select(self.train.dataset != name), self.test.select(self.test.dataset == name)
            if np.unique(rest.group).size >= 2 * FEWEST:
                yield Competitor(f"never saw {name}", *self._refit(rest, own))

    def labels(self) -> Iterator[Competitor]:
        fold = folds_of(self.train.group, 10**9, self.seed)  # every picture's place in a random order
        pictures = int(fold.max()) + 1
        for count in [count for count in _FEWER if count < pictures]:
            fewer = self._refit(self.train.select(fold < count))
            yield Competitor(f"fitted on {count:,} pictures", *fewer, count)


def _visual(features: Features | None) -> tuple[np.ndarray | None, Sequence[str]]:
    return (None, ()) if features is None else (features.values, features.names)


def _facts(rows: Outcomes, names: Sequence[str], known: Outcomes) -> np.ndarray:
    """What the source knew of each row, as numbers; words as one column each, the data set among them."""
    columns = []
    for name in names:
        values = [facts.get(name) for facts in known.meta]  # type: ignore[union-attr]
        own = [facts.get(name) for facts in rows.meta]  # type: ignore[union-attr]
        if all(value is None or isinstance(value, int | float) for value in values):
            columns.append(np.array([_number(value) for value in own]))
        elif len(words := set(map(str, values))) <= _MOST_WORDS:
            columns += [np.array([str(value) == word for value in own]) for word in sorted(words)]
    columns += [rows.dataset == name for name in np.unique(known.dataset)]
    return np.stack(columns, axis=1).astype(np.float32)


def _number(value: object) -> float:
    """A fact as a number; 0 where it is none, or not finite."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
