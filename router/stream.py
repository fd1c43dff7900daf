"""Holding a mean cost over a stream: questions come one by one, and nobody knows which comes next.

A batch is allocated under one price; a stream must guess that price and mend the guess. `FeedbackPrice` reads it from
a map price -> mean cost, first that of calibration rows, then more and more that of the stream itself, since every
question shows what it would have cost at every price. What was spent too much or too little so far is made good over
the questions that follow. Knows predicted scores and costs. Knows no picture, question or unit, and no clock.
"""

from __future__ import annotations

import math

import numpy as np

from encoders.counts import finite_number
from encoders.errors import BudgetError, DataError
from router.allocate import allocate, best_arms, checked
from router.budget import Budget
from training_data.curves import slope_merge

_PRICES = 200  # evenly in what calibration's steps cost; between neighbours the choice is shared out
_WIDE = 64  # and so many evenly in price (an even number: where all slopes are alike none of them is that slope)...
_BEYOND = 1024.0  # ...from so many times calibration's steepest step down to that part of its flattest
_MEMORY = 100  # questions: the map is their mean, older ones fade
_HORIZON = 5  # questions over which a debt is made good, early in the stream...
_PATIENCE = 0.01  # ...and later this share of all questions so far: a running mean forgives more the longer it runs
_SLACK = 0.02  # no question may take the running mean further above the target than this...
_SETTLED = 500  # ...counted as if so many had come, so that the first ones may be dear at all


