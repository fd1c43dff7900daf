"""Laws of allocation on random tables: limits hold, more never buys less, order decides nothing, nothing beats O."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest

from encoders.errors import BudgetError, DataError
from router.allocate import allocate, best_arms, tie_keys
from router.budget import Budget
from training_data.curves import oracle_curve, slope_merge

SEEDS = range(12)


def tables(seed, n=40, k=6):
    """(true scores, predicted curves, costs): every other seed with ties, shared and unordered costs."""
    rng = np.random.default_rng(seed)
    cost = np.cumsum(rng.integers(1, 9, (n, k)), axis=1).astype(float)
    if seed % 2:
        cost = rng.permutation(cost[0])
    score = (rng.random((n, k)) < np.linspace(0.3, 0.7, k)).astype(float)
    curve = 0.5 * score + rng.normal(size=(n, k))
    return score, curve.round(1) if seed % 2 else curve, cost


def taken(values, arms):
    """The values (n,) at the arms, of (n, k) or (k,)."""
    return np.broadcast_to(values, (len(arms), np.shape(values)[-1]))[np.arange(len(arms)), arms]


def cheapest(cost, n=40):
    return np.broadcast_to(cost, (n, np.shape(cost)[-1])).min(axis=1)


def dearest(cost, n=40):
    return np.broadcast_to(cost, (n, np.shape(cost)[-1])).max(axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_answer_goes_above_the_cap_and_each_is_the_best_within(seed):
    _, curve, cost = tables(seed)
    for cap in np.linspace(cheapest(cost).max(), dearest(cost).max() + 1, 9):
        arms = allocate(curve, cost, Budget(cap=cap, unit="ms"), price=0.01)
        assert (taken(cost, arms) <= cap).all()
        value = np.where(cost <= cap, curve - 0.01 * cost, -np.inf)
        assert (taken(value, arms) == value.max(axis=1)).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["cap", "stored", "price", "mean"])
def test_a_dearer_budget_never_lowers_the_predicted_score(seed, kind):
    _, curve, cost = tables(seed)
    if kind in ("cap", "stored"):
        budgets = [Budget(cap=cap, unit="ms") for cap in np.arange(cheapest(cost).max(), dearest(cost).max() + 2)]
    elif kind == "price":
        budgets = [Budget(price=price) for price in [*np.geomspace(3, 1e-3, 40), 0]]
    else:
        budgets = [Budget(mean=mean) for mean in np.linspace(cheapest(cost).mean(), dearest(cost).mean(), 60)]
    stored = 0.05 if kind == "stored" else 0.0
    totals = [taken(curve, allocate(curve, cost, budget, price=stored)).sum() for budget in budgets]
    assert (np.diff(totals) >= -1e-9).all()
    assert totals[-1] > totals[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_under_a_price_on_other_costs_a_dearer_cap_never_lowers_the_predicted_score(seed):
    _, curve, cost = tables(seed)
    other = np.random.default_rng(seed).random(curve.shape) + 0.1  # rises with nothing
    caps = np.arange(cheapest(cost).max(), dearest(cost).max() + 2)
    arms = [allocate(curve, cost, Budget(cap=cap, unit="ms"), price=0.7, price_cost=other) for cap in caps]
    assert (np.diff([taken(curve, chosen) for chosen in arms], axis=0) >= 0).all()
    rising = cost**0.5 * (1 + other[:, :1])  # in the order of the cap's own costs nothing is changed
    free = [
        allocate(curve, cost, budget, price=0.7, price_cost=rising) for budget in (Budget(cap=1e9, unit="ms"), None)
    ]
    assert (free[0] == free[1]).all() and (free[1] == (curve - 0.7 * rising).argmax(axis=1)).all()


def every_budget(cost):
    mean = (cheapest(cost).mean() + dearest(cost).mean()) / 3
    return [None, Budget(cap=cheapest(cost).max() + 5, unit="ms"), Budget(price=0.03), Budget(mean=max(mean, 9))]


@pytest.mark.parametrize("seed", SEEDS)
def test_permuting_the_batch_permutes_the_answers(seed):
    _, curve, cost = tables(seed)
    rng = np.random.default_rng(seed)
    curve[rng.integers(0, 40, 20)] = curve[0]  # equal rows, so that ties must be broken
    key, order = tie_keys(range(40)), rng.permutation(40)
    permuted = cost if cost.ndim == 1 else cost[order]
    for budget in every_budget(cost):
        arms = allocate(curve, cost, budget, price=0.01, key=key)
        assert (allocate(curve[order], permuted, budget, price=0.01, key=key[order]) == arms[order]).all()


def test_the_keys_decide_which_of_equal_rows_is_upgraded():
    curve, cost = np.tile([0.0, 1.0], (4, 1)), np.array([1.0, 2.0])
    assert allocate(curve, cost, Budget(mean=1.5), key=np.array([3, 1, 2, 0])).tolist() == [0, 1, 0, 1]
    assert allocate(curve, cost, Budget(mean=1.5)).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_of_one_is_the_row_inside_a_batch(seed):
    _, curve, cost = tables(seed)
    for budget in every_budget(cost)[:3]:
        arms = allocate(curve, cost, budget, price=0.01)
        for row in range(40):
            own = cost if cost.ndim == 1 else cost[row : row + 1]
            assert allocate(curve[row : row + 1], own, budget, price=0.01) == arms[row]


@pytest.mark.parametrize("seed", SEEDS)
def test_true_scores_give_the_oracle_at_its_corners(seed):
    score, _, cost = tables(seed)
    oracle = oracle_curve(score, cost)
    for mean, best in zip(oracle.cost, oracle.score, strict=True):
        arms = allocate(score, cost, Budget(mean=mean * (1 + 1e-12)))
        assert taken(score, arms).mean() == pytest.approx(best)
        assert taken(cost, arms).mean() == pytest.approx(mean)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_prediction_beats_the_oracle_at_its_own_cost(seed):
    score, curve, cost = tables(seed)
    oracle = oracle_curve(score, cost)
    means = [Budget(mean=mean) for mean in np.linspace(cheapest(cost).mean(), dearest(cost).mean(), 20)]
    for budget in [*every_budget(cost), *means]:
        arms = allocate(curve, cost, budget)
        assert taken(score, arms).mean() <= oracle.at(taken(cost, arms).mean()) + 1e-9


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [1, 0.1, 1 / 3])  # sums of tenths and thirds are rounded
def test_a_mean_is_never_exceeded_and_falls_short_by_less_than_one_step(seed, scale):
    _, curve, cost = tables(seed)
    cost = cost * scale
    best = np.where(curve == curve.max(axis=1, keepdims=True), cost, np.inf).min(axis=1)  # nothing left to gain
    for mean in np.linspace(cheapest(cost).mean() * (1 + 1e-12), best.mean() * 1.1, 50):
        arms = allocate(curve, cost, Budget(mean=mean, unit="ms"))
        spent = math.fsum(taken(cost, arms)) / 40
        assert spent <= mean
        if mean >= best.mean() * (1 + 1e-12):
            assert (taken(curve, arms) == curve.max(axis=1)).all() and (taken(cost, arms) == best).all()
        else:
            assert spent > mean - (dearest(cost) - cheapest(cost)).max() / 40


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [1, 0.1])
def test_the_next_step_would_exceed_the_mean_whatever_the_order(seed, scale):
    _, curve, cost = tables(seed)
    cost, key, order = np.broadcast_to(cost * scale, curve.shape), tie_keys(range(40)), np.arange(40)[::-1]
    steps = slope_merge(curve, cost, key)
    for count in range(len(steps.slope)):
        arms, more = steps.after(count), steps.after(count + 1)
        low, high = (math.fsum(taken(cost, chosen)) / 40 for chosen in (arms, more))
        for mean in (low, math.nextafter(high, 0)):
            assert (allocate(curve, cost, Budget(mean=mean), key=key) == arms).all()
            turned = allocate(curve[order], cost[order], Budget(mean=mean), key=key[order])
            assert (turned == arms[order]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_price_between_two_steps_is_the_mean_at_that_corner(seed):
    _, curve, cost = tables(seed)
    slopes = slope_merge(curve, cost).slope
    for right in np.flatnonzero(np.diff(slopes) < -1e-9):
        by_price = allocate(curve, cost, Budget(price=(slopes[right] + slopes[right + 1]) / 2))
        by_mean = allocate(curve, cost, Budget(mean=taken(cost, by_price).mean()))
        assert taken(cost, by_price).sum() == taken(cost, by_mean).sum()
        assert taken(curve, by_price).sum() == pytest.approx(taken(curve, by_mean).sum())
        if not seed % 2:
            assert (by_price == by_mean).all()


@pytest.mark.parametrize("budget", [None, Budget(9), Budget(price=0)])
def test_among_equals_the_cheapest_wins_then_the_first(budget):
    curve = np.array([[1.0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 1]])
    assert allocate(curve, np.array([3.0, 2, 2, 8, 1]), budget).tolist() == [1, 4, 4]


def test_an_arm_that_may_not_be_taken_is_not():
    assert best_arms(np.array([[-np.inf, 0.0]]), np.array([1.0, 2.0])).tolist() == [1]


def test_a_cap_below_a_cheapest_arm_names_rows_and_remedy():
    cost = np.array([[2.0, 9], [5, 9], [8, 9]])
    with pytest.raises(BudgetError, match=r"cap 4 tokens, too little for 2 of 3 questions; 8\.0 tokens reaches"):
        allocate(np.zeros((3, 2)), cost, Budget(4))
    assert allocate(np.zeros((3, 2)), cost, Budget(8)).tolist() == [0, 0, 0]


def test_a_mean_below_the_cheapest_arms_is_refused():
    cost = np.array([[1.0, 9], [2, 9], [3, 9]]) / 4
    with pytest.raises(BudgetError, match=r"cheapest arms, 0\.5, was: 0\.49; raise it"):
        allocate(np.zeros((3, 2)), cost, Budget(mean=0.49))
    assert allocate(np.ones((3, 2)), cost, Budget(mean=0.5)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("budget", [Budget(max_loss=0.01), Budget(max_broken=0.01)])
def test_a_loss_needs_the_certificate_first(budget):
    with pytest.raises(BudgetError, match=r"was: max_.* 0\.01; the router's certificate turns a loss into the price"):
        allocate(np.zeros((1, 2)), np.ones(2), budget)


@pytest.mark.parametrize("price", [-1, math.nan, math.inf])
def test_a_stored_price_is_not_negative(price):
    with pytest.raises(BudgetError, match="stored price must be a finite number, at least 0, was: "):
        allocate(np.zeros((1, 2)), np.ones(2), None, price=price)


@pytest.mark.parametrize("budget", [None, Budget(9), Budget(price=0), Budget(mean=9)])
def test_broken_tables_are_refused(budget):
    for curve, cost in [([0.0, 1], [1, 2]), (np.zeros((2, 2)), [1, 2, 3]), (np.zeros((0, 2)), [1, 2])]:
        with pytest.raises(DataError, match=r"one row and one arm at least, .* was: "):
            allocate(np.array(curve), np.array(cost), budget)
    with pytest.raises(DataError, match=r"predicted scores must be finite, was: nan"):
        allocate(np.array([[0, np.nan]]), np.ones(2), budget)
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(DataError, match=f"costs must be positive and finite, was: {float(wrong)}; charge"):
            allocate(np.zeros((1, 2)), np.array([1, wrong]), budget)


def test_tables_are_left_as_they_were():
    _, curve, cost = tables(0)
    before = curve.copy(), cost.copy()
    for budget in every_budget(cost):
        assert allocate(curve, cost, budget, price=0.1).dtype == np.int64
    assert (curve == before[0]).all() and (cost == before[1]).all()


def test_tie_keys_are_alike_in_every_process_and_differ_by_seed_and_id():
    program = "from router.allocate import tie_keys; print(*tie_keys(['a', 'b', 7], seed=3))"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    keys = tie_keys(["a", "b", "7"], seed=3)
    assert keys.dtype == np.int64 and there.split() == [str(key) for key in keys]
    assert len({*keys, *tie_keys(["a", "b", "7"], seed=4)}) == 6
    assert tie_keys(["\ud800"]).shape == (1,) and tie_keys([]).shape == (0,)


def test_tie_keys_favour_no_place_in_the_batch():
    assert abs(np.corrcoef(np.arange(4000), tie_keys(range(4000)).astype(float))[0, 1]) < 0.05


def test_a_large_batch_takes_well_under_a_second():
    rng = np.random.default_rng(0)
    curve, cost = np.sort(rng.random((20_000, 8)), axis=1), 2.0 ** np.arange(8)
    key = tie_keys(range(20_000))
    for budget in (None, Budget(64), Budget(price=0.002), Budget(mean=32)):
        started = time.perf_counter()
        allocate(curve, cost, budget, key=key)
        assert time.perf_counter() - started < 1
