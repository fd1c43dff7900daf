"""Shared work gives what independent runs give, token for token."""

from functools import partial

import numpy as np
import pytest
import torch

from encoders import prefix, unfinished
from encoders.errors import BackboneError, BudgetError, QuestionError
from encoders.prefix import VisualPrefix
from tests.conftest import CONNECTORS


def independent(backbone, encoded, questions, ladder):
    by_m = [backbone.generate(encoded, questions, m) for m in ladder]
    return [list(row) for row in zip(*by_m, strict=True)]


def same(ours, theirs):
    for mine, its in zip(ours, theirs, strict=True):
        assert [g.token_ids for g in mine] == [g.token_ids for g in its]
        assert [g.m for g in mine] == [g.m for g in its]
        for a, b in zip(mine, its, strict=True):
            assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)
            assert np.allclose(a.top_logprobs, b.top_logprobs, atol=1e-4)
            assert a.text_tokens == b.text_tokens


@pytest.mark.parametrize("kind", list(CONNECTORS))
@pytest.mark.parametrize("rows", [1, 4])
def test_the_shared_ladder_equals_independent_runs(make_tiny, pictures, questions, kind, rows):
    backbone = make_tiny(kind)
    encoded = backbone.encode(pictures[:rows])
    ladder = backbone.ladder
    shared = backbone.answer_ladder(encoded, questions[:rows])
    same(shared, independent(backbone, encoded, questions[:rows], ladder))
    assert len({g.token_ids for row in shared for g in row}) > rows  # answers differ between m, or nothing was tested


