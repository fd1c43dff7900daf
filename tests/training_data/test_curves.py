"""Hull, slope merge, oracle, identity and area against brute force; the bootstrap keeps pictures together."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from encoders.errors import DataError
from training_data.bootstrap import Resamples, interval
from training_data.curves import (
    Curve,
    charged_cost,
    gap_recovered,
    hull,
    identity_curve,
    identity_curve_crossfit,
    oracle_curve,
    slope_merge,
)

SEEDS = range(6)


def graded(seed, n=5, k=4):
    """Random scores and costs (n, k), costs ascending and different in every row."""
    rng = np.random.default_rng(seed)
    return rng.random((n, k)).round(2), np.cumsum(rng.random((n, k)) + 0.05, axis=1)


def binary(seed, n=6, k=3):
    """Random 0/1 scores on a shared ladder, some rows never solved."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, k)) < 0.4).astype(float), np.array([1.0, 4.0, 16.0])[:k]


def best_mixture(score, cost, budget):
    """The optimum of the linear relaxation at mean cost `budget`, by an independent solver."""
    n, k = score.shape
    one_arm_each = np.kron(np.eye(n), np.ones(k))
    found = linprog(
        -score.ravel() / n,
        A_ub=np.broadcast_to(cost, score.shape).reshape(1, -1) / n,
        b_ub=[budget],
        A_eq=one_arm_each,
        b_eq=np.ones(n),
    )
    assert found.success
    return -found.fun


def test_what_rises_upright_at_the_end_of_a_span_adds_no_area():
    upright = Curve(np.array([1.0, 2.0, 2.0]), np.array([0.0, 0.0, 1.0]))
    assert upright.area(1, 2) == upright.area(1, 2, log2=False) == 0
    assert upright.area(1, 3, log2=False) == 1
    assert Curve(np.array([1.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0])).area(1, 2, log2=False) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hull_is_the_best_mixture_of_arms(seed):
    score, cost = graded(seed, n=1, k=6)
    curve = hull(cost[0], score[0])
    for budget in np.linspace(cost[0, 0], cost[0, -1] * 1.1, 9):
        assert curve.at(budget) == pytest.approx(best_mixture(score, cost, budget))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hull_is_concave_and_above_every_arm(seed):
    score, cost = graded(seed, n=1, k=8)
    curve = hull(cost[0], score[0])
    slopes = np.diff(curve.score) / np.diff(curve.cost)
    assert (slopes > 0).all() and (np.diff(slopes) <= 1e-12).all()
    assert (curve.at(cost[0]) >= score[0] - 1e-12).all()
    assert curve.cost[0] == cost[0, 0]


def test_dominated_arms_are_dropped_and_the_ladder_is_not_made_monotone():
    curve = hull([1, 2, 4, 8], [0.2, 0.1, 0.6, 0.5])
    assert curve.cost.tolist() == [1, 4] and curve.score.tolist() == [0.2, 0.6]


@pytest.mark.parametrize("seed", SEEDS)
def test_slope_merge_is_the_optimum_of_the_relaxed_knapsack(seed):
    score, cost = graded(seed)
    curve = slope_merge(score, cost).curve(score, cost)
    for budget in np.linspace(curve.cost[0], curve.cost[-1] * 1.05, 9):
        assert curve.at(budget) == pytest.approx(best_mixture(score, cost, budget))


@pytest.mark.parametrize("seed", SEEDS)
def test_taking_steps_follows_the_curve_and_a_row_never_skips_a_rung(seed):
    score, cost = graded(seed)
    steps, rows = slope_merge(score, cost), np.arange(5)
    assert (np.diff(steps.slope) <= 0).all()
    for count in range(len(steps.row) + 1):
        arm = steps.after(count)
        assert score[rows, arm].sum() == pytest.approx(score[:, 0].sum() + steps.score[:count].sum())
        assert cost[rows, arm].sum() == pytest.approx(cost[:, 0].sum() + steps.cost[:count].sum())
        if count < len(steps.row):
            assert arm[steps.row[count]] == steps.origin[count]
    assert (steps.after(len(steps.row)) == score.argmax(axis=1)).all()


def test_nearly_straight_ladders_keep_the_order_of_a_rows_steps():
    cost = np.arange(1.0, 9.0)
    score = np.linspace(0.1, 0.8, 8) + np.random.default_rng(0).normal(0, 1e-17, (500, 8))
    steps = slope_merge(score, cost)
    arm = steps.hull[:, 0].copy()
    for row, origin, target in zip(steps.row, steps.origin, steps.target, strict=True):
        assert arm[row] == origin
        arm[row] = target


