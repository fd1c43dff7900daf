"""A router fitted on a sweep decides for a live backbone as it does for a table, and only for that backbone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from conftest import make_outcomes
from PIL import Image

from encoders import features
from encoders.cost import LatencyProfile
from router import BackboneError, Budget, BudgetError, DataError, QuestionError, Router, answer
from router.columns import VISUAL, group_of
from router.spending import Spending
from training_data.example import Example
from training_data.outcomes import Outcomes
from training_data.sweep import sweep

QUESTIONS = ("what number is written", "what colour is the circle", "hm")
PICTURES = 110
BUDGETS = [None, 2, 5, 16, Budget(mean=6), Budget(price=9e4), Budget(price=0), Budget(max_loss=0.3), Budget(cap=9)]


def swept_examples(backbone):
    """Two questions per picture; right is what is said with enough tokens: noise and question say how many."""
    rng, rungs = np.random.default_rng(5), backbone.ladder
    strength = rng.uniform(0, 1, PICTURES)
    pictures = [
        Image.fromarray((128 + power * rng.integers(-127, 128, (24, 24, 3))).astype(np.uint8)) for power in strength
    ]
    encoded = backbone.encode(pictures)
    said = [backbone.answer_ladder(encoded, [question] * PICTURES) for question in QUESTIONS]
    examples = []
    for k, picture in enumerate(pictures):
        for asked in (k % 3, (k + 1) % 3):
            need = int(np.clip(round(3 * strength[k] + 0.7 * asked), 0, len(rungs) - 1))
            answers = tuple(generation.text or "-" for generation in said[asked][k][need:])
            examples.append(Example(f"q{k}-{asked}", picture, QUESTIONS[asked], answers, f"p{k}", f"d{k % 2}"))
    return examples


@cache
def swept(backbone):
    """(examples, their outcomes, a router fitted on them), once per session."""
    examples = swept_examples(backbone)
    with TemporaryDirectory() as folder:
        outcomes = Outcomes.load(sweep(backbone, examples, Path(folder) / "o.sqlite", workers=1))
    return examples, outcomes, Router.fit(outcomes)


@pytest.fixture(scope="session")
def examples(tiny):
    return swept(tiny)[0]


@pytest.fixture(scope="session")
def outcomes(tiny):
    return swept(tiny)[1]


@pytest.fixture(scope="session")
def fitted(tiny):
    return swept(tiny)[2]


def ask(example, budget, **options):
    return answer(example.image, example.question, budget, **options)


def spending(router, backbone, example):
    return Spending(router, backbone, backbone.encode([example.image]), [example.question])


def test_the_sweep_left_something_to_route(fitted, examples, tiny):
    """What this file tests is empty if every question gets the same m."""
    chosen = {ask(example, None, backbone=tiny, router=fitted).m for example in examples[:30]}
    assert len(chosen) >= 3


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_an_answer_spends_what_its_curve_says(tiny, fitted, examples, budget):
    limit = Budget.of(budget)
    for example in examples[:8]:
        found = spending(fitted, tiny, example)
        curve = fitted.curves([example.question], found.features)
        [arm], price, unit, reason = fitted.choose(curve, limit, found.costs)
        result = ask(example, budget, backbone=tiny, router=fitted)
        assert (result.m, result.decision.arm) == (fitted.m[arm], fitted.arms[arm])
        assert (result.decision.price, result.decision.unit, result.reason) == (price, unit, reason)
        assert list(result.decision.curve.values()) == curve[0].clip(0, 1).tolist()


@pytest.mark.parametrize("cap", [1, 2, 4, 5, 8, 9, 15, 16, 10_000])
def test_a_cap_in_tokens_is_never_exceeded(tiny, fitted, examples, cap):
    for example in examples[:8]:
        assert ask(example, cap, backbone=tiny, router=fitted).visual_tokens <= cap


def test_a_cap_in_tflops_is_never_exceeded_by_what_was_spent(tiny, fitted, examples):
    seen = set()
    for example in examples[:12]:
        costs = spending(fitted, tiny, example).costs("tflops")[0]
        for cap in (costs[0], (costs[1] + costs[2]) / 2, np.nextafter(costs[3], 0), costs[4]):
            result = ask(example, Budget(cap=float(cap), unit="tflops"), backbone=tiny, router=fitted)
            assert result.cost.tflops <= cap and costs[fitted.m.tolist().index(result.m)] <= cap
            seen.add(result.m)
        with pytest.raises(BudgetError, match="a cap must reach every question's cheapest arm"):
            ask(example, Budget(cap=float(np.nextafter(costs[0], 0)), unit="tflops"), backbone=tiny, router=fitted)
    assert len(seen) >= 3


def test_costs_are_counted_once_for_questions_of_one_length(tiny, fitted, examples, monkeypatch):
    """Every row and arm was counted anew: longer than deciding itself took in a batch."""
    router, counted, asked = replace(fitted), [], list(QUESTIONS) * 8  # a copy that remembers nothing
    encoded, longest = tiny.encode([examples[0].image] * len(asked)), tiny.decoding(None).max_new_tokens
    lengths = [len(tiny.prefix_ids) + len(tiny.suffix_ids(question)) for question in asked]
    alone = [[tiny.counted_cost(m, length, longest).tflops for m in router.m.tolist()] for length in lengths]
    monkeypatch.setattr(tiny, "counted_cost", lambda *of: counted.append(of) or type(tiny).counted_cost(tiny, *of))
    for _ in range(2):
        costs = Spending(router, tiny, encoded, asked).costs("tflops")
        assert costs.tolist() == (np.array(alone) + router.routing_cost).tolist()
    assert len(counted) == len(set(counted)) == len(set(lengths)) * len(router.arms) == 15


def test_a_cap_is_charged_the_longest_answer_and_a_mean_one_of_typical_length(tiny, fitted, outcomes, examples):
    assert fitted.answer_tokens == outcomes.new_tokens.mean()
    looked = Spending(replace(fitted, answer_tokens=2.25), tiny, tiny.encode([examples[0].image]), ["hm"])
    text = len(tiny.prefix_ids) + len(tiny.suffix_ids("hm"))

    def counted(tokens):
        return np.array([tiny.counted_cost(m, text, tokens).tflops for m in fitted.m.tolist()]) + fitted.routing_cost

    assert looked.costs("tflops")[0] == pytest.approx(counted(tiny.decoding(None).max_new_tokens))
    assert looked.costs("tflops", longest=False)[0] == pytest.approx(0.75 * counted(2) + 0.25 * counted(3))
    old = Spending(replace(fitted, answer_tokens=None), tiny, tiny.encode([examples[0].image]), ["hm"])
    assert (old.costs("tflops", longest=False) == looked.costs("tflops")).all()


def test_a_mean_in_ms_is_charged_at_typical_length(tiny, fitted, examples, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    LatencyProfile(*tiny.profile_key, (10, 200), (10.0, 200.0), 5.0, 1.0).save()
    asked, seen = [], Spending._counted
    monkeypatch.setattr(
        Spending, "_counted", lambda self, v, t, tokens, p: asked.append(tokens) or seen(self, v, t, tokens, p)
    )
    router = replace(fitted, answer_tokens=2.0)
    router.route(examples[0].image, "hm", Budget(mean=900, unit="ms"), backbone=tiny)
    assert set(asked) == {2}
    router.route(examples[0].image, "hm", Budget(cap=9000, unit="ms"), backbone=tiny)
    assert set(asked) == {2, tiny.decoding(None).max_new_tokens}


def test_a_cap_in_ms_is_kept_by_the_profile_and_needs_one(tiny, fitted, examples, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BudgetError, match="in ms needs a latency profile, missing; run `matryoshka-router profile`"):
        ask(examples[0], Budget(cap=50, unit="ms"), backbone=tiny, router=fitted)
    LatencyProfile(*tiny.profile_key, (10, 200), (10.0, 200.0), 5.0, 1.0).save()
    chosen = set()
    for example in examples[:12]:
        text = len(tiny.prefix_ids) + len(tiny.suffix_ids(example.question))
        longest = tiny.decoding(None).max_new_tokens
        cap = tiny.cost(9, text, longest).ms
        m = ask(example, Budget(cap=cap, unit="ms"), backbone=tiny, router=fitted).m
        assert tiny.cost(m, text, longest).ms <= cap and m <= 9
        chosen.add(m)
    assert len(chosen) > 1


def test_a_unit_that_no_model_counts_in_is_refused(tiny, fitted, examples):
    with pytest.raises(BudgetError, match="counted in tokens, tflops or ms, was: 'dollars'"):
        ask(examples[0], Budget(cap=1, unit="dollars"), backbone=tiny, router=fitted)


def test_for_one_question_a_mean_is_the_price_that_met_it_in_calibration(tiny, fitted, examples):
    price = fitted.calibration.price_of_mean(6, fitted.m.astype(float))
    for example in examples[:8]:
        result = ask(example, Budget(mean=6), backbone=tiny, router=fitted)
        curve = np.array(list(result.decision.curve.values()))
        assert result.decision.price == price
        assert result.m == fitted.m[(curve - price * fitted.m).argmax()]


def test_routing_runs_no_language_model_and_decides_as_answering_does(tiny, fitted, examples, monkeypatch):
    budgets = (None, 5, Budget(mean=6))
    spent = [ask(example, budget, backbone=tiny, router=fitted).m for example in examples[:4] for budget in budgets]

    def runs(*_, **__):
        raise RuntimeError("the language model ran")

    monkeypatch.setattr(tiny.language.model, "forward", runs)
    routed = [fitted.route(e.image, e.question, budget, backbone=tiny).m for e in examples[:4] for budget in budgets]
    assert routed == spent
    with pytest.raises(RuntimeError, match="the language model ran"):
        ask(examples[0], 5, backbone=tiny, router=fitted)


def test_routing_finds_the_packaged_backbone_by_its_name_alone(fitted, examples):
    with pytest.raises(BackboneError, match=r"a backbone must be one of .*, was: 'tiny-mqt'"):
        fitted.route(examples[0].image, "hm")


def test_an_encoded_picture_is_routed_like_the_picture(tiny, fitted, examples):
    for example in examples[:4]:
        encoded = tiny.encode([example.image])
        known = answer(encoded, example.question, None, backbone=tiny, router=fitted)
        assert known.decision == ask(example, None, backbone=tiny, router=fitted).decision
        assert fitted.route(encoded, example.question, backbone=tiny) == known.decision
        assert known.cost.vision_tflops == 0


@pytest.mark.parametrize("stranger", ["m3", "mqt"])
def test_a_picture_that_another_backbone_encoded_is_refused(tiny, make_tiny, fitted, examples, stranger):
    """Routing once read features off another model's patches, and said an m."""
    encoded = make_tiny(stranger).encode([examples[0].image])
    with pytest.raises(BackboneError, match="encoded by the backbone that answers, tiny-mqt, was: another's"):
        fitted.route(encoded, "hm", backbone=tiny)


