"""A fitted router earns what can be earned, keeps to budgets, and refuses what it was not fitted for."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import M, make_outcomes, make_worded
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from router import Budget, BudgetError, DataError, Router, answer_batch
from router.card import card
from router.columns import GROUPS
from router.evaluation import evaluate
from router.fitting import worth_reading
from router.routed import price_grid
from training_data.outcomes import Features, Outcomes


@pytest.fixture(scope="module")
def curve(router, test):
    return router.curves(test.question.tolist(), test.features)


def spent(router, arms):
    return router.calibration.typical[arms]


def with_bands(pictures, tflops):
    """Outcomes with one more column, which costs something."""
    outcomes = make_outcomes(pictures)
    own = outcomes.features
    values = np.concatenate([own.values, own.values[:, :1]], axis=1)
    return replace(outcomes, features=replace(own, names=(*own.names, "bands_4"), values=values, tflops=tflops))


@pytest.mark.parametrize(
    ("unit", "told", "read"),
    [
        ("tflops", {"bands": 0.0}, True),
        ("tflops", {"bands": 2.4e-5}, True),  # of an answer of 0.024
        ("tflops", {"bands": 2.6e-5}, False),
        ("tflops", {}, False),  # nobody knows what it costs
        ("tokens", {"bands": 0.0}, False),
    ],
)
def test_what_each_rung_adds_is_read_where_that_is_nearly_free(unit, told, read):
    outcomes = with_bands(20, told)
    outcomes = replace(outcomes, unit=unit, cost=outcomes.cost * 0.025 / outcomes.cost[:, :1])
    assert ("bands" in worth_reading(outcomes)) == read


def test_a_router_reads_what_is_worth_reading():
    outcomes = with_bands(300, {"bands": 1e-9})
    assert "bands_4" in Router.fit(outcomes).columns.visual
    assert "bands_4" not in Router.fit(outcomes, groups=GROUPS).columns.visual


def test_it_recovers_most_of_what_a_need_that_is_seen_allows(router, test):
    found = router.evaluate(test, resamples=200)
    assert found.gap_recovered.low > 0.3
    assert found.gap_recovered_over_identity.low > 0.1
    assert found.savings[0.99].against_hull.value > 0.1
    assert found.brier_skill.low > 0.1
    assert 0.8 < found.gain_slope.value < 1.2
    assert found.shared_pictures == 0


def test_what_is_said_to_be_kept_is_kept_by_the_price_that_is_taken_without_a_budget(router, test):
    """README once told what another price kept, found on the held pictures alone."""
    rows = router.routed(test)
    told = router.evaluate(test, resamples=50).savings[0.99]
    arms = router.choose(rows.curve).arms
    assert told.price == router.operating_price
    assert told.score == pytest.approx(rows.score[np.arange(len(arms)), arms].mean())
    fixed = router.fixed._replace(prices=[1e-9])
    given = evaluate(rows, fixed, resamples=5).savings
    assert given[0.99].price == told.price  # though it is none of the prices of R
    nobody = evaluate(rows, fixed._replace(operating=np.nan), resamples=5).savings
    assert nobody[0.99].price is None and nobody[0.99].kept.value == 1


def test_a_table_of_questions_alone_earns_more_than_tf_idf_and_logistic_regression():
    """The usual recipe for text, fitted on all pictures, where the router keeps a tenth of them for its prices."""
    train, test = make_worded(1500, seed=1), make_worded(2000, seed=2)
    router = Router.fit(train)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    matrix, asked = vectorizer.fit_transform(train.question), vectorizer.transform(test.question)
    chances = [
        LogisticRegression(max_iter=500).fit(matrix, right).predict_proba(asked)[:, 1] for right in train.score.T
    ]
    own = router.routed(test)
    rival = replace(own, curve=np.stack(chances, axis=1))

    def linear(rows):
        fixed = router.fixed._replace(prices=price_grid(rows), operating=None)
        return evaluate(rows, fixed, resamples=2).gap_recovered_linear.value

    assert linear(own) > linear(rival) > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_labels_recover_nothing(train, test, seed):
    order = np.random.default_rng(seed).permutation(len(train))
    shuffled = replace(train, score=train.score[order], gold_logprob=train.gold_logprob[order])
    found = Router.fit(shuffled).evaluate(test, resamples=200)
    assert found.gap_recovered.low <= 0 <= found.gap_recovered.high + 0.005
    assert abs(found.gap_recovered.value) < 0.05


def test_who_gains_nothing_by_looking_does_not_look(train, test):
    """What is not believed treats all alike, and does not pay for pictures that change nothing."""
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = replace(train, score=train.score[order], gold_logprob=train.gold_logprob[order])
    costly = replace(shuffled.features, tflops={"pixels": 0.001})
    router = Router.fit(replace(shuffled, features=costly))
    assert "could be luck" in card(router) and "could be luck" not in card(Router.fit(train))
    assert not router.facts["believed"] and router.features is None and router.routing_cost == 0
    curve = router.curves(test.question.tolist())
    assert np.ptp(curve, axis=0).max() < 1e-12
    assert Router.fit(replace(train, features=replace(train.features, tflops={"pixels": 0.001}))).routing_cost == 0.001


def test_costs_may_be_lists(router, curve):
    told = router.choose(curve, Budget(mean=6), costs=lambda unit: list(map(float, M)))
    assert (told.arms == router.choose(curve, Budget(mean=6)).arms).all()


def test_a_card_takes_names_for_text_alone(test):
    named = replace(test, arms=("<img src=x>", "a|b", "[c](d)", "`e`"), m=None)
    told = card(Router.fit(named))
    assert not any(sign in told for sign in ("<img", "a|b", "[c]", "`e`"))
    assert "&#60;img src=x>" in told and "| a&#124;b |" in told


def test_no_order_of_the_rows_is_another_router(test):
    moved = test.select(np.random.default_rng(3).permutation(len(test)))
    one, other = (Router.fit(rows) for rows in (test, moved))
    asked = test.question.tolist()[:200]
    features = test.select(range(200)).features
    assert np.array_equal(one.curves(asked, features), other.curves(asked, features))
    assert one.operating_price == other.operating_price


def test_calibration_pictures_are_never_fitted_on(train, router):
    """Labels of calibration pictures do not move the readout by a bit."""
    held = train.split((0.8, 0.2), seed=71)[1]
    touched = np.isin(train.id, held.id)
    changed = replace(train, score=np.where(touched[:, None], 1 - train.score, train.score))
    again = Router.fit(changed)
    rows = router._rows(train.question.tolist(), train.features)
    assert np.array_equal(again.readout(rows), router.readout(rows))
    assert set(held.group) & set(train.select(~touched).group) == set()


@pytest.mark.parametrize("cap", [1, 3, 4, 20, 64, 1000])
def test_a_cap_is_never_exceeded(router, curve, cap):
    arms, *_ = router.choose(curve, Budget(cap), router.arm_cost)
    assert np.array(M)[arms].max() <= cap


def test_a_cap_is_not_spent_for_nothing(router, curve):
    arms, *_ = router.choose(curve, Budget(64), router.arm_cost)
    assert np.array(M)[arms].mean() < 60


@pytest.mark.parametrize("budgets", [[Budget(c) for c in (1, 4, 16, 64)], [Budget(mean=c) for c in (2, 5, 20, 60)]])
def test_a_dearer_budget_never_lowers_the_predicted_score(router, curve, budgets):
    rows = np.arange(len(curve))
    value = []
    for budget in budgets:
        arms, *_ = router.choose(curve, budget, router.arm_cost, range(len(curve)))
        charge = 0 if budget.mean else router.operating_price * spent(router, arms)
        value.append((curve[rows, arms] - charge).sum())
    assert (np.diff(value) >= -1e-9).all()


@pytest.mark.parametrize("mean", [1.5, 3.0, 10.0, 40.0])
def test_a_batch_mean_is_met_from_below(router, curve, mean):
    arms, *_ = router.choose(curve, Budget(mean=mean), router.arm_cost, range(len(curve)))
    tokens = np.array(M)[arms]
    assert tokens.mean() <= mean
    assert tokens.mean() > mean - 64 / len(curve) or (curve.max(axis=1) == curve[np.arange(len(curve)), arms]).all()


def test_for_one_question_a_mean_is_the_price_that_met_it_in_calibration(router):
    arms, price, unit, _ = router.choose(router.calibration.curve, Budget(mean=16), router.arm_cost)
    assert unit == "tokens" and price > 0
    assert 14 < np.array(M)[arms].mean() <= 16.001


def test_a_batch_mean_holds_for_the_costs_that_are_given(router, curve):
    """In the router's own unit too: what a question costs somebody else need not be what it cost in training."""
    own = np.array(M)[None] * np.random.default_rng(0).uniform(0.5, 4, (len(curve), 1))
    limit = Budget(mean=30, unit=router.unit)
    arms, price, unit, _ = router.choose(curve, limit, lambda unit: own, range(len(curve)))
    spent_here = own[np.arange(len(curve)), arms].mean()
    assert 29 < spent_here <= 30 and unit == router.unit and price > 0
    alone, *_ = router.choose(curve, Budget(price=0.01, unit=router.unit), lambda unit: own)
    assert np.array_equal(alone, (curve - 0.01 * own).argmax(axis=1))


