"""A batch answers as one by one, in input order; bad rows cost only themselves; a mean is never exceeded."""

import gc
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from PIL import Image
from test_deciding import swept

from router import Answer, BackboneError, Budget, BudgetError, DataError, Unanswered, answer, answer_batch
from router.decision import Decision, LargestWithin
from router.spending import Spending

LONG = "what number is written " * 40  # more tokens than the tiny backbone's context
ALONE = [None, 5, Budget(cap=9), Budget(price=9e4), Budget(price=0.01, unit="tokens"), Budget(max_loss=0.3)]


@pytest.fixture(scope="session")
def examples(tiny):
    return swept(tiny)[0][:40]


@pytest.fixture(scope="session")
def fitted(tiny):
    return swept(tiny)[2]


@pytest.fixture
def bad(examples, tmp_path):
    """Rows that cannot be answered, by their id, and what the reasons must say."""
    (tmp_path / "notes.png").write_text("no picture")
    picture = examples[0].image
    rows = {
        "missing": ({"image": tmp_path / "no.png"}, "must name a readable file"),
        "notes": ({"image": tmp_path / "notes.png"}, "in a format Pillow reads"),
        "number": ({"image": 7}, "an image must be a path, bytes"),
        "several": ({"image": (picture, picture)}, "one picture to be asked for it, was: 2"),
        "gone": ({"image": lambda: open(tmp_path / "gone.png")}, "FileNotFoundError"),
        "blank": ({"question": " \n"}, "at least one visible character"),
        "none": ({"question": None}, "at least one visible character"),
        "half": ({"question": "half \ud83d"}, "lone surrogate"),
        "long": ({"question": LONG}, "must fit in 256 tokens"),
    }
    return {name: (replace(examples[0], id=name, **change), reason) for name, (change, reason) in rows.items()}


def tokens(results):
    return np.array([one.visual_tokens for one in results])


def test_a_backbone_that_cannot_share_a_mean_is_told_before_a_picture_is_opened(tiny, fitted, examples):
    class Half:
        def __getattr__(self, name):
            if name == "text_tokens":
                raise AttributeError(name)
            return getattr(tiny, name)

    with pytest.raises(BackboneError, match=r"to share a mean, .* missing: text_tokens of Half"):
        answer_batch(examples, Budget(mean=9), backbone=Half(), router=fitted)


@pytest.mark.parametrize("budget", ALONE, ids=str)
def test_a_batch_is_answered_in_input_order_as_one_by_one(tiny, fitted, examples, budget):
    options = {"backbone": tiny, "router": fitted}
    found = list(answer_batch(examples, budget, batch_size=16, **options))
    alone = [answer(example.image, example.question, budget, **options) for example in examples]
    assert [(one.text, one.m, one.visual_tokens) for one in found] == [(a.text, a.m, a.visual_tokens) for a in alone]
    assert [one.reason for one in found] == [one.reason for one in alone]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in alone], abs=1e-4)
    for one, other in zip(found, alone, strict=True):
        assert one.cost.tflops == pytest.approx(other.cost.tflops)
        assert list(one.decision.curve.values()) == pytest.approx(list(other.decision.curve.values()), abs=1e-6)


def test_the_batches_above_hold_questions_of_different_m(tiny, fitted, examples):
    """Grouping by m could not put answers in a wrong order if every question had the same."""
    assert len(set(tokens(answer_batch(examples, backbone=tiny, router=fitted)))) >= 3


@pytest.mark.parametrize("budget", [None, 9], ids=str)
def test_without_a_router_a_batch_takes_the_largest_m_within_its_cap(tiny, examples, budget):
    found = list(answer_batch(examples[:5], budget, backbone=tiny, router=LargestWithin()))
    assert [one.m for one in found] == [budget or 16] * 5


@pytest.mark.parametrize("mean", [1, 1.3, 2, 6, 11.5, 16])
def test_a_batch_mean_is_never_exceeded_nor_left_unspent(tiny, fitted, examples, mean):
    found = list(answer_batch(examples, Budget(mean=mean), backbone=tiny, router=fitted))
    spent = tokens(found)
    assert spent.mean() <= mean
    best = [max(one.decision.curve.values()) == one.decision.curve[one.decision.arm] for one in found]
    assert spent.mean() > mean - 15 / len(examples) or all(best)