@pytest.mark.parametrize("question", ["", "  \n", None])
def test_a_question_that_cannot_be_asked_is_not_routed(tiny, fitted, examples, question):
    """A blank question has no words to look for in the picture, and ended in an error of torch's."""
    with pytest.raises(QuestionError, match="at least one visible character"):
        fitted.route(examples[0].image, question, backbone=tiny)


def test_features_of_an_answer_are_those_of_the_sweep(tiny, fitted, examples, outcomes):
    for row in (0, 1, 77, 219):
        found = spending(fitted, tiny, examples[row]).features
        read = [name for name in outcomes.features.names if group_of(name) in VISUAL]
        assert list(found.names) == read and set(fitted.columns.visual) == set(read)
        recorded = outcomes.features.values[row, [outcomes.features.names.index(name) for name in read]]
        assert np.allclose(found.values[0], recorded, atol=1e-3)


def test_a_router_for_another_backbone_is_refused_by_name_and_fingerprint(tiny, make_tiny, fitted, examples):
    changed = make_tiny("mqt")
    changed.language.lm_head.weight.data.add_(0.1)
    for other in (make_tiny("m3"), changed):
        names = rf"fitted on tiny-mqt \({tiny.fingerprint[:8]}\), was: {other.name} \({other.fingerprint[:8]}\)"
        with pytest.raises(BackboneError, match=names):
            ask(examples[0], 5, backbone=other, router=fitted)
        with pytest.raises(BackboneError, match=names):
            fitted.route(examples[0].image, "hm", 5, backbone=other)


