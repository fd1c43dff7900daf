"""Intervals that know that questions about one picture hang together: the paired bootstrap, clustered by picture.

A resample is a weight per row: how often its picture was drawn. Whatever is computed from one resample's weights is
paired. Knows arrays and groups; knows no score, cost or curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from encoders.counts import whole_number
from encoders.errors import DataError
from training_data.curves import group_sums

_TOLD = 0.95  # of the resamples must say something
_CHUNK = 64  # resamples per matrix product: memory stays flat as pictures grow


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % percentile interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


class Resamples:
    """Resamples of pictures, drawn with replacement; the same pictures and seed give the same draws in any row order.

    Args:
        group: (n,) picture of each row.
        count: how many resamples.
        seed: of the draws.

    Raises:
        DataError: no rows, fewer than two resamples, or a seed that is no whole number from 0 on.
    """

    def __init__(self, group: np.ndarray, count: int = 2000, seed: int = 0) -> None:
        names = np.asarray(group)
        if names.ndim != 1 or not names.size:
            raise DataError(f"a bootstrap needs one picture per row and a row at least, was: shape {names.shape}")
        number, drawn_by = whole_number(count), whole_number(seed)
        if number is None or number < 2:
            raise DataError(f"a bootstrap needs two or more resamples, was: {count!r}")
        if drawn_by is None or drawn_by < 0:
            raise DataError(f"a bootstrap's seed must be a whole number from 0 on, was: {seed!r}")
        self.pictures, self._member = np.unique(names, return_inverse=True)
        self.count, self._seed = number, drawn_by

    def weights(self) -> Iterator[np.ndarray]:
        """`count` weightings of the rows (n,), the same at every call."""
        for drawn in self._draws():
            yield drawn[self._member].astype(np.float64)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Weighted means of rows (n, q) under every resample: (count, q). By matrix product, so it is fast."""
        rows = np.asarray(values, np.float64)
        if rows.ndim != 2 or len(rows) != len(self._member):
            raise DataError(f"means need rows ({len(self._member)}, q), was: shape {rows.shape}")
        sums = group_sums(np.column_stack([rows, np.ones(len(rows))]), self._member, self.pictures.size)
        draws = self._draws()
        parts = []
        for start in range(0, self.count, _CHUNK):
            drawn = np.array([next(draws) for _ in range(min(_CHUNK, self.count - start))], np.float64)
            parts.append(drawn @ sums)
        total = np.concatenate(parts)
        return total[:, :-1] / total[:, -1:]

    def estimate(self, statistic: Callable[[np.ndarray], float]) -> Estimate:
        """A statistic of weighted rows, recomputed under every resample.

        For example G, with a router's policies as columns of `scores` and `costs` (n, p) and `oracle` the merged steps:

            def gap(w):
                share = w / w.sum()
                router = Curve.through(share @ costs, share @ scores)
                return gap_recovered(router, hull(share @ cost, share @ score), oracle.curve(score, cost, w)).recovered
        """
        samples = np.array([statistic(weights) for weights in self.weights()])
        return self.interval(statistic(np.ones(len(self._member))), samples)

    def interval(self, value: float, samples: np.ndarray) -> Estimate:
        """`interval`; undefined where there is only one picture to draw."""
        return interval(value, samples if self.pictures.size > 1 else np.full(1, np.nan))

    def _draws(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self._seed)
        for _ in range(self.count):
            yield np.bincount(rng.integers(0, self.pictures.size, self.pictures.size), minlength=self.pictures.size)


def interval(value: float, samples: np.ndarray) -> Estimate:
    """The 2.5 and 97.5 percentiles of resampled values (count,); those that are NaN say nothing and are left out.

    Undefined (NaN) where the value is, or where more than one resample in twenty is.
    """
    every = np.asarray(samples, np.float64)
    told = every[~np.isnan(every)]
    defined = not np.isnan(value) and told.size >= _TOLD * max(1, every.size)
    low, high = np.percentile(told, [2.5, 97.5]) if defined else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))