@pytest.mark.parametrize("words", [0, 6], ids=["short", "long"])
def test_a_mean_in_tflops_holds_for_questions_of_any_length(tiny, fitted, examples, words):
    """Each is charged what its length costs, an answer of typical length with it; long ones were charged as short."""
    asked = [replace(example, question=example.question + " really" * words) for example in examples]
    pictures = tiny.encode([example.image for example in asked])
    costs = Spending(fitted, tiny, pictures, [example.question for example in asked]).costs("tflops", longest=False)
    least, most = costs.min(axis=1).mean(), costs.max(axis=1).mean()
    limit = least + 0.4 * (most - least)
    found = list(answer_batch(asked, Budget(mean=limit, unit="tflops"), backbone=tiny, router=fitted))
    charged = np.mean([row[fitted.arms.index(one.decision.arm)] for row, one in zip(costs, found, strict=True)])
    assert charged <= limit and len({one.m for one in found}) > 1
    spent = np.mean([one.cost.tflops for one in found])
    assert spent == pytest.approx(charged, rel=0.02)
    with pytest.raises(BudgetError):
        list(answer_batch(asked, Budget(mean=0.99 * least, unit="tflops"), backbone=tiny, router=fitted))


def test_a_dearer_mean_never_lowers_the_predicted_score(tiny, fitted, examples):
    scores = []
    for mean in (1, 2, 4, 8, 16):
        found = answer_batch(examples, Budget(mean=mean), backbone=tiny, router=fitted)
        scores.append(sum(one.decision.curve[one.decision.arm] for one in found))
    assert (np.diff(scores) >= 0).all() and scores[-1] > scores[0]


@pytest.mark.parametrize("budget", [None, 9, Budget(mean=3.3), Budget(mean=6)], ids=str)
def test_permuting_a_batch_permutes_its_answers(tiny, fitted, examples, budget):
    order = np.random.default_rng(0).permutation(len(examples))
    options = {"backbone": tiny, "router": fitted, "batch_size": 7}
    found = list(answer_batch(examples, budget, **options))
    moved = list(answer_batch([examples[k] for k in order], budget, **options))
    assert [(found[k].text, found[k].m) for k in order] == [(one.text, one.m) for one in moved]


@pytest.mark.parametrize("budget", [None, 5, Budget(mean=6)], ids=str)
def test_batches_of_one_equal_batches_of_many(tiny, fitted, examples, budget):
    one, many = (
        list(answer_batch(examples, budget, backbone=tiny, router=fitted, batch_size=size)) for size in (1, 32)
    )
    assert [(a.text, a.m, a.reason) for a in one] == [(a.text, a.m, a.reason) for a in many]


@pytest.mark.parametrize("budget", [None, 5, Budget(mean=6)], ids=str)
@pytest.mark.parametrize("size", [1, 4, 32])
def test_a_bad_row_costs_only_itself_and_says_why(tiny, fitted, examples, bad, budget, size):
    rows = list(examples[:12])
    for place, (row, _) in zip((0, 1, 3, 5, 7, 9, 13, 17, 20), bad.values(), strict=True):
        rows.insert(place, row)
    options = {"backbone": tiny, "router": fitted, "batch_size": size}
    found = list(answer_batch(rows, budget, **options))
    assert len(found) == len(rows)
    for row, one in zip(rows, found, strict=True):
        assert isinstance(one, Unanswered) == (row.id in bad)
        if row.id in bad:
            assert one.id == row.id and bad[row.id][1] in one.reason
    answered = [one for one in found if isinstance(one, Answer)]
    assert [(one.text, one.m) for one in answered] == [
        (one.text, one.m) for one in answer_batch(examples[:12], budget, **options)
    ]


def test_a_question_that_is_never_answered_funds_no_other(tiny, fitted, examples):
    """A question too long for any m once took its share of the mean: what was answered cost more than allowed."""
    rows = [replace(example, id=f"long{k}", question=LONG) for k, example in enumerate(examples[:20])]
    found = list(answer_batch([*rows, *examples[:4]], Budget(mean=6), backbone=tiny, router=fitted))
    assert tokens(found[20:]).mean() <= 6 and all(isinstance(one, Unanswered) for one in found[:20])


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 32])
def test_a_question_that_cannot_meet_its_cap_costs_only_itself(tiny, fitted, examples, place, size):
    """A few words more cost more FLOPs; where it made up the last batch, one such question once ended the run."""
    costs = [Spending(fitted, tiny, tiny.encode([e.image]), [e.question]).costs("tflops").min() for e in examples[:4]]
    limit, rows = Budget(cap=max(costs), unit="tflops"), list(examples[:4])
    rows.insert(place, replace(examples[0], id="wordy", question="what number is written " * 4))
    found = list(answer_batch(rows, limit, backbone=tiny, router=fitted, batch_size=size))
    wordy = found.pop(place)
    assert wordy.id == "wordy" and "a cap must reach" in wordy.reason
    others = [answer(e.image, e.question, limit, backbone=tiny, router=fitted) for e in examples[:4]]
    assert [one.text for one in found] == [one.text for one in others]


