"""Evaluation worked by hand, its nulls at their places, and the fast bootstrap against a slow one."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from encoders.errors import DataError
from router.bench import Known
from router.evaluation import Fixed, Routed, evaluate, price_grid
from training_data.bootstrap import Resamples, interval
from training_data.curves import Curve, gap_recovered, hull, oracle_curve, slope_merge
from training_data.oracle import replicate_oracle


def routed(curve, score, cost, group=None, dataset=None, prefix="t"):
    curve = np.asarray(curve, float)
    group = np.arange(len(curve)) if group is None else group
    names = [f"{prefix}{one}" for one in group]
    return Routed(curve, np.asarray(score, float), np.asarray(cost, float), names, dataset or ["d"] * len(curve))


def world(n, seed=0, noise=0.0, prefix="t", jitter=0.2, picture=3):
    """Questions whose chances per arm are known; `curve` is these chances and noise. Three questions to a picture."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    seen = np.repeat(rng.normal(0, 0.7, n), picture)[:n]
    need = (kind + seen)[:, None]
    chance = 0.05 + 0.9 / (1 + np.exp(-3 * (np.arange(4) - need)))
    score = (rng.random((n, 4)) < chance).astype(float)
    cost = 2.0 ** np.arange(4) + jitter * rng.random((n, 1))
    curve = chance + noise * rng.normal(size=chance.shape)
    return routed(curve, score, cost, np.arange(n) // picture, kind.astype(str).tolist(), prefix)


def judged(test, calibration, resamples=20, **given):
    k = test.score.shape[1]
    options = {"arms": [f"a{arm}" for arm in range(k)], "full": k - 1} | given
    fixed = Fixed(calibration, **{name: options.pop(name) for name in Fixed._fields if name in options})
    return evaluate(test, fixed, resamples=resamples, **options)


def with_curve(rows, curve):
    return Routed(curve, rows.score, rows.cost, rows.group, rows.dataset)


def take(rows, order):
    return rows.select(np.asarray(order))


# By hand: arms at cost 1 and 4; the first question needs the second arm, the second either, the third neither ---------

SCORE = [[0, 1], [1, 1], [0, 0]]
CURVE = [[0.2, 0.5], [0.1, 0.7], [0.3, 0.2]]  # gains .3, .6 and -.1: the second question is bought for first


def hand(**given):
    rows = routed(CURVE, SCORE, [1, 4])
    return judged(rows, routed(CURVE, SCORE, [1, 4], prefix="c"), **given)


def test_three_questions_by_hand():
    assert price_grid(routed(CURVE, SCORE, [1, 4])) == pytest.approx([0.4, 0.15, 0])  # around slopes .2 and .1
    found = hand(at=[2.5, 0.5])
    assert found.curve.cost == pytest.approx([1, 1, 2, 3, 4])
    assert found.curve.score == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert (found.hull.cost.tolist(), found.hull.score) == ([1, 4], pytest.approx([1 / 3, 2 / 3]))
    assert (found.oracle.cost, found.oracle.score) == (pytest.approx([1, 2]), pytest.approx([1 / 3, 2 / 3]))
    assert found.oracle_full_charge.cost == pytest.approx([2, 3])  # the third always pays 4
    assert found.gap.c99 == pytest.approx(3.94)
    null = 2.94 * (1 / 3 + 0.66) / 2
    gained, available = 1 / 3 + 1 / 2 + 0.94 * 2 / 3 - null, 1 / 2 + 1.94 * 2 / 3 - null
    assert found.gap_recovered_linear.value == pytest.approx(gained / available)
    edges = np.geomspace(1, 3.94, 200_001)
    middle = np.sqrt(edges[1:] * edges[:-1])
    of_router = np.interp(middle, [1, 2, 3, 4], np.array([1, 1, 2, 2]) / 3)
    of_hull, of_oracle = np.interp(middle, [1, 4], [1 / 3, 2 / 3]), np.interp(middle, [1, 2], [1 / 3, 2 / 3])
    expected = (of_router - of_hull).sum() / (of_oracle - of_hull).sum()
    assert found.gap_recovered.value == found.gap.recovered == pytest.approx(expected, abs=1e-6)
    assert found.score_at_cost[2.5] == pytest.approx(1 / 2) and math.isnan(found.score_at_cost[0.5])
    half = found.at_share[0.5]
    assert (half.cost, half.router, half.hull, half.oracle) == pytest.approx((2, 1 / 3, 4 / 9, 2 / 3))
    assert math.isnan(found.at_share[0.1].router) and math.isnan(found.at_share[0.1].hull)


def test_savings_by_hand():
    kept = hand().savings[0.99]
    assert (kept.price, kept.cost, kept.score) == (0, pytest.approx(3), pytest.approx(2 / 3))
    assert (kept.kept.value, kept.against_full.value, kept.against_hull.value) == pytest.approx((1, 1 / 4, 1 / 4))
    assert kept.same_score.value == pytest.approx(1 - 2.98 / 3.94)  # where R and F have .66
    paid = hand(routing_cost=0.5).savings[0.99]
    assert (paid.cost, paid.against_full.value) == pytest.approx((3.5, 1 / 8))
    assert paid.same_score.value == pytest.approx(1 - 3.48 / 3.94)
    too_much = hand(routing_cost=1.5).savings[0.99]
    assert (too_much.price, too_much.cost, too_much.against_full.value) == (None, 4, 0)


def test_choices_are_counted_at_the_99_percent_price():
    rows = routed(
        np.tile([[0, 0.6]], (40, 1)) - [[0, 0.01]] * np.arange(40)[:, None], np.tile([[0, 1]], (40, 1)), [1, 4]
    )
    assert judged(rows, rows).choice_count == (0, 40)  # 38 upgrades keep 95 %
    found = hand()
    assert found.choice_count == (1, 2)
    assert found.choice_entropy == pytest.approx(-(np.log2(1 / 3) + 2 * np.log2(2 / 3)) / 3)
    assert (hand(routing_cost=1.5).choice_count, hand(routing_cost=1.5).choice_entropy) == ((0, 3), 0)


def test_the_cheapest_price_that_keeps_the_share_is_chosen():
    rows = routed([[0, 0.6], [0, 0.3], [0, -1]], [[0, 1], [1, 1], [1, 1]], [1, 4])  # the second upgrade buys nothing
    saving = judged(rows, rows).savings[1.0]
    assert (saving.price, saving.cost, saving.score) == (pytest.approx(0.15), 2, 1)


def test_brier_and_slope_by_hand():
    found = hand()
    assert found.brier == pytest.approx(sum([0.04, 0.25, 0.81, 0.09, 0.09, 0.04]) / 6)
    assert found.brier_identity == pytest.approx((2 / 9 + 2 / 9) / 2)
    assert found.brier_skill.value == pytest.approx(1 - found.brier / found.brier_identity)
    assert found.gain_slope.value == pytest.approx(np.polyfit([0.3, 0.6, -0.1], [1, 0, 0], 1)[0])


def test_the_price_of_a_saving_comes_from_calibration_alone():
    calibration = routed(CURVE, SCORE, [1, 4], prefix="c")
    lost = judged(routed(CURVE, [[0, 0], [0, 0], [0, 1]], [1, 4]), calibration).savings[0.99]
    assert (lost.price, lost.score, lost.kept.value) == (0, 0, 0)
    assert lost.same_score.value == pytest.approx(1 - 3.99 / 3.97)  # the two upgrades before the last buy nothing


def test_the_saving_at_the_same_score_is_read_off_the_curves_whatever_price_was_fixed():
    test = routed(CURVE, SCORE, [1, 4])
    prices = hand().savings[0.99].price, math.nan
    given = [judged(test, test, operating=price).savings[0.99] for price in prices]
    assert given[0].kept.value == given[1].kept.value == 1
    assert [one.against_hull.value for one in given] == pytest.approx([1 / 4, 0], abs=1e-9)
    assert given[0].same_score.value == given[1].same_score.value == pytest.approx(1 - 2.98 / 3.94)


def test_a_score_that_no_mixture_has_is_held_against_the_end_of_the_hull():
    score = [[1, 0], [0, 1], [0, 1]]
    rows = routed(score, score, [1, 4])
    saving = judged(rows, routed(score, score, [1, 4], prefix="c")).savings[1.0]
    assert saving.beyond_hull and saving.score == 1
    assert saving.against_hull.value == pytest.approx(1 - 3 / 4)  # F ends at 2 / 3 for 4
    assert not hand().savings[1.0].beyond_hull


def test_the_slope_has_an_intercept_per_pair_of_neighbours_in_cost():
    rows = world(90)
    swapped = Routed(
        *(values[:, [2, 0, 3, 1]] for values in (rows.curve, rows.score, rows.cost)), rows.group, rows.dataset
    )
    x, y = np.diff(rows.curve, axis=1).T, np.diff(rows.score, axis=1).T
    design = np.column_stack([x.ravel(), np.kron(np.eye(3), np.ones((90, 1)))])
    expected = np.linalg.lstsq(design, y.ravel(), rcond=None)[0][0]
    assert judged(rows, rows).gain_slope.value == pytest.approx(expected)
    assert judged(swapped, swapped).gain_slope.value == pytest.approx(expected)


# Nulls at their places ------------------------------------------------------------------------------------------------


def test_true_scores_as_predictions_follow_the_oracle_and_fall_to_full_behind_its_end():
    rows = world(300, jitter=0)
    found = judged(with_curve(rows, rows.score), with_curve(rows, rows.score))
    cost, score = rows.cost.mean(axis=0)[3], rows.score.mean(axis=0)[3]
    ended = Curve.through(np.append(found.oracle.cost, cost), np.append(found.oracle.score, score))
    assert found.gap_recovered.value == pytest.approx(gap_recovered(ended, found.hull, found.oracle).recovered)
    assert 0.95 < found.gap_recovered.value < 1
    solved = np.maximum(rows.score, [0, 0, 0, 1])  # full solves everything, so nothing falls
    best = Routed(solved, solved, rows.cost, rows.group, rows.dataset)
    assert judged(best, best).gap_recovered.value == pytest.approx(1, abs=1e-9)


def test_a_predictor_of_constants_recovers_nothing():
    rows = world(300, jitter=0)
    constant = with_curve(rows, np.tile(rows.score.mean(axis=0), (300, 1)))
    found = judged(constant, constant, resamples=100)
    assert found.gap_recovered.value == pytest.approx(0, abs=1e-9)
    assert found.gap_recovered.high < 1e-9  # a resample's hull may have other corners, never lower ones
    flat = with_curve(rows, np.zeros((300, 4)))
    line = judged(flat, flat)
    assert line.gap_recovered.value < -0.01 and line.curve.score[[0, -1]] == pytest.approx(rows.score.mean(0)[[0, 3]])


def test_a_shuffled_predictor_recovers_nothing():
    test, calibration = world(900, 1), world(900, 2, prefix="c")
    honest = judged(test, calibration)
    order = np.random.default_rng(0).permutation(900)
    shuffled = judged(with_curve(test, test.curve[order]), calibration, resamples=100)
    assert honest.gap_recovered.value > 0.2 and shuffled.gap_recovered.high < 0.05


def test_gains_as_large_as_predicted_have_slope_1():
    test, calibration = world(6000, 1), world(600, 2, prefix="c")
    found = judged(test, calibration, resamples=100)
    assert found.gain_slope.low < 1 < found.gain_slope.high and found.gain_slope.value == pytest.approx(1, abs=0.08)
    loud = with_curve(test, 0.5 + 2 * (test.curve - 0.5))
    assert judged(loud, calibration).gain_slope.value == pytest.approx(found.gain_slope.value / 2)


def test_paying_for_routing_lowers_the_gap_recovered():
    test, calibration = world(600, 1), world(600, 2, prefix="c")
    free, paid = judged(test, calibration), judged(test, calibration, routing_cost=0.3)
    assert paid.gap_recovered.value < free.gap_recovered.value - 0.01
    assert paid.savings[0.95].cost > free.savings[0.95].cost
    assert paid.hull.cost.tolist() == free.hull.cost.tolist()  # constants route nothing
    assert paid.gap_recovered_identity == free.gap_recovered_identity
    assert free.dropped == 0 < paid.dropped and paid.curve.cost[-1] == paid.arm_cost[-1]


def test_only_the_name_of_the_data_set_ties_with_identity():
    test, calibration = world(600, 1, jitter=0), world(600, 2, prefix="c", jitter=0)
    named = [
        with_curve(rows, Known.of(calibration.dataset, calibration.score, calibration.cost).means(rows.dataset)[0])
        for rows in (test, calibration)
    ]
    found = judged(*named)
    assert found.gap_recovered.value == pytest.approx(found.gap_recovered_identity.value)
    over = found.gap_recovered_over_identity
    assert [over.value, over.low, over.high] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found.brier_skill.value == pytest.approx(0)
    assert judged(test, calibration, resamples=100).gap_recovered_over_identity.low > 0


def test_an_unseen_data_set_is_given_the_mean_of_all():
    calibration = routed(CURVE, SCORE, [[1, 4], [2, 4], [3, 4]], dataset=["a", "b", "b"])
    score, cost = Known.of(calibration.dataset, calibration.score, calibration.cost).means(
        np.array(["b", "z", "a", "A"])
    )
    assert score == pytest.approx(np.array([[0.5, 0.5], [1 / 3, 2 / 3], [0, 1], [1 / 3, 2 / 3]]))
    assert cost[:, 0] == pytest.approx([2.5, 2, 1, 2])


# Prices and choices ---------------------------------------------------------------------------------------------------


def test_prices_run_from_the_cheapest_arms_to_nothing_in_even_ratios_of_cost():
    rows = world(2000, noise=0.1)
    prices = price_grid(rows, 16)
    cost = np.take_along_axis(rows.cost, rows.choice(prices), axis=1).mean(axis=0)
    assert len(prices) == 16 and (np.diff(prices) < 0).all() and prices[-1] == 0
    assert cost[0] == pytest.approx(rows.cost.min(axis=1).mean())
    assert np.diff(np.log2(cost)) == pytest.approx(np.full(15, np.log2(cost[-1] / cost[0]) / 15), abs=0.02)
    assert len(price_grid(take(rows, range(2)))) <= 7
    assert price_grid(with_curve(rows, np.zeros((2000, 4)))).tolist() == [0]
    with pytest.raises(DataError, match="two or more prices, was: 1"):
        price_grid(rows, 1)


def test_the_cheapest_arm_wins_ties_and_choices_equal_their_definition():
    rows = routed([[0.5, 0.5, 0.5], [0.25, 0.5, 0.75]], np.zeros((2, 3)), [[3, 1, 2], [1, 2, 3]])
    assert rows.choice(np.array([0.25, 0.125, 0.0])).tolist() == [[1, 1, 1], [0, 2, 2]]
    many, prices = world(50, noise=0.3), np.array([0.3, 0.1, 0.02, 0])
    value = many.curve[:, None] - prices[:, None] * many.cost[:, None]
    assert (many.choice(prices) == value.argmax(axis=2)).all()


# The bootstrap --------------------------------------------------------------------------------------------------------


def slow_figures(test, calibration, prices, full, routing_cost, weights):
    """G, G of identity and the figures beside them, from the house's plain pieces."""
    share = weights / weights.sum()
    fixed = hull(share @ test.cost, share @ test.score)
    end = share @ test.cost[:, full], share @ test.score[:, full]
    means = {name: calibration.select(calibration.dataset == name) for name in np.unique(calibration.dataset)}
    known = [np.array([getattr(means[name], of).mean(axis=0) for name in test.dataset]) for of in ("score", "cost")]

    def ended(points):
        inside = [(c, s) for c, s in points if fixed.cost[0] <= c <= end[0]]
        return Curve.through(*np.array([(fixed.cost[0], fixed.score[0]), *inside, end]).T)

    points = []
    for price in prices:
        arm = (test.curve - price * test.cost).argmax(axis=1)[:, None]
        own = (np.take_along_axis(values, arm, axis=1)[:, 0] for values in (test.cost, test.score))
        points.append([share @ values for values in own])
    router = ended((cost + routing_cost, score) for cost, score in points)
    by_name = slope_merge(*known).curve(test.score, test.cost, weights)
    oracle = slope_merge(test.score, test.cost).curve(test.score, test.cost, weights)
    gap = gap_recovered(router, fixed, oracle)
    name = gap_recovered(ended(zip(by_name.cost, by_name.score, strict=True)), fixed, oracle).recovered
    errors = [share @ ((one - test.score) ** 2).mean(axis=1) for one in (test.curve, known[0])]
    x, y = np.diff(test.curve, axis=1), np.diff(test.score, axis=1)
    x, y = x - share @ x, y - share @ y
    slope = (share @ (x * y)).sum() / (share @ (x * x)).sum()
    return [gap.recovered, gap.linear, gap.tail, name, gap.recovered - name, 1 - errors[0] / errors[1], slope]


def test_the_fast_bootstrap_equals_a_slow_one():
    test, calibration = world(60, 1, noise=0.2), world(60, 2, prefix="c")
    graded = with_curve(test, test.curve)
    object.__setattr__(graded, "score", test.score * np.random.default_rng(3).random(test.score.shape).round(1))
    prices = price_grid(calibration)
    for rows in (test, graded):
        found = judged(rows, calibration, resamples=50, routing_cost=0.05, seed=4)
        given = rows, calibration, prices, 3, 0.05
        drawn = np.array([slow_figures(*given, weights) for weights in Resamples(rows.group, 50, 4).weights()])
        names = "gap_recovered gap_recovered_linear gap_recovered_tail gap_recovered_identity "
        names += "gap_recovered_over_identity brier_skill gain_slope"
        for name, value, column in zip(names.split(), slow_figures(*given, np.ones(60)), drawn.T, strict=True):
            slow, fast = interval(value, column), getattr(found, name)
            assert [fast.value, fast.low, fast.high] == pytest.approx([slow.value, slow.low, slow.high], abs=1e-9)


def test_a_permutation_of_rows_changes_nothing():
    test, calibration = world(120, 1, noise=0.1), world(120, 2, prefix="c")
    order = np.random.default_rng(0).permutation(120)
    told = [
        judged(rows, others, at=[2.0]).to_json()
        for rows, others in ((test, calibration), (take(test, order), take(calibration, order[::-1])))
    ]
    for name, value in flat(told[0]).items():
        assert flat(told[1])[name] == (value if isinstance(value, str | None) else pytest.approx(value, abs=1e-9)), name


def flat(told, prefix=""):
    """Leaves of nested JSON by path."""
    if isinstance(told, dict | list):
        items = told.items() if isinstance(told, dict) else enumerate(told)
        return {path: leaf for key, inner in items for path, leaf in flat(inner, f"{prefix}/{key}").items()}
    return {prefix: told}


@pytest.mark.slow
def test_intervals_cover():
    calibration = world(900, 99, prefix="c")
    truth = judged(world(60_000, 98, noise=0.1), calibration, resamples=2)
    names, inside = ("gap_recovered", "gain_slope", "brier_skill"), np.zeros((30, 3))
    for draw in range(30):
        found = judged(world(300, draw, noise=0.1), calibration, resamples=200)
        for column, name in enumerate(names):
            own = getattr(found, name)
            inside[draw, column] = own.low <= getattr(truth, name).value <= own.high
    assert (inside.mean(axis=0) >= 0.8).all()


# Oracles apart --------------------------------------------------------------------------------------------------------


def test_replicates_serve_the_crossfitted_oracle_and_nothing_else():
    test, calibration = world(90, 1), world(90, 2, prefix="c")
    again = world(90, 1, jitter=0.2)
    other = np.random.default_rng(7).permutation(90)  # the other replicate scores as some other question
    object.__setattr__(again, "score", test.score[other])
    both = Routed(
        *(
            np.concatenate([getattr(test, of), getattr(again, of)])
            for of in ("curve", "score", "cost", "group", "dataset")
        )
    )
    ids, replicate = np.tile(np.arange(90).astype(str), 2), np.repeat([0, 1], 90)
    alone, beside = judged(test, calibration), judged(both, calibration, id=ids, replicate=replicate)
    assert alone.oracle_crossfit is None and math.isnan(alone.gap_recovered_crossfit)
    assert beside.gap_recovered == alone.gap_recovered and beside.rows == 90
    order = np.argsort(ids[:90])
    tables = (np.stack([one[:90][order], one[90:][order]], axis=1) for one in (both.score, both.cost))
    expected = replicate_oracle(*tables)
    assert beside.oracle_crossfit.score == pytest.approx(expected.score)
    assert beside.oracle_crossfit.score.max() < alone.oracle.score.max()
    few = judged(take(both, range(100)), calibration, id=ids[:100], replicate=replicate[:100])
    assert few.oracle_crossfit is not None and few.rows == 90


def test_the_oracle_charged_for_the_unsolved_is_joined_to_the_cheapest_arm():
    found = hand()  # F 1/3 at 1, 2/3 at 4; the charged oracle 1/3 at 2, 2/3 at 3, joined by a line from 1 to 3
    joined = Curve.through([1, 3], [1 / 3, 2 / 3])
    assert found.gap_recovered_full_charge == gap_recovered(found.curve, found.hull, joined).recovered
    rows = world(300, 1)
    assert judged(rows, rows).oracle_full_charge.cost == pytest.approx(
        oracle_curve(rows.score, rows.cost, "dearest").cost
    )


# Told -----------------------------------------------------------------------------------------------------------------


def test_json_has_the_agreed_keys_and_no_nan():
    told = json.loads(json.dumps(hand(at=[2, 2.5, 0.5, 0.00005]).to_json(), allow_nan=False))
    assert told["curve"][0] == pytest.approx([1, 1 / 3]) and told["hull"][-1] == pytest.approx([4, 2 / 3])
    assert told["oracle"][-1] == pytest.approx([2, 2 / 3]) and len(told["oracle_full_charge"]) == 2
    assert told["score_at_cost"] == {
        "2": pytest.approx(1 / 3),
        "2.5": pytest.approx(1 / 2),
        "0.5": None,
        "0.00005": None,
    }
    rows = world(60)
    found = judged(rows, rows).gap_recovered
    assert judged(rows, rows).to_json()["gap_recovered_interval"] == [found.low, found.high] and found.low < found.high
    assert isinstance(told["gap_recovered_linear"], float) and told["oracle_crossfit"] is None
    assert told["savings"]["99"]["against_full"] == pytest.approx(1 / 4)
    assert set(told["score_at_share_of_full_cost"]) == {"10", "25", "50"}
    assert told["savings"]["99"]["mean_visual_tokens"] is None
    spent = hand(m=np.array([4, 16])).savings[0.99]
    assert spent.tokens == pytest.approx((4 + 16 + 16) / 3)
    assert any(line.endswith(" 12") for line in str(hand(m=np.array([4, 16]))).splitlines())
    assert told["choice_count"] == {"a0": 1, "a1": 2} and told["rows"] == told["pictures"] == 3


def test_the_table_fits_a_screen_and_says_what_is_wrong():
    test, calibration = world(300, 1), world(300, 2, prefix="c")
    text = str(judged(test, calibration, at=[2], routing_cost=0.3))
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 120
    assert "nan" not in text and "WARNING" not in text and "points cost more than full" in text
    for word in ("gap recovered", "tflops", "Brier skill", "entropy", "slope", "full's cost saved", "hull", "oracle"):
        assert word in text
    assert "WARNING: 100 of the pictures" in str(judged(test, test))
    wide = routed(np.zeros((4, 30)), np.zeros((4, 30)), np.arange(1, 31))
    lines = str(judged(wide, wide)).splitlines()
    assert len(lines) <= 40 and "21 other arms, chosen for 0.0 % together" in lines
    assert any("undefined" in line for line in lines)  # nothing to recover where no arm ever scores


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"curve": np.zeros((3, 3))}, r"one per measured one|score per measured one \(3, 2\), was: \(3, 3\)"),
        ({"curve": np.full((3, 2), np.nan)}, "predicted scores must be finite, was: nan"),
        ({"score": np.full((3, 2), 2.0)}, r"scores must lie in \[0, 1\], was: 2.0"),
        ({"cost": np.zeros((3, 2))}, "costs must be positive, was: 0.0"),
        ({"group": ["a", "b"]}, r"one group each \(3\), was: shape \(2,\)"),
        ({"dataset": [["a"]] * 3}, r"one dataset each \(3\), was: shape \(3, 1\)"),
    ],
)
def test_broken_rows_are_refused(changed, rule):
    given = {"curve": CURVE, "score": SCORE, "cost": [1, 4], "group": list("abc"), "dataset": list("ddd")} | changed
    with pytest.raises(DataError, match=rule):
        Routed(**{name: np.asarray(value) for name, value in given.items()})


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"arms": ["a"]}, r"one column per arm \(1\), was: 2"),
        ({"arms": ["a", "a"]}, "different names, was: a, a"),
        ({"full": 2}, "one of 2 arms, counted from 0, was: 2"),
        ({"routing_cost": -1.0}, "at least 0, was: -1.0"),
        ({"at": [math.nan]}, "positive numbers, was: nan"),
        ({"prices": [0.1, -0.1]}, r"at least 0, was: \[0.1, -0.1\]"),
        ({"prices": []}, r"one or more finite numbers"),
        ({"replicate": [0, 0, 0]}, r"one of each per test row \(3\), was: 3 and None"),
        ({"replicate": [1, 1, 1], "id": list("abc")}, "replicate 0, was: 1 up"),
        ({"resamples": 1}, "two or more resamples, was: 1"),
    ],
)
def test_broken_requests_are_refused(changed, rule):
    rows = routed(CURVE, SCORE, [1, 4])
    with pytest.raises(DataError, match=rule):
        judged(rows, rows, **({"resamples": 5} | changed))


