"""Honest evaluation: a router's predicted curves on test pictures, against every null that needs no fitting.

Every policy is fixed before a test score is read: prices and the prices of the savings come from calibration rows, the
arm of every data set from training rows. Only the hull of the constants and the oracle, what the router is held
against, look at test scores. Knows arrays; fits nothing, so nulls that must be fitted are evaluated like routers, curve
by curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from encoders.counts import finite_number
from encoders.errors import DataError
from router.bench import Bench, Known, Means, Seen, against, outside, reach
from router.evaluation_record import Beside, Evaluation, Member, Saving
from router.routed import Routed, price_array, price_grid, price_of_mean
from training_data.bootstrap import Estimate, Resamples
from training_data.curves import Curve, group_sums, oracle_curve
from training_data.oracle import by_replicate, complete, replicate_oracle

__all__ = ["Beside", "Evaluation", "Fixed", "Routed", "Saving", "evaluate", "price_grid"]

SHARES = (0.95, 0.99, 1.0)  # of full's score, that is to be kept
OPERATING = 0.99  # of these, where choices are counted
_HALF_WAY = "half-way"  # the mean between the only two arms
OF_COST = (0.10, 0.25, 0.50)  # of full's cost


class Fixed(NamedTuple):
    """All that was fixed before a test row was seen.

    Attributes:
        calibration: rows of other pictures, unseen by the fit too.
        arms: k names.
        full: number of the best constant arm on training data.
        m: (k,) visual tokens asked for; None where arms stand for no m.
        unit: what costs are counted in.
        known: what training rows say of each data set; None for the calibration rows.
        trained: names of all pictures that were trained or calibrated on; None for the calibration rows'.
        prices: (p,) at least 0, of which R is made; None for `price_grid(calibration)`.
        operating: the price that a router goes by where nobody names one, which its saving at 99 % is then of; NaN for
            full. None: as for the other shares, the price that keeps it on the calibration rows.
        routing_cost: in the unit, added to every routed answer's cost and to no constant's.
    """

    calibration: Routed
    arms: Sequence[str]
    full: int
    m: np.ndarray | None = None
    unit: str = "tflops"
    known: Known | None = None
    trained: np.ndarray | None = None
    prices: np.ndarray | None = None
    operating: float | None = None
    routing_cost: float = 0.0


def evaluate(
    test: Routed,
    fixed: Fixed,
    *,
    at: Sequence[float] = (),
    replicate: np.ndarray | None = None,
    id: np.ndarray | None = None,
    router_ms: float = math.nan,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Score a router's curves by DESIGN, section 3.

    R runs straight between points realised on test rows, from the cheapest constant arm to the constant full arm.
    Points outside these two costs are left out and counted: a policy dearer than full is not one to offer. Where arms
    cost every question the same, a predictor that says the same of all has constant arms for points: its G is 0 if
    these are the corners of F, and below 0 otherwise. One that sees no gain leaves the line between the two ends.

    Args:
        test: rows the router has never seen.
        fixed: without a look at them.
        at: costs at which to read R.
        replicate: (n,) int, with `id`: 0 marks the examples, the others serve only the cross-fitted oracle.
        id: (n,) the example of each test row.
        router_ms: what predicting one test row took.
        resamples: of the test pictures.
        seed: of the resamples.

    Raises:
        DataError: arms, full, costs, prices or replicates that do not fit the rows.
    """
    _check(test, fixed, at)
    calibration, full, routing_cost, own = fixed.calibration, fixed.full, fixed.routing_cost, fixed.operating
    asked = price_grid(calibration) if fixed.prices is None else price_array(fixed.prices)
    prices = np.unique([*asked, *([] if own is None or math.isnan(own) else [own])])[::-1]
    rows, replicated = _parted(test, replicate, id)
    known = Known.of(calibration.dataset, calibration.score, calibration.cost) if fixed.known is None else fixed.known
    operating = {} if own is None else {OPERATING: own}
    bench = Bench(rows, calibration, known, prices, full, routing_cost, SHARES, operating)
    means, seen = _even(bench)
    drawn = Resamples(rows.group, resamples, seed)
    found = _intervals(bench, drawn)
    costly = oracle_curve(rows.score, rows.cost, "dearest")
    fair, fair_gap = None, math.nan
    if replicated is not None:
        all_rows, fair = replicated
        again = _even(Bench(all_rows, calibration, known, prices, full, routing_cost, SHARES))[1]
        fair_gap = against(again.router, again.fixed, fair)
    count = np.bincount(bench.taken(OPERATING), minlength=len(fixed.arms))
    full_cost = means.policy(None, full)[0]
    trained = calibration.group if fixed.trained is None else fixed.trained
    return Evaluation(
        arms=tuple(fixed.arms),
        full=fixed.arms[full],
        arm_cost=tuple(means.cost.tolist()),
        arm_score=tuple(means.score.tolist()),
        unit=fixed.unit,
        routing_cost=float(routing_cost),
        rows=len(rows),
        pictures=drawn.pictures.size,
        shared_pictures=np.intersect1d(drawn.pictures, trained).size,
        prices=prices.size,
        dropped=int(outside(seen.fixed, means.routed_cost, full_cost).sum()),
        curve=seen.router,
        hull=seen.fixed,
        oracle=seen.oracle,
        oracle_full_charge=costly,
        identity=seen.identity,
        oracle_crossfit=fair,
        gap=seen.gap,
        gap_recovered=found["gap"],
        gap_recovered_linear=found["linear"],
        gap_recovered_tail=found["tail"],
        gap_recovered_identity=found["identity"],
        gap_recovered_over_identity=found["over identity"],
        gap_recovered_full_charge=against(seen.router, seen.fixed, costly),
        gap_recovered_crossfit=fair_gap,
        savings={share: _saving(share, bench, means, seen, prices, found, fixed.m) for share in SHARES},
        at_share={share: _beside(share * full_cost, seen) for share in OF_COST},
        score_at_cost={cost: float(seen.router.at(cost)) for cost in at},
        brier=float(means.brier[0]),
        brier_identity=float(means.brier[1]),
        brier_skill=found["skill"],
        gain_slope=found["slope"],
        adherence=_adherence(rows, calibration, fixed.arms),
        members=_members(rows, bench),
        router_ms=router_ms,
        choice_count=tuple(count.tolist()),
        choice_entropy=_entropy(count),
    )