def test_the_price_of_a_shared_mean_is_what_the_first_step_left_out_would_have_earned(router, curve):
    rows = np.arange(len(curve))
    arms, price, *_ = router.choose(curve, Budget(mean=9), router.arm_cost, rows)
    tokens = np.array(M, float)
    value = curve - price * tokens
    assert (value[rows, arms] >= value.max(axis=1) - 1e-9).all()  # at this price nobody would rather have another arm
    assert router.choose(curve, Budget(mean=64), router.arm_cost, rows).price == 0


def test_an_int_is_a_cap_in_tokens_everywhere(router, curve):
    assert np.array_equal(router.choose(curve, 16).arms, router.choose(curve, Budget(16)).arms)
    with pytest.raises(BudgetError, match=r"was: 1\.5"):
        router.choose(curve, 1.5)
    for odd in (None, 64, 0.01, Budget(mean=16)):
        with pytest.raises(BudgetError, match=r"a certificate stands behind a loss, was: .*; write Budget\(max_loss="):
            router.certificate(odd)


def test_one_text_is_not_taken_for_many(router):
    with pytest.raises(DataError, match=r"a list of texts, was: 'what is it'; write \[question\]"):
        router.curves("what is it")


def test_permuting_a_batch_permutes_its_arms(router, curve, test):
    order = np.random.default_rng(0).permutation(len(curve))
    for budget in (None, Budget(16), Budget(mean=9), Budget(price=3.0)):
        arms, *_ = router.choose(curve, budget, router.arm_cost, test.id.tolist())
        moved, *_ = router.choose(curve[order], budget, router.arm_cost, test.id[order].tolist())
        assert np.array_equal(arms[order], moved)