@pytest.mark.parametrize("operating", [None, math.nan, 0.15])
def test_prices_may_come_in_any_order_and_twice(operating):
    found = [hand(prices=prices, operating=operating) for prices in ([0.4, 0.15, 0], [0, 0.4, 0.15, 0.4])]
    assert found[0].prices == found[1].prices == 3
    assert found[0].to_json() == found[1].to_json()


def test_pictures_that_were_trained_on_are_counted_by_their_names():
    test, calibration = world(60, 1), world(60, 2, prefix="c")
    assert judged(test, calibration).shared_pictures == 0
    assert judged(test, calibration, trained=np.array(["t0", "t7", "elsewhere"])).shared_pictures == 2


def test_members_add_up_to_the_whole():
    test, calibration = world(600, 1, noise=0.2), world(600, 2, prefix="c")
    found = judged(test, calibration, routing_cost=0.05)
    rows = np.array([one.rows for one in found.members])
    assert rows.sum() == len(test) and [one.name for one in found.members] == sorted(set(test.dataset))
    saving = found.savings[0.99]
    assert rows @ [one.routed for one in found.members] / rows.sum() == pytest.approx(saving.score)
    full = test.cost[:, 3]
    spent = sum(one.rows * one.share * full[test.dataset == one.name].mean() for one in found.members)
    assert spent / rows.sum() == pytest.approx(saving.cost)
    assert all(one.best >= max(one.full, one.routed) for one in found.members)
    assert all(f"{one.name:<22}{one.rows:>7,}" in str(found) for one in found.members)


