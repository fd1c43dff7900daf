"""What a fitted router knows of its own spending: curves, scores and costs on pictures it was not fitted on.

Turns every kind of budget into a price: a mean into the price that met it here, a promise into the price it was
certified at. Knows arrays. Knows no model and no picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from encoders.errors import BudgetError, DataError
from router.budget import Budget
from router.certificate import Certificate, certify
from router.evaluation import OPERATING
from router.routed import Routed, price_grid
from training_data.curves import slope_merge

FEWEST = 50  # pictures; below, prices would be fixed on luck


@dataclass(frozen=True, eq=False)
class Calibration:
    """Rows of calibration pictures.

    Attributes:
        curve: (c, k) predicted. score: (c, k) measured.
        cost: (c, k) measured, in the router's unit.
        group: (c,) str, pictures, numbered. dataset: (c,) str.
        typical: (k,) mean cost of each arm on the rows the router was fitted on: what a choice is charged, since the
            length of an answer is not known before it is given.
        full: number of the best constant arm on the rows the router was fitted on.
        sources: (s,) str, sorted, the data sets of all training rows; source_score, source_cost: (s, k), their means.
    """

    curve: np.ndarray
    score: np.ndarray
    cost: np.ndarray
    group: np.ndarray
    dataset: np.ndarray
    typical: np.ndarray
    full: int
    sources: np.ndarray
    source_score: np.ndarray
    source_cost: np.ndarray

    def __post_init__(self) -> None:
        arms = self.routed().score.shape[1]
        if self.typical.shape != (arms,) or not (self.typical > 0).all() or not 0 <= self.full < arms:
            raise DataError(f"calibration needs a positive typical cost per arm ({arms}), was: {self.typical}")
        self.known()  # refuses tables of another shape

    def routed(self) -> Routed:
        """These rows as an evaluation takes them."""
        return Routed(self.curve, self.score, self.cost, self.group, self.dataset, self.typical)

    def known(self) -> Routed:
        """One row per data set of the training rows, for what its name alone says."""
        return Routed(self.source_score, self.source_score, self.source_cost, self.sources, self.sources)

    @property
    def prices(self) -> np.ndarray:
        """Prices worth telling apart (p,), descending to 0."""
        return price_grid(self.routed())

    def operating_price(self) -> float:
        """The dearest price that keeps 99 % of full's score here; 0 where none does."""
        routed = self.routed()
        prices = self.prices
        kept = np.take_along_axis(routed.score, routed.choice(prices), axis=1).mean(axis=0)
        enough = np.flatnonzero(kept >= OPERATING * routed.score[:, self.full].mean())
        return float(prices[enough[0]]) if enough.size else 0.0

    def price_of_mean(self, mean: float, cost: np.ndarray) -> float:
        """The least price at which these rows cost at most `mean` each, `cost` (k,) being charged.

        Raises:
            BudgetError: even the cheapest arm is dearer.
        """
        if mean < (least := float(cost.min())):
            raise BudgetError(f"a mean must reach the cheapest arm's cost, {least:g}, was: {mean:g}")
        steps = slope_merge(self.curve, cost)
        spent = cost.min() + np.cumsum(steps.cost) / len(self.curve)
        ends = np.flatnonzero(np.append(steps.slope[1:] != steps.slope[:-1], True)[: steps.slope.size])
        over = np.flatnonzero(spent[ends] > mean)
        if not over.size:
            return 0.0
        first = steps.slope[ends[over[0]]]  # the first slope that cannot be bought
        before = steps.slope[ends[over[0] - 1]] if over[0] else 2 * first
        return float((first + before) / 2)

    def certificate(self, budget: Budget, alpha: float = 0.1) -> Certificate:
        """The certified price for a promise, by `router.certificate`."""
        prices = self.prices[::-1]
        routed = self.routed()
        return certify(
            self.score,
            self.cost,
            routed.choice(prices),
            prices,
            self.full,
            self.group,
            max_loss=budget.max_loss,
            max_broken=budget.max_broken,
            alpha=alpha,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but the data sets' names as named arrays of numbers: `dataset` holds places in `sources`."""
        plain = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self) if field.name != "sources"}
        numbers = {"group": self.group.astype(np.int64), "dataset": np.searchsorted(self.sources, self.dataset)}
        return plain | numbers

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], sources: Sequence[str]) -> Calibration:
        """Calibration from `arrays()` and the names of the data sets.

        Raises:
            DataError: an array is missing, or breaks its rule.
        """
        names = [field.name for field in fields(cls) if field.name != "sources"]
        if missing := [name for name in names if name not in arrays]:
            raise DataError(f"calibration is stored as the arrays {names}, missing: {missing}")
        values: dict[str, Any] = {name: arrays[name] for name in names}
        if (full := values["full"]).size != 1 or full.dtype.kind not in "iu":
            raise DataError(f"calibration needs the number of full, was: {full.dtype} of shape {full.shape}")
        dataset = values["dataset"]
        if dataset.dtype.kind not in "iu" or ((dataset < 0) | (dataset >= len(sources))).any():
            raise DataError(f"calibration rows must name one of {len(sources)} data sets, was: otherwise")
        named = np.array([str(name) for name in sources])
        values |= {"group": values["group"].astype(np.str_), "dataset": named[dataset], "sources": named}
        return cls(**values | {"full": int(full.item())})