def test_a_budget_that_nobody_meets_is_refused_before_the_end(tiny, fitted, examples):
    drawn = []

    def endless():
        for number in count():
            drawn.append(number)
            yield replace(examples[0], question=" ") if number % 2 else examples[0]

    answers = answer_batch(endless(), Budget(cap=1e-9, unit="tflops"), backbone=tiny, router=fitted, batch_size=8)
    with pytest.raises(BudgetError, match="a cap must reach every question's cheapest arm"):
        next(answers)
    assert len(drawn) == 64


def test_a_budget_that_no_question_can_meet_is_refused(tiny, fitted, examples):
    for limit in (Budget(cap=1e-9, unit="tflops"), Budget(mean=0.5), Budget(mean=1, unit="dollars")):
        with pytest.raises(BudgetError):
            list(answer_batch(examples[:3], limit, backbone=tiny, router=fitted))


def test_a_cap_holds_whatever_the_rule_decides(tiny, examples):
    class Spender:
        def decide(self, backbone, encoded, questions, budget):
            return [Decision(16, "all of it")] * len(questions)

    found = list(answer_batch(examples[:3], 2, backbone=tiny, router=Spender()))
    assert all("within the cap of 2 visual tokens, was: 16" in one.reason for one in found)
    assert all(isinstance(one, Unanswered) for one in found)


def test_pairs_and_examples_may_be_mixed(tiny, fitted, examples, tmp_path):
    path = tmp_path / "picture.png"
    examples[3].image.save(path)
    rows = [(e.image, e.question) for e in examples[:3]] + [(path, examples[3].question), examples[4]]
    rows += [(path.read_bytes(), "hm"), (np.asarray(examples[3].image), "hm"), (tmp_path / "no.png", "hm")]
    options = {"backbone": tiny, "router": fitted}
    *found, missing = answer_batch(rows, None, **options)
    assert [one.text for one in found[:5]] == [one.text for one in answer_batch(examples[:5], None, **options)]
    assert found[5].text == found[6].text
    assert missing.id == "7" and "readable file" in missing.reason


def test_permuting_pairs_permutes_their_answers_though_all_gain_alike(tiny, fitted, examples):
    """Their ids are their places in the input: a hash of those gave the tokens to other questions."""
    flat = replace(fitted, readout=fitted.readout.flat())
    pairs = [(example.image, example.question) for example in examples[:20]]
    options = {"backbone": tiny, "router": flat, "batch_size": 6}
    found = [one.m for one in answer_batch(pairs, Budget(mean=3.3), **options)]
    moved = [one.m for one in answer_batch(pairs[::-1], Budget(mean=3.3), **options)]
    assert found == moved[::-1] and len(set(found)) > 1


def test_ids_may_start_anew_in_every_data_set(tiny, fitted, examples):
    """Ties between questions of one id fell to their places in the input."""
    flat = replace(fitted, readout=fitted.readout.flat())
    named = [replace(one, id="1", dataset=f"d{k}") for k, one in enumerate(examples[:20])]
    options = {"backbone": tiny, "router": flat, "batch_size": 6}
    found = [one.m for one in answer_batch(named, Budget(mean=3.3), **options)]
    moved = [one.m for one in answer_batch(named[::-1], Budget(mean=3.3), **options)]
    assert found == moved[::-1] and len(set(found)) > 1


def test_questions_about_one_picture_are_answered_each(tiny, fitted, examples):
    picture = examples[0].image
    asked = ["hm", "what number is written", "hm", "what colour is the circle"]
    found = list(answer_batch([(picture, q) for q in asked], backbone=tiny, router=fitted))
    alone = [answer(picture, q, backbone=tiny, router=fitted) for q in asked]
    assert [(one.text, one.m) for one in found] == [(one.text, one.m) for one in alone]
    assert found[0].text == found[2].text