def test_the_ladder_may_be_given_in_any_order(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    same(tiny.answer_ladder(encoded, questions, [5, 16, 1, 7]), independent(tiny, encoded, questions, [5, 16, 1, 7]))


@pytest.mark.parametrize("kind", ["mqt", "m3"])
def test_shared_scores_equal_independent_ones(make_tiny, pictures, questions, kind):
    backbone = make_tiny(kind)
    encoded, answers = backbone.encode(pictures), ["red", "4711", "a blue circle", "no"]
    shared = backbone.score_ladder(encoded, questions, answers)
    alone = np.stack([backbone.score(encoded, questions, answers, m) for m in backbone.ladder], axis=1)
    assert np.allclose(shared, alone, atol=1e-4)
    assert np.ptp(alone, axis=1).min() > 1e-2


def test_extending_equals_a_fresh_run(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    grown = VisualPrefix(tiny, encoded, 2)
    grown.ask(questions)
    for m in (5, 9, 16):
        grown.extend(m)
        assert [g.token_ids for g in grown.ask(questions)] == [
            g.token_ids for g in tiny.generate(encoded, questions, m)
        ]
    grown.crop(1)
    assert [g.token_ids for g in grown.ask(questions)] == [g.token_ids for g in tiny.generate(encoded, questions, 1)]


def test_drafts_change_nothing_whatever_they_say(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    plain = tiny.generate(encoded, questions, 9)
    cache = VisualPrefix(tiny, encoded, 9)
    right = [g.token_ids for g in plain]
    for drafts in (
        right,
        [ids[:2] for ids in right],
        [(7, 7, 7)] * 4,
        [right[0], (), (5,), (*right[3][:1], 9, 9)],
        [()] * 4,
        [(2,)] * 4,  # a draft that says nothing but "end"
        [ids + (3,) * 9 for ids in right],
    ):
        length = cache.length
        checked = cache.ask(questions, drafts=drafts)
        assert [g.token_ids for g in checked] == right
        assert np.allclose([g.logprob for g in checked], [g.logprob for g in plain], atol=1e-4)
        assert cache.length == length


def test_right_drafts_save_the_decoding_steps(tiny, pictures, questions, monkeypatch):
    encoded = tiny.encode(pictures)
    right = [g.token_ids for g in tiny.generate(encoded, questions, 9)]
    cache = VisualPrefix(tiny, encoded, 9)
    monkeypatch.setattr(unfinished, "resume", lambda *_: pytest.fail("decoded what was drafted"))
    cache.ask(questions, drafts=right)


@pytest.mark.parametrize("kind", ["mqt", "m3"])
def test_answers_are_scored_in_the_pass_that_reads_the_question(make_tiny, pictures, questions, kind):
    """Any number of given answers per question, beside a draft, each as if it stood alone."""
    backbone = make_tiny(kind)
    encoded = backbone.encode(pictures)
    own = [g.text for g in backbone.generate(encoded, questions, backbone.ladder[-1])]
    given = [[], ["red"], ["4711", own[2], "no"], ["no", "a blue circle"]]
    generations, scores = backbone.measure_ladder(encoded, questions, given)
    same(generations, independent(backbone, encoded, questions, backbone.ladder))
    for row, answers in enumerate(given):
        assert scores[row].shape == (len(answers), len(backbone.ladder))
        for k, answer in enumerate(answers):
            alone = backbone.score_ladder(encoded.select([row]), questions[row : row + 1], [answer])
            assert np.allclose(scores[row][k], alone[0], atol=1e-4)


def test_a_given_answer_that_is_right_saves_the_decoding_steps(tiny, pictures, questions, monkeypatch):
    encoded = tiny.encode(pictures)
    right = [g.token_ids for g in tiny.generate(encoded, questions, 9)]
    spelled = {f"answer {row}": list(ids) for row, ids in enumerate(right)} | {"no": [7, 7, 2]}
    monkeypatch.setattr(tiny, "answer_ids", spelled.__getitem__)
    monkeypatch.setattr(unfinished, "resume", lambda *_: pytest.fail("decoded what was given"))
    generations, _ = VisualPrefix(tiny, encoded, 9).measure(questions, [["no", f"answer {row}"] for row in range(4)])
    assert [g.token_ids for g in generations] == right


def test_attention_that_looks_ahead_scores_answers_alone(looking, pictures, questions):
    encoded = looking.encode(pictures)
    generations, scores = looking.measure_ladder(encoded, questions, [["red"], [], ["no", "7"], ["x"]], (1, 9))
    same(generations, independent(looking, encoded, questions, (1, 9)))
    alone = looking.score(encoded.select([2, 2]), [questions[2]] * 2, ["no", "7"], 9)
    assert np.allclose(scores[2][:, 1], alone) and scores[1].shape == (0, 2)


def test_a_prefix_asks_once_whether_its_work_is_shared(tiny, pictures, questions, monkeypatch):
    """Comparing all weights at every rung of every batch is work in the hottest loop of a sweep."""
    asked, real = [], prefix.causal
    monkeypatch.setattr(prefix, "causal", lambda backbone: asked.append(1) or real(backbone))
    cache = VisualPrefix(tiny, tiny.encode(pictures), 16)
    for m in (9, 5, 2, 1):
        cache.crop(m)
        cache.ask(questions, max_new_tokens=1)
    assert len(asked) == 1


@pytest.fixture
def passes(tiny, monkeypatch):
    """(places in the cache, new places) of each pass of the language model over embeddings, as they come."""
    found, original = [], tiny.language.model.forward

    def forward(inputs_embeds=None, past_key_values=None, **options):
        if inputs_embeds is not None:
            found.append((past_key_values.get_seq_length(), inputs_embeds.shape[1]))
        return original(inputs_embeds=inputs_embeds, past_key_values=past_key_values, **options)

    monkeypatch.setattr(tiny.language.model, "forward", forward)
    assert prefix.causal(tiny)  # the self-check, once for given weights and attention, has passes of its own
    found.clear()
    return found


def test_a_ladder_takes_one_prefill_and_one_pass_per_rung(tiny, pictures, questions, passes):
    tiny.answer_ladder(tiny.encode(pictures), questions)
    start = len(tiny.prefix_ids)
    assert passes[0] == (0, start + 16)
    assert [held for held, _ in passes[1:]] == [start + m for m in (16, 9, 5, 2, 1)]


def test_extending_reads_nothing_but_the_tokens_that_lack(tiny, pictures, questions, passes):
    encoded = tiny.encode(pictures)
    short = VisualPrefix(tiny, encoded, 2)
    passes.clear()
    asked = prefix.extend(short, 9).ask(questions)
    assert passes[0] == (len(tiny.prefix_ids) + 2, 7) and passes[1][0] == len(tiny.prefix_ids) + 9 == short.length
    same([asked], [tiny.generate(encoded, questions, 9)])


def test_cropping_up_and_extending_down_are_refused(tiny, pictures):
    cache = VisualPrefix(tiny, tiny.encode(pictures), 5)
    with pytest.raises(BudgetError, match="at most its own m = 5, was: 9; use extend"):
        cache.crop(9)
    with pytest.raises(BudgetError, match="at least its own m = 5, was: 2; use crop"):
        cache.extend(2)


@pytest.fixture
def looking(make_tiny):
    """A backbone whose prefill attends to all visual tokens at once, as PaliGemma's and Gemma 3's do."""
    backbone = make_tiny("mqt")
    original = backbone.language.model.forward

    def look_ahead(inputs_embeds=None, attention_mask=None, past_key_values=None, **options):
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if inputs_embeds is not None and inputs_embeds.shape[1] > 1 and not past:
            batch, length, _ = inputs_embeds.shape
            own = torch.ones(batch, length) if attention_mask is None else attention_mask
            attention_mask = torch.where(own[:, None, None, :] > 0, 0.0, torch.finfo(torch.float32).min)
            attention_mask = attention_mask.expand(batch, 1, length, length)
        return original(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, past_key_values=past_key_values, **options
        )

    backbone.language.model.forward = look_ahead
    return backbone


def test_attention_that_looks_ahead_is_noticed_and_not_shared(looking, pictures, questions):
    assert not prefix.shares(looking)
    encoded = looking.encode(pictures)
    same(looking.answer_ladder(encoded, questions), independent(looking, encoded, questions, looking.ladder))


def test_attention_that_is_changed_later_is_noticed(make_tiny, pictures, questions):
    backbone = make_tiny("mqt")
    assert prefix.shares(backbone)
    backbone.language.model.forward = partial(backbone.language.model.forward)  # as a stranger's patch would
    seen = []
    original = prefix._head_equals_fresh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "_head_equals_fresh", lambda model: seen.append(1) or original(model))
        assert prefix.shares(backbone) and prefix.shares(backbone)
        backbone.language.model.layers[0].self_attn.is_causal = False
        prefix.shares(backbone)
    assert len(seen) == 2


def test_a_prefix_of_attention_that_looks_ahead_asks_alone(looking, pictures, questions):
    """Going on from its cache gave other answers than independent runs, without a word."""
    encoded, answers = looking.encode(pictures), ["red", "4711", "no", "x"]
    grown = VisualPrefix(looking, encoded, 2)
    for m, change in ((2, None), (9, grown.extend), (16, grown.extend), (5, grown.crop)):
        if change is not None:
            change(m)
        alone = looking.generate(encoded, questions, m)
        same([grown.ask(questions)], [alone])
        same([grown.ask(questions, drafts=[(7, 7)] * 4)], [alone])
        assert np.allclose(grown.score(questions, answers), looking.score(encoded, questions, answers, m))
    generations, scores = grown.measure(questions, [["red"], [], ["no", "7"], ["x"]], max_new_tokens=3)
    same([generations], [looking.generate(encoded, questions, 5, max_new_tokens=3)])
    assert np.allclose(scores[2], looking.score(encoded.select([2, 2]), [questions[2]] * 2, ["no", "7"], 5))
    with pytest.raises(QuestionError, match="one question each, was: 1"):
        grown.ask(questions[:1])


def test_looking_ahead_is_seen_where_one_token_is_all_that_was_trained(make_tiny, pictures):
    backbone = make_tiny("mqt", ladder=(1,))
    for layer in backbone.language.model.layers:
        layer.self_attn.is_causal = False
    assert not prefix.causal(backbone)
    assert prefix.causal(make_tiny("mqt", ladder=(1,)))


def test_whoever_asks_first_under_autocast_settles_nothing_for_others(make_tiny, monkeypatch):
    real, seen = prefix._prefill, []
    monkeypatch.setattr(prefix, "_prefill", lambda *a: seen.append(torch.is_autocast_enabled("cpu")) or real(*a))
    with torch.autocast("cpu", torch.bfloat16):
        assert prefix.causal(make_tiny("mqt"))
    assert seen == [False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_causal_attention_is_shared_in_every_dtype(make_tiny, dtype):
    assert prefix.shares(make_tiny("mqt").to(dtype))
    assert prefix.shares(make_tiny("sequential").to(dtype))


@pytest.mark.parametrize("kind", ["m3", "average"])
def test_extending_what_is_not_nested_prefills_afresh(make_tiny, pictures, questions, kind):
    backbone = make_tiny(kind)
    encoded = backbone.encode(pictures)
    grown = VisualPrefix(backbone, encoded, 4)
    for m in (16, 1):
        (grown.extend if m == 16 else grown.crop)(m)
        asked = grown.ask(questions)
        assert [g.token_ids for g in asked] == [g.token_ids for g in backbone.generate(encoded, questions, m)]


def test_a_cache_refuses_other_counts_and_other_pictures(tiny, make_tiny, pictures, questions):
    cache = VisualPrefix(tiny, tiny.encode(pictures), 5)
    with pytest.raises(QuestionError, match="a cache of 4 pictures takes one question each, was: 1"):
        cache.ask(questions[:1])
    with pytest.raises(QuestionError, match="one answer each, was: 0"):
        cache.score(questions, [])
    with pytest.raises(BackboneError, match="encoded by the backbone that answers"):
        VisualPrefix(make_tiny("mqt"), tiny.encode(pictures), 5)


def test_one_projection_serves_the_whole_ladder_of_pooled_tokens(make_tiny, pictures, questions, monkeypatch):
    backbone, calls = make_tiny("m3"), []
    assert prefix.causal(backbone)  # the self-check, once for given weights, projects noise
    original = backbone.connector.projector.forward
    monkeypatch.setattr(backbone.connector.projector, "forward", lambda x: calls.append(1) or original(x))
    backbone.answer_ladder(backbone.encode(pictures), questions)
    assert len(calls) == 1


def test_pooled_tokens_are_never_shared(make_tiny):
    assert not prefix.shares(make_tiny("m3"))


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, MemoryError])
def test_a_question_that_is_interrupted_leaves_the_cache_as_it_was(tiny, pictures, questions, monkeypatch, stopped):
    held = VisualPrefix(tiny, tiny.encode(pictures), 9)
    length, expected = held.length, held.ask(questions)
    layer = tiny.language.model.layers[-1]

    def stop(*_, **__):
        raise stopped

    for owner, name in ((layer, "forward"), (unfinished, "resume")):  # in the pass, one layer done; in decoding
        with monkeypatch.context() as patched, pytest.raises(stopped):
            patched.setattr(owner, name, stop)
            held.ask(questions)
        assert {part.get_seq_length() for part in held._cache.layers} == {length}
        assert held.ask(questions) == expected
    with monkeypatch.context() as patched, pytest.raises(stopped):
        patched.setattr(layer, "forward", stop)
        held.extend(16)
    assert held.m == 9 and held.ask(questions) == expected


def test_shared_work_does_not_care_for_torchs_default_device(make_tiny, pictures, questions):
    backbone = make_tiny("mqt")
    encoded = backbone.encode(pictures)
    expected = backbone.answer_ladder(encoded, questions)
    backbone.sharing = None
    torch.set_default_device("meta")  # as scripts set "cuda"; on it nothing has a value
    try:
        assert backbone.answer_ladder(encoded, questions) == expected
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("window", [8, 100, 160, 170, 180, 200])
@pytest.mark.parametrize("kind", ["mqt", "m3"])
def test_windows_that_slide_are_asked_alone(make_tiny, pictures, questions, kind, window):
    """A layer that forgets cannot be cropped, wherever the window ends: before the question, in it or behind it."""
    config = make_tiny(kind).config.language | {"sliding_window": window}
    backbone = make_tiny(kind, language=config)
    encoded = backbone.encode(pictures)
    same(backbone.answer_ladder(encoded, questions), independent(backbone, encoded, questions, backbone.ladder))


def test_padding_beside_many_given_answers_turns_no_angle(make_tiny, pictures):
    """Dynamic angles follow the furthest place of a pass, and padding stood further than any answer."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    backbone = make_tiny("mqt", language=make_tiny("mqt").config.language | {"rope_parameters": rope})
    encoded, asked = backbone.encode(pictures[:2]), ["hm", "what colour"]
    given = [[], ["a blue circle", "red", "4711", "no", "left of it"] * 4]
    generations, scores = backbone.measure_ladder(encoded, asked, given, (16,))
    same(generations, independent(backbone, encoded, asked, (16,)))
    alone = backbone.score(encoded.select([1] * 5), asked[1:] * 5, given[1][:5], 16)
    assert np.allclose(scores[1][:5, 0], alone, atol=1e-3)


def test_texts_are_checked_before_they_are_read(tiny, pictures):
    encoded = tiny.encode(pictures[:3])
    with pytest.raises(QuestionError, match="must be a string"):
        tiny.answer_ladder(encoded, ["hm", ["a"], "x"])
    with pytest.raises(QuestionError, match="must be a string"):
        tiny.measure_ladder(encoded, ["hm", "a", "x"], [[["a"]], [], []])
