"""What a fitted router knows of its own spending: curves, scores and costs on pictures it was not fitted on.

Turns every kind of budget into a price: a mean into the price that met it here, a promise into the price it was
certified at. Knows arrays. Knows no model and no picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from encoders.errors import DataError
from router.bench import Known
from router.budget import Budget
from router.certificate import Certificate, certify
from router.routed import Routed, price_array, price_of_mean
from training_data.curves import table

FEWEST = 50  # pictures; below, prices would be fixed on luck
_MOST_PRICES = 1000  # of a file that anybody may have written; a fit makes 64


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
        prices: (p,) descending, worth telling apart and cheaper than full; fixed on out-of-fold curves of the rows it
            was fitted on, before any of these rows was seen, as the certificate wants it.
        operating: the price that keeps 99 % of full's score at the least cost, here and on the rows that were fitted
            on, predicted out of fold (a tenth of the pictures alone leaves it to luck); NaN where none does: full for
            all.
        trained: (t,) int64, keys of all pictures that were fitted or calibrated on.
        sources: (s,) str, sorted, the data sets of all training rows; source_score, source_cost: (s + 1, k), their
            means, and the mean of all for a data set that is not among them.
    """

    curve: np.ndarray
    score: np.ndarray
    cost: np.ndarray
    group: np.ndarray
    dataset: np.ndarray
    typical: np.ndarray
    full: int
    prices: np.ndarray
    operating: float
    trained: np.ndarray
    sources: np.ndarray
    source_score: np.ndarray
    source_cost: np.ndarray

    def __post_init__(self) -> None:
        arms = self.routed().score.shape[1]
        if self.typical.shape != (arms,) or not (self.typical > 0).all() or not 0 <= self.full < arms:
            raise DataError(f"calibration needs a positive typical cost per arm ({arms}), was: {self.typical}")
        prices, shape = self.prices, (len(self.sources) + 1, arms)
        if prices.size > _MOST_PRICES:  # rows x prices x arms are looked at together
            raise DataError(f"calibration needs at most {_MOST_PRICES} prices, was: {prices.size}")
        if (np.diff(price_array(prices)) > 0).any():  # slopes that differ by rounding make prices that do not
            raise DataError(f"calibration needs prices that never rise, was: {prices}")
        if self.source_score.shape != shape or self.source_cost.shape != shape:
            raise DataError(f"calibration needs tables {shape} of its data sets, was: {self.source_score.shape}")
        table(self.source_score, self.source_cost)
        finite = np.isnan(self.operating) or 0 <= self.operating < np.inf
        if self.trained.ndim != 1 or self.trained.dtype.kind not in "iu" or not finite:
            raise DataError(f"calibration needs keys of pictures and a price of at least 0, was: {self.operating}")

    def routed(self) -> Routed:
        """These rows as an evaluation takes them."""
        return Routed(self.curve, self.score, self.cost, self.group, self.dataset, self.typical)

    def known(self) -> Known:
        """What a data set's name alone says."""
        return Known(self.sources, self.source_score, self.source_cost)

    @property
    def trained_names(self) -> np.ndarray:
        """Names of all pictures that were fitted or calibrated on, (t,) str, as `Routed.group` has them."""
        return self.trained.astype(np.str_)

    def price_of_mean(self, mean: float, cost: np.ndarray) -> float:
        """The least price at which these rows cost at most `mean` each, `cost` (k,) being charged.

        Raises:
            BudgetError: even the cheapest arm is dearer.
        """
        return price_of_mean(self.curve, cost, mean)

    def certificate(self, budget: Budget, alpha: float = 0.1) -> Certificate:
        """The certified price for a promise, by `router.certificate`."""
        prices, routed = self.prices[::-1], self.routed()
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
        return cls(**values | {"full": int(full.item()), "operating": float(values["operating"].item())})