def test_a_router_for_other_features_is_refused(tiny, fitted, examples, monkeypatch):
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    with pytest.raises(BackboneError, match=f"features of version {features.VERSION - 1}, was: version"):
        ask(examples[0], 5, backbone=tiny, router=fitted)


def test_a_router_of_a_table_has_no_picture_to_look_at(tiny, examples):
    router = Router.fit(make_outcomes(110))
    with pytest.raises(BackboneError, match="fitted on a table of no backbone"):
        ask(examples[0], 5, backbone=tiny, router=router)
    with pytest.raises(BackboneError, match="fitted on a table of no backbone"):
        router.route(examples[0].image, "hm")


def test_a_router_is_named_by_its_folder_and_read_again_when_saved_anew(tiny, fitted, outcomes, examples, tmp_path):
    folder = fitted.save(tmp_path / "mine")
    for name in (folder, str(folder)):
        result = ask(examples[0], None, backbone=tiny, router=name)
        assert result.decision == ask(examples[0], None, backbone=tiny, router=fitted).decision
    question_only = Router.fit(outcomes, groups=("words", "text"))
    question_only.save(folder)
    again = ask(examples[0], None, backbone=tiny, router=folder)
    assert again.decision == ask(examples[0], None, backbone=tiny, router=question_only).decision
    assert again.decision.curve != result.decision.curve


