"""The complexity predictor: from features to a success curve, the expected score at every arm.

A scikit-learn estimator on LightGBM. What a router spends on is the difference between arms, so that is what is
learned: the score table is turned into its leading contrasts, every contrast is one quantity to predict, and the whole
curve comes from one model of shared trees. Separate models per arm would add their independent errors to every
difference (docs/log.md has the numbers). Takes arrays; knows no picture, no question and no sibling floor.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from router.forest import Forest, from_lightgbm, from_sklearn
from router.readout import Readout, mixture

Head = Literal["gain", "ordinal"]
_BOOSTED = 0.25  # LightGBM's share of the mean with ExtraTrees
_ROWS_PER_LEAF = {"boosted": 400, "extra": 1200}  # the least rows of a leaf are one in so many, within borders
_STEEPEST = 2.0  # slope of realised on predicted gains that is believed; regularised trees say too little
_SAME = 1e-9


class ComplexityPredictor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts expected scores (n, k) from features (n, d).

    head "gain" is trained on the scores themselves. head "ordinal" is trained on the oracle minimum-token label, the
    first arm that reaches a row's best score, never-solved rows being a class above the ladder: it predicts
    P(label <= arm), which counts rescues but never losses, and is therefore mapped to expected scores by isotonic
    regression, arm by arm, out of fold.

    Parameters
    ----------
        head: "gain" or "ordinal".
        components: leading contrasts that get a LightGBM of their own; what lies beyond them is noise to a router.
        rounds, learning_rate, leaves: of each LightGBM.
        trees: of the multi-output ExtraTrees that LightGBM is averaged with, three parts to one; 0 for none.
        readings: columns that are expected scores themselves, one for each arm, such as a text's linear readings; the
            curve is then a mixture of theirs and the trees', as it does best out of fold. Trees see a sum of thousands
            of small effects through a few thresholds. Head "gain" only.
        folds: for the out-of-fold predictions that calibration is fitted on.
        seed: of everything random.

    Attributes
    ----------
        readout_: a Readout, which predicts without scikit-learn and LightGBM.
        out_of_fold_: (n, k), predictions for the rows it was fitted on, each made without the row's fold and calibrated
            on the rows of the others: calibrated on its own, labels that mean nothing would seem to teach something.
        raw_out_of_fold_: the same before calibration.
    """

    def __init__(
        self,
        head: Head = "gain",
        components: int = 3,
        rounds: int = 60,
        learning_rate: float = 0.1,
        leaves: int = 12,
        trees: int = 60,
        readings: tuple[int, ...] = (),
        folds: int = 4,
        seed: int = 0,
    ) -> None:
        self.head = head
        self.components = components
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.leaves = leaves
        self.trees = trees
        self.readings = readings
        self.folds = folds
        self.seed = seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = self.head == "ordinal"  # of one arm alone a label tells nothing
        return tags

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        groups: np.ndarray | None = None,
        soft: np.ndarray | None = None,
    ) -> ComplexityPredictor:
        """Fit.

        Args:
            X: (n, d) finite numbers.
            y: (n, k) scores, arms from the cheapest up; or (n,) for one arm.
            groups: (n,) what must not be parted between folds, such as pictures.
            soft: (n, k) a smoother stand-in for y to learn from, such as half score, half probability of the gold
                answer; calibration is always against y.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True, y_numeric=True)
        scores = np.asarray(y, np.float64).reshape(len(X), -1)
        self.flat_ = np.ndim(y) == 1
        target = scores if soft is None else np.asarray(soft, np.float64).reshape(scores.shape)
        if self.head not in ("gain", "ordinal"):
            raise ValueError(f"head must be 'gain' or 'ordinal', was: {self.head!r}")
        if self.head == "ordinal":
            target = reached(scores)
        fold = folds_of(np.arange(len(X)) if groups is None else np.asarray(groups), self.folds, self.seed)
        if fold.max() < 1:
            raise ValueError(f"fitting needs rows of two groups at least, was: {len(X)} sample(s) of one")
        raw = np.empty(scores.shape)
        for number in range(int(fold.max()) + 1):
            inside, outside = fold != number, fold == number
            constant, forest = self._grow(X[inside], target[inside])
            raw[outside] = constant + forest.predict(X[outside])
        constant, forest = self._grow(X, target)
        read = X[:, list(self.readings) if self.head == "gain" else []].astype(np.float64)
        self.readout_ = Readout(forest, constant, **self._calibration(raw, read, scores))
        self.raw_out_of_fold_ = self.readout_.mixed(X, raw)
        self.out_of_fold_ = np.empty(scores.shape)
        for number in range(int(fold.max()) + 1):
            inside, outside = fold != number, fold == number
            told = self._calibration(raw[inside], read[inside], scores[inside])
            readout = replace(self.readout_, **told)
            self.out_of_fold_[outside] = readout.calibrated(readout.mixed(X[outside], raw[outside]))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Expected scores (n, k), or (n,) where y was."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        curve = self.readout_(X)
        return curve[:, 0] if self.flat_ else curve

    # ---- growing

    def _grow(self, X: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, Forest]:
        """(means (k,), a forest that predicts what differs from them)."""
        constant = rest.mean(axis=0)
        centred = rest - constant
        directions = _directions(centred, self.components)
        wanted = centred @ directions.T
        spread = wanted.std(axis=0) if len(X) > 1 else np.zeros(len(directions))
        alive = spread > _SAME
        parts = []
        share = 1.0 if self.trees == 0 else _BOOSTED
        for direction, column in zip(directions[alive], wanted.T[alive], strict=True):
            parts.append(from_lightgbm(self._boost(X, column), direction * share))
        if self.trees and alive.any():
            parts.append(from_sklearn(self._extra(X, centred), np.eye(centred.shape[1]) * (1 - _BOOSTED)))
        parts = [part for part in parts if len(part.root)]
        return constant, Forest.joined(parts) if parts else Forest.empty(X.shape[1], rest.shape[1])

    def _boost(self, X: np.ndarray, column: np.ndarray) -> Any:
        import lightgbm

        options = {
            "objective": "regression",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": _least(len(X), "boosted"),
            "feature_fraction": 0.3,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        return lightgbm.train(
            options, lightgbm.Dataset(X, np.ascontiguousarray(column), params={"verbosity": -1}), self.rounds
        )

    def _extra(self, X: np.ndarray, wanted: np.ndarray) -> Any:
        from sklearn.ensemble import ExtraTreesRegressor

        forest = ExtraTreesRegressor(
            self.trees,
            min_samples_leaf=_least(len(X), "extra"),
            random_state=self.seed,
            n_jobs=-1,
        )
        return forest.fit(X, wanted[:, 0] if wanted.shape[1] == 1 else wanted)

    def _calibration(self, raw: np.ndarray, read: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """What a Readout needs beside constant and forest, fitted on out-of-fold curves of trees and readings."""
        told: dict[str, Any] = {}
        if read.size:
            share = _share(raw, read, scores)
            told = {"readings": np.array(self.readings, np.int64), "share": np.array([share])}
            raw = mixture(raw, read, share)
        predicted, realised = np.diff(raw, axis=1), np.diff(scores, axis=1)
        slopes = [_slope(*pair) for pair in zip(predicted.T, realised.T, strict=True)]
        level = _slope(raw.mean(axis=1), scores.mean(axis=1))
        ordinal = self.head == "ordinal"
        return told | {
            "slopes": np.array(slopes),
            "level_slope": np.array([level]),
            "centre": raw.mean(axis=0),
            "mean": scores.mean(axis=0),
            "knots": tuple(_isotonic(*pair) for pair in zip(raw.T, scores.T, strict=True)) if ordinal else (),
        }


def reached(scores: np.ndarray) -> np.ndarray:
    """Indicators (n, k) that the oracle label is this arm or a cheaper one; all zero where nothing scored above 0."""
    best = scores.max(axis=1, keepdims=True)
    return np.maximum.accumulate((scores >= best - _SAME) & (best > 0), axis=1).astype(np.float64)


def _least(rows: int, kind: str) -> int:
    return int(np.clip(rows // _ROWS_PER_LEAF[kind], 5, 60))


def folds_of(groups: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Folds (n,) int, from 0 on, that part no group; at most one per group."""
    _, member = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(int(member.max()) + 1)
    return order[member] % max(1, min(count, len(order)))


