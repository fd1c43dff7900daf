"""Measured rows beside what a router predicted for them, and the prices at which the two are compared.

Knows arrays. Knows no estimator, picture, question or unit; the allocation rule itself is `router.allocate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np

from encoders.errors import BudgetError, DataError
from router.allocate import best_arms, tie_keys
from training_data.curves import NEAR, slope_merge, table
from training_data.outcomes import Outcomes


class Realised(NamedTuple):
    """What rows came to at each of p prices: the arm, its cost and its score, (n, p) each."""

    choice: np.ndarray
    cost: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class Routed:
    """n questions, their predicted curves, and what every arm then scored and cost.

    Attributes:
        curve: (n, k) float64, predicted expected score of every arm; any finite numbers.
        score: (n, k) float64 in [0, 1], measured.
        cost: (n, k) float64, positive, without what routing costs; (k,) is spread over the rows.
        group: (n,) str, the picture.
        dataset: (n,) str.
        charged: (n, k) or (k,) positive, what a choice is charged, such as the mean cost on training rows: the length
            of an answer, and so its measured cost, is not known when its arm is chosen. None for `cost`.

    Raises:
        DataError: shapes disagree, or a number breaks its rule.
    """

    curve: np.ndarray
    score: np.ndarray
    cost: np.ndarray
    group: np.ndarray
    dataset: np.ndarray
    charged: np.ndarray | None = None

    def __post_init__(self) -> None:
        score, cost = table(self.score, self.cost)
        curve = np.asarray(self.curve, np.float64)
        if curve.shape != score.shape:
            raise DataError(
                f"routed rows need a predicted score per measured one {score.shape}, was: {curve.shape}; predict all "
                "arms of all rows"
            )
        if not np.isfinite(curve).all():
            raise DataError(
                f"predicted scores must be finite, was: {curve[~np.isfinite(curve)][0]}; predict them again"
            )
        charged = cost if self.charged is None else table(score, self.charged)[1]
        columns = {"curve": curve, "score": score, "cost": cost, "charged": charged}
        for name in ("group", "dataset"):
            column = np.asarray(getattr(self, name)).astype(np.str_)
            if column.shape != (len(score),):
                raise DataError(
                    f"routed rows need one {name} each ({len(score):,}), was: shape {column.shape}; name it for every "
                    "row"
                )
            columns[name] = column
        for name, value in columns.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, rows: Outcomes, curve: np.ndarray, typical: np.ndarray) -> Routed:
        """Outcomes beside curves (n, k) for them, choices charged at what arms typically cost (k,)."""
        return cls(curve, rows.score, rows.cost, named(rows.group), rows.dataset, typical)

    @property
    def charges(self) -> np.ndarray:
        """What choices are charged, (n, k)."""
        return self.cost if self.charged is None else self.charged

    def __len__(self) -> int:
        return len(self.score)

    def select(self, rows: np.ndarray) -> Self:
        """Some of the rows, by mask or number."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def beside(self, more: Self) -> Self:
        """These rows and more."""
        pairs = {field.name: (getattr(self, field.name), getattr(more, field.name)) for field in fields(self)}
        return type(self)(**{name: np.concatenate(pair) for name, pair in pairs.items()})

    def choice(self, prices: np.ndarray) -> np.ndarray:
        """The arm of the most curve - price * charged: (n, p) int64; among equals the cheapest, then the first.

        Args:
            prices: (p,) finite, at least 0, in score per unit of cost.
        """
        asked, charged = price_array(prices), self.charges
        found = np.empty((len(self), asked.size), np.int64)
        for column, price in enumerate(asked):  # one price at a time: (n, p, k) would not fit for many rows
            found[:, column] = best_arms(self.curve - price * charged, charged)
        return found

    def realised(self, prices: np.ndarray) -> Realised:
        """What choosing by these prices (p,) cost and scored."""
        choice = self.choice(prices)
        cost, score = (np.take_along_axis(values, choice, axis=1) for values in (self.cost, self.score))
        return Realised(choice, cost, score)


def named(group: np.ndarray) -> np.ndarray:
    """Pictures' names (n,) as a router keeps them: hashed, so that a saved router tells nobody's file names."""
    return tie_keys(group.tolist()).astype(np.str_)


def price_of_mean(curve: np.ndarray, cost: np.ndarray, mean: float) -> float:
    """The least price at which rows of these curves (n, k) cost at most `mean` each, `cost` (k,) being charged.

    A sum that exceeds the mean by its rounding alone does not.

    Raises:
        BudgetError: even the cheapest arm is dearer.
    """
    if mean < (least := float(cost.min())) * (1 - NEAR):
        raise BudgetError(f"a mean must reach the cheapest arm's cost, {least!r}, was: {mean!r}; raise it")
    steps = slope_merge(curve, cost)
    spent = cost.min() + np.cumsum(steps.cost) / len(curve)
    ends = steps.ends
    over = np.flatnonzero(spent[ends] > mean * (1 + NEAR))
    if not over.size:
        return 0.0
    first = steps.slope[ends[over[0]]]  # the first slope that cannot be bought
    before = steps.slope[ends[over[0] - 1]] if over[0] else 2 * first
    return float((first + before) / 2)


def price_array(prices: np.ndarray | Sequence[float]) -> np.ndarray:
    """Prices (p,) as float64, checked."""
    asked = np.asarray(prices, np.float64)
    if asked.ndim != 1 or not asked.size or not np.isfinite(asked).all() or (asked < 0).any():
        raise DataError(f"prices must be one or more finite numbers, at least 0, was: {prices}; see price_grid")
    return asked


def price_grid(routed: Routed, count: int = 64) -> np.ndarray:
    """Prices at which the mean cost of these rows rises in about equal ratios: (p <= count,) float64, descending.

    The first is so dear that every row takes its cheapest arm, the last is 0. Each lies between two slopes of the rows'
    predicted hulls, so that no choice hangs on rounding. Where predictions ask for no upgrade there is one price, 0.

    Args:
        routed: calibration rows. Prices taken from test rows would be tuned on them.
        count: how many at most; fewer where fewer mean costs can be had.

    Raises:
        DataError: fewer than two.
    """
    if count < 2:
        raise DataError(f"a price grid needs two or more prices, was: {count}; 64 is usual")
    steps = slope_merge(routed.curve, routed.charges)
    if not steps.slope.size:
        return np.zeros(1)
    ends = steps.ends
    start = routed.charges[np.arange(len(routed)), steps.hull[:, 0]].sum()
    spent = np.append(start, start + np.cumsum(steps.cost)[ends])  # (slopes + 1,), all rows together
    wanted = np.geomspace(spent[0], spent[-1], count)
    right = np.clip(np.searchsorted(spent, wanted), 1, ends.size)
    bought = np.unique(right - (wanted**2 < spent[right - 1] * spent[right]))  # the nearer one, in log of cost
    edges = np.concatenate([[3 * steps.slope[0]], steps.slope[ends], [0.0]])
    prices = (edges[bought] + edges[bought + 1]) / 2
    prices[-1] = 0.0
    return np.unique(prices)[::-1]  # slopes that differ by rounding make prices that do not