def test_a_question_alone_gets_the_arm_it_gets_in_a_batch(router, test, curve):
    for budget in (None, Budget(16), Budget(price=3.0), Budget(max_loss=0.05)):
        arms, *_ = router.choose(curve, budget, router.arm_cost)
        for row in (0, 17, 300):
            one = router.curves([test.question[row]], test.features.take(np.array([row])))
            assert router.choose(one, budget, router.arm_cost)[0][0] == arms[row]


def test_a_promise_becomes_the_price_it_was_certified_at(router, curve):
    found = router.certificate(Budget(max_loss=0.1))
    arms, price, _, reason = router.choose(curve, Budget(max_loss=0.1), router.arm_cost)
    assert found.price is not None and price == found.price and "90 % confidence" in reason
    assert spent(router, arms).mean() < router.calibration.typical[router.calibration.full]


def test_a_promise_that_needs_more_pictures_uses_full_and_says_how_many(router, curve):
    arms, price, _, reason = router.choose(curve, Budget(max_broken=0.001), router.arm_cost)
    assert price is None and (arms == router.calibration.full).all() and "It takes 2302 pictures" in reason


def test_the_operating_point_keeps_nearly_all_of_fulls_score(router, test, curve):
    arms, *_ = router.choose(curve, None, router.arm_cost)
    score = test.score[np.arange(len(test)), arms].mean()
    assert score > 0.97 * test.score[:, router.calibration.full].mean()
    assert spent(router, arms).mean() < 0.9 * router.calibration.typical[-1]