def test_one_data_set_has_no_members():
    test, calibration = (replace(world(60, seed), dataset=np.full(60, "only")) for seed in (1, 2))
    assert judged(test, calibration).members == ()


def test_a_mean_is_held_on_the_rows_its_price_was_fixed_on_and_nearly_on_others():
    test, calibration = world(600, 1, noise=0.2), world(600, 2, noise=0.2, prefix="c")
    own, other = judged(calibration, calibration), judged(test, calibration)
    assert own.adherence.keys() == other.adherence.keys() == set(own.arms[1:-1])
    assert all(0.9 < share <= 1 + 1e-9 for share in own.adherence.values())
    assert all(0.9 < share < 1.1 for share in other.adherence.values())
    assert "of the budget is spent" in str(other)


def test_two_arms_have_their_mean_half_way():
    test, calibration = (world(600, seed, noise=0.2, prefix=name) for seed, name in ((1, "t"), (2, "c")))
    two = [
        Routed(rows.curve[:, [0, 3]], rows.score[:, [0, 3]], rows.cost[:, [0, 3]], rows.group, rows.dataset)
        for rows in (test, calibration)
    ]
    found = judged(*two)
    assert list(found.adherence) == ["half-way"] and 0.8 < found.adherence["half-way"] < 1.2


def test_arms_are_told_apart_by_their_whole_names():
    rows = world(60, 1)
    names = [f"meta-llama/Llama-3-{size}B" for size in (1, 3, 8, 70)]
    told = str(judged(rows, rows, arms=names))
    assert all(f"\n{name} " in told for name in names)
