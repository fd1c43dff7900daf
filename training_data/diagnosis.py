"""Is there anything to route? A verdict on measured outcomes, the numbers behind it, and what to do.

Knows Outcomes. Fits nothing: what a router would earn is the study's business, what hindsight says is here.

    flat           the cheapest arm has 99 % of the best score and hindsight adds less than a point to it
    mostly luck    at least four fifths of what hindsight gains would not come again
    non-monotone   the need is real but more is not better: the dearest arm is a point or more below the best, or the
                   ladder is level although examples differ
    steep          the need is real and more tokens serve it

They are asked in this order. 99 % is where c99 begins (DESIGN, section 3): above it no area is left to recover. A point
(.01 of score) is the usual meaning of "no loss", and the least that published tables differ by from harness to harness.
Four fifths, because published routers recover 7 to 18 % of the raw gap (peers-and-metrics.md, section 0): where less
than a fifth would come again, nothing is left to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from training_data.bootstrap import Estimate, Resamples
from training_data.curves import hull, slope_merge
from training_data.oracle import Need, by_replicate, complete, need, replicate_steps
from training_data.outcomes import Outcomes

Verdict = Literal["steep", "flat", "non-monotone", "mostly luck"]

KEPT, POINT, LUCK, SUPPORT = 0.99, 0.01, 0.8, 0.95
ENOUGH = 100  # pictures; with fewer a resampled share of .5 is known to a tenth at best
_VERDICTS: tuple[Verdict, ...] = ("flat", "mostly luck", "non-monotone", "steep")
_REPLICATE_RESAMPLES = 200  # each recomputes three curves


@dataclass(frozen=True)
class Diagnosis:
    """A verdict and its evidence; shares and scores in [0, 1].

    Attributes:
        support: share of resamples of the pictures that come to the same verdict.
        examples, pictures: how many were measured, replicates counted once.
        mean: score of every arm.
        cheapest, best, dearest: arms, by mean cost and mean score.
        kept: the cheapest arm's score over the best arm's.
        drop: the best arm's score less the dearest arm's.
        headroom: score of the best arm of every example in hindsight, less the best arm's.
        luck: share of hindsight's gain that is accident, from 0 to 1. From replicates: 1 - area(corrected oracle - F) /
            area(oracle - F) over log2 of cost along the whole ladder, arms chosen by linear prediction; a little high
            where replicates are few. Without them, from flips: score that arms have where the best arm has none,
            over score the other way round, all arms together (the smaller over the larger). Flips see luck only on a
            level ladder, and there cannot tell it from examples that truly need fewer tokens.
        luck_from: "replicates" or "flips".
        never_solved: share of examples that no arm scores on.
        enough: the cheapest arm within `points` of the best.
        points: hundredths of score that may be lost there.
        dominated: arms that no mixture of fixed arms should use.
        unparsed: answers of every arm that the metric could not read and counted as wrong; empty where nobody knows.
        failed: examples that could not be measured and are in no number here.
    """

    verdict: Verdict
    support: float
    examples: int
    pictures: int
    arms: tuple[str, ...]
    mean: tuple[Estimate, ...]
    cheapest: str
    best: str
    dearest: str
    kept: Estimate
    drop: Estimate
    headroom: Estimate
    luck: Estimate
    luck_from: Literal["replicates", "flips"]
    never_solved: float
    enough: Need
    dominated: tuple[str, ...]
    points: float = 1.0
    unparsed: tuple[int, ...] = ()
    failed: int = 0

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, in plain sentences."""
        enough = self.arms[self.enough.arm]
        constant = self.best if enough == self.best else f"{enough}, within {spelled(self.points)} of {self.best}"
        told = {
            "flat": f"Answer everything with {self.cheapest}: there is nothing to route.",
            "mostly luck": (
                f"Answer everything with {constant}. Most of what an oracle gains here would not come again; expect no "
                "router to earn it."
            ),
            "non-monotone": (
                f"Take {self.best} as full, and see whether less serves: more tokens are not always better here. A "
                "router may earn on both sides; fit one and hold it against the hull."
            ),
            "steep": f"Fit a router and hold it against the hull. Without one, answer everything with {constant}.",
        }
        advice = [told[self.verdict]]
        if self.pictures < ENOUGH:
            advice.append(
                f"Only {self.pictures:,} pictures were measured, too few for any verdict: measure {ENOUGH} or more."
            )
        if self.dominated and self.verdict != "flat":
            advice.append(f"Leave out of the ladder what never pays: {', '.join(self.dominated)}.")
        if self.luck_from == "flips" and self.verdict != "flat":
            advice.append(
                "A single run hardly tells luck from need: sweep with replicates before you trust the oracle."
            )
        if unread := self.unread:
            advice.append(f"Look at the answers that could not be read, they count as wrong: {unread}.")
        if self.failed:
            advice.append(
                f"{self.failed:,} examples were not measured and are in no number here: see why, and mend them."
            )
        if self.never_solved >= 0.25:
            advice.append(f"{self.never_solved:.0%} are solved by no arm: no budget buys them, a better model might.")
        if self.support < SUPPORT:
            advice.append(
                f"The verdict holds in {self.support:.0%} of resamples of {self.pictures:,} pictures: measure more "
                "before you build on it."
            )
        return tuple(advice)

    @property
    def unread(self) -> str:
        """How many answers could not be read, arm by arm, where there are any: "3 at 16, 1 at 64"."""
        counted = zip(self.unparsed, self.arms, strict=False)
        return ", ".join(f"{count:,} at {arm}" for count, arm in counted if count)

    def __str__(self) -> str:
        lines = [
            f"{self.verdict} ({self.support:.0%} of resamples agree)",
            f"  {self.examples:,} examples on {self.pictures:,} pictures",
            *(f"  arm {name:>6}  score {score:.3f}" for name, score in zip(self.arms, self.mean, strict=True)),
            f"  {self.cheapest} keeps {self.kept:.3f} of {self.best}",
            f"  {self.dearest} is {self.drop:.3f} below {self.best}",
            f"  hindsight adds {self.headroom:.3f} to {self.best}",
            f"  luck {self.luck:.2f} of hindsight's gain, from {self.luck_from}",
            f"  never solved {self.never_solved:.3f}",
            *self.advice,
        ]
        return "\n".join(lines)


