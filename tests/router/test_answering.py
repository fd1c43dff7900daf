"""`answer` keeps its promises about budgets, whatever the picture and the question."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from encoders import cost
from router import BackboneError, Budget, BudgetError, ImageError, MatryoshkaError, QuestionError, answer
from router.answering import Decision

PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("budget", "m"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 5), (15, 9), (16, 16), (99999, 16), (None, 16)]
)
def test_the_largest_m_within_the_budget_is_spent(tiny, budget, m):
    result = answer(PICTURE, "what is it", budget, backbone=tiny)
    assert result.m == result.visual_tokens == m
    assert budget is None or result.visual_tokens <= budget


def test_a_budget_object_means_the_same(tiny):
    assert answer(PICTURE, "hm", Budget(cap=5), backbone=tiny).m == 5


def test_a_budget_below_the_smallest_m_is_refused(make_tiny):
    with pytest.raises(BudgetError, match="reach the smallest m of tiny-mqt, 5 visual tokens, was: 4"):
        answer(PICTURE, "hm", 4, backbone=make_tiny("mqt", ladder=(5, 16)))


@pytest.mark.parametrize("m", [1, 7, 13, 16])
def test_m_forces_any_m_the_backbone_allows(tiny, m):
    result = answer(PICTURE, "hm", m=m, backbone=tiny)
    assert result.m == m
    assert result.reason == "m was given"


def test_m_and_budget_exclude_each_other(tiny):
    with pytest.raises(BudgetError, match="m excludes a budget"):
        answer(PICTURE, "hm", 4, m=4, backbone=tiny)


@pytest.mark.parametrize("m", [0, 17, True, 2.5, "4", math.nan])
def test_an_impossible_m_is_refused(tiny, m):
    with pytest.raises(BudgetError, match="m must be a whole number from 1 to 16"):
        answer(PICTURE, "hm", m=m, backbone=tiny)


def test_the_answer_says_what_it_spent(tiny):
    result = answer(PICTURE, "what is it", 5, backbone=tiny)
    again = answer(PICTURE, "what is it", 16, backbone=tiny)
    assert str(result) == result.text
    assert 0 < result.cost.tflops < again.cost.tflops
    assert result.cost.ms > 0
    assert result.logprob < 0
    assert result.reason == "the largest m within 5 visual tokens"


def test_a_damaged_profile_costs_nobody_an_answer_that_asks_for_no_milliseconds(tiny, monkeypatch):
    def torn(*key):
        raise BackboneError("a latency profile must be whole")

    monkeypatch.setattr(cost.LatencyProfile, "find", torn)
    assert answer(PICTURE, "what is it", 5, backbone=tiny).cost.ms > 0


def test_an_encoded_picture_is_not_paid_for_twice(tiny):
    encoded = tiny.encode([PICTURE])
    fresh, known = answer(PICTURE, "hm", 5, backbone=tiny), answer(encoded, "hm", 5, backbone=tiny)
    assert known.text == fresh.text
    assert known.cost.vision_tflops == 0
    assert known.cost.prefill_tflops == fresh.cost.prefill_tflops
    with pytest.raises(QuestionError, match="one encoded picture, was: 2"):
        answer(tiny.encode([PICTURE, PICTURE]), "hm", backbone=tiny)


def test_a_rule_of_ones_own_slots_in(tiny):
    class Cheapest:
        def decide(self, backbone, encoded, questions, budget):
            return [Decision(backbone.ladder[0], "always the cheapest")]

    result = answer(PICTURE, "hm", 16, backbone=tiny, router=Cheapest())
    assert (result.m, result.reason) == (1, "always the cheapest")


def test_a_cap_holds_whatever_the_rule_decides(tiny):
    class Spender:
        def decide(self, backbone, encoded, questions, budget):
            return [Decision(16, "all of it")]

    with pytest.raises(BudgetError, match="within the cap of 2 visual tokens, was: 16"):
        answer(PICTURE, "hm", 2, backbone=tiny, router=Spender())
    with pytest.raises(BudgetError, match="a router must have a method decide"):
        answer(PICTURE, "hm", 2, backbone=tiny, router=object())


class Plain:
    """A backbone as the contract allows: its fields are set on the object, and m comes as a sequence."""

    def __init__(self, inner):
        self.inner, self.name, self.ladder, self.fingerprint = inner, "plain", inner.ladder, "0" * 64

    def allows(self, m):
        return self.inner.allows(m)

    def encode(self, images):
        return self.inner.encode(images)

    def visual_tokens(self, encoded, m):
        return self.inner.visual_tokens(encoded, m)

    def generate(self, encoded, questions, m, max_new_tokens=None):
        return self.inner.generate(encoded, questions, [m[row] for row in range(len(questions))], max_new_tokens)

    def cost(self, visual_tokens, text_tokens, new_tokens):
        return self.inner.cost(visual_tokens, text_tokens, new_tokens)


@pytest.mark.parametrize("asked", [{"budget": 5}, {"m": 5}], ids=str)
def test_a_backbone_is_known_by_what_it_has_not_by_its_class(tiny, asked):
    """One whose fields were set on the object was refused, and one that takes a sequence of m was given a number."""
    found = answer(PICTURE, "hm", **asked, backbone=Plain(tiny))
    assert (found.m, found.backbone, found.text) == (5, "plain", answer(PICTURE, "hm", m=5, backbone=tiny).text)


def test_the_class_of_a_backbone_is_no_backbone(tiny):
    with pytest.raises(BackboneError, match="a loaded backbone, was: type"):
        answer(PICTURE, "hm", backbone=type(tiny))


def test_every_source_of_a_picture_gives_the_same_answer(tiny, tmp_path):
    path = tmp_path / "picture.png"
    PICTURE.save(path)
    sources = [path, str(path), path.read_bytes(), PICTURE, np.asarray(PICTURE)]
    assert len({answer(source, "hm", 5, backbone=tiny).logprob for source in sources}) == 1


BAD = [
    ({"image": "no/such.png"}, ImageError),
    ({"image": b""}, ImageError),
    ({"image": None}, ImageError),
    ({"q": ""}, QuestionError),
    ({"q": None}, QuestionError),
    ({"q": "x" * 100_000}, QuestionError),
    ({"q": " " * 100_000}, QuestionError),
    ({"q": "half \ud83d"}, QuestionError),
    ({"budget": 0}, BudgetError),
    ({"budget": True}, BudgetError),
    ({"budget": "64"}, BudgetError),
    ({"backbone": "nano-gpt"}, BackboneError),
    ({"backbone": 7}, BackboneError),
]


@pytest.mark.parametrize(("change", "kind"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_clear_error_and_the_process_goes_on(tiny, change, kind):
    arguments = {"image": PICTURE, "q": "hm", "budget": 5, "backbone": tiny} | change
    with pytest.raises(kind) as caught:
        answer(arguments.pop("image"), arguments.pop("q"), **arguments)
    assert len(str(caught.value)) < 400
    assert isinstance(caught.value, MatryoshkaError) and isinstance(caught.value, ValueError)
    assert answer(PICTURE, "hm", 5, backbone=tiny).m == 5


def test_many_threads_get_the_answers_of_one(tiny):
    alone = [answer(PICTURE, "hm", budget, backbone=tiny).logprob for budget in (1, 2, 5, 9, 16)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda b: answer(PICTURE, "hm", b, backbone=tiny).logprob, (1, 2, 5, 9, 16) * 4))
    assert found == pytest.approx(alone * 4, abs=1e-5)
