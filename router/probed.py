"""A second look where it pays: a pass at the smallest m, run only for questions whose first token is worth its price.

The predictor's curve comes first. A gate, one value per price, tells by how much asking the model's own first token
would better what is spent, the pass included; where that is above nothing, the pass is run and a second curve, which
knows how sure the model was, decides. An answer at the smallest m goes on from the pass, so that only questions that
are sent on have paid for nothing. Knows arrays. `router.competitors` measures what it is worth on a user's own
outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from encoders.errors import DataError
from router.fitting import LEAST
from router.routed import Realised, Routed
from training_data.outcomes import FIRST_TOKEN, Outcomes

_LEAF = 30  # a leaf of the gate holds one row in so many: one row's realised worth is nearly all luck
_TREES = 60
_COLUMNS = 0.3  # share of them that a split may choose from


def second_look(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray] | None:
    """(first tokens, costs) of a pass at the cheapest arm; None where they were not measured.

    Returns:
        (n, 4) float32, the three largest log-probabilities and the entropy; (n,) of the outcomes' unit.
    """
    tables, by_token = [getattr(outcomes, name) for name in FIRST_TOKEN], 0.0
    if outcomes.features is not None and outcomes.unit == "tflops":
        by_token = outcomes.features.tflops.get("probe", 0.0)
    if not by_token or outcomes.m is None or outcomes.text_tokens is None or any(table is None for table in tables):
        return None
    columns = np.stack([np.maximum(table[:, 0], LEAST) for table in tables], axis=1).astype(np.float32)
    return columns, by_token * (outcomes.m[0] + outcomes.text_tokens[:, 0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Probed(Routed):
    """Rows whose arm is chosen by a first curve, or by a second one where a probe is run.

    Attributes:
        second: (n, k), the curves that know the first token.
        worth: (n, p), what a probe is expected to add at each of the p prices that `realised` is asked for.
        probe_cost: (n, 1), of a pass at the first arm, which an answer at that arm goes on from.
    """

    second: np.ndarray
    worth: np.ndarray
    probe_cost: np.ndarray

    @classmethod
    def after(cls, rows: Routed, second: np.ndarray, worth: np.ndarray, probe_cost: np.ndarray) -> Probed:
        """Rows and their first curves, with a second look that costs `probe_cost` (n,)."""
        own = {field.name: getattr(rows, field.name) for field in fields(Routed)}
        return cls(**own, second=second, worth=worth, probe_cost=probe_cost[:, None])

    def realised(self, prices: np.ndarray) -> Realised:
        """Choices, what they cost with the probes that were run, and their scores."""
        if self.worth.shape != (len(self), len(prices)):
            raise DataError(f"a gate speaks of {self.worth.shape[1]} prices, was asked for: {len(prices)}")
        first, second = self.choice(prices), self._escalated().choice(prices)
        probed = self.worth > 0
        choice = np.where(probed, second, first)
        cost, score = (np.take_along_axis(values, choice, axis=1) for values in (self.cost, self.score))
        return Realised(choice, cost + np.where(probed & (choice > 0), self.probe_cost, 0.0), score)

    def _escalated(self) -> Routed:
        """The same rows after a probe: every arm but the first costs the pass on top."""
        extra = np.where(np.arange(self.cost.shape[1]) > 0, self.probe_cost, 0.0)
        return Routed(self.second, self.score, self.cost + extra, self.group, self.dataset, self.charges + extra)


class Gate:
    """Learns what a probe is worth at each price, from rows whose two curves were both predicted out of fold.

    What it learns from is realised, not predicted: of two curves the maximum of the noisier one always looks better.
    """

    def __init__(self, prices: np.ndarray, seed: int) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self._prices, self._spread = prices, np.ones(prices.size)
        self._trees = RandomForestRegressor(_TREES, max_features=_COLUMNS, random_state=seed, n_jobs=-1)

    def fit(self, X: np.ndarray, rows: Routed, second: np.ndarray, probe_cost: np.ndarray) -> Gate:
        """Rows (n,) with columns X (n, d) and first curves; `second` (n, k); `probe_cost` (n,)."""
        never = np.full((len(rows), self._prices.size), -1.0)
        without, with_probe = (
            Probed.after(rows, second, worth, probe_cost).realised(self._prices) for worth in (never, -never)
        )
        gained = with_probe.score - without.score - self._prices * (with_probe.cost - without.cost)
        self._spread = np.maximum(gained.std(axis=0), 1e-12)  # prices differ a thousandfold, trees weigh them alike
        self._trees.set_params(min_samples_leaf=max(5, len(rows) // _LEAF))
        wanted = gained / self._spread
        self._trees.fit(np.concatenate([X, rows.curve], axis=1), wanted if wanted.shape[1] > 1 else wanted[:, 0])
        return self

    def __call__(self, X: np.ndarray, curve: np.ndarray) -> np.ndarray:
        """Expected worth (n, p) of a probe of rows with these columns (n, d) and first curves (n, k)."""
        told = self._trees.predict(np.concatenate([X, curve], axis=1))
        worth: np.ndarray = told.reshape(len(X), -1) * self._spread
        return worth
