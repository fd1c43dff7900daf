"""Policies fixed on calibration rows, realised on test rows under any weighting of the pictures.

What a bootstrap recomputes is here: everything that does not depend on the weights is laid out once, so that a resample
is a row of one matrix product and a running sum per curve. Knows arrays; records nothing (`router.evaluation_record`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from router.routed import Routed
from training_data.curves import NEAR, Curve, Gap, gap_recovered, group_sums, hull, ratio, slope_merge


class Means(NamedTuple):
    """Weighted means of test rows: what constants and routed policies cost and score, and moments of predictions."""

    cost: np.ndarray  # (k,) constant policies
    score: np.ndarray  # (k,)
    routed_cost: np.ndarray  # (p,) one policy per price, routing included
    routed_score: np.ndarray  # (p,)
    predicted: np.ndarray  # (k - 1,) gains between neighbours in mean cost, centred
    realised: np.ndarray  # (k - 1,)
    moments: np.ndarray  # (2,) predicted * realised and predicted squared, summed over the pairs
    brier: np.ndarray  # (2,) of the curves, and of the data sets' calibration means

    def policy(self, place: int | None, full: int) -> tuple[float, float]:
        """Cost and score of the policy at one of the prices, or of full for all."""
        if place is None:
            return float(self.cost[full]), float(self.score[full])
        return float(self.routed_cost[place]), float(self.routed_score[place])


class Seen(NamedTuple):
    """The curves under one weighting: F, R, R of the data sets' identity, O, and G."""

    fixed: Curve
    router: Curve
    identity: Curve
    oracle: Curve
    gap: Gap