def spelled(points: float) -> str:
    """Hundredths of score in words: "a point", "0.5 points"."""
    return "a point" if points == 1 else f"{points:g} points"


def diagnose(
    outcomes: Outcomes, resamples: int = 2000, seed: int = 0, points: float = 1.0, failed: int = 0
) -> Diagnosis:
    """Whether there is anything to route in these outcomes.

    Examples that have every replicate decide how much is luck; everything else is of the originals.

    Args:
        outcomes: measured on pictures that stand for those to come.
        resamples: of the pictures, for intervals and support; luck by replicates is given 200 of them.
        seed: of the resamples.
        points: hundredths of score that an arm may be below the best and still be enough; no verdict hangs on it.
        failed: how many examples could not be measured, to be told.
    """
    rows = outcomes.originals()
    score, drawn = rows.score, Resamples(rows.group, resamples, seed)
    mean, mean_cost = score.mean(axis=0).round(12), rows.cost.mean(axis=0)  # no last bit makes an arm the best
    cheapest, best, dearest = int(mean_cost.argmin()), int(mean.argmax()), int(mean_cost.argmax())
    behind = score[:, best, None] - score
    values = np.column_stack(
        [score, score.max(axis=1), np.maximum(behind, 0).sum(axis=1), np.maximum(-behind, 0).sum(axis=1)]
    )
    table = np.vstack([values.mean(axis=0), drawn.means(values)])  # the rows themselves, then every resample
    kept = 1 - _share(table[:, best] - table[:, cheapest], table[:, best])
    drop, headroom = table[:, best] - table[:, dearest], table[:, -3] - table[:, best]
    whole = complete(outcomes.id, outcomes.replicate)
    if whole.any():
        luck = _luck_by_replicates(outcomes.select(whole), min(resamples, _REPLICATE_RESAMPLES), seed)
    else:
        luck = _share(table[:, -2:].min(axis=1), table[:, -2:].max(axis=1))
    told = _verdicts(kept[: luck.size], drop[: luck.size], headroom[: luck.size], luck)
    on_hull = slope_merge(mean[None], mean_cost[None]).hull[0]
    return Diagnosis(
        verdict=_VERDICTS[told[0]],
        support=float((told[1:] == told[0]).mean()),
        examples=len(rows),
        pictures=drawn.pictures.size,
        arms=rows.arms,
        mean=tuple(drawn.interval(column[0], column[1:]) for column in table.T[: len(rows.arms)]),
        cheapest=rows.arms[cheapest],
        best=rows.arms[best],
        dearest=rows.arms[dearest],
        kept=drawn.interval(kept[0], kept[1:]),
        drop=drawn.interval(drop[0], drop[1:]),
        headroom=drawn.interval(headroom[0], headroom[1:]),
        luck=drawn.interval(luck[0], luck[1:]),
        luck_from="replicates" if whole.any() else "flips",
        never_solved=float((score.max(axis=1) <= 0).mean()),
        enough=need(score, rows.cost, drawn, points),
        points=points,
        unparsed=() if rows.parsed is None else tuple((rows.parsed < 1).sum(axis=0).tolist()),
        failed=failed,
        dominated=tuple(arm for number, arm in enumerate(rows.arms) if number not in on_hull),
    )


def _verdicts(kept: np.ndarray, drop: np.ndarray, headroom: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """Number of the verdict in `_VERDICTS` for every entry (q,)."""
    level = kept >= KEPT
    rules = [level & (headroom < POINT), luck >= LUCK, (drop >= POINT) | level]
    return np.select(rules, [0, 1, 2], 3)


def _luck_by_replicates(outcomes: Outcomes, resamples: int, seed: int) -> np.ndarray:
    """Share of the oracle's area over the hull that the corrected oracle does not reach: itself, then resampled."""
    order = np.lexsort((outcomes.replicate, outcomes.id))  # as `by_replicate` has them
    score, cost = outcomes.score[order], outcomes.cost[order]
    names = outcomes.id, outcomes.replicate
    fair = replicate_steps(by_replicate(*names, outcomes.score), by_replicate(*names, outcomes.cost), linear=True)
    courses = slope_merge(score, cost).on(score, cost), fair.on(score, cost)

    def luck(weights: np.ndarray) -> float:
        share = weights / weights.sum()
        mean_cost = share @ cost
        fixed = hull(mean_cost, share @ score)
        curves = fixed, *(course.curve(weights) for course in courses)
        start = max(float(curve.cost[0]) for curve in curves)  # where costs vary, an oracle's first arm may cost more
        null, raw_area, fair_area = (curve.area(start, float(mean_cost.max())) for curve in curves)
        return float(_share(np.array(raw_area - fair_area), np.array(raw_area - null)))

    drawn = Resamples(outcomes.group[order], resamples, seed)
    return np.array([luck(np.ones(len(score))), *(luck(weights) for weights in drawn.weights())])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The part over the whole; 0 where there is nothing to share."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-12)
