"""Evaluation: what an honest test of a router found, as plain numbers, a text table and JSON.

Knows numbers and curves. Computes none of them (`router.evaluation`) and draws nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from training_data.bootstrap import Estimate
from training_data.curves import Curve, Gap

_MOST_ARMS = 9  # lines of the text table
_MOST_MEMBERS = 20
_WIDTH = 46
_SHORTEST_ARM, _LONGEST_ARM = 15, 40  # characters of an arm's name


@dataclass(frozen=True)
class Saving:
    """What it costs to keep a share of full's score, at a price fixed on calibration pictures.

    Attributes:
        price: the one that keeps the share on calibration rows at the least cost; at 99 % a router's own operating
            point, what it goes by where nobody names a budget. None where only full itself keeps it, or where full is
            cheaper, so that every question is given full unrouted.
        score, cost: means on test rows, routing included.
        kept: score over full's score on test rows.
        against_full: 1 - cost / full's cost.
        against_hull: 1 - cost / the least cost at which a mixture of fixed arms has this score.
        same_score: 1 - R's least cost / F's, both where they have the share itself: what routing is worth at that score
            on these pictures, read off the two curves; no price is fixed for it, so nobody is promised it.
        beyond_hull: no mixture has this score; the saving is against the hull's dearest end.
        tokens: mean visual tokens asked for on test rows; None where arms stand for no m.
    """

    price: float | None
    score: float
    cost: float
    kept: Estimate
    against_full: Estimate
    against_hull: Estimate
    same_score: Estimate
    beyond_hull: bool
    tokens: float | None = None


@dataclass(frozen=True)
class Beside:
    """Mean score at one mean cost; NaN where a curve does not go so low."""

    cost: float
    router: float
    hull: float
    oracle: float


@dataclass(frozen=True)
class Member:
    """One data set of the test, at the 99 % price: where a router saves, and what it loses there.

    Attributes:
        name, rows: of the data set.
        full, routed: mean scores of the full arm and of the router.
        share: mean cost, routing included, over full's mean cost on the same rows.
        best: mean score of hindsight, the best arm of every row.
    """

    name: str
    rows: int
    full: float
    routed: float
    share: float
    best: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A router on test pictures, with everything it must be held against (DESIGN, section 3).

    Every interval is of 95 %, from one set of paired resamples of the test pictures that recomputes F, O and R.

    Attributes:
        arms: names, in the table's order; `full` is one of them.
        arm_cost, arm_score: (k,) means of the constant policies on test rows.
        unit: of cost.
        routing_cost: charged to every routed answer, in `unit`, and to no constant one.
        rows, pictures: of the test.
        shared_pictures: how many of them are calibration pictures too; 0 in an honest test.
        prices: how many points R might have had; `dropped`: how many of them fall outside its two constant ends, dearer
            than full or cheaper than the cheapest arm.
        curve: R. hull: F. oracle: O, never-solved rows charged their cheapest arm. oracle_full_charge: charged the
            dearest. identity: R of one arm per data set, chosen on the rows fitted on. oracle_crossfit: arms chosen by
            the other replicates, or None.
        gap: areas and costs behind `gap_recovered`.
        gap_recovered: G, over log2 of cost from the cheapest arm to c99. gap_recovered_linear: over cost itself.
            gap_recovered_tail: over log2 of cost beyond c99.
        gap_recovered_identity: G of `identity`. gap_recovered_over_identity: the router's less that, paired.
        gap_recovered_full_charge, gap_recovered_crossfit: G against the other two oracles, each joined to the cheapest
            constant arm by its best mixture; the second on the rows that have every replicate. NaN where undefined.
        savings: by share of full's score that is to be kept.
        at_share: by share of full's cost. score_at_cost: R by cost.
        brier: mean squared error of predicted scores over rows and arms; brier_identity: of the row's data
            set's mean where it was fitted. brier_skill: 1 - brier / brier_identity.
        gain_slope: of realised on predicted gains between arms that are neighbours in mean cost, all rows and pairs
            pooled, one intercept per pair; 1 where gains are as large as predicted.
        adherence: by arm, what questions cost on average, routing left out, over what they may where a mean budget is
            what this arm typically costs, at the price that met that mean on calibration rows; the cheapest and the
            dearest arm left out, and between two arms alone "half-way".
        members: the data sets of the test, by name, where there are several.
        router_ms: of one question in this batch, features left out; NaN where it was not measured.
        choice_count: (k,) test rows that take each arm at the 99 % price; choice_entropy: of these, in bits.
    """

    arms: tuple[str, ...]
    full: str
    arm_cost: tuple[float, ...]
    arm_score: tuple[float, ...]
    unit: str
    routing_cost: float
    rows: int
    pictures: int
    shared_pictures: int
    prices: int
    dropped: int
    curve: Curve
    hull: Curve
    oracle: Curve
    oracle_full_charge: Curve
    identity: Curve
    oracle_crossfit: Curve | None
    gap: Gap
    gap_recovered: Estimate
    gap_recovered_linear: Estimate
    gap_recovered_tail: Estimate
    gap_recovered_identity: Estimate
    gap_recovered_over_identity: Estimate
    gap_recovered_full_charge: float
    gap_recovered_crossfit: float
    savings: dict[float, Saving]
    at_share: dict[float, Beside]
    score_at_cost: dict[float, float]
    brier: float
    brier_identity: float
    brier_skill: Estimate
    gain_slope: Estimate
    adherence: dict[str, float]
    members: tuple[Member, ...]
    router_ms: float
    choice_count: tuple[int, ...]
    choice_entropy: float

    def to_json(self) -> dict[str, Any]:
        """Everything, for `json.dumps`: curves as [[mean cost, score], ...], intervals as [low, high], NaN as None."""
        curves = ("curve", "hull", "oracle", "oracle_full_charge", "identity", "oracle_crossfit")
        estimates = [name for name, value in vars(self).items() if isinstance(value, Estimate)]
        told: dict[str, Any] = {name: _points(getattr(self, name)) for name in curves}
        for name in estimates:
            told |= _told(name, getattr(self, name))
        told["gap"] = {name: _number(value) for name, value in vars(self.gap).items()}
        told["savings"] = {_percent(share): _saving(saving) for share, saving in self.savings.items()}
        told["score_at_share_of_full_cost"] = {
            _percent(share): {name: _number(value) for name, value in vars(beside).items()}
            for share, beside in self.at_share.items()
        }
        told["score_at_cost"] = {_key(cost): _number(score) for cost, score in self.score_at_cost.items()}
        told["choice_count"] = dict(zip(self.arms, self.choice_count, strict=True))
        told["choice_entropy_bits"] = _number(self.choice_entropy)
        told["budget_adherence"] = {arm: _number(share) for arm, share in self.adherence.items()}
        told["datasets"] = [vars(member) for member in self.members]
        told["arms"] = list(self.arms)
        for name in ("arm_cost", "arm_score"):
            told[name] = [_number(value) for value in getattr(self, name)]
        for name in ("full", "unit", "rows", "pictures", "shared_pictures", "prices", "dropped"):
            told[name] = getattr(self, name)
        plain = (
            "routing_cost",
            "gap_recovered_full_charge",
            "gap_recovered_crossfit",
            "brier",
            "brier_identity",
            "router_ms",
        )
        return told | {name: _number(getattr(self, name)) for name in plain}

    def __str__(self) -> str:
        parts = _heading(self), _gaps(self), _savings(self), _members(self), _predictions(self)
        return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _heading(found: Evaluation) -> list[str]:
    lines = [
        f"{found.rows:,} questions about {found.pictures:,} pictures; cost in {found.unit} per answer, score from 0 to "
        "1, [95 % interval over pictures]",
        f"full = {found.full}, the best constant arm on training data; routing adds {found.routing_cost:.4g} "
        f"{found.unit} to every routed answer",
        "hull = the best mixture of constant arms; oracle = the choice of hindsight, luck included",
    ]
    if found.shared_pictures:
        lines.append(
            f"WARNING: {found.shared_pictures:,} of the pictures were fitted or calibrated on too, "
            "which flatters the router"
        )
    often = sorted(range(len(found.arms)), key=lambda arm: -found.choice_count[arm])[:_MOST_ARMS]
    wide = min(_LONGEST_ARM, max(_SHORTEST_ARM, *(len(found.arms[arm]) for arm in often))) + 1
    lines += ["", f"{'arm':<{wide}}{'cost':>12}{'score':>9}{'chosen at the 99 % price':>27}"]
    for arm in sorted(often):
        cost, score, share = found.arm_cost[arm], found.arm_score[arm], found.choice_count[arm] / found.rows
        lines.append(f"{found.arms[arm][: wide - 1]:<{wide}}{cost:>12.5g}{score:>9.4f}{100 * share:>25.1f} %")
    if len(often) < len(found.arms):
        share = 1 - sum(found.choice_count[arm] for arm in often) / found.rows
        lines.append(f"{len(found.arms) - len(often)} other arms, chosen for {100 * share:.1f} % together")
    return lines


