"""Every kind of budget becomes a price on pictures that were not fitted on, and the price keeps to it there."""

from dataclasses import fields, replace

import numpy as np
import pytest

from router import Budget, BudgetError, DataError, Router, fitting
from router.allocate import allocate, best_arms
from router.calibration import Calibration
from router.certificate import certify
from router.routed import Routed, price_grid

TYPICAL = np.array([1.0, 4.0, 16.0, 64.0])


@pytest.fixture(scope="module")
def make(router):
    """Calibration rows over four arms, measured as they were predicted unless told otherwise."""

    def build(curve, score=None, full=3, typical=TYPICAL):
        curve = np.asarray(curve, np.float64)
        rows = np.array([[str(row), "d0"] for row in range(len(curve))])
        return replace(
            router.calibration,
            curve=curve,
            score=np.clip(curve, 0, 1) if score is None else np.asarray(score, np.float64),
            cost=np.broadcast_to(typical, curve.shape).copy(),
            group=rows[:, 0],
            dataset=rows[:, 1],
            typical=np.asarray(typical, np.float64),
            full=full,
            prices=price_grid(Routed(curve, np.clip(curve, 0, 1), typical, *rows.T)),
        )

    return build


def random_curves(count, seed=0, arms=4):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(0.1, 0.15, (count, arms)), axis=1)


def spent(calibration, cost, price):
    return cost[allocate(calibration.curve, cost, Budget(price=price))].mean()


def reachable(curve, cost):
    """Every mean cost that one price for all rows can have, by trying one price between any two slopes."""
    gain = curve[:, None, :] - curve[:, :, None]
    extra = cost[None, :] - cost[:, None]
    slopes = np.unique(np.concatenate([[0.0], (gain[:, extra > 0] / extra[extra > 0]).ravel()]))
    slopes = slopes[slopes >= 0]
    prices = [0.0, *((slopes[1:] + slopes[:-1]) / 2), 2 * slopes[-1] + 1]
    return np.array([cost[best_arms(curve - price * cost, cost)].mean() for price in prices])


# ---- a mean


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cost", [TYPICAL, TYPICAL + 20, TYPICAL[[2, 0, 3, 1]]], ids=["plain", "flat", "shuffled"])
def test_a_mean_is_met_from_below_and_as_nearly_as_a_step_allows(make, seed, cost):
    calibration = make(random_curves(15, seed))
    can = reachable(calibration.curve, cost)
    for mean in [*np.linspace(cost.min(), cost.max(), 40), *can]:
        found = spent(calibration, cost, calibration.price_of_mean(mean, cost))
        assert found <= mean + 1e-9
        assert found == pytest.approx(can[can <= mean + 1e-12].max(), abs=1e-9)


def test_a_dearer_mean_never_has_the_dearer_price(make):
    calibration = make(random_curves(200))
    prices = [calibration.price_of_mean(mean, TYPICAL) for mean in np.linspace(1, 80, 200)]
    assert (np.diff(prices) <= 0).all() and prices[0] > 0 and prices[-1] == 0


def test_at_the_lower_end_every_row_takes_the_cheapest_arm(make):
    calibration = make(random_curves(50))
    price = calibration.price_of_mean(1.0, TYPICAL)
    assert spent(calibration, TYPICAL, price) == 1.0
    assert price > (calibration.curve[:, [1]] - calibration.curve[:, [0]]).max() / 3


def test_at_the_upper_end_every_row_takes_its_best_arm(make):
    calibration = make(random_curves(50))
    for mean in (64.0, 1e9):
        assert calibration.price_of_mean(mean, TYPICAL) == 0
    most = TYPICAL[calibration.curve.argmax(axis=1)].mean()
    assert calibration.price_of_mean(most * (1 + 1e-12), TYPICAL) == 0
    assert calibration.price_of_mean(most * (1 - 1e-8), TYPICAL) > 0


def test_a_mean_by_hand(make):
    """Two rows: one gains .3 by 3 tokens, then .3 by 12; the other .6 by 12."""
    calibration = make([[0.1, 0.4, 0.7, 0.7], [0.2, 0.2, 0.8, 0.8]])
    slopes = [0.1, 0.04, 0.025]  # to spend 2.5, 10, 16 on average
    for mean, price in ((1, 0.15), (2.49, 0.15), (2.5, 0.07), (9.9, 0.07), (10, 0.0325), (15.9, 0.0325), (16, 0.0)):
        assert calibration.price_of_mean(mean, TYPICAL) == pytest.approx(price), (mean, slopes)


