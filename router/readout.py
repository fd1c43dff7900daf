"""From features to a calibrated success curve with NumPy alone: what a fitted predictor leaves behind.

Knows arrays. Knows no library that grew them, no picture and no question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from encoders.errors import DataError
from router.forest import Forest

_PLAIN = ("constant", "slopes", "level_slope", "centre", "mean")
_READ = ("readings", "share")


@dataclass(frozen=True, eq=False)
class Readout:
    """A forest's raw curve and how it is calibrated.

    The raw curve is `constant` + the forest; where some columns are expected scores themselves, one for each arm, a
    share of it is theirs. Where there are no knots, the gain of each arm over its neighbour is
    scaled by its slope, the level by its own, both around the means of the rows it was fitted on. Where there are, each
    arm's raw value is read off its isotonic map.

    Attributes:
        forest: k outputs.
        constant: (k,) float64.
        slopes: (k - 1,), of realised on predicted gains between neighbouring arms.
        level_slope: (1,), likewise.
        centre: (k,) mean of the raw curves. mean: (k,) mean of the scores.
        knots: k pairs of (x, y), each (q,) with x ascending; or empty.
        readings: (k,) int, the columns that are expected scores, or empty.
        share: (1,) in [0, 1], theirs of the raw curve; the trees have the rest.
    """

    forest: Forest
    constant: np.ndarray
    slopes: np.ndarray
    level_slope: np.ndarray
    centre: np.ndarray
    mean: np.ndarray
    knots: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    readings: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    share: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def __post_init__(self) -> None:
        arms = self.forest.outputs
        for name, size in zip(_PLAIN, (arms, arms - 1, 1, arms, arms), strict=True):
            array = getattr(self, name)
            if array.shape != (size,) or not np.isfinite(array).all():
                raise DataError(f"a readout of {arms} arms needs {name} of length {size}, was: shape {array.shape}")
        columns = self.readings
        if columns.ndim != 1 or columns.dtype.kind != "i" or len(columns) not in (0, arms):
            raise DataError(f"a readout has one reading per arm ({arms}) or none, was: {columns.dtype} {columns.shape}")
        if columns.size and not 0 <= columns.min() <= columns.max() < self.forest.columns:
            raise DataError(f"readings are among the columns 0 to {self.forest.columns - 1}, was: {columns.max()}")
        if self.share.shape != (1,) or not 0 <= self.share[0] <= bool(columns.size):
            raise DataError(f"readings have a share from 0 to 1, and 0 where there are none, was: {self.share}")
        if self.knots and len(self.knots) != arms:
            raise DataError(f"a readout needs one map per arm ({arms}) or none, was: {len(self.knots)}")
        for x, y in self.knots:
            if x.ndim != 1 or x.shape != y.shape or not x.size or (np.diff(x) < 0).any() or not np.isfinite(y).all():
                raise DataError("an isotonic map needs rising x and as many finite y, was: otherwise")

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Success curves (n, k) float64 of rows (n, d)."""
        return self.calibrated(self.raw(rows))

    def raw(self, rows: np.ndarray) -> np.ndarray:
        """Curves before calibration."""
        return self.mixed(rows, self.constant + self.forest.predict(rows))

    def mixed(self, rows: np.ndarray, curve: np.ndarray) -> np.ndarray:
        """The trees' curves (n, k) of rows with the readings' share in them."""
        if not self.readings.size:
            return curve
        return mixture(curve, rows[:, self.readings].astype(np.float64), self.share[0])

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """Raw curves (n, k) made honest."""
        if self.knots:
            return np.stack([np.interp(raw[:, arm], *knots) for arm, knots in enumerate(self.knots)], axis=1)
        return self.mean + self._scaled(raw - self.centre)

    def _scaled(self, away: np.ndarray) -> np.ndarray:
        """Deviations from the mean curve (n, k), their gains and their level scaled: linear in them."""
        gains = np.diff(away, axis=1) * self.slopes
        shape = np.concatenate([np.zeros((len(away), 1)), np.cumsum(gains, axis=1)], axis=1)
        return away.mean(axis=1, keepdims=True) * self.level_slope + shape - shape.mean(axis=1, keepdims=True)

    def flat(self) -> Readout:
        """The mean curve for every row."""
        maps = [(x, np.full_like(y, mean)) for (x, y), mean in zip(self.knots, self.mean, strict=False)]
        return replace(self, slopes=0 * self.slopes, level_slope=0 * self.level_slope, knots=tuple(maps))

    def contributions(self, row: np.ndarray) -> np.ndarray:
        """How much each column moved one row's curve: (columns, k); of the raw curve where maps follow it."""
        moved = self.forest.contributions(row)
        if self.readings.size:
            moved *= 1 - self.share[0]
            moved[self.readings, np.arange(len(self.readings))] += self.share[0] * (row[self.readings] - self.centre)
        if self.knots:  # a level map moves nothing, whatever the raw curve does
            return moved * np.array([np.ptp(y) > 0 for _, y in self.knots])
        return self._scaled(moved)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, as `from_arrays` takes them."""
        named = {f"forest.{name}": array for name, array in self.forest.arrays().items()}
        named |= {name: getattr(self, name) for name in _PLAIN}
        if self.readings.size:
            named |= {name: getattr(self, name) for name in _READ}
        for arm, knots in enumerate(self.knots):
            named |= {f"knots.{arm}.{axis}": array for axis, array in zip("xy", knots, strict=True)}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Readout:
        """A readout from `arrays()`, checked as any other.

        Raises:
            DataError: an array is missing, or they contradict each other.
        """
        if missing := [name for name in _PLAIN if name not in arrays]:
            raise DataError(f"a readout is stored with the arrays {_PLAIN}, missing: {missing}")
        start = "forest."
        forest = Forest.from_arrays({key.removeprefix(start): a for key, a in arrays.items() if key.startswith(start)})
        knots: list[tuple[np.ndarray, np.ndarray]] = []
        while f"knots.{len(knots)}.x" in arrays and f"knots.{len(knots)}.y" in arrays:
            knots.append((arrays[f"knots.{len(knots)}.x"], arrays[f"knots.{len(knots)}.y"]))
        plain: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
        if all(name in arrays for name in _READ):  # routers of format 1 have none
            plain |= {name: arrays[name] for name in _READ}
        return cls(forest, **plain, knots=tuple(knots))


def mixture(trees: np.ndarray, read: np.ndarray, share: float) -> np.ndarray:
    """Curves (n, k) of which a share is the readings' and the rest the trees'."""
    return (1 - share) * trees + share * read