def test_equal_slopes_go_by_key_so_permuting_rows_permutes_the_steps():
    score, cost = np.tile([[0.0, 1.0]], (6, 1)), np.array([1.0, 2.0])
    key = np.array([3, 1, 5, 0, 4, 2])
    assert slope_merge(score, cost, key).row.tolist() == np.argsort(key).tolist()
    shuffled = np.random.default_rng(0).permutation(6)
    again = slope_merge(score, cost, key[shuffled])
    assert shuffled[again.row].tolist() == np.argsort(key).tolist()


def test_among_arms_of_one_cost_the_better_is_the_start():
    assert slope_merge([[0.2, 0.7, 0.9]], [1.0, 1.0, 2.0]).hull.tolist() == [[1, 2]]


def test_an_infinite_cost_is_never_taken():
    steps = slope_merge([[0.1, 0.5, 0.9], [0.1, 0.5, 0.9]], [[1, 2, 4], [1, 2, np.inf]])
    assert steps.after(len(steps.row)).tolist() == [2, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_oracle_is_exact_for_right_and_wrong(seed):
    score, cost = binary(seed)
    curve = oracle_curve(score, cost)
    rows = np.arange(len(score))
    for arms in itertools.product(range(3), repeat=6):
        spent, won = cost[list(arms)].mean(), score[rows, arms].mean()
        assert curve.at(spent) >= won - 1e-12
    assert curve.score[-1] == pytest.approx(score.max(axis=1).mean())
    labels = np.where(score.max(axis=1) > 0, score.argmax(axis=1), 0)
    assert curve.cost[-1] == pytest.approx(cost[labels].mean())  # unsolved rows: the cheapest arm


@pytest.mark.parametrize("seed", SEEDS)
def test_the_oracle_is_nowhere_below_identity_and_identity_nowhere_below_the_hull(seed):
    score, cost = graded(seed, n=40)
    dataset = np.array(list("abcd") * 10)
    fixed = hull(cost.mean(axis=0), score.mean(axis=0))
    identity, oracle = identity_curve(score, cost, dataset), oracle_curve(score, cost)
    budgets = np.linspace(fixed.cost[0], cost.max(), 50)
    assert (identity.at(budgets) >= fixed.at(budgets) - 1e-12).all()
    assert (oracle.at(budgets) >= identity.at(budgets) - 1e-12).all()
    assert identity_curve(score, cost, np.full(40, "one")).at(budgets) == pytest.approx(fixed.at(budgets))


def test_never_solved_rows_are_charged_both_ways():
    score, cost = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1], [0.0, 0, 0]]), np.array([1.0, 4.0, 16.0])
    cheap, dear = oracle_curve(score, cost), oracle_curve(score, cost, "dearest")
    assert (cheap.cost[-1], dear.cost[-1]) == ((4 + 1 + 1 + 1) / 4, (4 + 16 + 1 + 16) / 4)
    assert cheap.score[-1] == dear.score[-1] == 0.5
    with pytest.raises(DataError, match="charged 'cheapest' or 'dearest', was: 'full'"):
        charged_cost(score, cost, "full")


def test_identity_buys_where_it_pays():
    score = np.array([[0.0, 1.0]] * 4 + [[1.0, 1.0]] * 12)
    dataset = np.array(["steep"] * 4 + ["flat"] * 12)
    curve = identity_curve(score, [1.0, 3.0], dataset)
    assert curve.cost.tolist() == [1, 1.5] and curve.score.tolist() == [0.75, 1]
    fair = identity_curve_crossfit(score, [1.0, 3.0], dataset, np.arange(16), folds=4)
    assert (fair.cost[-1], fair.score[-1]) == (1.5, 1)


def test_a_curve_has_one_point_per_price():
    score, cost = binary(0, n=300)
    assert len(oracle_curve(score, cost).cost) == 3  # two slopes: 1 / 3 and 1 / 15


def test_identity_chosen_on_other_pictures_earns_nothing_from_noise():
    rng = np.random.default_rng(0)
    score, cost = (rng.random((400, 2)) < 0.5).astype(float), np.array([1.0, 2.0])
    dataset, picture = rng.integers(0, 40, 400).astype(str), np.arange(400)
    start = score[:, 0].mean()
    assert identity_curve(score, cost, dataset).score[-1] > start + 0.04
    assert identity_curve_crossfit(score, cost, dataset, picture).score.max() < start + 0.04
    with pytest.raises(DataError, match="2 to the number of pictures"):
        identity_curve_crossfit(score, cost, dataset, np.zeros(400), folds=5)


def test_a_data_set_on_one_picture_is_treated_as_the_mean_of_the_others():
    score = np.array([[0.0, 1.0]] * 6 + [[1.0, 1.0]])
    fair = identity_curve_crossfit(score, [1.0, 3.0], np.array(["a"] * 6 + ["b"]), np.arange(7))
    assert fair.cost[-1] == pytest.approx(3)  # the pool rises, so the lone row is bought too