def _gaps(found: Evaluation) -> list[str]:
    gap = found.gap
    rows: list[tuple[str, Estimate | float]] = [
        (f"log2 of cost, {gap.start:.4g} to c99 = {gap.c99:.4g}", found.gap_recovered),
        ("  by the data set's name alone", found.gap_recovered_identity),
        ("  router less data set's name", found.gap_recovered_over_identity),
        ("  never-solved charged the dearest arm", found.gap_recovered_full_charge),
        *([("  oracle without luck, by replicates", found.gap_recovered_crossfit)] if found.oracle_crossfit else []),
        ("cost itself, the same span", found.gap_recovered_linear),
        (f"flat tail, log2 of cost from c99 to {gap.stop:.4g}", found.gap_recovered_tail),
    ]
    lines = ["gap recovered, share of area: 0 = the hull, 1 = the oracle"]
    lines += [f"  {name:<{_WIDTH}}{_figure(value, 'z.3f')}" for name, value in rows]
    if found.dropped:
        lines.append(
            f"  {found.dropped} of {found.prices} points cost more than full or less than the cheapest arm, and are "
            "left out"
        )
    return lines


def _savings(found: Evaluation) -> list[str]:
    names = "share of full's score", "of full's cost saved", "of the hull's cost saved"
    tokens = "tokens" * any(saving.tokens is not None for saving in found.savings.values())
    lines = [f"{'to keep':<9}{'score':<9}{''.join(f'{name:<25}' for name in names)}{tokens}".rstrip()]
    for share, saving in found.savings.items():
        figures = (f"{_figure(value, 'z.3f'):<25}" for value in (saving.kept, saving.against_full, saving.against_hull))
        notes = ["full for all"] * (saving.price is None) + ["score beyond the hull"] * saving.beyond_hull
        asked = "" if saving.tokens is None else f"{saving.tokens:<8.4g}"
        line = f"{_percent(share) + ' %':<9}{saving.score:<9.4f}{''.join(figures)}{asked}{'; '.join(notes)}"
        lines.append(line.rstrip())
    same = _figure(found.savings[0.99].same_score, "z.3f")
    lines.append(f"of the hull's cost saved where both curves have 99 % of full's score: {same}")
    lines += ["", f"{'at, of full':<14}{'cost':<12}{'router score':<14}{'hull score':<14}oracle score"]
    for share, beside in found.at_share.items():
        scores = (f"{_figure(value, 'z.4f'):<14}" for value in (beside.router, beside.hull, beside.oracle))
        lines.append(f"{_percent(share) + ' % of cost':<14}{beside.cost:<12.5g}{''.join(scores)}".rstrip())
    lines += [f"{'at cost ' + _key(cost):<26}{_figure(score, 'z.4f')}" for cost, score in found.score_at_cost.items()]
    return lines


