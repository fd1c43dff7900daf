"""A stream keeps to its mean whatever comes: other questions, bursts, one kind only, wrong charges."""

import math

import numpy as np
import pytest

from encoders.errors import BudgetError, DataError
from router.allocate import allocate
from router.budget import Budget
from router.stream import FeedbackPrice

LADDERS = {"m3": np.array([1.0, 9, 36, 144, 576]), "mqt": np.array([2.0, 4, 8, 16, 36, 64, 144, 192, 256])}


def curves(rng, need, cost, sharp=1.0, noise=0.03):
    """Predicted scores (n, k) that rise around log2(tokens) = need (n,)."""
    steep = sharp * (np.log2(cost) - np.asarray(need)[:, None])
    return 0.9 / (1 + np.exp(-steep)) + noise * rng.standard_normal(steep.shape)


def calibration(cost, seed=0, rows=1000):
    rng = np.random.default_rng(seed)
    return curves(rng, rng.normal(3, 2, rows), cost)


def bursts(rng, n, period):
    return np.where(np.arange(n) // (period // 2) % 2, rng.normal(6.5, 1, n), rng.normal(1.5, 1, n))


STREAMS = {
    "as calibration": lambda r, n, c: curves(r, r.normal(3, 2, n), c),
    "harder": lambda r, n, c: curves(r, r.normal(6, 1.5, n), c),
    "easier": lambda r, n, c: curves(r, r.normal(1.5, 1.5, n), c),
    "bursts of 5": lambda r, n, c: curves(r, bursts(r, n, 10), c),
    "bursts of 50": lambda r, n, c: curves(r, bursts(r, n, 100), c),
    "bursts of 200": lambda r, n, c: curves(r, bursts(r, n, 400), c),
    "hard after 450": lambda r, n, c: curves(r, np.where(np.arange(n) > 450, 7, 2) + r.normal(0, 1, n), c),
    "easy after 450": lambda r, n, c: curves(r, np.where(np.arange(n) > 450, 1.5, 6) + r.normal(0, 1, n), c),
    "drifting": lambda r, n, c: curves(r, np.linspace(1, 6, n) + r.normal(0, 1.5, n), c),
    "one kind": lambda r, n, c: curves(r, np.full(n, 5.0), c, sharp=2, noise=0),
    "two kinds in turn": lambda r, n, c: curves(r, np.where(np.arange(n) % 2, 6.0, 2.0), c, sharp=3, noise=0),
    "a few very hard": lambda r, n, c: curves(r, np.where(r.random(n) < 0.08, 8.0, 0.0), c, sharp=4),
    "twenty times steeper": lambda r, n, c: 20 * curves(r, r.normal(4, 2, n), c, sharp=3),
    "a thousand times flatter": lambda r, n, c: curves(r, r.normal(4, 2, n), c) / 1000,
}


def most(curve, cost):
    """What a mean could be at most: nobody pays for an arm that is not predicted to be better."""
    return cost[allocate(curve, cost, Budget(price=0))].mean()


def target_for(calibrated, cost, share):
    return cost[0] + share * (most(calibrated, cost) - cost[0])


def running(price, stream, cost):
    """The mean cost after every question (n,)."""
    arms = [price.choose(row, cost) for row in stream]
    return np.cumsum(cost[arms]) / np.arange(1, len(arms) + 1)


@pytest.mark.parametrize("share", [0.08, 0.25, 0.6])
@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("name", STREAMS)
def test_the_running_mean_is_within_3_percent_after_500_questions(name, ladder, share):
    cost = LADDERS[ladder]
    calibrated = calibration(cost)
    target = target_for(calibrated, cost, share)
    stream = STREAMS[name](np.random.default_rng(1), 1000, cost)
    mean = running(FeedbackPrice(target, calibrated, cost), stream, cost)
    for count in (500, 1000):
        spendable = min(target, most(stream[:count], cost))
        assert 0.97 * spendable <= mean[count - 1] <= 1.03 * target


@pytest.mark.parametrize("name", ["harder", "bursts of 50", "one kind", "a few very hard"])
def test_a_long_stream_comes_closer(name):
    cost = LADDERS["m3"]
    calibrated = calibration(cost)
    target = target_for(calibrated, cost, 0.25)
    stream = STREAMS[name](np.random.default_rng(2), 5000, cost)
    assert running(FeedbackPrice(target, calibrated, cost), stream, cost)[-1] == pytest.approx(target, rel=0.01)


@pytest.mark.parametrize("name", ["as calibration", "harder", "easier", "bursts of 50", "two kinds in turn"])
def test_holding_the_mean_costs_little_of_what_hindsight_would_earn(name):
    cost = LADDERS["m3"]
    calibrated = calibration(cost)
    stream = STREAMS[name](np.random.default_rng(3), 3000, cost)
    price = FeedbackPrice(target_for(calibrated, cost, 0.25), calibrated, cost)
    arms = [price.choose(row, cost) for row in stream]
    best = allocate(stream, cost, Budget(mean=price.mean))
    rows, base = np.arange(len(stream)), stream[:, 0].mean()
    assert stream[rows, arms].mean() - base > 0.93 * (stream[rows, best].mean() - base)


@pytest.mark.parametrize("dear", [20.0, 50, 100])
def test_equal_questions_between_two_prices_take_turns(dear):
    cost, curve = np.array([1.0, dear]), np.array([[0.2, 0.8]])
    price = FeedbackPrice(16, curve, cost)
    spent = 500 * running(price, np.repeat(curve, 500, axis=0), cost)[-1]
    assert abs(spent - 500 * 16) < dear


@pytest.mark.parametrize("seed", range(8))
def test_no_stream_at_all_goes_2_percent_above_where_its_cheapest_arms_allow(seed):
    rng = np.random.default_rng(seed)
    cost = np.array([1.0, 10, 100, 1000])
    price = FeedbackPrice(20, calibration(cost, seed), cost)
    for count in range(1, 1500):
        curve = np.sort(rng.standard_normal(4)) * 10.0 ** rng.uniform(-8, 8)
        price.choose(curve, cost * rng.uniform(0.5, 2) if rng.random() < 0.5 else cost)
        assert price.total <= price.target * (count + 0.02 * max(500, count)) * (1 + 1e-12)


def test_what_cannot_be_spent_is_kept_for_harder_questions():
    cost = LADDERS["m3"]
    price = FeedbackPrice(36, calibration(cost), cost)
    for _ in range(300):
        assert price.choose(np.zeros(5), cost) == 0  # no arm is predicted to be better
    assert price.mean == 1
    hard = curves(np.random.default_rng(0), np.full(700, 6.0), cost)
    arms = [price.choose(row, cost) for row in hard]
    assert price.mean == pytest.approx(36, rel=0.03)
    assert cost[arms].mean() > 45


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_charges_are_corrected_to_what_was_spent(factor):
    cost = LADDERS["mqt"]
    calibrated, rng = calibration(cost), np.random.default_rng(4)
    price, spent = FeedbackPrice(16, calibrated, cost), []
    for row in STREAMS["harder"](rng, 1000, cost):
        spent.append(factor * rng.uniform(0.8, 1.2) * cost[price.choose(row, cost)])
        price.spent(spent[-1])
    assert np.mean(spent) == pytest.approx(price.mean)
    assert np.mean(spent) == pytest.approx(16, rel=0.03)
    assert np.mean(spent[:500]) == pytest.approx(16, rel=0.03)


def test_the_same_stream_gives_the_same_choices():
    cost = LADDERS["m3"]
    stream = STREAMS["two kinds in turn"](np.random.default_rng(5), 300, cost)
    first, second = (FeedbackPrice(36, calibration(cost), cost) for _ in range(2))
    assert [first.choose(row, cost) for row in stream] == [second.choose(row, cost) for row in stream]


@pytest.mark.parametrize("own_costs", [False, True])
def test_the_map_is_calibrations_mean_cost_at_every_price(own_costs):
    rng = np.random.default_rng(6)
    curve = rng.random((50, 5))
    cost = np.cumsum(rng.random((50, 5)) + 0.1, axis=1) if own_costs else LADDERS["m3"]
    price = FeedbackPrice(50, curve, cost)
    rows, costs = np.arange(50), np.broadcast_to(cost, curve.shape)
    assert price.prices[-1] == 0 and (np.diff(price.prices) < 0).all() and (np.diff(price.expected) >= 0).all()
    for at, mean in zip(price.prices, price.expected, strict=True):
        assert costs[rows, allocate(curve, cost, Budget(price=at))].mean() == pytest.approx(mean)


def test_the_first_price_is_the_one_that_meets_the_target_in_calibration():
    cost = LADDERS["mqt"]
    calibrated = calibration(cost)
    price = FeedbackPrice(16, calibrated, cost)
    assert math.isnan(price.mean)
    assert cost[allocate(calibrated, cost, Budget(price=price.price))].mean() == pytest.approx(16, rel=0.03)


def test_calibration_with_nothing_to_buy_still_serves_a_stream_that_has():
    cost = LADDERS["m3"]
    price = FeedbackPrice(36, np.zeros((3, 5)), cost)
    stream = STREAMS["harder"](np.random.default_rng(7), 500, cost)
    assert running(price, stream, cost)[-1] == pytest.approx(36, rel=0.03)


def test_unreachable_and_broken_targets_are_refused():
    cost = LADDERS["mqt"]
    with pytest.raises(BudgetError, match=r"cheapest arms, 2\.0, was: 1\.5; raise it"):
        FeedbackPrice(1.5, calibration(cost), cost)
    for target in (0, -1, math.nan, True, "16"):
        with pytest.raises(BudgetError, match="mean must be a positive, finite number, was: "):
            FeedbackPrice(target, calibration(cost), cost)


def test_broken_questions_change_nothing():
    cost = LADDERS["m3"]
    price = FeedbackPrice(36, calibration(cost), cost)
    before = price.expected.copy()
    for curve, costs in [(np.zeros(4), cost[:4]), (np.zeros((2, 5)), cost), (np.full(5, np.nan), cost), (cost, -cost)]:
        with pytest.raises(DataError):
            price.choose(curve, costs)
    assert price.count == 0 and (price.expected == before).all()


def test_spent_corrects_one_choice_once():
    cost = LADDERS["m3"]
    price = FeedbackPrice(36, calibration(cost), cost)
    with pytest.raises(BudgetError, match="call choose first"):
        price.spent(3)
    price.choose(np.zeros(5), cost)
    with pytest.raises(BudgetError, match="positive and finite, was: nan"):
        price.spent(math.nan)
    with pytest.raises(BudgetError, match="positive and finite, was: '3'"):
        price.spent("3")
    price.spent(3)
    assert price.total == 3
    with pytest.raises(BudgetError, match="call choose first"):
        price.spent(3)