def test_rows_that_are_alike_are_all_bought_or_none(make):
    calibration = make(np.tile([[0.1, 0.5, 0.5, 0.5]], (10, 1)))
    assert spent(calibration, TYPICAL, calibration.price_of_mean(3.99, TYPICAL)) == 1
    assert spent(calibration, TYPICAL, calibration.price_of_mean(4.0, TYPICAL)) == 4


@pytest.mark.parametrize("rows", [3, 7, 50, 80, 800])
def test_a_mean_that_is_an_arms_cost_buys_it_however_the_sum_is_rounded(make, rows):
    cost = np.array([0.002, 0.011, 0.03, 0.07])
    calibration = make(np.tile([[0.1, 0.3, 0.5, 0.6]], (rows, 1)))
    for arm, mean in enumerate(cost):
        assert spent(calibration, cost, calibration.price_of_mean(mean, cost)) == pytest.approx(cost[arm])


def test_where_nothing_is_gained_any_mean_buys_the_cheapest(make):
    calibration = make(np.tile([[0.5, 0.4, 0.3, 0.2]], (10, 1)))
    assert calibration.price_of_mean(1.0, TYPICAL) == calibration.price_of_mean(50.0, TYPICAL) == 0


@pytest.mark.parametrize("mean", [0.999999, 0.5, 1e-9])
def test_a_mean_below_the_cheapest_arm_is_refused(make, mean):
    with pytest.raises(BudgetError, match=r"a mean must reach the cheapest arm's cost, 1\.0, was:"):
        make(random_curves(10)).price_of_mean(mean, TYPICAL)


# ---- the operating point


def test_the_operating_price_keeps_99_percent_of_full_at_the_least_cost(train, monkeypatch):
    """Of every picture: calibration rows, and rows that were fitted on, predicted out of fold."""
    rows, real = [], fitting.keeping
    monkeypatch.setattr(fitting, "keeping", lambda *of: rows.append(of[0]) or real(*of))
    calibration = Router.fit(train).calibration
    score, cost = (column.mean(axis=0) for column in (rows[0].realised(calibration.prices)[k] for k in (2, 1)))
    enough = score >= 0.99 * rows[0].score[:, calibration.full].mean()
    place = calibration.prices.tolist().index(calibration.operating)
    assert len(rows[0]) == len(train) and np.array_equal(rows[0].curve[: len(calibration.curve)], calibration.curve)
    assert enough[place] and (cost[enough] >= cost[place]).all() and (~enough).sum() > 5


# ---- a promise


@pytest.mark.parametrize("kind", ["max_loss", "max_broken"])
def test_a_larger_promise_never_costs_more(router, kind):
    limits = [0.01, 0.05, 0.1, 0.2, 0.4, 0.8]
    found = [router.calibration.certificate(Budget(**{kind: limit})) for limit in limits]
    prices = [-1 if one.price is None else one.price for one in found]
    assert (np.diff(prices) >= 0).all() and prices[0] < prices[-1] and prices[-1] in router.calibration.prices
    assert (np.diff([one.saving for one in found]) >= 0).all()
    assert all(one.observed <= one.limit for one in found)
    assert found[-1].pictures == len(set(router.calibration.group.tolist()))


def test_a_certificate_goes_from_full_downwards(make):
    """Here the dearest price loses nothing and the cheapest all: the sequence must end before it begins."""
    curve = np.tile([[0.3, 0.4, 0.5, 0.9]], (400, 1)) - 1e-3 * random_curves(400)
    worse = make(curve, score=np.tile([[1.0, 0.0, 0.0, 0.0]], (400, 1)), full=0)
    assert worse.certificate(Budget(max_loss=0.1)).price is None
    fine = make(curve, score=np.tile([[1.0, 1.0, 1.0, 1.0]], (400, 1)))
    assert fine.certificate(Budget(max_loss=0.1)).price == fine.prices[0]


def test_where_full_is_not_the_dearest_arm_no_price_costs_more_than_it(train):
    """Arm 64 is the best for some and the worse on average: at price 0 more would be spent than on full for all."""
    score = train.score.copy()
    score[:, 3] = np.where(np.arange(len(train)) % 3 == 0, 1 - score[:, 2], score[:, 2] * (train.dataset != "d0"))
    router = Router.fit(replace(train, score=score))
    calibration = router.calibration
    paid = calibration.routed().realised(calibration.prices).cost.mean(axis=0)
    assert router.arms[calibration.full] == "16" and len(calibration.prices) > 5 and calibration.prices[-1] > 0
    assert paid.max() <= 1.1 * calibration.typical[2] < calibration.typical[3]  # these are 120 other pictures
    assert calibration.certificate(Budget(max_broken=0.3)).saving > 0