def _check(test: Routed, fixed: Fixed, at: Sequence[float]) -> None:
    arms = fixed.arms
    for name, rows in (("test", test), ("calibration", fixed.calibration)):
        if rows.score.shape[1] != len(arms):
            raise DataError(
                f"{name} rows need one column per arm ({len(arms)}), was: {rows.score.shape[1]}; give both the "
                "router's own arms, in its order"
            )
    if len(set(arms)) < len(arms):
        raise DataError(f"arms need different names, was: {', '.join(arms)}; rename one")
    if not 0 <= fixed.full < len(arms):
        raise DataError(f"full must be the number of one of {len(arms)} arms, counted from 0, was: {fixed.full}")
    check_routing_cost(fixed.routing_cost)
    if isinstance(at, str) or not isinstance(at, Iterable):
        raise DataError(f"costs to read the curve at must be a list of numbers, was: {at!r}; write [cost]")
    if wrong := [cost for cost in at if not finite_number(cost) > 0]:
        raise DataError(f"costs to read the curve at must be positive numbers, was: {wrong[0]!r}; leave it out")


def check_routing_cost(cost: float) -> None:
    """What one decision may be said to cost.

    Raises:
        DataError: not a finite number, or below 0.
    """
    if not finite_number(cost) >= 0:
        raise DataError(f"routing_cost must be a finite number, at least 0, was: {cost!r}; 0 charges nothing")


