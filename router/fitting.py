"""How a router is fitted: rows parted by picture, columns, predictor, calibration.

Loads LightGBM and scikit-learn; nothing that decides imports this file.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from encoders.counts import whole_number
from encoders.errors import DataError
from router.allocate import tie_keys
from router.bench import Bench, Known, below, keeping
from router.calibration import FEWEST, Calibration
from router.columns import GROUPS, TEXT, Columns, group_of
from router.evaluation import OPERATING, check_routing_cost
from router.predictor import ComplexityPredictor, Head, folds_of
from router.routed import Routed, price_grid
from router.routing import Router
from training_data.bootstrap import Resamples
from training_data.outcomes import Outcomes

CALIBRATED = 0.1  # share of the pictures that prices are fixed on
_ENOUGH = 200  # pictures; where a tenth is less, up to a fifth
_MANY = 20_000  # pictures, of which a fifth: more to fit on would teach little, and more to promise on promises more
FOLDS = 4
_BELIEVED = 2  # standard errors of the gap that must lie above 0
_RESAMPLES = 100  # of the pictures that were fitted on, for the standard error of the gap they recover out of fold
LEAST = -1e4  # natural log-probability; what is less likely, -inf included, is as unlikely as this
_FREE = 1e-3  # of what the cheapest answer costs: that much takes .002 of G away (docs/log.md)
_SEEDS = 2**32  # as many as scikit-learn takes
_SPLIT = 71  # seed of that split: another than a user's own, or their parts would fall together
_LIBRARIES = ("lightgbm", "scikit-learn", "numpy", "matryoshka-router")


class Prepared(NamedTuple):
    """Rows parted by picture, and what a head is fitted on.

    `own` are fitted on, `held` calibrated on; `target` (n, k) is what `own` is taught, `X` (n, d) its columns, each row
    read without its own fold.
    """

    own: Outcomes
    held: Outcomes
    columns: Columns
    X: np.ndarray
    target: np.ndarray


def prepared(rows: Outcomes, groups: Sequence[str], seed: int) -> Prepared:
    """Rows made ready for a head, in an order that their ids decide: no shuffling of a file is another draw."""
    own, held = parted(rows.select(np.argsort(tie_keys(rows.id.tolist()), kind="stable")))
    target, visual = soft_target(own), own.features
    columns, X = Columns.fit(
        groups,
        own.question.tolist(),
        None if visual is None else visual.values,
        () if visual is None else visual.names,
        own.arms,
        target,
        own.dataset,
        folds_of(own.group, FOLDS, seed),
    )
    return Prepared(own, held, columns, X, target)


def fit(rows: Outcomes, head: Head, groups: Sequence[str], routing_cost: float | None, seed: object) -> Router:
    """A router from originals, their arms in the order they have; see `Router.fit`."""
    number = whole_number(seed)
    if head not in ("gain", "ordinal"):
        raise DataError(f"head must be 'gain' or 'ordinal', was: {head!r}")
    if number is None or not 0 <= number < _SEEDS:
        raise DataError(f"a seed must be a whole number from 0 to {_SEEDS - 1}, was: {seed!r}")
    if routing_cost is not None:
        check_routing_cost(routing_cost)
    ready = prepared(rows, groups, number)
    own, held, columns = ready.own, ready.held, ready.columns
    predictor = ComplexityPredictor(head, readings=columns.readings, folds=FOLDS, seed=number)
    predictor.fit(ready.X, own.score, own.group, ready.target)
    charge = routing_charge(rows, columns.visual) if routing_cost is None else routing_cost
    typical, full = typical_cost(own), best_constant(own)
    evidence = evidence_of(Routed.of(own, predictor.out_of_fold_, typical), full, charge)
    believed = evidence.believed
    blind = [group for group in groups if group in TEXT]
    if not believed and columns.visual and blind:  # to look costs something: whoever gains nothing by it does not
        return fit(rows, head, blind, 0.0, number)
    readout = predictor.readout_ if believed else predictor.readout_.flat()
    fitted = Routed.of(own, readout.calibrated(predictor.raw_out_of_fold_), typical)
    unseen = Routed.of(held, readout(columns.of(held.question.tolist(), held.features)), typical)
    prices = cheaper_than_full(fitted, full, charge)
    place = keeping(unseen.beside(fitted), prices, full, charge, (OPERATING,))[OPERATING]
    calibration = Calibration(
        unseen.curve,
        unseen.score,
        unseen.cost,
        unseen.group,
        unseen.dataset,
        typical,
        full,
        prices,
        float("nan") if place is None else float(prices[place]),
        tie_keys(np.unique(rows.group).tolist()),
        *Known.of(rows.dataset, rows.score, rows.cost),
    )
    visual = own.features
    return Router(
        own.arms,
        own.m,
        own.unit,
        own.backbone,
        (visual.version, visual.names) if visual is not None and columns.visual else None,
        columns,
        readout,
        calibration,
        charge,
        _facts(ready, rows, head, groups, number) | evidence.told(),
        None if rows.new_tokens is None else max(1.0, float(rows.new_tokens.mean())),
    )


class Evidence(NamedTuple):
    """What curves predicted out of fold are worth on the rows they are fitted on, each figure with its standard error.

    G is NaN where there is no area to recover, for the cheapest arm keeps 99 % of the best constant: then the slope of
    realised on predicted gains between neighbouring arms says whether arms can be told apart by question.
    """

    gap: float
    gap_error: float
    slope: float
    slope_error: float

    @property
    def believed(self) -> bool:
        """Whether it could not well be luck."""
        value, error = (self.slope, self.slope_error) if math.isnan(self.gap) else (self.gap, self.gap_error)
        return bool(value > _BELIEVED * error)  # never where either is NaN

    def told(self) -> dict[str, Any]:
        """Facts for the card; None where a figure is undefined."""
        values = (None if math.isnan(value) else round(value, 6) for value in self)
        names = ("out_of_fold_gap", "out_of_fold_error", "out_of_fold_slope", "out_of_fold_slope_error")
        return {**dict(zip(names, values, strict=True)), "believed": self.believed}


def evidence_of(rows: Routed, full: int, routing_cost: float) -> Evidence:
    """Evidence for curves that were predicted out of fold, on the rows they are fitted on.

    A router whose gains could be luck is made flat: it treats all questions alike, so that its worst case is the hull.
    What calibrates a fold was fitted on the other folds' rows, whose own predictions have seen this one: a little of
    what permuted labels seem to recover is left (of 16 routers two were believed, at 2.1 and 2.2 errors).
    """
    bench = Bench(rows, rows, Known.of(rows.dataset, rows.score, rows.cost), price_grid(rows), full, routing_cost, ())

    def figures(means: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
        split = bench.split(means)
        return bench.seen(split, weights).gap.recovered, bench.slope(split)

    drawn = Resamples(rows.group, _RESAMPLES, seed=0)
    resampled = np.array([figures(*pair) for pair in zip(drawn.means(bench.columns), drawn.weights(), strict=True)])
    gap, slope = figures(bench.columns.mean(axis=0), np.ones(len(rows)))
    gap_error, slope_error = (
        float(told.std()) if (told := column[~np.isnan(column)]).size > 1 else math.nan for column in resampled.T
    )
    return Evidence(gap, gap_error, slope, slope_error)


def cheaper_than_full(rows: Routed, full: int, routing_cost: float) -> np.ndarray:
    """Prices, descending, at which these rows cost less than full: no others are worth a test or a promise.

    Where full is not the dearest arm, the lowest prices would buy arms above it. All prices where none is cheaper.
    """
    prices = price_grid(rows)
    paid = rows.realised(prices).cost.mean(axis=0) + routing_cost
    cheaper = below(paid, rows.cost[:, full].mean())
    return prices[cheaper] if cheaper.any() else prices


def parted(rows: Outcomes) -> tuple[Outcomes, Outcomes]:
    """(rows to fit on, rows to calibrate on), no picture in both.

    Raises:
        DataError: too few pictures.
    """
    pictures = len(set(rows.group.tolist()))
    if pictures < 2 * FEWEST:
        raise DataError(
            f"a router needs {2 * FEWEST} pictures or more, was: {pictures}; label more, or route by a fixed m"
        )
    share = 2 * CALIBRATED if pictures >= _MANY else max(CALIBRATED, min(2 * CALIBRATED, _ENOUGH / pictures))
    share = max(share, FEWEST / pictures)  # of few pictures half: prices fixed on a handful would be luck
    own, held = rows.split((1 - share, share), seed=_SPLIT)
    return own, held


def routing_charge(outcomes: Outcomes, visual: Sequence[str]) -> float:
    """What one decision costs that reads these visual features, in the outcomes' unit, where they say it.

    Reading trees and words is a few thousand operations, thousands of times less than any vision pass, and not counted.
    """
    if outcomes.features is None or outcomes.unit != "tflops":
        return 0.0
    return sum(outcomes.features.tflops.get(group, 0.0) for group in {group_of(name) for name in visual})


def worth_reading(outcomes: Outcomes) -> tuple[str, ...]:
    """The groups that earn what they cost: those of `GROUPS`, and what each rung adds, where that is nearly free.

    Where tokens are pooled every answer has made all of them anyway; nested queries would have to be run first.
    """
    told = {} if outcomes.features is None or outcomes.unit != "tflops" else outcomes.features.tflops
    cheap = told.get("bands", math.inf) <= _FREE * float(outcomes.cost.mean(axis=0).min())
    return (*GROUPS, "bands") if cheap else GROUPS


def cheapest_first(outcomes: Outcomes) -> Outcomes:
    """Arms that stand for no m in the order of their mean cost; a ladder keeps its own."""
    if outcomes.m is not None:
        return outcomes
    return outcomes.take_arms(np.argsort(outcomes.cost.mean(axis=0), kind="stable").tolist())


def typical_cost(outcomes: Outcomes) -> np.ndarray:
    """Mean cost of each arm, (k,): to the last digit where it never varies, so that a budget of that much buys it."""
    cost = outcomes.cost
    typical: np.ndarray = np.where((cost == cost[0]).all(axis=0), cost[0], cost.mean(axis=0))
    return typical


def best_constant(outcomes: Outcomes) -> int:
    """The number of the arm of the best mean score; of equal ones the cheapest."""
    mean, cost = outcomes.score.mean(axis=0), outcomes.cost.mean(axis=0)
    return int(np.where(mean >= mean.max() - 1e-12, cost, np.inf).argmin())


def soft_target(outcomes: Outcomes) -> np.ndarray:
    """Half the score, half the chance of it given the gold answer's probability (isotonic, per arm): (n, k).

    A greedy answer near the border is one throw of a coin; the gold answer's probability says how near it was. Scores
    alone where gold answers were not measured.
    """
    if outcomes.gold_logprob is None:
        return outcomes.score
    from sklearn.isotonic import IsotonicRegression

    chances = [
        IsotonicRegression(out_of_bounds="clip").fit_transform(np.maximum(logprob, LEAST), score)
        for logprob, score in zip(outcomes.gold_logprob.T, outcomes.score.T, strict=True)
    ]
    mixed: np.ndarray = (outcomes.score + np.stack(chances, axis=1)) / 2
    return mixed


def _facts(ready: Prepared, rows: Outcomes, head: Head, groups: Sequence[str], seed: int) -> dict[str, Any]:
    own, held = ready.own, ready.held
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