def test_a_table_is_routed_without_a_backbone_or_a_word_on_costs(router, test, curve):
    arms, *_ = router.choose(curve)
    assert (arms == router.choose(curve, None, router.arm_cost).arms).all()
    assert (router.choose(curve, Budget(16)).arms == router.choose(curve, Budget(16), router.arm_cost).arms).all()


def test_a_cap_may_be_larger_than_any_float(router, curve):
    arms, *_ = router.choose(curve, Budget(10**400))
    assert (arms == router.choose(curve, Budget(10**300)).arms).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2.7}, "a seed must be a whole number from 0 to 4294967295, was: 2.7"),
        ({"seed": True}, "a seed must be a whole number from 0 to 4294967295, was: True"),
        ({"seed": -1}, "a seed must be a whole number from 0 to 4294967295, was: -1"),
        ({"seed": 2**32}, "a seed must be a whole number from 0 to 4294967295, was: 4294967296"),
        ({"head": "x"}, "head must be 'gain' or 'ordinal', was: 'x'"),
        ({"routing_cost": float("nan")}, "routing_cost must be a finite number, at least 0, was: nan"),
        ({"routing_cost": -1.0}, "routing_cost must be a finite number, at least 0, was: -1"),
    ],
)
def test_odd_options_of_a_fit_are_refused(test, options, message):
    with pytest.raises(DataError, match=message):
        Router.fit(test, **options)


def test_a_seed_may_be_numpys(test):
    seed = Router.fit(test, groups=("words",), seed=np.int64(3)).facts["seed"]
    assert seed == 3 and type(seed) is int


def test_reasons_add_up_to_what_tells_two_questions_apart(router, test, curve):
    rows = router._rows(test.question.tolist(), test.features)
    one, other = (sum(gain for _, gain in router.reasons(rows[row], 3, 0)) for row in (0, 1))
    gains = curve[:2, 3] - curve[:2, 0]
    assert one - other == pytest.approx(gains[0] - gains[1], abs=1e-4)
    assert {group for group, _ in router.reasons(rows[0], 3, 0)} == {"pixels", "patches", "words", "text"}


def test_features_are_found_by_name_in_whatever_order(router, test, curve):
    order = [2, 0, 1]
    moved = Features(
        test.features.version, tuple(test.features.names[k] for k in order), test.features.values[:, order]
    )
    assert np.array_equal(router.curves(test.question.tolist(), moved), curve)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o.take_arms([0, 1, 2]), "chooses among '1', '4', '16', '64', was: outcomes without '64'"),
        (lambda o: replace(o, unit="tokens"), "counts in 'tflops', was: outcomes in 'tokens'"),
        (lambda o: replace(o, features=None), "reads 3 visual features, was: no visual features"),
        (lambda o: replace(o, features=Features(99, o.features.names, o.features.values)), "version 99"),
        (
            lambda o: replace(o, features=Features(o.features.version, ("a_1", "b", "c"), o.features.values)),
            "without pixels_busy",
        ),
    ],
)
def test_outcomes_of_something_else_are_refused_by_name(router, test, change, message):
    with pytest.raises(DataError, match=message):
        router.evaluate(change(test))


def test_another_backbones_outcomes_are_refused_by_name():
    own, other = (make_outcomes(120, backbone=("nano", mark * 64)) for mark in "ab")
    with pytest.raises(DataError, match=r"fitted on nano \(aaaaaaaa\), was: nano \(bbbbbbbb\)"):
        Router.fit(own).evaluate(other)


def test_too_few_pictures_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match="needs 100 pictures or more, was: 30"):
        Router.fit(make_outcomes(30))


def test_a_stream_keeps_its_mean(router, curve):
    price = router.stream(Budget(mean=12))
    arms = [price.choose(row, router.arm_cost("tokens")) for row in np.tile(curve, (2, 1))]
    assert np.array(M)[arms[:800]].mean() == pytest.approx(12, rel=0.03)
    with pytest.raises(BudgetError, match="a stream holds a mean"):
        router.stream(Budget(16))