class Known(NamedTuple):
    """What training rows say of each data set: mean scores and costs, (s + 1, k), the last row for one never seen.

    `names` (s,) are sorted.
    """

    names: np.ndarray
    score: np.ndarray
    cost: np.ndarray

    @classmethod
    def of(cls, dataset: np.ndarray, score: np.ndarray, cost: np.ndarray) -> Known:
        """From rows; a data set that is not among them is given the mean of them all."""
        names, member, sizes = np.unique(dataset, return_inverse=True, return_counts=True)
        means = (
            np.vstack([group_sums(values, member, names.size) / sizes[:, None], values.mean(axis=0)])
            for values in (score, cost)
        )
        return cls(names, *means)

    def means(self, dataset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(scores, costs), each (n, k), of rows of these data sets (n,)."""
        place = np.minimum(np.searchsorted(self.names, dataset), self.names.size - 1)
        place = np.where(self.names[place] == dataset, place, self.names.size)
        return self.score[place], self.cost[place]


class Bench:
    """Test rows with all that was decided before they were scored.

    Args:
        test, calibration: rows; only the second decide anything.
        known: what a data set's name says.
        prices: (p,) descending.
        full: number of the best constant arm on training data.
        routing_cost: of every routed answer.
        shares: of full's score that policies are to keep.
        own: by share, the price that is taken without a look at the calibration rows, NaN for full.

    Attributes:
        choice: (n, p) int64, the arm of every test row at every price.
        keeping: by share, the place of the price that keeps it on calibration rows or of its own, or None for full.
        columns: (n, q) float64, what `split` wants the weighted means of.
    """

    def __init__(
        self,
        test: Routed,
        calibration: Routed,
        known: Known,
        prices: np.ndarray,
        full: int,
        routing_cost: float,
        shares: Sequence[float],
        own: Mapping[float, float] | None = None,
    ) -> None:
        self.full = full
        realised = test.realised(prices)
        self.choice = realised.choice
        self._full_cost, self._routed_cost = test.cost[:, full], realised.cost + routing_cost
        self.keeping = keeping(calibration, prices, full, routing_cost, shares)
        for share, price in (own or {}).items():
            self.keeping[share] = None if math.isnan(price) else int(np.flatnonzero(prices == price)[0])
        known_score, known_cost = known.means(test.dataset)
        self._oracle = slope_merge(test.score, test.cost).on(test.score, test.cost)
        self._identity = slope_merge(known_score, known_cost).on(test.score, test.cost)
        order = np.argsort(test.cost.mean(axis=0), kind="stable")
        gains = (np.diff(values[:, order], axis=1) for values in (test.curve, test.score))
        predicted, gained = (gain - gain.mean(axis=0) for gain in gains)
        parts = Means(
            cost=test.cost,
            score=test.score,
            routed_cost=self._routed_cost,
            routed_score=realised.score,
            predicted=predicted,
            realised=gained,
            moments=np.stack([(predicted * gained).sum(axis=1), (predicted**2).sum(axis=1)], axis=1),
            brier=np.stack([((one - test.score) ** 2).mean(axis=1) for one in (test.curve, known_score)], axis=1),
        )
        self._ends = np.cumsum([part.shape[1] for part in parts])[:-1]
        self.columns = np.hstack(parts)

    def taken(self, share: float) -> np.ndarray:
        """The arm of every test row (n,) at the price that keeps this share: full where none does."""
        place = self.keeping[share]
        return np.full(len(self.choice), self.full) if place is None else self.choice[:, place]

    def paid(self, share: float) -> np.ndarray:
        """What every test row (n,) costs at that price, routing included: full's cost where none does."""
        place = self.keeping[share]
        return self._full_cost if place is None else self._routed_cost[:, place]

    def split(self, means: np.ndarray) -> Means:
        """Weighted means of `columns`, (q,), by name."""
        return Means(*np.split(means, self._ends))

    def seen(self, means: Means, weights: np.ndarray) -> Seen:
        """The curves when rows weigh `weights` (n,), of which `means` are."""
        fixed = hull(means.cost, means.score)
        end = means.policy(None, self.full)
        router = _between(fixed, means.routed_cost, means.routed_score, end)
        known = self._identity.curve(weights)
        oracle = self._oracle.curve(weights)
        identity = _between(fixed, known.cost, known.score, end)
        return Seen(fixed, router, identity, oracle, gap_recovered(router, fixed, oracle))

    @staticmethod
    def slope(means: Means) -> float:
        """Of realised on predicted gains between neighbouring arms."""
        joint, square = means.moments
        return ratio(joint - means.predicted @ means.realised, square - means.predicted @ means.predicted)

    def figures(self, means: Means, weights: np.ndarray) -> dict[str, float]:
        """Every figure that gets an interval, by name."""
        seen = self.seen(means, weights)
        gap, span = seen.gap, (seen.gap.start, seen.gap.c99)
        known = ratio(seen.identity.area(*span) - seen.fixed.area(*span), gap.available)
        figures = {
            "gap": gap.recovered,
            "linear": gap.linear,
            "tail": gap.tail,
            "identity": known,
            "over identity": gap.recovered - known,
            "slope": self.slope(means),
            "skill": 1 - ratio(*means.brier),
        }
        full_cost, full_score = means.policy(None, self.full)
        for share, place in self.keeping.items():
            cost, score = means.policy(place, self.full)
            least = reach(seen.fixed, score)
            figures[f"kept {share}"] = ratio(score, full_score)
            figures[f"against full {share}"] = 1 - cost / full_cost
            figures[f"against hull {share}"] = 1 - cost / (float(seen.fixed.cost[-1]) if math.isinf(least) else least)
            wanted = share * full_score
            figures[f"same score {share}"] = 1 - reach(seen.router, wanted) / reach(seen.fixed, wanted)
        return figures


def against(router: Curve, fixed: Curve, oracle: Curve) -> float:
    """G against an oracle that may begin dearer than F: it is joined to F's start by the steepest straight line.

    That is a mixture of the oracle with the cheapest constant arm, the best there is.
    """
    extra = oracle.cost - fixed.cost[0]
    if extra[0] > NEAR * fixed.cost[0]:
        touch = int(((oracle.score - fixed.score[0]) / extra).argmax())
        joined = (
            np.append(start, points[touch:])
            for start, points in ((fixed.cost[0], oracle.cost), (fixed.score[0], oracle.score))
        )
        oracle = Curve.through(*joined)
    return gap_recovered(router, fixed, oracle).recovered


def outside(fixed: Curve, cost: np.ndarray, dearest: float) -> np.ndarray:
    """Which policies (p,) cost less than the cheapest constant arm or more than full."""
    return (cost < fixed.cost[0] * (1 - NEAR)) | (cost > dearest * (1 + NEAR))


def reach(curve: Curve, score: float) -> float:
    """The least cost at which a curve has this score, infinite where it never does, whatever the last bit says."""
    return curve.reach(score - 1e-12 * abs(score))


def _between(fixed: Curve, cost: np.ndarray, score: np.ndarray, end: tuple[float, float]) -> Curve:
    """R: policies between the cheapest constant arm and full, and these two; no hull, no running maximum.

    Full is no end where a policy at its cost scores more: nobody would take it.
    """
    inside = (cost >= fixed.cost[0]) & (cost <= end[0])
    better = (inside & (cost >= end[0] * (1 - NEAR)) & (score > end[1] + NEAR)).any()
    points = zip((fixed.cost[0], fixed.score[0]), (cost, score), end, strict=True)
    return Curve.through(
        *(np.concatenate([[first], values[inside], [] if better else [last]]) for first, values, last in points)
    )


def below(cost: np.ndarray, full_cost: float) -> np.ndarray:
    """Which mean costs are really less than full's, not the same mean in another order."""
    cheaper: np.ndarray = cost < full_cost * (1 - NEAR)
    return cheaper


def keeping(
    rows: Routed, prices: np.ndarray, full: int, routing_cost: float, shares: Sequence[float]
) -> dict[float, int | None]:
    """By share of full's score, the place of the price that keeps it at the least cost on these rows.

    Of those that cost full's own, the one that scores most, if that is more than full; None: full for all.
    """
    realised = rows.realised(prices)
    cost, score = realised.cost.mean(axis=0), realised.score.mean(axis=0)
    full_cost, full_score = rows.cost[:, full].mean(), rows.score[:, full].mean()
    cost = cost + routing_cost
    worth = below(cost, full_cost) | ((cost <= full_cost * (1 + NEAR)) & (score > full_score + NEAR))
    found: dict[float, int | None] = {}
    for share in shares:
        keeps = np.flatnonzero(worth & (score >= share * full_score - NEAR))
        least = keeps[cost[keeps] <= cost[keeps].min(initial=np.inf) * (1 + NEAR)]
        found[share] = int(least[score[least].argmax()]) if keeps.size else None
    return found