@pytest.mark.parametrize("seed", SEEDS)
def test_areas_equal_fine_numeric_integration(seed):
    rng = np.random.default_rng(seed)
    curve = Curve.through(np.cumsum(rng.random(7) + 0.01), rng.random(7))
    start, stop = curve.cost[0] * 1.01, curve.cost[-1] * 1.5
    edges = np.geomspace(start, stop, 200_001)
    middle = np.sqrt(edges[1:] * edges[:-1])
    assert curve.area(start, stop) == pytest.approx(curve.at(middle) @ np.diff(np.log2(edges)), abs=1e-7)
    assert curve.area(start, stop, log2=False) == pytest.approx(curve.at(middle) @ np.diff(edges), abs=1e-7)


def test_the_area_under_a_level_line_counts_doublings():
    assert Curve.through([1, 8], [0.5, 0.5]).area(1, 16) == pytest.approx(2)


def test_an_upright_step_has_no_area_and_does_no_harm():
    curve = Curve.through([1, 2, 2, 4], [0, 0, 1, 1])
    assert curve.area(1, 4, log2=False) == pytest.approx(2)
    assert curve.area(1, 4) == pytest.approx(1)


def test_gap_recovered_is_0_for_the_hull_1_for_the_oracle_and_half_between():
    score, cost = graded(3, n=60)
    score *= [0.4, 0.7, 0.9, 1.0]
    fixed, oracle = hull(cost.mean(axis=0), score.mean(axis=0)), oracle_curve(score, cost)
    corners = np.union1d(fixed.cost, oracle.cost)
    corners = corners[corners >= fixed.cost[0]]
    half = Curve.through(corners, (fixed.at(corners) + oracle.at(corners)) / 2)
    for router, expected in ((fixed, 0), (half, 0.5), (oracle, 1)):
        gap = gap_recovered(router, fixed, oracle)
        assert [gap.recovered, gap.linear, gap.tail] == pytest.approx([expected] * 3, abs=1e-12)
    assert gap.start == fixed.cost[0] and gap.stop == fixed.cost[-1]
    assert fixed.at(gap.c99) == pytest.approx(0.99 * fixed.score[-1])


def test_the_tail_is_told_apart():
    fixed, oracle = hull([1, 2, 4], [0.2, 0.5, 0.502]), hull([1, 2, 4], [0.2, 0.7, 0.9])
    early = Curve.through([1, 1.5, 2, 4], [0.2, 0.4, 0.5, 0.502])
    gap = gap_recovered(early, fixed, oracle)
    assert gap.recovered > 0.1 and gap.tail == pytest.approx(0, abs=0.01)
    assert 1.9 < gap.c99 < 2 and gap.stop == 4
    for ratio, log2 in ((gap.recovered, True), (gap.linear, False)):
        null, gained, whole = (curve.area(1, gap.c99, log2) for curve in (fixed, early, oracle))
        assert ratio == pytest.approx((gained - null) / (whole - null))


def test_a_flat_ladder_has_no_gap_to_recover():
    flat = hull([1, 2], [0.995, 1.0])
    assert math.isnan(gap_recovered(flat, flat, flat).recovered)


def test_a_router_without_its_cheap_end_is_refused():
    fixed = hull([1, 2], [0.2, 0.8])
    with pytest.raises(DataError, match=r"must begin at the cheapest arm's cost 1, was: 1\.5"):
        gap_recovered(Curve.through([1.5, 2], [0.5, 0.8]), fixed, fixed)


def test_a_curve_is_undefined_below_its_start_level_behind_its_end_and_knows_its_costs():
    curve = Curve.through([4, 2], [0.5, 0.1])
    assert math.isnan(curve.at(1.9)) and curve.at(3) == pytest.approx(0.3) and curve.at(9) == 0.5
    assert (curve.reach(0.05), curve.reach(0.3), curve.reach(0.6)) == (2, pytest.approx(3), math.inf)


@pytest.mark.parametrize(
    ("score", "cost", "rule"),
    [
        ([[0.5, np.nan]], [1, 2], "scores must be finite, was: nan in row 0, arm 1"),
        ([[0.5, 1.5]], [1, 2], r"scores must lie in \[0, 1\], was: 1.5 in row 0, arm 1"),
        ([[0.5, 0.5]], [0, 2], "costs must be positive, was: 0.0"),
        ([[0.5, 0.5]], [1, np.inf], "measured costs must be finite"),
        ([[0.5, 0.5]], [np.inf, np.inf], "an arm it may take"),
        ([[0.5, 0.5]], [1, 2, 3], r"was: \(1, 2\) and \(3,\)"),
        (np.zeros((0, 2)), [1, 2], "one row and one arm at least"),
    ],
)
def test_broken_tables_are_refused(score, cost, rule):
    with pytest.raises(DataError, match=rule):
        oracle_curve(np.array(score), np.array(cost))


