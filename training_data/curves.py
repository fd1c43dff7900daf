"""Curves of score against cost: hull, slope merge, oracle, data-set identity, and the area between them.

Knows arrays of scores (n, k) and costs (n, k), and needs nothing but NumPy. Knows no picture, question, model or file.
Ladders are never forced monotone: a hull drops the arms that do not pay, the scores stay as they were measured.
The clustered bootstrap is in `training_data.bootstrap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from encoders.errors import DataError

Charge = Literal["cheapest", "dearest"]

NEAR = 1e-9  # scores and costs that differ by less, relative, are means of the same rows in another order


@dataclass(frozen=True)
class Curve:
    """Mean score against mean cost, straight lines between the points (randomised policies).

    Attributes:
        cost: (p,) float64, positive, never falling.
        score: (p,) float64, free to fall.

    Raises:
        DataError: no points, unequal lengths, a value that is not finite, a cost that is not positive or falls.
    """

    cost: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        if self.cost.ndim != 1 or self.cost.shape != self.score.shape or not self.cost.size:
            raise DataError(
                f"a curve needs one score per cost and at least one of each, was: shapes {self.cost.shape} and "
                f"{self.score.shape}"
            )
        if not (np.isfinite(self.cost).all() and np.isfinite(self.score).all()):
            raise DataError(f"a curve must hold finite numbers, was: costs {self.cost} and scores {self.score}")
        if self.cost[0] <= 0 or (np.diff(self.cost) < 0).any():
            raise DataError(f"a curve's costs must be positive and ascending, was: {self.cost}; use Curve.through")

    @classmethod
    def through(cls, cost: np.ndarray, score: np.ndarray) -> Curve:
        """The curve through points (p,) given in any order. Takes no hull and no running maximum."""
        costs, scores = np.asarray(cost, np.float64), np.asarray(score, np.float64)
        if costs.ndim != 1 or costs.shape != scores.shape:
            return cls(costs, scores)  # refused there
        order = np.argsort(costs, kind="stable")
        return cls(costs[order], scores[order])

    def at(self, cost: float | np.ndarray) -> np.ndarray:
        """Score at each cost: the last score beyond the dearest point, NaN below the cheapest."""
        asked = np.asarray(cost, np.float64)
        found = np.interp(asked, self.cost, self.score)
        return np.where(asked < self.cost[0] * (1 - NEAR), np.nan, found)

    def reach(self, score: float) -> float:
        """The least cost at which the curve reaches `score`; infinite where it never does."""
        there = np.flatnonzero(self.score >= score)
        if not there.size:
            return math.inf
        right = int(there[0])
        if right == 0:
            return float(self.cost[0])
        (c0, c1), (s0, s1) = self.cost[right - 1 : right + 1], self.score[right - 1 : right + 1]
        return float(c0 + (c1 - c0) * (score - s0) / (s1 - s0))

    def area(self, start: float, stop: float, log2: bool = True) -> float:
        """Integral of the score over log2(cost), or over the cost itself, from `start` to `stop`; exact.

        On a segment s = a + b c the integral of s d(ln c) is a ln(c1 / c0) + b (c1 - c0).
        """
        inside = (self.cost > start) & (self.cost < stop)
        foot = np.flatnonzero(self.cost == stop)[:1]  # what rises upright at the end adds no area
        last = self.score[foot[0]] if foot.size and start < stop else self.at(stop)
        cost = np.concatenate([[start], self.cost[inside], [stop]])
        score = np.concatenate([[self.at(start)], self.score[inside], [last]])
        width, rise = np.diff(cost), np.diff(score)
        if not log2:
            return float(width @ (score[1:] + score[:-1]) / 2)
        slope = np.divide(rise, width, out=np.zeros_like(rise), where=width > 0)
        level = score[:-1] - slope * cost[:-1]
        return float((level * np.log1p(width / cost[:-1]) + slope * width).sum() / math.log(2))


@dataclass(frozen=True)
class Steps:
    """What to buy next: the upgrades of all rows in one sequence, the best value first.

    Attributes:
        hull: (n, d) int64, the arms on each row's upper concave hull from its cheapest arm up; -1 behind the end.
        row, origin, target: (s,) int64, a step moves `row` from arm `origin` to arm `target`.
        slope: (s,) float64, score per unit of cost, never rising along the sequence; a row's steps keep their order.
        cost, score: (s,) float64, what the step adds to that row.
    """

    hull: np.ndarray
    row: np.ndarray
    origin: np.ndarray
    target: np.ndarray
    slope: np.ndarray
    cost: np.ndarray
    score: np.ndarray

    def after(self, count: int) -> np.ndarray:
        """The arm of every row (n,) when the first `count` steps are taken."""
        taken = np.bincount(self.row[:count], minlength=len(self.hull))
        return self.hull[np.arange(len(self.hull)), taken]

    def curve(self, score: np.ndarray, cost: np.ndarray, weights: np.ndarray | None = None) -> Curve:
        """These choices realised on a table (n, k): the one they were made from, or another one of the same rows.

        One point per price, from every row at its cheapest arm to no step left; steps of equal slope go together.

        Args:
            score: (n, k) in [0, 1].
            cost: (n, k) or (k,), positive.
            weights: (n,) not negative, such as a bootstrap resample; None weighs all rows alike.
        """
        return self.on(score, cost).curve(weights)

    def on(self, score: np.ndarray, cost: np.ndarray) -> Course:
        """These choices on a table, as `curve` takes it, to be weighted many times."""
        return Course(self, *table(score, cost))

    @cached_property
    def ends(self) -> np.ndarray:
        """Places of the last step of each slope, rising: steps of equal slope are bought together."""
        return np.flatnonzero(np.append(self.slope[1:] != self.slope[:-1], True)[: self.slope.size])


class Course:
    """What steps come to on a table (n, k) of scores and costs; a weighting of its rows costs one running sum."""

    def __init__(self, steps: Steps, scores: np.ndarray, costs: np.ndarray) -> None:
        self._row, self._ends = steps.row, steps.ends
        first, every = steps.hull[:, 0], np.arange(len(scores))
        self._parts = [
            (values[every, first], values[steps.row, steps.target] - values[steps.row, steps.origin])
            for values in (costs, scores)
        ]

    def curve(self, weights: np.ndarray | None = None) -> Curve:
        """One point per price, from every row at its cheapest arm to no step left; see `Steps.curve`."""
        rows = len(self._parts[0][0])
        share = np.full(rows, 1 / rows) if weights is None else weights / weights.sum()
        moved, points = share[self._row], []
        for base, move in self._parts:
            start = share @ base
            points.append(np.append(start, start + np.cumsum(moved * move)[self._ends]))
        return Curve.through(*points)


def slope_merge(score: np.ndarray, cost: np.ndarray, key: np.ndarray | None = None) -> Steps:
    """Merge the rows' hulls by slope: the multiple-choice knapsack.

    Taking steps in this order is the exact optimum of its linear relaxation at every budget (Sinha and Zoltners 1979):
    at most one row is between two arms. Steps that gain nothing are left out, so no row goes beyond its best score.

    Args:
        score: (n, k) finite; true scores make an oracle, predicted ones an allocation.
        cost: (n, k) or (k,), positive; infinite marks an arm that the row may not take.
        key: (n,) integers; among equal slopes the row of the least key goes first. None: the row's number.

    Raises:
        DataError: shapes disagree, a score is not finite, a cost is not positive, a row has no arm it may take.
    """
    scores, costs = _checked(score, cost)
    keys = np.arange(len(scores)) if key is None else np.asarray(key)
    if keys.shape != (len(scores),) or keys.dtype.kind not in "iu":
        raise DataError(f"slope_merge needs one integer key per row ({len(scores)}), was: {keys.dtype} {keys.shape}")
    rows = np.arange(len(scores))
    arm = np.where(costs == costs.min(axis=1, keepdims=True), scores, -np.inf).argmax(axis=1)
    limit = np.full(len(scores), np.inf)
    columns, steps = [arm], []
    while rows.size:
        extra = costs[rows] - costs[rows, arm][:, None]
        gain = scores[rows] - scores[rows, arm][:, None]
        with np.errstate(over="ignore"):
            slope = np.divide(gain, extra, out=np.full_like(gain, -np.inf), where=extra > 0)
        best = slope.argmax(axis=1)
        steepest = slope[np.arange(rows.size), best]
        going = steepest > 0
        rows, origin, arm = rows[going], arm[going], best[going]
        limit[rows] = np.minimum(limit[rows], steepest[going])  # rounding must not reorder a row's steps
        steps.append((rows, origin, arm, limit[rows], extra[going, arm], gain[going, arm]))
        column = np.full(len(scores), -1)
        column[rows] = arm
        columns.append(column)
    row, origin, target, slopes, extras, gains = (np.concatenate(part) for part in zip(*steps, strict=True))
    depth = np.repeat(np.arange(len(steps)), [len(step[0]) for step in steps])
    order = np.lexsort((depth, keys[row], -slopes))
    hulls = np.stack(columns[:-1], axis=1)
    return Steps(hulls, row[order], origin[order], target[order], slopes[order], extras[order], gains[order])


def hull(mean_cost: np.ndarray, mean_score: np.ndarray) -> Curve:
    """F(c), the best mixture of fixed arms at mean cost c: the null every router is held against (DESIGN, section 3).

    The upper concave hull of the arms (k,), from the cheapest arm to the best one; dominated arms are dropped. Scores
    that differ by less than 1e-12 are equal: which of them is larger hangs on the order in which rows were summed.
    """
    scores, costs = np.asarray(mean_score, np.float64)[None], np.asarray(mean_cost, np.float64)[None]
    return slope_merge(scores.round(12), costs).curve(scores, costs)


def charged_cost(score: np.ndarray, cost: np.ndarray, charge: Charge) -> np.ndarray:
    """Costs (n, k) as an oracle is billed them: a never-solved row (no score above 0) costs the charged arm, always.

    "cheapest" leaves the costs alone, since the oracle buys nothing for such a row.
    """
    scores, costs = table(score, cost)
    if charge == "cheapest":
        return costs
    if charge != "dearest":
        raise DataError(f"never-solved rows are charged 'cheapest' or 'dearest', was: {charge!r}")
    never = scores.max(axis=1, keepdims=True) <= 0
    return np.where(never, costs.max(axis=1, keepdims=True), costs)


def oracle_curve(score: np.ndarray, cost: np.ndarray, charge: Charge = "cheapest") -> Curve:
    """O(c), the most score at mean cost c in hindsight (DESIGN, section 3).

    Exact at every corner; for 0/1 scores every solvable row has one step and the order is that of extra cost. Graded
    scores are convexified per row.

    Args:
        score: (n, k) in [0, 1].
        cost: (n, k) or (k,), positive.
        charge: what a never-solved row costs; the raw oracle charges its cheapest arm, the second curve its dearest.
    """
    charged = charged_cost(score, cost, charge)
    return slope_merge(score, charged).curve(score, charged)


def identity_curve(score: np.ndarray, cost: np.ndarray, dataset: np.ndarray) -> Curve:
    """F_D(c): one arm per data set, spread over data sets by slope merge; chosen on the rows it is scored on.

    What a router would earn by knowing nothing but where a question comes from.

    Args:
        score: (n, k) in [0, 1].
        cost: (n, k) or (k,), positive.
        dataset: (n,) names.
    """
    scores, costs = table(score, cost)
    names, sizes = _members(dataset, len(scores))
    mean_score, mean_cost = (group_sums(values, names, sizes.size) / sizes[:, None] for values in (scores, costs))
    return slope_merge(mean_score, mean_cost).curve(mean_score, mean_cost, sizes)


def identity_curve_crossfit(
    score: np.ndarray, cost: np.ndarray, dataset: np.ndarray, group: np.ndarray, folds: int = 5, seed: int = 0
) -> Curve:
    """`identity_curve` with arms and prices chosen on the other folds' pictures and scored on the left-out ones.

    A data set without a row in the other folds is treated as their mean.

    Args:
        score: (n, k) in [0, 1].
        cost: (n, k) or (k,), positive.
        dataset: (n,) names.
        group: (n,) pictures; a picture is never parted.
        folds: how many; two at least, at most one per picture.
        seed: of the deal of pictures to folds.
    """
    scores, costs = table(score, cost)
    names, sizes = _members(dataset, len(scores))
    pictures, per_picture = _members(group, len(scores))
    if not 2 <= folds <= per_picture.size:
        raise DataError(f"folds must be 2 to the number of pictures ({per_picture.size}), was: {folds}")
    fold = np.random.default_rng(seed).permutation(per_picture.size)[pictures] % folds
    cells = folds * sizes.size
    cell = fold * sizes.size + names
    held = np.bincount(cell, minlength=cells).astype(np.float64)[:, None]  # (folds x data sets, 1)
    chosen, realised = [], []
    for values in (scores, costs):
        inner = group_sums(values, cell, cells)
        by_fold = inner.reshape(folds, sizes.size, -1)
        outer = (by_fold.sum(axis=0) - by_fold).reshape(cells, -1)
        count = np.tile(sizes, folds)[:, None] - held
        pooled = (values.sum(axis=0) - by_fold.sum(axis=1)) / (len(values) - np.bincount(fold))[:, None]
        chosen.append(np.where(count > 0, outer / np.maximum(count, 1), np.repeat(pooled, sizes.size, axis=0)))
        realised.append(np.where(held > 0, inner / np.maximum(held, 1), chosen[-1]))
    return slope_merge(chosen[0], chosen[1]).curve(realised[0], realised[1], held[:, 0])


@dataclass(frozen=True)
class Gap:
    """How much of the oracle gap a router closes (DESIGN, section 3).

    Attributes:
        recovered: G = area(R - F) / area(O - F) over log2 of cost, from the cheapest arm to c99.
        linear: the same over cost itself.
        tail: the same over log2 of cost, from c99 to F's end.
        gained: area(R - F) over log2 of cost up to c99, in score times doublings of cost.
        available: area(O - F), likewise.
        start, c99, stop: costs of the cheapest arm, of 99 % of F's best, and of F's end.

    A ratio is NaN where there is no area to recover, as on a ladder whose cheapest arm has 99 % of the best score.
    """

    recovered: float
    linear: float
    tail: float
    gained: float
    available: float
    start: float
    c99: float
    stop: float


def gap_recovered(router: Curve, fixed: Curve, oracle: Curve) -> Gap:
    """G of a router's curve R between the hull F and an oracle O.

    Raises:
        DataError: R or O begins dearer than F's cheapest arm, so that part of the area is undefined.
    """
    start, stop = float(fixed.cost[0]), float(fixed.cost[-1])
    for name, curve in (("router's", router), ("oracle's", oracle)):
        if curve.cost[0] > start * (1 + NEAR):
            raise DataError(
                f"the {name} curve must begin at the cheapest arm's cost {start:g}, was: {curve.cost[0]:g}; "
                "add the constant policies at both ends"
            )
    c99 = fixed.reach(0.99 * float(fixed.score.max()))

    def areas(low: float, high: float, log2: bool) -> tuple[float, float]:
        null = fixed.area(low, high, log2)
        return router.area(low, high, log2) - null, oracle.area(low, high, log2) - null

    gained, available = areas(start, c99, True)
    linear, tail = areas(start, c99, False), areas(c99, stop, True)
    return Gap(ratio(gained, available), ratio(*linear), ratio(*tail), gained, available, start, c99, stop)


def table(score: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measured scores and costs as two (n, k) float64 arrays; a cost of shape (k,) holds for every row.

    Raises:
        DataError: shapes disagree, a score is outside [0, 1] or NaN, a cost is not positive and finite.
    """
    scores, costs = _checked(score, cost)
    _refuse(scores, (scores < 0) | (scores > 1), "scores must lie in [0, 1]", "rescale them")
    _refuse(costs, np.isinf(costs), "measured costs must be finite", "fill in what the arm cost")
    return scores, costs