def test_arms_without_tokens_are_routed_by_their_own_cost():
    """Two text models with dollars as cost, a table without pictures."""
    table = make_outcomes(400, features=False)
    two = replace(table.take_arms([0, 3]), arms=("small", "large"), m=None, unit="dollars")
    router = Router.fit(two)
    half = Budget(mean=float(router.arm_cost("dollars").mean()), unit="dollars")
    arms, _, unit, _ = router.choose(router.curves(two.question.tolist()), half, router.arm_cost)
    assert unit == "dollars" and 0 < arms.mean() < 1
    with pytest.raises(BudgetError, match="counted in dollars, was: tokens"):
        router.choose(router.calibration.curve, Budget(mean=3), router.arm_cost)
    assert router.evaluate(replace(two, id=two.id), resamples=50).gap_recovered.value > 0


def test_the_ordinal_head_is_a_router_too(train, test):
    assert Router.fit(train, head="ordinal").evaluate(test, resamples=100).gap_recovered.low > 0.3


def complementary(cost, pictures=600, seed=0):
    """Two arms, each right on its own kind of question, the first a little more often: none is worth more for all."""
    rng = np.random.default_rng(seed)
    own = rng.random(pictures) < 0.6
    question = [f"{'sum of' if first else 'capital of'} item {rng.integers(90)}" for first in own]
    right = rng.random((pictures, 2)) < np.where(np.stack([own, ~own], axis=1), 0.95, 0.1)
    name = [str(number) for number in range(pictures)]
    return Outcomes(
        id=name,
        group=name,
        replicate=np.zeros(pictures, int),
        dataset=["all"] * pictures,
        question=question,
        arms=("small", "other"),
        unit="dollars",
        score=right.astype(float),
        cost=np.tile(cost, (pictures, 1)),
    )


@pytest.mark.parametrize("cost", [(1.0, 1.0), (1.0, 1.3)])
def test_arms_that_complement_each_other_are_routed_where_the_cheapest_is_nearly_the_best(cost):
    """No area to recover between the cheapest arm and 99 % of the best is not luck: the slope of gains says so."""
    train, test = complementary(cost), complementary(cost, seed=1)
    router = Router.fit(train)
    assert router.facts["out_of_fold_gap"] is None and router.facts["believed"]
    assert "slope of" in card(router) and "could be luck" not in card(router)
    arms = router.choose(router.curves(test.question.tolist()), Budget(price=0)).arms
    assert test.score[range(len(test)), arms].mean() > 0.9 > test.score.mean(axis=0).max() + 0.2
    order = np.random.default_rng(5).permutation(len(train))
    assert not Router.fit(replace(train, score=train.score[order])).facts["believed"]


def test_at_equal_costs_nothing_asked_for_is_the_better_arm_for_each_question():
    train, test = complementary((1.0, 1.0)), complementary((1.0, 1.0), seed=1)
    router = Router.fit(train)
    arms = router.choose(router.curves(test.question.tolist())).arms
    assert test.score[range(len(test)), arms].mean() > 0.9
    found = router.evaluate(test, at=(1.0,), resamples=50)
    assert found.score_at_cost[1.0] > 0.9


def test_a_mean_in_the_routers_own_unit_has_one_price_however_costs_vary_by_row():
    """One dear question refused the whole call: each was priced as if all were as dear as itself."""
    train = complementary((1.0, 4.0))
    router = Router.fit(train)
    curve = router.curves(train.question.tolist())
    dear = np.exp(np.random.default_rng(0).normal(0, 0.5, (len(train), 1)))
    table = router.calibration.typical * dear / dear.mean()
    choice = router.choose(curve, Budget(mean=2, unit="dollars"), lambda unit: table)
    assert (table[:, 0] > 2).any() and choice.price is not None
    assert 1.2 < table[range(len(train)), choice.arms].mean() < 2.4


