"""What hindsight says of each example: the least arm it needed, how much of that was luck, what a data set needs.

Knows arrays of scores and costs. Knows no model and no picture; the curves themselves are in `training_data.curves`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.counts import finite_number
from encoders.errors import DataError, shown
from training_data.bootstrap import Resamples
from training_data.curves import Curve, Steps, group_sums, slope_merge, table

_SAME = 1e-9  # scores that differ by less are one score


def labels(score: np.ndarray, cost: np.ndarray, stable: bool = False) -> np.ndarray:
    """The oracle label of every row: the cheapest arm that reaches the row's best score (DESIGN, section 3).

    Args:
        score: (n, k) in [0, 1].
        cost: (n, k) or (k,), positive; where two arms cost the same the first is the cheaper.
        stable: ask that every dearer arm reaches the best score too.

    Returns:
        (n,) int64: the arm's number, or k, a class of its own above the ladder: no arm scored above 0 (never solved),
        or, with `stable`, the dearest arm falls short of the best.
    """
    scores, costs = table(score, cost)
    best = scores.max(axis=1, keepdims=True)
    order = np.argsort(costs, axis=1, kind="stable")
    reaches = np.take_along_axis((scores >= best - _SAME) & (scores > 0), order, axis=1)
    if stable:
        reaches = np.logical_and.accumulate(reaches[:, ::-1], axis=1)[:, ::-1]
    cheapest = order[np.arange(len(order)), reaches.argmax(axis=1)]
    return np.where(reaches.any(axis=1), cheapest, scores.shape[1])


def histogram(label: np.ndarray, arms: int) -> np.ndarray:
    """How many rows need each arm: (arms + 1,) int64, never-solved last."""
    return np.bincount(label, minlength=arms + 1)


def complete(id: np.ndarray, replicate: np.ndarray) -> np.ndarray:
    """Rows (n,) whose example has every replicate; none where there is but one replicate."""
    numbers = np.unique(replicate).size
    _, member, sizes = np.unique(id, return_inverse=True, return_counts=True)
    return (sizes[member] == numbers) & (numbers > 1)


def by_replicate(id: np.ndarray, replicate: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows (n, k) as (examples, R, k), examples in the order of their sorted ids, replicates ascending.

    Raises:
        DataError: fewer than two replicates, or an example that lacks one of them.
    """
    numbers = np.unique(replicate)
    examples = np.unique(id)
    if numbers.size < 2:
        raise DataError("luck is told from need by two or more replicates (eight are better), was: 1; sweep with more")
    if len(id) != examples.size * numbers.size:
        raise DataError(
            f"every example needs the same replicates ({examples.size} x {numbers.size} rows), was: {len(id)} rows; "
            "select the examples that are `complete`"
        )
    order = np.lexsort((replicate, id))
    return values[order].reshape(examples.size, numbers.size, -1)


def replicate_steps(score: np.ndarray, cost: np.ndarray, linear: bool = False) -> Steps:
    """The choices of an oracle without its luck: for each replicate, arms by the mean of the others.

    Args:
        score: (examples, R, k) in [0, 1], as from `by_replicate`; R at least 2, eight recommended.
        cost: (examples, R, k), positive.
        linear: choose by the least-squares prediction of the replicate from that mean over all arms, instead of by the
            mean itself, which trusts few replicates too much. On drawn examples whose chances are known it comes nearer
            to the best choice by those chances at every R up to eight (true luck .60; at two replicates it reads
            .76, the mean 1.4; at eight .65 against .73).

    Returns:
        steps of examples x R rows, to be realised on `score.reshape(-1, k)`: every replicate is left out once.
    """
    if score.ndim != 3 or score.shape != cost.shape or score.shape[1] < 2:
        raise DataError(f"replicates come as (examples, two or more, k), was: {score.shape} and {cost.shape}")
    mean_score, mean_cost = (
        ((values.sum(axis=1, keepdims=True) - values) / (score.shape[1] - 1)).reshape(-1, score.shape[2])
        for values in (score, cost)
    )
    if linear:
        known = np.column_stack([np.ones(len(mean_score)), mean_score])
        mean_score = known @ np.linalg.lstsq(known, score.reshape(-1, score.shape[2]), rcond=None)[0]
    return slope_merge(mean_score.round(12), mean_cost)  # rounded: equal means must not differ in their last bit


def replicate_oracle(score: np.ndarray, cost: np.ndarray, linear: bool = False) -> Curve:
    """The oracle without its luck: arms chosen by the other replicates, scored on the one left out.

    Averaged over which is left out; arguments as in `replicate_steps`. It has seen the examples' own answers, which no
    router has, so print it as an upper reading, never as a bar (peers-and-metrics.md, 5.8). From few replicates it
    chooses badly and reads too low even so.
    """
    steps = replicate_steps(score, cost, linear)
    return steps.curve(score.reshape(-1, score.shape[2]), cost.reshape(-1, score.shape[2]))


def agreement(score: np.ndarray) -> np.ndarray:
    """Share of examples on which all replicates (examples, R, k) score alike, per arm: (k,)."""
    return (np.ptp(score, axis=1) < _SAME).mean(axis=0)


@dataclass(frozen=True)
class Need:
    """The smallest arm that is good enough for a data set.

    Attributes:
        arm: on these rows.
        low, high: the middle 95 % of what resamples of the pictures choose.
        share: (k,) how often each arm is chosen over resamples.
    """

    arm: int
    low: int
    high: int
    share: np.ndarray


def need(score: np.ndarray, cost: np.ndarray, resamples: Resamples, points: float = 1.0) -> Need:
    """How many tokens a data set needs: the cheapest arm whose mean score is within `points` of the best arm's.

    M3's question (arXiv 2405.17430), with an interval.

    Args:
        score: (n, k) in [0, 1].
        cost: (n, k) or (k,), positive; arms are ordered by their mean.
        resamples: of these rows' pictures.
        points: hundredths of score that may be lost.

    Raises:
        DataError: `points` is negative.
    """
    if not 0 <= finite_number(points):
        raise DataError(f"points lost must be a finite number, 0 or more, was: {shown(points)}")
    scores, costs = table(score, cost)
    order = np.argsort(costs.mean(axis=0), kind="stable")

    def rank(means: np.ndarray) -> np.ndarray:
        """(q, k) mean scores to (q,) places in the order of cost."""
        enough = means >= means.max(axis=1, keepdims=True) - points / 100 - _SAME
        return enough[:, order].argmax(axis=1)

    drawn = rank(resamples.means(scores))
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")
    share = np.zeros(len(order))
    share[order] = np.bincount(drawn, minlength=len(order)) / drawn.size
    return Need(int(order[rank(scores.mean(axis=0)[None])[0]]), int(order[low]), int(order[high]), share)


def complexity(label: np.ndarray, group: np.ndarray, arms: int) -> tuple[np.ndarray, np.ndarray]:
    """What each picture needs: the mean oracle label over its solved questions, in rungs of the ladder from 0.

    M3 finds that this is a property of the picture (arXiv 2405.17430). Never-solved questions tell no
    need and are left out; a picture without a solved question is not in the result.

    Returns:
        pictures (g,) sorted, and their complexity (g,) float64.
    """
    solved = label < arms
    pictures, member, sizes = np.unique(group[solved], return_inverse=True, return_counts=True)
    return pictures, group_sums(label[solved, None].astype(np.float64), member, pictures.size)[:, 0] / sizes


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rank correlation of two (n,) arrays, ties at their mean rank; NaN where one of them is constant."""
    a, b = (ranks - ranks.mean() for ranks in (_ranks(left), _ranks(right)))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[place]
