"""Everything a report says about outcomes, as numbers: per data set, per picture, and the curves of the whole.

Knows Outcomes. Draws and writes nothing (`training_data.figures`, `training_data.report`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from training_data.bootstrap import Estimate, Resamples
from training_data.curves import Curve, group_sums, hull, identity_curve, identity_curve_crossfit, oracle_curve
from training_data.diagnosis import Diagnosis, diagnose
from training_data.oracle import (
    Need,
    agreement,
    by_replicate,
    complete,
    complexity,
    histogram,
    labels,
    need,
    rank_correlation,
    replicate_oracle,
)
from training_data.outcomes import Outcomes

HULL = "hull of fixed arms"
ORACLE = "oracle, never-solved charged the cheapest arm"
WITHOUT_LUCK = (
    "oracle without luck, by the other replicates' mean",
    "oracle without luck, by their linear prediction",
)
_FOLDS = 5


@dataclass(frozen=True)
class Part:
    """One data set, or all of them together.

    Attributes:
        mean: score of every arm.
        need: the cheapest arm within `Diagnosis.points` of the best.
        label, stable: (k + 1,) how many examples have each oracle label, never-solved last.
    """

    name: str
    examples: int
    pictures: int
    mean: tuple[Estimate, ...]
    need: Need
    label: np.ndarray
    stable: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """What was found.

    Attributes:
        outcomes: the originals, replicates left out.
        label: (n,) oracle label of each of them.
        curves: by name, in the order in which they are told apart in a legend; score against mean cost.
        pictures, complexity: (g,) pictures with a solved question, and their mean oracle label in rungs from 0.
        correlation: features by Spearman's correlation of their picture mean with complexity, the strongest first.
        replicated: (hull, oracle) of all replicates of the examples that have them: what the curves without luck, which
            are of the same rows, are to be held against; None without replicates.
        agreement: (k,) share of examples on which all replicates score alike; None without replicates.
        failures: (id, reason) of examples that could not be measured.
    """

    outcomes: Outcomes
    diagnosis: Diagnosis
    whole: Part
    parts: tuple[Part, ...]
    label: np.ndarray
    curves: dict[str, Curve]
    pictures: np.ndarray
    complexity: np.ndarray
    correlation: tuple[tuple[str, float], ...]
    agreement: np.ndarray | None
    replicated: tuple[Curve, Curve] | None = None
    failures: tuple[tuple[str, str], ...] = ()


def analyse(
    outcomes: Outcomes,
    resamples: int = 2000,
    seed: int = 0,
    points: float = 1.0,
    failures: Iterable[tuple[str, str]] = (),
) -> Analysis:
    """All numbers of the report.

    Args:
        outcomes: as measured; replicates serve the corrected oracle and luck, everything else is of the originals.
        resamples: of the pictures, for every interval.
        seed: of the resamples and folds.
        points: hundredths of score that an arm may be below the best and still be enough.
        failures: (id, reason) of examples that could not be measured, as `store.failures` has them.

    Raises:
        DataError: `points` is negative.
    """
    rows = outcomes.originals()
    failed = dict(failures)  # an example may fail in every replicate, or in one of them alone
    lost = len(failed.keys() - set(rows.id.tolist()))
    label = labels(rows.score, rows.cost)
    stable = labels(rows.score, rows.cost, stable=True)

    def part(name: str, chosen: np.ndarray) -> Part:
        own, drawn = rows.select(chosen), Resamples(rows.group[chosen], resamples, seed)
        means = drawn.means(own.score)
        estimates = tuple(drawn.interval(own.score[:, arm].mean(), means[:, arm]) for arm in range(len(rows.arms)))
        counts = (histogram(kind[chosen], len(rows.arms)) for kind in (label, stable))
        return Part(name, len(own), drawn.pictures.size, estimates, need(own.score, own.cost, drawn, points), *counts)

    pictures, rungs = complexity(label, rows.group, len(rows.arms))
    whole = complete(outcomes.id, outcomes.replicate)
    replicated = outcomes.select(whole) if whole.any() else None
    return Analysis(
        outcomes=rows,
        diagnosis=diagnose(outcomes, resamples, seed, points, lost),
        whole=part("all", np.ones(len(rows), dtype=bool)),
        parts=tuple(part(str(name), rows.dataset == name) for name in np.unique(rows.dataset)),
        label=label,
        curves=_curves(rows, replicated, seed),
        pictures=pictures,
        complexity=rungs,
        correlation=_correlation(rows, pictures, rungs),
        replicated=None if replicated is None else _bounds(replicated),
        agreement=None if replicated is None else agreement(_table(replicated, replicated.score)),
        failures=tuple(failed.items()),
    )


def _table(replicated: Outcomes, values: np.ndarray) -> np.ndarray:
    return by_replicate(replicated.id, replicated.replicate, values)


def _bounds(rows: Outcomes) -> tuple[Curve, Curve]:
    """What fixed arms reach, and the choice of hindsight."""
    return hull(rows.cost.mean(axis=0), rows.score.mean(axis=0)), oracle_curve(rows.score, rows.cost)


def _curves(rows: Outcomes, replicated: Outcomes | None, seed: int) -> dict[str, Curve]:
    score, cost = rows.score, rows.cost
    fixed, oracle = _bounds(rows)
    curves = {HULL: fixed}
    if np.unique(rows.dataset).size > 1:
        curves["one arm per data set"] = identity_curve(score, cost, rows.dataset)
        if np.unique(rows.group).size >= _FOLDS:
            curves["one arm per data set, chosen on other pictures"] = identity_curve_crossfit(
                score, cost, rows.dataset, rows.group, _FOLDS, seed
            )
    if replicated is not None:
        tables = _table(replicated, replicated.score), _table(replicated, replicated.cost)
        for name, linear in zip(WITHOUT_LUCK, (False, True), strict=True):
            curves[name] = replicate_oracle(*tables, linear=linear)
    curves[ORACLE] = oracle
    curves["oracle, never-solved charged the dearest arm"] = oracle_curve(score, cost, "dearest")
    return curves


def _correlation(rows: Outcomes, pictures: np.ndarray, rungs: np.ndarray) -> tuple[tuple[str, float], ...]:
    if rows.features is None or pictures.size < 3:
        return ()
    told = np.isin(rows.group, pictures)
    _, member, sizes = np.unique(rows.group[told], return_inverse=True, return_counts=True)
    means = group_sums(rows.features.values[told].astype(np.float64), member, sizes.size) / sizes[:, None]
    found = [(name, rank_correlation(column, rungs)) for name, column in zip(rows.features.names, means.T, strict=True)]
    return tuple(sorted((pair for pair in found if not np.isnan(pair[1])), key=lambda pair: -abs(pair[1])))