def _directions(centred: np.ndarray, components: int) -> np.ndarray:
    """The level and the leading contrasts of a table: rows of length 1, orthogonal to each other."""
    arms = centred.shape[1]
    level = np.full((1, arms), arms**-0.5)
    contrasts = centred - centred.mean(axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(contrasts.T @ contrasts)
    return np.concatenate([level, axes[: min(components, arms - 1)]])


def _slope(predicted: np.ndarray, realised: np.ndarray) -> float:
    """Least-squares slope with an intercept, between 0 and 2: gains are shrunk or stretched, never turned round."""
    centred = predicted - predicted.mean()
    spread = float(centred @ centred)
    return float(np.clip(centred @ (realised - realised.mean()) / spread, 0, _STEEPEST)) if spread > _SAME else 0.0


def _share(trees: np.ndarray, read: np.ndarray, scores: np.ndarray) -> float:
    """The readings' weight over both weights, where both together, not negative, explain the contrasts best."""
    from sklearn.linear_model import LinearRegression

    told = np.stack([_contrasts(curve).ravel() for curve in (trees, read)], axis=1)
    weights = LinearRegression(fit_intercept=False, positive=True).fit(told, _contrasts(scores).ravel()).coef_
    return float(weights[1] / weights.sum()) if weights.sum() > 0 else 0.0


def _contrasts(curve: np.ndarray) -> np.ndarray:
    """What a row's arms differ by, more or less than they do on average."""
    away = curve - curve.mean(axis=0)
    return away - away.mean(axis=1, keepdims=True)


def _isotonic(predicted: np.ndarray, realised: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(predicted, realised)
    return fitted.X_thresholds_, fitted.y_thresholds_