def test_a_certificate_is_that_of_the_choices_at_its_prices(router):
    calibration, budget = router.calibration, Budget(max_loss=0.1)
    prices = calibration.prices[::-1]
    choice = np.stack([allocate(calibration.curve, calibration.typical, Budget(price=p)) for p in prices], axis=1)
    parts = calibration.score, calibration.cost, choice, prices, calibration.full, calibration.group
    assert calibration.certificate(budget) == certify(*parts, max_loss=0.1)
    assert calibration.certificate(budget, alpha=0.01) == certify(*parts, max_loss=0.1, alpha=0.01)


# ---- arrays


def test_it_comes_back_from_its_arrays(router):
    calibration = router.calibration
    arrays = calibration.arrays()
    assert all(array.dtype.kind in "if" for array in arrays.values())
    again = Calibration.from_arrays(arrays, calibration.sources.tolist())
    for field in fields(Calibration):
        assert np.array_equal(getattr(again, field.name), getattr(calibration, field.name)), field.name
    assert again.certificate(Budget(max_loss=0.1)) == calibration.certificate(Budget(max_loss=0.1))


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "a curve that is NaN": ("curve", lambda a: np.where(a == a[3, 1], np.nan, a)),
        "curves of fewer rows": ("curve", lambda a: a[1:]),
        "curves of fewer arms": ("curve", lambda a: a[:, 1:]),
        "a score above 1": ("score", lambda a: a + 1),
        "scores in one row": ("score", lambda a: a.ravel()),
        "a cost of 0": ("cost", lambda a: a * 0),
        "a cost without end": ("cost", lambda a: a + np.inf),
        "costs of other rows": ("cost", lambda a: a[:-1]),
        "too few pictures": ("group", lambda a: a[:-1]),
        "too few data sets": ("dataset", lambda a: a[:-1]),
        "a data set of no name": ("dataset", lambda a: a + 3),
        "a data set below 0": ("dataset", lambda a: a - 1),
        "a data set between two": ("dataset", lambda a: a + 0.5),
        "a typical cost of 0": ("typical", lambda a: a * 0),
        "a typical cost that is NaN": ("typical", lambda a: a * np.nan),
        "typical costs of fewer arms": ("typical", lambda a: a[1:]),
        "typical costs of rows": ("typical", lambda a: np.tile(a, (2, 1))),
        "full above the arms": ("full", lambda a: a + 9),
        "full below the arms": ("full", lambda a: a - 9),
        "full between arms": ("full", lambda a: a + 0.5),
        "full without end": ("full", lambda a: a * np.inf),
        "two fulls": ("full", lambda a: np.array([a, a])),
        "no full": ("full", lambda a: np.zeros(0, np.int64)),
        "prices that rise": ("prices", lambda a: a[::-1]),
        "a price that is NaN": ("prices", lambda a: a[:1] * np.nan),
        "a price without end": ("prices", lambda a: np.append(np.inf, a)),
        "a negative price": ("prices", lambda a: a - 1e-9),
        "no prices": ("prices", lambda a: a[:0]),
        "more prices than memory": ("prices", lambda a: np.zeros(1001)),
        "a table of prices": ("prices", lambda a: a[None]),
        "a negative operating price": ("operating", lambda a: -1 - abs(a)),
        "an operating price without end": ("operating", lambda a: a + np.inf),
        "keys that are real": ("trained", lambda a: a.astype(np.float64)),
        "a table of keys": ("trained", lambda a: a[None]),
        "fewer data sets than names": ("source_score", lambda a: a[1:]),
        "costs of fewer data sets": ("source_cost", lambda a: a[1:]),
        "a data set's score that is NaN": ("source_score", lambda a: a * np.nan),
        "a data set's cost of 0": ("source_cost", lambda a: a * 0),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_break_a_rule_are_refused(router, name, change):
    array, changed = change
    arrays = router.calibration.arrays()
    with pytest.raises(DataError, match=r"calibration|routed rows|scores|costs|a row needs|prices"):
        Calibration.from_arrays(arrays | {array: changed(arrays[array])}, router.calibration.sources.tolist())


def test_a_missing_array_is_named(router):
    arrays = router.calibration.arrays()
    for name in arrays:
        left = {key: value for key, value in arrays.items() if key != name}
        with pytest.raises(DataError, match=rf"missing: \['{name}'\]"):
            Calibration.from_arrays(left, router.calibration.sources.tolist())
    with pytest.raises(DataError, match="must name one of 0 data sets"):
        Calibration.from_arrays(arrays, [])