@pytest.mark.parametrize("wrong", [None, 7, float("nan")])
def test_questions_must_be_texts(router, wrong):
    with pytest.raises(DataError, match="every question must be a text, was: "):
        router.curves(["what is it", wrong])


@pytest.mark.parametrize("kind", ["cap", "mean"])
def test_a_budget_of_an_arms_own_price_buys_it(kind):
    """The mean of 800 times .3 is .30000000000000027, and a cap of .3 reached no question's cheapest arm."""
    table = make_outcomes(400, features=False)
    two = replace(table.take_arms([0, 3]), arms=("small", "large"), m=None, unit="dollars")
    two = replace(two, cost=np.tile([0.3, 0.9], (len(two), 1)))
    router = Router.fit(two)
    assert router.arm_cost("dollars").tolist() == [0.3, 0.9]
    curve = router.curves(["kind one 1"])
    for price, arm in ((0.3, 0), (0.9, 1)):
        arms, *_ = router.choose(curve, Budget(**{kind: price}, unit="dollars"), router.arm_cost, ["q"])
        assert arms.tolist() == [arm]


def test_curves_are_looked_at_whatever_the_budget(router, curve):
    for budget in (None, Budget(16), Budget(price=1.0), Budget(max_loss=0.05)):
        with pytest.raises(DataError, match="must be finite"):
            router.choose(np.full((2, len(M)), np.nan), budget)
        with pytest.raises(DataError, match=r"curves must be \(n, k\)"):
            router.choose(curve[0], budget)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda router, test: router.curves(["q"], np.zeros((1, 3))), "must be Features, with names and version"),
        (lambda router, test: router.evaluate(test, at=5), r"a list of numbers, was: 5; write \[cost\]"),
        (lambda router, test: router.evaluate(test, at=["x"]), "must be positive numbers, was: 'x'"),
        (lambda router, test: router.evaluate(test, resamples="a"), "two or more resamples, was: 'a'"),
        (lambda router, test: router.evaluate(test, resamples=True), "two or more resamples, was: True"),
        (lambda router, test: router.evaluate(test, seed=-1), "a whole number from 0 on, was: -1"),
        (lambda router, test: Router.fit(test, routing_cost="a"), "a finite number, at least 0, was: 'a'"),
        (lambda router, test: router.choose([["a", "b"]], Budget(16)), "must be arrays of numbers"),
        (lambda router, test: router.curves(None), r"a list of texts, was: None; write \[question\]"),
        (lambda router, test: router.curves({"a", "b"}), "must be a list of texts, was: {"),
        (lambda router, test: router.choose(np.ones((2, 4)), Budget(16), ids=5), "name each of the 2 rows, was: 5"),
        (lambda router, test: router.choose(np.ones((2, 4)), Budget(16), ids=["a"]), "name each of the 2 rows, was: "),
        (lambda router, test: Router.fit(test, groups=5), "groups must be a list of names, was: 5"),
        (lambda router, test: Router.fit(test, groups="text"), "groups must be a list of names, was: 'text'"),
        (
            lambda router, test: router.choose(np.ones((2, len(M))), Budget(mean=16), np.ones(len(M))),
            "costs must be a function of a unit, was: array",
        ),
        (lambda router, test: Router.fit("x" * 5000), "an outcomes file must be readable, was: 'x"),
        (lambda router, test: Router.fit(5), "outcomes are read from a file, was: int; give its path"),
        (lambda router, test: router.evaluate(None), "outcomes are read from a file, was: NoneType"),
        (lambda router, test: router.save(None), "a router is saved in a folder, was: NoneType; give a path"),
        (
            lambda router, test: router.choose(np.ones((2, 4)), -(10**5000)),
            "a whole number .*, was: a value of type int",
        ),
        (lambda router, test: Budget.parse(5), "a budget to be parsed must be a text, was: 5"),
        (lambda router, test: answer_batch([], batch_size="a"), "a whole number of at least 1, was: 'a'"),
        (lambda router, test: answer_batch([], batch_size=True), "a whole number of at least 1, was: True"),
    ],
)
def test_a_wrong_type_is_told_by_rule_and_value(router, test, call, rule):
    with pytest.raises(ValueError, match=rule):
        call(router, test)