def test_an_endless_input_is_answered_as_it_comes(tiny, fitted, examples):
    drawn = []

    def endless():
        for number in count():
            drawn.append(number)
            yield examples[number % 10]

    answers = answer_batch(endless(), 5, backbone=tiny, router=fitted, batch_size=4)
    assert drawn == []
    found = [next(answers) for _ in range(6)]
    assert len(drawn) == 8
    assert [one.m for one in found] == [one.m for one in answer_batch(examples[:6], 5, backbone=tiny, router=fitted)]


def test_an_empty_batch_has_no_answers(tiny, fitted):
    assert list(answer_batch([], Budget(mean=6), backbone=tiny, router=fitted)) == []
    assert list(answer_batch(iter(()), 5, backbone=tiny, router=fitted)) == []


def test_a_mean_without_a_router_is_refused_before_anything_is_read(tiny):
    with pytest.raises(BudgetError, match="a mean is shared out by a router, was: mean 6 tokens without one"):
        answer_batch(None, Budget(mean=6), backbone=tiny)


@pytest.mark.parametrize(
    ("row", "kind"), [("picture.png", "str"), (["a.png", "hm"], "list"), (("a.png",), "tuple"), ({"q": "hm"}, "dict")]
)
def test_a_row_of_another_kind_is_refused_by_its_place(tiny, fitted, examples, row, kind):
    with pytest.raises(DataError, match=rf"Examples or \(picture, question\), was: {kind} at 1"):
        list(answer_batch([examples[0], row], backbone=tiny, router=fitted))


@pytest.mark.parametrize("given", [None, "questions.jsonl", 3])
def test_what_holds_no_examples_is_refused(tiny, given):
    with pytest.raises(DataError, match=rf"must be Examples or pairs .*, was: {type(given).__name__};"):
        answer_batch(given, backbone=tiny)


def test_options_are_refused_before_anything_is_read(tiny, make_tiny, fitted, examples):
    with pytest.raises(DataError, match="batch_size must be a whole number of at least 1, was: 0"):
        answer_batch(None, batch_size=0, backbone=tiny)
    with pytest.raises(BudgetError, match="a whole number of visual tokens"):
        answer_batch(None, 2.5, backbone=tiny)
    with pytest.raises(BackboneError, match="a backbone must be one of"):
        answer_batch(None, backbone="nano-gpt")
    with pytest.raises(BackboneError, match="fitted on tiny-mqt"):
        list(answer_batch(examples[:2], 5, backbone=make_tiny("m3"), router=fitted))


def test_the_vision_pass_is_paid_for_by_each_question(tiny, fitted, examples):
    [one] = answer_batch(examples[:1], 5, backbone=tiny, router=fitted)
    alone = answer(examples[0].image, examples[0].question, 5, backbone=tiny, router=fitted)
    assert one.cost.vision_tflops == alone.cost.vision_tflops > 0 and one.cost.ms > 0


def test_a_shared_mean_holds_no_pixels(tiny, fitted):
    """The pictures of all questions were once held, megabytes each, until the last had been looked at."""
    size, alive = (37, 41), []

    def draw():
        alive.append(sum(type(one) is Image.Image and one.size == size for one in gc.get_objects()))
        return Image.new("RGB", size)

    found = list(answer_batch([(draw, "hm")] * 40, Budget(mean=6), backbone=tiny, router=fitted, batch_size=4))
    assert len(alive) == 40 and max(alive) <= 3 * 4
    assert all(isinstance(one, Answer) for one in found)


def test_a_batch_of_bad_rows_alone_is_told(tiny, fitted, bad):
    rows = [row for row, _ in bad.values()]
    for budget in (None, 5, Budget(mean=6)):
        found = list(answer_batch(rows, budget, backbone=tiny, router=fitted, batch_size=3))
        assert [one.id for one in found] == list(bad)


def test_pictures_are_opened_batch_by_batch(tiny, fitted, examples):
    """Eight batches were once opened before the first was answered, for nothing but the memory they filled."""
    opened = []

    def picture(k):
        def draw():
            opened.append(k)
            return Image.new("RGB", (8, 8), (k, k, k))

        return draw

    answers = answer_batch([(picture(k), "hm") for k in range(9)], backbone=tiny, router=fitted, batch_size=3)
    next(answers)
    assert opened == [0, 1, 2]
