"""Which arm each question gets: predicted scores, costs and a budget in, arms out.

| budget | every row takes |
|---|---|
| `None` | the arm of the most score - price * price_cost: the operating point stored with the router |
| cap | the same among its arms within the cap, so that a cap is not spent for nothing |
| price | the arm of the most score - budget.price * cost |
| mean | what its steps buy when the batch's steps are taken in order of score per cost while the mean holds |

Pure functions on arrays; on true scores an allocation under a mean is the oracle. Knows no picture, question, unit or
model, and converts no unit: costs come in the budget's own.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from encoders.errors import BudgetError, DataError
from router.budget import Budget
from training_data.curves import slope_merge


def allocate(
    curve: np.ndarray,
    cost: np.ndarray,
    budget: int | Budget | None,
    *,
    price: float = 0.0,
    price_cost: np.ndarray | None = None,
    key: np.ndarray | None = None,
) -> np.ndarray:
    """The arm of every row, (n,) int64.

    Under caps and prices a row's arm depends on that row alone, and among equally good arms the cheapest wins, then
    the first. Under a mean the rows share what there is:

    - The steps of all rows are merged by slope (`slope_merge`) and the longest prefix is taken whose mean cost does
      not exceed `budget.mean`: the exact sum is rounded once and divided by n, so order and rounding decide nothing.
    - The first step that does not fit ends it. A later, smaller one might still fit, but then a dearer mean, which
      fits the large one, could end with less score; prefixes are nested, so here it cannot.
    - What is left over is less than that step's cost; it is more only where no step of positive predicted gain is
      left, and then every row is at its best score.

    Args:
        curve: (n, k) finite, predicted expected score of every arm; any real numbers.
        cost: (n, k) or (k,), positive and finite, in the budget's unit.
        budget: None, a cap, a mean or a price; an int is a cap in visual tokens.
        price: the stored operating price, not negative; used by None and by caps. A mean and a price replace it.
        price_cost: what that price is charged on, like `cost`; None for `cost` itself. It differs where the price was
            fixed in another unit than the cap's.
        key: (n,) integers, `tie_keys` of the questions; under a mean, among equal slopes the least key goes first.
            With keys that all differ, permuting the batch permutes the arms. None: the row's number.

    Raises:
        BudgetError: a cap below a row's cheapest arm, a mean below the cheapest arms' mean, a negative price; a
            max_loss or max_broken, which a certificate must turn into a price first.
        DataError: shapes disagree, or a number is not finite, or a cost is not positive.
    """
    budget = Budget.of(budget)
    if budget is not None and budget.kind in ("max_loss", "max_broken"):
        raise BudgetError(
            f"allocate needs a cap, a mean, a price or None, was: {budget}; the router's certificate turns a loss into "
            "the price that keeps to it"
        )
    curves, costs = checked(curve, cost)
    if budget is not None and budget.mean is not None:
        return share_out(curves, costs, budget.mean, key)[0]
    if budget is not None and budget.price is not None:
        return best_arms(curves - budget.price * costs, costs)
    if not (math.isfinite(price) and price >= 0):
        raise BudgetError(f"a stored price must be a finite number, at least 0, was: {price!r}; 0 charges nothing")
    charged = costs if price_cost is None else checked(curve, price_cost)[1]
    if budget is None or budget.cap is None:
        return best_arms(curves - price * charged, costs)
    value = curves - price * _never_less(charged, costs)
    return best_arms(np.where(_within_cap(costs, budget), value, -np.inf), costs)


def best_arms(value: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The arm of the most value in every row, (n,) int64; among equals the cheapest, then the first.

    Args:
        value: (n, k), -inf for an arm that may not be taken.
        cost: (n, k) or (k,), finite.
    """
    best = value == value.max(axis=1, keepdims=True)
    arms: np.ndarray = np.where(best, cost, np.inf).argmin(axis=1)
    return arms


def tie_keys(ids: Iterable[object], seed: int = 0) -> np.ndarray:
    """Keys that order questions as if at random, (n,) int64: a hash of (seed, id), alike in every process.

    An id counts as its text, so that 7 and "7" are one question.
    """
    texts = (f"{seed}:{name}".encode("utf-8", "surrogatepass") for name in ids)
    return np.frombuffer(b"".join(blake2b(text, digest_size=8).digest() for text in texts), "<i8").astype(np.int64)


def checked(curve: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves and costs as two (n, k) float64 arrays; a cost of shape (k,) holds for every row.

    Raises:
        DataError: shapes disagree, a number is not finite, a cost is not positive.
    """
    try:
        curves, costs = np.asarray(curve, np.float64), np.asarray(cost, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"curves and costs must be arrays of numbers, was: {error}; give every row each arm") from error
    if curves.ndim != 2 or not curves.size or costs.shape not in (curves.shape, curves.shape[1:]):
        raise DataError(
            "curves must be (n, k) with one row and one arm at least, and costs (n, k) or (k,), was: "
            f"{curves.shape} and {costs.shape}"
        )
    if not np.isfinite(curves).all():
        raise DataError(f"predicted scores must be finite, was: {curves[~np.isfinite(curves)][0]}; predict them again")
    fine = (costs > 0) & np.isfinite(costs)
    if not fine.all():
        raise DataError(f"costs must be positive and finite, was: {costs[~fine][0]}; charge what the arm really costs")
    return curves, np.broadcast_to(costs, curves.shape)


def _never_less(charged: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """What arms are charged, (n, k), where one that takes more of the cap is charged no less than one that takes less.

    Else a higher cap could let in an arm of less score that happens to be charged less.
    """
    order = np.argsort(costs, axis=1, kind="stable")
    rising = np.maximum.accumulate(np.take_along_axis(charged, order, axis=1), axis=1)
    back: np.ndarray = np.take_along_axis(rising, np.argsort(order, axis=1, kind="stable"), axis=1)
    return back


def _within_cap(costs: np.ndarray, budget: Budget) -> np.ndarray:
    """Which arms (n, k) keep within the cap.

    Raises:
        BudgetError: a row has none.
    """
    within = costs <= min(budget.cap or 0, sys.float_info.max)  # an int may be larger than any float
    shut = ~within.any(axis=1)
    if shut.any():
        least = costs[shut].min(axis=1).max()
        raise BudgetError(
            f"a cap must reach every question's cheapest arm, was: {budget}, too little for {shut.sum()} of "
            f"{len(costs)} questions; {float(least)} {budget.unit} reaches them all"
        )
    return within


def share_out(
    curves: np.ndarray, costs: np.ndarray, mean: float, key: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """(arms, price) of the longest prefix of the merged steps whose mean cost is at most `mean`.

    The price is what the first step left out would have gained per cost, 0 where none is left out; arms as `allocate`,
    whose checks curves and costs (n, k) have passed.

    Raises:
        BudgetError: the mean is below the cheapest arms'.
    """
    steps = slope_merge(curves, costs, key)
    rows = np.arange(len(costs))

    def mean_cost(count: int) -> float:  # rises with count: every step costs something, and fsum rounds only once
        return math.fsum(costs[rows, steps.after(count)].tolist()) / len(costs)

    count = bisect_right(range(len(steps.slope) + 1), mean, key=mean_cost) - 1
    if count < 0:
        raise BudgetError(
            f"a mean must reach the mean cost of the cheapest arms, {mean_cost(0)}, was: {mean}; raise it, or "
            "leave questions out"
        )
    return steps.after(count), float(steps.slope[count]) if count < len(steps.slope) else 0.0