@pytest.mark.parametrize("name", ["nowhere", "no\0name", "x" * 5000])
def test_a_folder_that_holds_no_router_is_refused(tiny, examples, name):
    with pytest.raises(DataError, match="a router is"):
        ask(examples[0], 5, backbone=tiny, router=name)


def test_a_router_that_reads_no_picture_needs_no_pixels(tiny, outcomes, examples):
    router = Router.fit(outcomes, groups=("words", "text"))
    patches = tiny.from_patches(tiny.encode([examples[0].image]).patches)
    assert router.route(patches, "hm", backbone=tiny) == router.route(examples[5].image, "hm", backbone=tiny)


def test_an_explanation_is_five_lines_at_most_and_holds_what_decided(tiny, fitted, examples):
    for budget in (None, 5, Budget(mean=6), Budget(max_loss=0.3), Budget(max_broken=0.001)):
        result = ask(examples[1], budget, backbone=tiny, router=fitted)
        told = result.explain()
        lines = told.splitlines()
        assert len(lines) <= 5
        assert lines[0] == f"m={result.m}: {result.reason}"
        for arm, value in result.decision.curve.items():
            assert f"{arm}: {min(1.0, max(0.0, value)):.2f}" in lines[1]
        if result.decision.price is not None:
            assert f"price: {result.decision.price:.4g} of score per unit of cost ({result.decision.unit})" in told
        assert set(fitted.m.astype(str)) == set(result.decision.curve)
    assert "pixels" in told and "patches" in told


def test_a_forced_m_needs_no_router_and_excludes_one(tiny, fitted, examples, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Router, "decide_together", None)
        assert ask(examples[0], None, m=7, backbone=tiny).explain() == "m=7: m was given"
    with pytest.raises(BudgetError, match="m excludes a budget and a router"):
        ask(examples[0], None, m=7, backbone=tiny, router=fitted)


def test_eight_threads_decide_and_answer_as_one_does(tiny, fitted, examples):
    def told(number):
        result = ask(examples[number % 12], BUDGETS[number % len(BUDGETS)], backbone=tiny, router=fitted)
        return result.text, result.m, result.decision

    alone = [told(number) for number in range(36)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(told, range(36))) == alone


def test_what_is_shown_of_a_curve_stays_on_the_scale_of_scores(tiny, fitted, examples, monkeypatch):
    beyond = np.linspace(-0.03, 1.02, len(fitted.arms))[None]
    monkeypatch.setattr(type(fitted.readout), "__call__", lambda self, rows: beyond.repeat(len(rows), 0))
    shown = fitted.route(examples[0].image, "hm", Budget(price=0), backbone=tiny)
    assert list(shown.curve.values()) == beyond[0].clip(0, 1).tolist() and shown.arm == fitted.arms[-1]


def test_where_the_cheapest_arm_was_chosen_the_reasons_are_those_against_full(tiny, fitted, examples):
    shown = fitted.route(examples[1].image, examples[1].question, 1, backbone=tiny)
    full = fitted.arms[fitted.calibration.full]
    assert shown.m == 1 and full != "1"
    assert f"what moved the gain of {full} over 1, against" in shown.explain()
    assert "+0.000, " not in shown.explain()


def test_a_flat_router_says_that_it_tells_no_questions_apart(tiny, fitted, examples):
    flat = replace(fitted, readout=fitted.readout.flat())
    told = flat.route(examples[1].image, examples[1].question, 5, backbone=tiny).explain()
    assert told.endswith("nothing: this router treats all questions alike")


def test_a_flat_router_of_labels_says_so_too(train):
    readout = Router.fit(train, head="ordinal").readout
    row = np.zeros(readout.forest.columns, np.float32)
    assert readout.contributions(row).any() and not readout.flat().contributions(row).any()