def _members(found: Evaluation) -> list[str]:
    if not found.members:
        return []
    lines = [f"{'at the 99 % price':<22}{'rows':>7}{'full':>9}{'routed':>9}{'of its cost':>14}{'hindsight':>12}"]
    for one in sorted(found.members, key=lambda one: -one.rows)[:_MOST_MEMBERS]:
        scores = f"{one.full:>9.3f}{one.routed:>9.3f}{100 * one.share:>12.1f} %{one.best:>12.3f}"
        lines.append(f"{one.name[:21]:<22}{one.rows:>7,}{scores}")
    if (more := len(found.members) - _MOST_MEMBERS) > 0:
        lines.append(f"{more} smaller data sets are in the JSON")
    return lines


def _predictions(found: Evaluation) -> list[str]:
    rows = [
        (
            f"Brier skill (Brier {found.brier:.4f})",
            f"{found.brier_skill:z.3f}  0 = the data set's mean curve, 1 = exact",
        ),
        ("slope of realised on predicted gains", f"{found.gain_slope:z.3f}  1 = gains are as large as predicted"),
        (
            "entropy of choices at the 99 % price, bits",
            f"{found.choice_entropy:.2f}  of {math.log2(len(found.arms)):.2f}; 0 = one arm for all",
        ),
    ]
    if found.adherence:
        shares = [100 * share for share in found.adherence.values()]
        rows.append(
            ("means held at calibration's prices", f"{min(shares):.1f} to {max(shares):.1f} % of the budget is spent")
        )
    if not math.isnan(found.router_ms):
        rows.append(("deciding, ms per question in this batch", f"{found.router_ms:.3f}  features left out"))
    return [f"{name:<{_WIDTH + 2}}{value}" for name, value in rows]


def _figure(value: Estimate | float, spec: str) -> str:
    middle = value.value if isinstance(value, Estimate) else value
    return "undefined" if math.isnan(middle) else f"{value:{spec}}"


def _points(curve: Curve | None) -> list[list[float]] | None:
    return None if curve is None else [[float(c), float(s)] for c, s in zip(curve.cost, curve.score, strict=True)]


def _told(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: _number(estimate.value), f"{name}_interval": [_number(estimate.low), _number(estimate.high)]}


def _saving(saving: Saving) -> dict[str, Any]:
    told: dict[str, Any] = {"price": saving.price, "score": _number(saving.score), "cost": _number(saving.cost)}
    for name in ("kept", "against_full", "against_hull", "same_score"):
        told |= _told(name, getattr(saving, name))
    return told | {"beyond_hull": saving.beyond_hull, "mean_visual_tokens": saving.tokens}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _key(cost: float) -> str:
    """In plain digits, as costs are written: 100, not 100.0; 0.00005, not 5e-05."""
    return np.format_float_positional(cost, trim="-")