class FeedbackPrice:
    """A price that follows a stream, so that its running mean cost keeps to a target.

    For one stream and one thread: it changes at every `choose`. It draws nothing at random: between two neighbouring
    prices choices are shared out in turn, so the same calibration and the same stream give the same choices.

    After 500 questions the running mean is within 3 % of the target on the streams in `tests/router/test_stream.py`:
    easier and harder than calibration, in bursts, drifting, of a single kind. That it is not more than 2 % above holds
    on any stream whose cheapest arms are no dearer than the target, where charges are what was predicted. It stays
    below where no step of positive predicted gain is left to buy; what was saved then is spent when harder questions
    come, since easy ones fund hard ones.

    Args:
        mean: the target, in the unit of `cost`.
        curve: (c, k) finite, predicted scores of calibration rows.
        cost: (c, k) or (k,), positive and finite.

    Attributes:
        target: the mean cost to hold.
        count, total: questions so far, and what they cost.
        prices: (g,) float64, falling to 0.
        expected: (g,) float64, mean cost at each price, never falling; calibration's at first, then the stream's.

    Raises:
        BudgetError: the target is not positive and finite, or below the mean cost of calibration's cheapest arms.
        DataError: shapes disagree, a score is not finite, a cost is not positive.
    """

    def __init__(self, mean: float, curve: np.ndarray, cost: np.ndarray) -> None:
        curves, costs = checked(curve, cost)
        allocate(curves, costs, Budget(mean=mean))  # refuses a target that cannot be reached
        self.target = float(mean)
        self.count, self.total = 0, 0.0
        self.prices, self.expected = _price_map(curves, costs)
        self._rows, self._arms = curves.shape
        self._share = 0.5  # of one dearer choice, owed to rows on which two neighbouring prices disagree
        self._charged: float | None = None

    @property
    def mean(self) -> float:
        """What a question has cost so far, on average; NaN before the first."""
        return self.total / self.count if self.count else math.nan

    @property
    def price(self) -> float:
        """The price for the next question, in score per unit of cost; of two neighbours in use the dearer one."""
        return float(self.prices[self._place()[0]])

    def choose(self, curve: np.ndarray, cost: np.ndarray) -> int:
        """The arm for the next question, charged at its cost.

        Args:
            curve: (k,) finite, its predicted scores.
            cost: (k,) positive and finite; in the unit of the target.

        Raises:
            DataError: the number of arms differs from calibration's, a score is not finite, a cost is not positive.
        """
        curves, costs = checked(np.atleast_2d(curve), np.atleast_2d(cost))
        if curves.shape != (1, self._arms):
            raise DataError(f"a question needs {self._arms} predicted scores, was: shape {np.shape(curve)}")
        dear, fraction = self._place()
        arms = self._at_every_price(curves[0], costs[0])
        arm = int(self._shared_out(arms[dear], arms[min(dear + 1, len(arms) - 1)], fraction))
        self._learn(costs[0, arms])
        self._charged = float(costs[0, arm])
        self.count += 1
        self.total += self._charged
        return arm

    def spent(self, cost: float) -> None:
        """Correct the last question's charge to what its answer has cost in truth.

        Raises:
            BudgetError: no question is waiting for it, or the cost is not positive and finite.
        """
        if self._charged is None:
            raise BudgetError(f"spent corrects one choice once, was: spent({cost!r}) without one; call choose first")
        if not (true := finite_number(cost)) > 0:
            raise BudgetError(f"a cost must be positive and finite, was: {cost!r}; leave spent out where none is known")
        self.total += true - self._charged
        self._charged = None

    @property
    def _debt(self) -> float:
        """What was spent beyond the target so far; negative where there is something left."""
        return self.total - self.target * self.count

    def _place(self) -> tuple[int, float]:
        """The dearer of the two neighbouring prices to use, and the share of questions that the cheaper one gets."""
        wanted = self.target - self._debt / max(_HORIZON, _PATIENCE * self.count)
        place = int(np.searchsorted(self.expected, wanted, side="right")) - 1
        if place < 0 or place == len(self.expected) - 1:
            return max(place, 0), 0.0
        low, high = self.expected[place : place + 2]
        return place, float((wanted - low) / (high - low))

    def _at_every_price(self, curve: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """The arm at every price (g,), among those that keep the running mean within the slack."""
        room = self.target * (1 + _SLACK * max(_SETTLED, self.count + 1)) - self._debt
        value = curve - self.prices[:, None] * cost
        return best_arms(np.where(cost <= max(room, cost.min()), value, -np.inf), cost)

    def _shared_out(self, low: int, high: int, fraction: float) -> int:
        """One of two arms; of the questions on which they differ the given fraction gets the dearer one, evenly."""
        if low == high:
            return low
        self._share += fraction
        if self._share < 1:
            return low
        self._share -= 1
        return high

    def _learn(self, cost: np.ndarray) -> None:
        """Move the map towards what this question costs at every price (g,)."""
        seen = min(_MEMORY, self._rows + self.count + 1)
        self.expected += (np.maximum.accumulate(cost) - self.expected) / seen


def _price_map(curves: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prices, falling to 0, and calibration's mean cost at each: (g,) and (g,), the second never falling.

    Most lie between the slopes of neighbouring steps, evenly in log cost; others evenly in log price and far beyond,
    since the steps of a stream may be steeper or flatter than those that calibration spends on.
    """
    steps = slope_merge(curves, costs)
    base = costs[np.arange(len(costs)), steps.hull[:, 0]].sum()
    bought = np.cumsum(steps.cost)
    if bought.size:
        some = np.searchsorted(bought, np.geomspace(base, base + bought[-1], _PRICES) - base).clip(max=bought.size - 1)
        slopes = np.unique(steps.slope[some])[::-1]
    else:
        slopes = 1 / costs.mean(keepdims=True)[0]  # nothing to buy here: a scale for a stream that differs
    between = np.sqrt(slopes[1:] * slopes[:-1])
    wide = np.geomspace(slopes[0] * _BEYOND, slopes[-1] / _BEYOND, _WIDE)
    prices = np.append(np.unique(np.append(between, wide))[::-1], 0.0)
    taken = np.searchsorted(-steps.slope, -prices, side="left")  # steps that are worth more than the price
    return prices, (base + np.concatenate([[0.0], bought])[taken]) / len(costs)
