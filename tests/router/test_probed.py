"""A second look: who pays for it and who does not, a gate that learns where it pays, and its rows of a study."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_outcomes

from router import DataError, Router
from router.bench import Known
from router.evaluation import Fixed, evaluate
from router.probed import Gate, Probed, second_look
from router.routed import Routed
from router.study import study
from training_data.outcomes import FIRST_TOKEN

COST = np.array([1.0, 2.0, 4.0])


def make_rows(n=4, **changed):
    """First curves ask for the first arm, second ones for the last, of rows that are right there alone."""
    parts = {
        "curve": np.tile([0.9, 0.5, 0.5], (n, 1)),
        "score": np.tile([0.0, 0.0, 1.0], (n, 1)),
        "cost": COST,
        "group": np.arange(n).astype(str),
        "dataset": np.repeat("d", n),
        "charged": COST,
        "second": np.tile([0.1, 0.2, 0.9], (n, 1)),
        "worth": np.tile([[1.0], [-1.0]], (n // 2, 2)),
        "probe_cost": np.full((n, 1), 0.5),
    }
    return Probed(**parts | changed)


def told(outcomes, cost, seed=0):
    """The same, and a first token that is likely where the cheapest arm is right."""
    rng = np.random.default_rng(seed)
    sure = np.where(outcomes.score > 0, -0.2, -1.5) + 0.2 * rng.normal(size=outcomes.score.shape)
    tables = dict(zip(FIRST_TOKEN, (np.minimum(sure, 0), sure - 2, sure - 3, -sure), strict=True))
    text = np.full(outcomes.score.shape, 9.0)  # and one visual token: ten in the prompt
    features = replace(outcomes.features, tflops={"probe": cost / 10})
    return replace(outcomes, **tables, text_tokens=text, features=features)


def test_a_probe_is_paid_by_who_is_sent_on():
    found = make_rows().realised(np.array([0.0, 0.01]))
    assert found.choice.tolist() == [[2, 2], [0, 0]] * 2
    assert found.cost.tolist() == [[4.5, 4.5], [1.0, 1.0]] * 2
    assert found.score.tolist() == [[1.0, 1.0], [0.0, 0.0]] * 2


def test_an_answer_at_the_first_arm_goes_on_from_its_probe():
    found = make_rows(second=np.tile([0.9, 0.1, 0.1], (4, 1))).realised(np.array([0.0, 0.0]))
    assert (found.choice == 0).all() and (found.cost == 1.0).all()


def test_what_the_pass_has_cost_keeps_a_question_where_it_is():
    """From the first arm to the last the second curve gains 0.8 for 3.0, with the pass for 3.5."""
    prices = np.array([0.8 / 3.5 + 1e-6, 0.8 / 3.5 - 1e-6])
    assert make_rows(worth=np.ones((4, 2))).realised(prices).choice[0].tolist() == [0, 2]


def test_a_gate_speaks_of_its_own_prices():
    with pytest.raises(DataError, match="speaks of 2 prices, was asked for: 3"):
        make_rows().realised(np.zeros(3))


def test_some_of_the_rows_keep_their_second_look():
    some = make_rows().select(np.array([1, 2]))
    assert some.realised(np.zeros(2)).choice.tolist() == [[0, 0], [2, 2]]


def test_a_first_token_that_was_not_measured_is_none_and_an_impossible_one_is_a_number():
    outcomes = make_outcomes(20)
    assert second_look(outcomes) is None
    whole = told(outcomes, 1e-4)
    found, _ = second_look(replace(whole, top3=np.full(whole.score.shape, -np.inf)))
    assert found.shape == (40, 4) and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.array_equal(found[:, 0], whole.top1[:, 0].astype(np.float32))
    for lacking in ({"entropy": None}, {"text_tokens": None}, {"m": None}, {"unit": "tokens"}, {"features": None}):
        assert second_look(replace(whole, **lacking)) is None


def test_a_probe_costs_what_its_own_prompt_does():
    whole = told(make_outcomes(20), cost=1e-4)
    text = whole.text_tokens.copy()
    text[3] = 29
    _, cost = second_look(replace(whole, text_tokens=text))
    assert cost == pytest.approx(np.where(np.arange(40) == 3, 3e-4, 1e-4))
    _, dearer = second_look(whole.take_arms([2, 3]))  # whose cheapest arm sees sixteen tokens
    assert dearer == pytest.approx(np.full(40, 2.5e-4))


def test_what_data_sets_cost_includes_their_probes():
    rows = make_rows(100, dataset=np.repeat(["one", "two"], 50), second=np.tile([0.1, 0.2, 0.9], (100, 1)))
    rows = replace(rows, worth=np.ones((100, 2)), score=np.tile([0.0, 0.5, 1.0], (100, 1)))
    known, prices = Known.of(rows.dataset, rows.score, rows.cost), np.array([0.2, 0.0])
    fixed = Fixed(rows, ("1", "2", "3"), 2, known=known, trained=np.unique(rows.dataset), prices=prices)
    found = evaluate(rows, fixed, resamples=2)
    share = found.savings[0.99].against_full.value
    assert [member.share for member in found.members] == pytest.approx([1 - share] * 2)


@pytest.mark.parametrize(("probe_cost", "least", "most"), [(0.01, 0.8, 1.0), (50.0, 0.0, 0.0)])
def test_a_gate_opens_where_a_second_look_pays(probe_cost, least, most):
    """The first curve knows nothing; the second knows the row's arm, but misleads where the column is negative."""
    rng = np.random.default_rng(0)
    n = 3000
    X = rng.normal(size=(n, 2)).astype(np.float32)
    need = rng.integers(0, 3, n)
    score, misled = ((np.arange(3) >= one[:, None]).astype(float) for one in (need, 2 - need))
    first = np.tile(score.mean(axis=0), (n, 1))
    second = np.where(X[:, :1] > 0, score, misled)
    rows = Routed(first, score, COST, np.arange(n).astype(str), np.repeat("d", n))
    worth = Gate(np.array([0.2, 0.05]), seed=0).fit(X, rows, second, np.full(n, probe_cost))(X, first)
    clear = np.abs(X[:, 0]) > 0.3
    opened = (worth > 0).mean(axis=1)
    assert least <= opened[clear & (X[:, 0] > 0)].mean() <= most
    assert opened[clear & (X[:, 0] < 0)].mean() < 0.1


