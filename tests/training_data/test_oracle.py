"""Labels worked by hand, luck told from need by replicates, and what a data set and a picture need."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from encoders.errors import DataError
from training_data.bootstrap import Resamples
from training_data.curves import oracle_curve, slope_merge
from training_data.oracle import (
    agreement,
    by_replicate,
    complete,
    complexity,
    histogram,
    labels,
    need,
    rank_correlation,
    replicate_oracle,
)

COST = np.array([1.0, 4.0, 16.0])


@pytest.mark.parametrize(
    ("score", "label", "stable"),
    [
        ([1, 1, 1], 0, 0),
        ([0, 1, 1], 1, 1),
        ([0, 0, 1], 2, 2),
        ([1, 0, 1], 0, 2),  # found, lost, found again
        ([0, 1, 0], 1, 3),  # the dearest arm loses it: no arm is stable
        ([1, 0, 0], 0, 3),
        ([0, 0, 0], 3, 3),  # never solved
        ([0.3, 0.6, 0.6], 1, 1),
        ([0.3, 0.9, 0.6], 1, 3),
        ([0.3, 0.1 + 0.2, 0.3], 0, 0),  # one score, two roundings
        ([0, 5e-10, 5e-10], 1, 1),  # nothing is no score, however little the best is
    ],
)
def test_labels_worked_by_hand(score, label, stable):
    assert labels([score], COST).tolist() == [label]
    assert labels([score], COST, stable=True).tolist() == [stable]


def test_cheapest_goes_by_the_rows_own_costs():
    assert labels([[1, 1, 0], [1, 1, 0]], [[3, 2, 1], [2, 3, 1]]).tolist() == [1, 0]
    assert labels([[0, 1, 1]], [[3, 2, 1]], stable=True).tolist() == [2 + 1]  # column 0 is the dearest
    assert labels([[1, 1, 0]], [[3, 2, 1]], stable=True).tolist() == [1]


def test_the_histogram_counts_never_solved_last():
    assert histogram(labels([[1, 1, 1], [0, 0, 0], [0, 0, 0]], COST), 3).tolist() == [1, 0, 0, 2]


def replicates(chance, count, seed=0):
    """(examples, count, k) right or wrong by each example's chance (examples, k), with the ladder's costs."""
    chance = np.asarray(chance)
    rng = np.random.default_rng(seed)
    score = (rng.random((len(chance), count, chance.shape[1])) < chance[:, None]).astype(float)
    return score, np.broadcast_to(COST, score.shape)


def test_pure_luck_leaves_the_corrected_oracle_nothing():
    score, cost = replicates(np.full((400, 3), 0.5), 8)
    raw = oracle_curve(score[:, 0], cost[:, 0])
    assert raw.score[-1] > 0.8
    assert replicate_oracle(score, cost).score.max() < 0.55


def test_pure_need_leaves_the_corrected_oracle_everything():
    score, cost = replicates(np.tile([[0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], (5, 1)), 3)
    corrected, raw = replicate_oracle(score, cost), oracle_curve(score[:, 0], cost[:, 0])
    assert corrected.cost == pytest.approx(raw.cost) and corrected.score == pytest.approx(raw.score)


def test_linear_prediction_reads_luck_nearer_the_truth_than_the_mean_of_few_replicates():
    need = np.clip(np.random.default_rng(1).normal(1, 1, 600), -1, 3)
    chance = 0.05 + 0.9 / (1 + np.exp(-4 * (np.arange(3) - need[:, None])))
    score, cost = replicates(chance, 3)
    flat, wide = score.reshape(-1, 3), cost.reshape(-1, 3)
    best = slope_merge(np.repeat(chance, 3, axis=0), wide).curve(flat, wide)  # by the chances themselves
    areas = [curve.area(1, 16) for curve in (replicate_oracle(score, cost), replicate_oracle(score, cost, True), best)]
    assert areas[0] < areas[1] - 0.05 < areas[1] < areas[2] < oracle_curve(flat, wide).area(1, 16)


def test_a_replicate_never_votes_on_itself():
    score = np.array([[[0.0, 1, 0], [0, 0, 1]]])  # each replicate would send the other to the wrong arm
    curve = replicate_oracle(score, np.broadcast_to(COST, score.shape))
    assert curve.score.max() == 0 and curve.cost[-1] == (16 + 4) / 2


def test_replicates_are_lined_up_by_example():
    ids, numbers = np.array(["b", "a", "a", "b"]), np.array([1, 0, 1, 0])
    values = np.array([[11.0], [0], [1], [10]])
    assert by_replicate(ids, numbers, values)[..., 0].tolist() == [[0, 1], [10, 11]]
    assert complete(ids[:3], numbers[:3]).tolist() == [False, True, True]
    assert not complete(ids[:2], np.zeros(2, int)).any()
    with pytest.raises(DataError, match=r"\(2 x 2 rows\), was: 3 rows"):
        by_replicate(ids[:3], numbers[:3], values[:3])
    with pytest.raises(DataError, match="two or more replicates"):
        by_replicate(ids[:2], np.zeros(2, int), values[:2])
    with pytest.raises(DataError, match="two or more, k"):
        replicate_oracle(np.zeros((2, 1, 3)), np.ones((2, 1, 3)))


def test_agreement_is_the_share_of_examples_whose_replicates_score_alike():
    score = np.array([[[1, 0], [1, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 0]], [[0, 1], [1, 1]]], float)
    assert agreement(score).tolist() == [0.75, 0.5]


def test_need_is_the_cheapest_arm_within_the_points():
    score = np.zeros((200, 3))
    score[:160, 2], score[:158, 1], score[:100, 0] = 1, 1, 1
    resamples = Resamples(np.arange(200), count=400)
    assert [need(score, COST, resamples, points).arm for points in (0, 1, 30)] == [2, 1, 0]
    within = need(score, COST, resamples, 1.0)
    assert (within.low, within.high) == (1, 2) and within.share.sum() == pytest.approx(1)
    assert within.share[0] == 0 and 0.4 < within.share[1] < 0.95
    with pytest.raises(DataError, match="0 or more, was: -1"):
        need(score, COST, resamples, -1)
    for points in (np.nan, np.inf, "1"):
        with pytest.raises(DataError, match="must be a finite number, 0 or more"):
            need(score, COST, resamples, points)


def test_need_orders_arms_by_what_they_cost():
    score = np.tile([1.0, 0.0, 0.0], (10, 1))
    found = need(score, COST[::-1], Resamples(np.arange(10), count=50))
    assert (found.arm, found.low, found.high, found.share.tolist()) == (0, 0, 0, [1, 0, 0])


def test_complexity_is_a_pictures_mean_label_over_what_it_solved():
    pictures, rungs = complexity(np.array([0, 2, 3, 3, 1]), np.array(["b", "b", "b", "c", "a"]), 3)
    assert pictures.tolist() == ["a", "b"] and rungs.tolist() == [1, 1]


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 5, 50), rng.integers(0, 5, 50)
    assert rank_correlation(left, right) == pytest.approx(spearmanr(left, right).statistic)
    assert rank_correlation(left, np.exp(left)) == pytest.approx(1)
    assert math.isnan(rank_correlation(left, np.zeros(50)))
