"""How a router is fitted: rows parted by picture, columns, predictor, calibration.

Loads LightGBM and scikit-learn; nothing that decides imports this file.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.errors import DataError
from router.calibration import FEWEST, Calibration
from router.columns import VISUAL, Columns
from router.predictor import ComplexityPredictor, Head, folds_of
from router.routing import _SPLIT, CALIBRATED, Router
from training_data.curves import group_sums
from training_data.outcomes import Outcomes

FOLDS = 4
_LIBRARIES = ("lightgbm", "scikit-learn", "numpy", "matryoshka-router")


def fit(outcomes: Outcomes, head: Head, groups: Sequence[str], routing_cost: float, seed: int) -> Router:
    """A router from outcomes; see `Router.fit`."""
    rows = cheapest_first(outcomes.originals())
    pictures = len(set(rows.group.tolist()))
    if pictures < 2 * FEWEST:
        raise DataError(
            f"a router needs {2 * FEWEST} pictures or more, was: {pictures}; label more, or route by a fixed m"
        )
    own, held = rows.split((1 - CALIBRATED, CALIBRATED), seed=_SPLIT)
    target = soft_target(own)
    fold = folds_of(own.group, FOLDS, seed)
    visual = own.features
    columns, X = Columns.fit(
        groups,
        own.question.tolist(),
        None if visual is None else visual.values,
        () if visual is None else visual.names,
        own.arms,
        target,
        own.dataset,
        fold,
    )
    predictor = ComplexityPredictor(head, folds=FOLDS, seed=seed).fit(X, own.score, own.group, target)
    values, names = (None, ()) if held.features is None else (held.features.values, held.features.names)
    calibration = Calibration(
        predictor.readout_(columns(held.question.tolist(), values, names)).astype(np.float32).astype(np.float64),
        held.score,
        held.cost,
        np.unique(held.group, return_inverse=True)[1].astype(np.str_),
        held.dataset,
        own.cost.mean(axis=0),
        best_constant(own),
        *_sources(rows),
    )
    looks = visual is not None and any(group in groups for group in VISUAL) and columns.visual
    return Router(
        own.arms,
        own.m,
        own.unit,
        own.backbone,
        (visual.version, visual.names) if visual is not None and looks else None,
        columns,
        predictor.readout_,
        calibration,
        routing_cost,
        _facts(rows, own, held, head, groups, seed),
    )


def cheapest_first(outcomes: Outcomes) -> Outcomes:
    """Arms in the order of their mean cost: ladders have it, tables of others may not."""
    return outcomes.take_arms(np.argsort(outcomes.cost.mean(axis=0), kind="stable").tolist())


def best_constant(outcomes: Outcomes) -> int:
    """The number of the arm of the best mean score; of equal ones the cheapest."""
    mean, cost = outcomes.score.mean(axis=0), outcomes.cost.mean(axis=0)
    return int(np.where(mean >= mean.max() - 1e-12, cost, np.inf).argmin())


def soft_target(outcomes: Outcomes) -> np.ndarray:
    """Half the score, half the chance of it given the gold answer's probability (isotonic, per arm): (n, k).

    A greedy answer near the border is one throw of a coin; the gold answer's probability says how near it was. Scores
    alone where gold answers were not measured.
    """
    if outcomes.gold_logprob is None or not np.isfinite(outcomes.gold_logprob).all():
        return outcomes.score
    from sklearn.isotonic import IsotonicRegression

    chances = [
        IsotonicRegression(out_of_bounds="clip").fit_transform(logprob, score)
        for logprob, score in zip(outcomes.gold_logprob.T, outcomes.score.T, strict=True)
    ]
    mixed: np.ndarray = (outcomes.score + np.stack(chances, axis=1)) / 2
    return mixed


def _sources(rows: Outcomes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(names, mean scores, mean costs) of the data sets."""
    names, member, sizes = np.unique(rows.dataset, return_inverse=True, return_counts=True)
    score, cost = (group_sums(values, member, len(names)) / sizes[:, None] for values in (rows.score, rows.cost))
    return names, score, cost


def _facts(
    rows: Outcomes, own: Outcomes, held: Outcomes, head: Head, groups: Sequence[str], seed: int
) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "pictures": len(set(rows.group.tolist())),
        "fitted_rows": len(own),
        "calibration_rows": len(held),
        "data": rows.digest(),
        "calibration_data": held.digest(),
        "head": head,
        "groups": list(groups),
        "seed": seed,
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "score": dict(zip(own.arms, own.score.mean(axis=0).round(6).tolist(), strict=True)),
    }