def ratio(part: float, whole: float) -> float:
    """The part over the whole, NaN where there is no whole."""
    return float(part / whole) if whole > 1e-12 else math.nan


def group_sums(values: np.ndarray, member: np.ndarray, count: int) -> np.ndarray:
    """Sums of rows (n, q) by group number (n,): (count, q)."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, member, values)
    return sums


def _checked(score: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, costs = np.asarray(score, np.float64), np.asarray(cost, np.float64)
    if scores.ndim != 2 or not scores.size or costs.shape not in (scores.shape, scores.shape[1:]):
        raise DataError(
            "scores must be (n, k) with one row and one arm at least, and costs (n, k) or (k,), was: "
            f"{scores.shape} and {costs.shape}"
        )
    costs = np.broadcast_to(costs, scores.shape)
    _refuse(scores, ~np.isfinite(scores), "scores must be finite", "drop the row or measure it again")
    _refuse(costs, ~(costs > 0), "costs must be positive", "charge what the arm really costs")
    shut = np.isinf(costs.min(axis=1, keepdims=True))
    _refuse(costs, shut, "a row needs an arm it may take", "loosen the cap")
    return scores, costs


def _refuse(values: np.ndarray, wrong: np.ndarray, rule: str, remedy: str) -> None:
    if wrong.any():
        row, arm = np.argwhere(np.broadcast_to(wrong, values.shape))[0]
        raise DataError(f"{rule}, was: {values[row, arm]} in row {row}, arm {arm}; {remedy}")


def _members(names: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's group (n,) and the groups' sizes."""
    found = np.asarray(names)
    if found.shape != (count,):
        raise DataError(f"each of the {count} rows needs one name, was: shape {found.shape}")
    _, member, sizes = np.unique(found, return_inverse=True, return_counts=True)
    return member, sizes.astype(np.float64)