def test_a_study_says_what_a_probe_is_worth_and_what_it_costs():
    tables = [told(make_outcomes(300, seed=seed), cost=2e-3, seed=seed) for seed in (4, 5)]
    router = Router.fit(tables[0])
    found = study(*tables, router=router, parts=["probe"], resamples=5)
    gated, always, free = (found.row(row.name).gap_recovered.value for row in found.rows)
    assert [row.name for row in found.rows] == ["+ probe where it pays", "+ probe always", "+ probe, were it free"]
    own = found.router.gap_recovered.value
    assert free > own + 0.05  # the first token tells what the picture does not
    assert free > always + 0.05  # and costs a tenth of the cheapest answer
    assert gated > max(own, always) - 0.03


def test_a_gate_of_one_price_is_fitted_without_a_warning():
    rows = make_rows(60)
    gate = Gate(np.zeros(1), seed=0).fit(np.zeros((60, 1)), rows, rows.second, np.ones(60))
    assert gate(np.zeros((2, 1)), rows.curve[:2]).shape == (2, 1)


@pytest.mark.parametrize("cost", [0.0, None])
def test_no_row_speaks_of_a_probe_without_its_cost_or_without_one(cost):
    outcomes = [make_outcomes(150, seed=seed) for seed in (4, 5)]
    tables = outcomes if cost is None else [told(one, cost) for one in outcomes]
    assert not study(*tables, parts=["probe"], resamples=5).rows