def _parted(
    test: Routed, replicate: np.ndarray | None, id: np.ndarray | None
) -> tuple[Routed, tuple[Routed, Curve] | None]:
    """The examples themselves; and those that have every replicate, with all of them and their cross-fitted oracle."""
    if replicate is None and id is None:
        return test, None
    if replicate is None or id is None or not len(replicate) == len(id) == len(test):
        lengths = [None if given is None else len(given) for given in (replicate, id)]
        raise DataError(
            f"replicate and id go together, one of each per test row ({len(test):,}), was: {lengths[0]} and "
            f"{lengths[1]}; give both or neither"
        )
    number, name = np.asarray(replicate), np.asarray(id)
    if not (number == 0).any():
        raise DataError(f"test rows need the examples themselves, replicate 0, was: {number.min()} up; add them")
    rows, whole = test.select(number == 0), complete(name, number)
    if not whole.any():
        return rows, None
    all_rows, names = test.select(whole), (name[whole], number[whole])
    score, cost = (by_replicate(*names, values) for values in (all_rows.score, all_rows.cost))
    return rows, (all_rows, replicate_oracle(score, cost))


def _even(bench: Bench) -> tuple[Means, Seen]:
    """All rows weighing alike."""
    means = bench.split(bench.columns.mean(axis=0))
    return means, bench.seen(means, np.ones(len(bench.columns)))


def _intervals(bench: Bench, drawn: Resamples) -> dict[str, Estimate]:
    """Every figure of the bench with its interval, paired: all of them from the same resamples."""
    pairs = zip(drawn.means(bench.columns), drawn.weights(), strict=True)
    samples = [bench.figures(bench.split(means), weights) for means, weights in pairs]
    figures = bench.figures(_even(bench)[0], np.ones(len(bench.columns)))
    return {name: drawn.interval(value, np.array([one[name] for one in samples])) for name, value in figures.items()}


def _saving(
    share: float,
    bench: Bench,
    means: Means,
    seen: Seen,
    prices: np.ndarray,
    found: dict[str, Estimate],
    m: np.ndarray | None,
) -> Saving:
    place = bench.keeping[share]
    cost, score = means.policy(place, bench.full)
    return Saving(
        price=None if place is None else float(prices[place]),
        score=score,
        cost=cost,
        kept=found[f"kept {share}"],
        against_full=found[f"against full {share}"],
        against_hull=found[f"against hull {share}"],
        same_score=found[f"same score {share}"],
        beyond_hull=math.isinf(reach(seen.fixed, score)),
        tokens=None if m is None else float(m[bench.taken(share)].mean()),
    )


def _beside(cost: float, seen: Seen) -> Beside:
    return Beside(cost, *(float(curve.at(cost)) for curve in (seen.router, seen.fixed, seen.oracle)))


def _adherence(test: Routed, calibration: Routed, arms: Sequence[str]) -> dict[str, float]:
    """What is spent over what may be, for means of what the arms between the cheapest and the dearest cost.

    Where there are none, as with two arms, for the mean half-way between the two.
    """
    typical = calibration.charges.mean(axis=0)
    least, most = typical.min(), typical.max()
    means = {name: cost for name, cost in zip(arms, typical.tolist(), strict=True) if least < cost < most}
    if not means and least < most:
        means = {_HALF_WAY: float(least + most) / 2}
    prices = [price_of_mean(calibration.curve, typical, mean) for mean in means.values()]
    choice = test.choice(np.array(prices)) if prices else np.empty((len(test), 0), np.int64)
    spent = np.take_along_axis(test.cost, choice, axis=1).mean(axis=0)
    return {name: float(cost / mean) for (name, mean), cost in zip(means.items(), spent, strict=True)}


def _members(test: Routed, bench: Bench) -> tuple[Member, ...]:
    """The data sets, at the operating price; none where there is only one."""
    names, member, sizes = np.unique(test.dataset, return_inverse=True, return_counts=True)
    if names.size < 2:
        return ()
    every, taken, full = np.arange(len(test)), bench.taken(OPERATING), bench.full
    parts = test.score[:, full], test.score[every, taken], bench.paid(OPERATING), test.cost[:, full]
    means = group_sums(np.stack([*parts, test.score.max(axis=1)], axis=1), member, names.size) / sizes[:, None]
    return tuple(
        Member(str(name), int(size), float(whole), float(routed), float(cost / dear), float(best))
        for name, size, (whole, routed, cost, dear, best) in zip(names, sizes, means, strict=True)
    )


def _entropy(count: np.ndarray) -> float:
    """Of a histogram, in bits."""
    share = count[count > 0] / count.sum()
    return float(share @ -np.log2(share))