@pytest.mark.parametrize(
    ("cost", "score", "rule"),
    [([], [], "at least one"), ([1, 2], [0.5], "one score per cost"), ([0, 1], [0, 1], "positive and ascending")],
)
def test_broken_curves_are_refused(cost, score, rule):
    with pytest.raises(DataError, match=rule):
        Curve.through(cost, score)
    with pytest.raises(DataError, match="finite"):
        Curve.through([1, 2], [0.5, math.nan])


def test_keys_are_whole_numbers_one_per_row():
    with pytest.raises(DataError, match="one integer key per row"):
        slope_merge([[0.0, 1.0]], [1, 2], np.array([0.5]))


def mean_of(values):
    return lambda weights: float(weights @ values / weights.sum())


def test_duplicates_within_pictures_widen_the_interval_only_when_they_are_clustered():
    values = np.random.default_rng(0).random(100)
    once = Resamples(np.arange(100)).estimate(mean_of(values))
    clustered = Resamples(np.repeat(np.arange(100), 9)).estimate(mean_of(np.repeat(values, 9)))
    naive = Resamples(np.arange(900)).estimate(mean_of(np.repeat(values, 9)))
    assert clustered.high - clustered.low == pytest.approx(once.high - once.low)
    assert (naive.high - naive.low) * 2.5 < clustered.high - clustered.low
    assert once.high - once.low == pytest.approx(2 * 1.96 * values.std() / 10, rel=0.1)


def test_resamples_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    values, group, shuffled = rng.random((60, 2)), rng.integers(0, 20, 60).astype(str), rng.permutation(60)
    assert Resamples(group).means(values) == pytest.approx(Resamples(group[shuffled]).means(values[shuffled]))


def test_means_by_matrix_product_equal_means_by_weights():
    rng = np.random.default_rng(0)
    values, group = rng.random((30, 2)), rng.integers(0, 9, 30)
    resamples = Resamples(group, count=100, seed=5)
    slow = [weights @ values / weights.sum() for weights in resamples.weights()]
    assert resamples.means(values) == pytest.approx(np.array(slow))
    assert not np.allclose(Resamples(group, count=100, seed=6).means(values), slow)


def test_the_interval_of_a_gap_is_paired():
    rng = np.random.default_rng(0)
    score = (rng.random((80, 3)) < [0.3, 0.5, 0.8]).astype(float)
    cost, oracle = np.array([1.0, 2.0, 4.0]), slope_merge(score, np.array([1.0, 2.0, 4.0]))

    def recovered(weights):
        fixed = hull(cost, weights @ score / weights.sum())
        return gap_recovered(fixed, fixed, oracle.curve(score, cost, weights)).recovered

    found = Resamples(np.arange(80) // 2, count=100).estimate(recovered)
    assert [found.value, found.low, found.high] == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_weighted_oracle_is_the_oracle_of_the_repeated_rows():
    score, cost = graded(1, n=12)
    weights = np.random.default_rng(0).integers(0, 4, 12)
    repeated = oracle_curve(np.repeat(score, weights, axis=0), np.repeat(cost, weights, axis=0))
    weighted = slope_merge(score, cost).curve(score, cost, weights.astype(float))
    assert weighted.at(repeated.cost) == pytest.approx(repeated.score)


def test_an_undefined_resample_says_nothing():
    found = interval(1.0, [np.nan, *[1.0] * 19])
    assert (found.low, found.high) == (1, 1) and f"{found:.1f}" == "1.0 [1.0, 1.0]"
    assert math.isnan(interval(1.0, [np.nan]).low)


def test_a_bootstrap_needs_rows_and_resamples():
    with pytest.raises(DataError, match="a row at least"):
        Resamples(np.array([]))
    with pytest.raises(DataError, match="two or more resamples, was: 1"):
        Resamples(np.arange(3), count=1)
    with pytest.raises(DataError, match=r"rows \(3, q\)"):
        Resamples(np.arange(3)).means(np.zeros(3))


def test_what_is_undefined_has_no_interval():
    """A value of its own and percentiles of a few lucky resamples read as a finding."""
    for found in (interval(math.nan, np.ones(100)), interval(0.5, [math.nan] * 6 + [1.0] * 94)):
        assert math.isnan(found.low) and math.isnan(found.high)
    one = Resamples(np.array(["a", "a", "a"]), 50)
    assert math.isnan(one.estimate(lambda weights: float(weights.mean())).low)
