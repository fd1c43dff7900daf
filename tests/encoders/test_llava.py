"""NestedLlava: mixed budgets in a batch, text that stays text, scoring and sampling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast

from encoders.backbone import NestedBackbone
from encoders.errors import BackboneError, BudgetError, MatryoshkaError, QuestionError
from encoders.llava import NestedLlava
from tests.conftest import CONNECTORS, tiny_config

KINDS = list(CONNECTORS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_nested_backbone(make_tiny, kind):
    backbone = make_tiny(kind)
    assert isinstance(backbone, NestedBackbone)
    assert all(backbone.allows(m) for m in backbone.ladder)


@torch.no_grad()
def test_patches_are_hidden_state_minus_two_without_cls(tiny):
    config = CLIPVisionConfig(**tiny_config("mqt").vision)
    stock = CLIPVisionModel(config).eval()  # three layers, of which the last one is unused
    missing, unexpected = stock.load_state_dict(tiny.vision.state_dict(), strict=False)
    assert not unexpected
    assert all("layers.2." in key for key in missing)
    pixels = torch.randn(2, 3, 32, 32)
    theirs = stock(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.allclose(tiny.from_pixels(pixels).patches, theirs, atol=1e-6)


@pytest.mark.parametrize("kind", ["mqt", "m3", "sequential"])
def test_a_row_alone_equals_the_row_in_a_mixed_batch(make_tiny, pictures, questions, kind):
    backbone = make_tiny(kind)
    encoded = backbone.encode(pictures)
    spent = [backbone.ladder[k] for k in (0, 2, 1, 2)]
    together = backbone.generate(encoded, questions, spent)
    for row, mixed in enumerate(together):
        [alone] = backbone.generate(backbone.encode([pictures[row]]), [questions[row]], spent[row])
        assert alone.token_ids == mixed.token_ids
        assert np.allclose(alone.logprobs, mixed.logprobs, atol=1e-4)
        assert (alone.m, alone.visual_tokens, alone.text_tokens) == (mixed.m, mixed.visual_tokens, mixed.text_tokens)


def test_answers_depend_on_m_so_that_these_tests_can_fail(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    few, many = tiny.generate(encoded, questions, 1), tiny.generate(encoded, questions, 16)
    assert [a.token_ids for a in few] != [b.token_ids for b in many]


def test_one_vision_pass_serves_many_questions(tiny, pictures, questions, monkeypatch):
    encoded = tiny.encode(pictures[:1]).select([0] * 4)
    monkeypatch.setattr(tiny.vision, "forward", lambda **_: pytest.fail("a second vision pass"))
    assert len(tiny.generate(encoded, questions, [1, 2, 9, 16])) == 4


def test_a_placeholder_in_a_question_is_text(tiny):
    for written in ("<image>", "</s>", "<s>", "<pad>"):
        ids = tiny.suffix_ids(written)
        assert not set(ids) & {0, 1, 2}
        assert written in tiny.tokenizer.decode(ids)


def test_scoring_equals_the_log_probability_of_what_was_generated(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    spent = [16, 1, 5, 9]
    generated = tiny.generate(encoded, questions, spent, max_new_tokens=4)
    for row, generation in enumerate(generated):
        ids = list(generation.token_ids)
        backbone_ids, tiny.answer_ids = tiny.answer_ids, lambda _, ids=ids: ids
        try:
            [score] = tiny.score(encoded.select([row]), [questions[row]], ["given"], spent[row])
        finally:
            tiny.answer_ids = backbone_ids
        assert score == pytest.approx(generation.logprob, abs=1e-4)


def test_scores_of_a_batch_equal_scores_alone(tiny, pictures, questions):
    encoded, answers = tiny.encode(pictures), ["a", "number", "two words", "x"]
    together = tiny.score(encoded, questions, answers, [1, 16, 5, 2])
    alone = [tiny.score(encoded.select([k]), [questions[k]], [answers[k]], m)[0] for k, m in enumerate([1, 16, 5, 2])]
    assert np.allclose(together, alone, atol=1e-4)


def test_first_token_confidence_is_reported(tiny, pictures):
    [generation] = tiny.generate(tiny.encode(pictures[:1]), ["hm"], 4)
    assert generation.top_logprobs[0] == pytest.approx(generation.logprobs[0], abs=1e-6)
    assert list(generation.top_logprobs) == sorted(generation.top_logprobs, reverse=True)
    assert 0 < generation.entropy < np.log(300)


def test_sampling_is_seeded_and_differs_from_greedy(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    first = tiny.generate(encoded, questions, 4, temperature=2.0, seed=3)
    again = tiny.generate(encoded, questions, 4, temperature=2.0, seed=3)
    other = tiny.generate(encoded, questions, 4, temperature=2.0, seed=4)
    assert [g.token_ids for g in first] == [g.token_ids for g in again]
    assert [g.token_ids for g in first] != [g.token_ids for g in other]
    cold = tiny.generate(encoded, questions, 4, temperature=1e-6, seed=3)
    assert [g.token_ids for g in cold] == [g.token_ids for g in tiny.generate(encoded, questions, 4)]
    narrow = tiny.generate(encoded, questions, 4, temperature=2.0, top_p=1e-6, seed=3)
    assert [g.token_ids for g in narrow] == [g.token_ids for g in tiny.generate(encoded, questions, 4)]


@pytest.mark.parametrize("m", [0, 17, -1, True, 2.0, "4", None, [4, 4], np.nan])
def test_the_gate_refuses_what_is_no_m(tiny, pictures, m):
    with pytest.raises((BudgetError, QuestionError), match="m must be"):
        tiny.generate(tiny.encode(pictures[:1]), ["hm"], m)


def test_a_numpy_integer_is_an_m(tiny, pictures):
    assert tiny.generate(tiny.encode(pictures[:1]), ["hm"], np.int64(4))[0].m == 4


def test_m3_refuses_inexact_levels_with_its_ladder(make_tiny, pictures):
    backbone = make_tiny("m3")
    with pytest.raises(BudgetError, match=r"one of \(1, 4, 16\) \(trained: \(1, 4, 16\)\), was: 9"):
        backbone.generate(backbone.encode(pictures[:1]), ["hm"], 9)


@pytest.mark.parametrize("question", ["", "   ", "\n", "\x00", "\u200b\u200b", "\ufeff", "\u2028\t", None, 7])
def test_empty_questions_are_refused(tiny, pictures, question):
    with pytest.raises(QuestionError, match="at least one visible character"):
        tiny.generate(tiny.encode(pictures[:1]), [question], 4)


def test_too_long_a_question_is_refused_with_the_limit(tiny, pictures):
    with pytest.raises(QuestionError, match="must fit in 256 tokens"):
        tiny.generate(tiny.encode(pictures[:1]), ["why " * 25_000], 4)


@pytest.mark.parametrize("question", ["nul \0 byte", "🙂🙃", "ما هو الرقم المكتوب", "\u202eabc", "a\tb"])
def test_any_text_has_tokens_and_an_answer(tiny, pictures, question):
    assert tiny.tokenizer.decode(tiny.text_ids(question)) == question
    assert len(tiny.generate(tiny.encode(pictures[:1]), [question], 4)) == 1


def test_lone_surrogates_are_refused(tiny, pictures):
    with pytest.raises(QuestionError, match="must be Unicode text"):
        tiny.generate(tiny.encode(pictures[:1]), ["half \ud83d"], 4)


def test_pictures_of_another_backbone_are_refused(tiny, make_tiny, pictures):
    with pytest.raises(BackboneError, match="encoded by the backbone that answers, tiny-mqt"):
        tiny.generate(make_tiny("m3").encode(pictures[:1]), ["hm"], 4)


def test_counts_that_do_not_match_are_refused(tiny, pictures, questions):
    encoded = tiny.encode(pictures)
    with pytest.raises(QuestionError, match="3 questions for 4 pictures"):
        tiny.generate(encoded, questions[:3], 4)
    with pytest.raises(QuestionError, match="was: 2 for 4"):
        tiny.generate(encoded, questions, [1, 2])
    with pytest.raises(QuestionError, match="one answer per question"):
        tiny.score(encoded, questions, ["a"], 4)
    with pytest.raises(BackboneError, match="max_new_tokens must be a whole number of at least 1, was: 0"):
        tiny.generate(encoded, questions, 4, max_new_tokens=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_answers(make_tiny, pictures, dtype):
    backbone = make_tiny("mqt").to(dtype)
    assert len(backbone.generate(backbone.encode(pictures), ["hm"] * 4, [1, 4, 9, 16])) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rotary_frequencies_are_never_rounded(make_tiny, dtype):
    backbone = make_tiny("mqt")
    exact = backbone.language.model.rotary_emb.inv_freq.clone()
    assert torch.equal(backbone.to(dtype).language.model.rotary_emb.inv_freq, exact) and exact.dtype == torch.float32
    assert torch.equal(backbone.float().language.model.rotary_emb.inv_freq, exact)
    assert not torch.equal(exact.to(dtype).float(), exact)  # rounded they would be others


@pytest.mark.parametrize("kind", ["mqt", "m3"])
def test_tokens_made_before_the_weights_changed_are_made_anew(make_tiny, pictures, kind):
    backbone, m = make_tiny(kind), 4
    encoded = backbone.encode(pictures)
    before = encoded.tokens(m).clone()
    other = {name: tensor * 1.5 for name, tensor in backbone.connector.state_dict().items()}
    backbone.connector.load_state_dict(other)
    fresh = backbone.encode(pictures).tokens(m)
    assert torch.equal(encoded.tokens(m), fresh) and not torch.allclose(fresh, before)
    with torch.no_grad():
        next(backbone.connector.parameters()).mul_(2)
    assert torch.equal(encoded.select([1]).tokens(m), backbone.encode(pictures).tokens(m)[1:2])


def test_what_was_computed_serves_every_m(make_tiny, pictures, monkeypatch):
    backbone = make_tiny("mqt")
    encoded, asked = backbone.encode(pictures), []
    original = backbone.connector.prepare
    monkeypatch.setattr(backbone.connector, "prepare", lambda *given: asked.append(given[1]) or original(*given))
    for m in (16, 9, 1):
        encoded.tokens(m)
    assert asked == [16]


def test_configurations_that_cannot_work_are_refused(make_tiny):
    with pytest.raises(BackboneError, match=r"pad_colour must hold whole numbers, was: \(122.77"):
        make_tiny("mqt", pad_colour=(122.77, 116.7, 104.1))
    with pytest.raises(BackboneError, match=r"connector.type must be one of .*'m3', 'mqt'.*was: 'qformer'"):
        make_tiny("mqt", connector={"type": "qformer"})
    with pytest.raises(BackboneError, match="ascending"):
        make_tiny("mqt", ladder=(4, 2))
    with pytest.raises(BackboneError, match=r"whole number from 1 to 16, was: \[64\]"):
        make_tiny("mqt", ladder=(1, 64))
    with pytest.raises(BackboneError, match="prompt template must be one of"):
        make_tiny("mqt", template="llava_v7")
    with pytest.raises(BackboneError, match="feature_layer must be negative"):
        make_tiny("mqt", feature_layer=1)
    with pytest.raises(BackboneError, match="leave the tower a layer"):
        make_tiny("mqt", feature_layer=-4)


def test_the_fingerprint_follows_weights_and_configuration(make_tiny):
    first, second = make_tiny("mqt"), make_tiny("mqt")
    assert first.fingerprint == second.fingerprint
    with torch.no_grad():
        second.connector.query.add_(1)
    assert second.fingerprint != first.fingerprint
    second.connector.load_state_dict(first.connector.state_dict())
    assert second.fingerprint == first.fingerprint
    assert make_tiny("mqt", max_new_tokens=7).fingerprint != first.fingerprint


def test_weights_made_in_inference_mode_have_a_fingerprint_that_follows_them(make_tiny):
    """They count no changes; asking for the count was an error."""
    backbone = make_tiny("mqt")
    with torch.inference_mode():
        backbone.to(torch.float64)
        before = backbone.fingerprint
        backbone.connector.query.add_(1)
    assert before == make_tiny("mqt").fingerprint != backbone.fingerprint


def test_save_pretrained_and_load_are_a_round_trip(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "m")
    assert type(tiny).load(tmp_path / "m").fingerprint == tiny.fingerprint


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda b, e: b.encode([]), "at least one picture"),
        (lambda b, e: b.encode(np.zeros((6, 8, 3), np.uint8)), r"write \[picture\]"),
        (lambda b, e: b.encode(Path("x.png")), r"was: PosixPath; write \[picture\]"),
        (lambda b, e: b.encode("x.png"), r"was: str; write \[picture\]"),
        (lambda b, e: b.encode(bytearray(b"x")), r"was: bytearray; write \[picture\]"),
        (lambda b, e: b.encode(None), r"was: NoneType; write \[picture\]"),
        (lambda b, e: b.encode(picture for picture in ()), r"was: generator; write \[picture\]"),
        (lambda b, e: b.generate(e.select([]), [], 4), "at least one question"),
        (lambda b, e: b.generate(e, ["hm"], [1, [2]]), "m must be one number or one per question"),
        (lambda b, e: b.generate(e, ["hm"], [[1, [2]]]), "m must be a whole number"),
        (lambda b, e: b.score(e.select([]), [], [], 4), "at least one question"),
        (lambda b, e: e.select([1]), r"rows must be whole numbers from 0 to 0, was: \[1\]"),
        (lambda b, e: e.select(0), "rows must be whole numbers from 0 to 0, was: 0"),
        (lambda b, e: e.select([True]), r"rows must be whole numbers from 0 to 0, was: \[True\]"),
        (lambda b, e: e.select("0"), "rows must be whole numbers from 0 to 0, was: '0'"),
        (lambda b, e: b.answer_ladder(e, ["hm"], []), "at least one m"),
        (lambda b, e: b.answer_ladder(e, ["hm"], 5), r"a ladder must be a list of m, was: 5; write \[5\]"),
        (lambda b, e: b.cost(-1, 0, 0), "a number of tokens must be a whole number of at least 0, was: -1"),
        (lambda b, e: b.cost(4, "1", 0), "a number of tokens must be a whole number of at least 0, was: '1'"),
        (lambda b, e: b.score_ladder(e, ["hm"], ["a"], []), "at least one m"),
        (lambda b, e: b.score_ladder(e, ["hm"], []), "one answer per question, was: 0 for 1"),
        (lambda b, e: b.score(e, ["hm"], [7], 4), "must be a string, was: int"),
        (lambda b, e: b.score(e, ["hm"], ["\ud83d"], 4), "must be Unicode"),
        (lambda b, e: b.generate(e, ["hm"], 4, temperature=float("nan")), "temperature must be a finite number"),
        (lambda b, e: b.generate(e, ["hm"], 4, temperature=-1), "temperature must be a finite number"),
        (lambda b, e: b.generate(e, ["hm"], 4, temperature=1e-40), "0 for greedy or from 1e-06 to 1e"),
        (lambda b, e: b.generate(e, ["hm"], 4, temperature=10**400), "temperature must be a finite number"),
        (lambda b, e: b.generate(e, ["hm"], 4, top_p=2), r"top_p must be in \(0, 1\]"),
        (lambda b, e: b.generate(e, ["hm"], 4, top_p=0), r"top_p must be in \(0, 1\]"),
        (lambda b, e: b.generate(e, ["hm"], 4, top_p="1"), r"top_p must be in \(0, 1\]"),
        (lambda b, e: b.generate(e, ["hm"], 4, max_new_tokens=2.5), "max_new_tokens must be a whole number"),
        (lambda b, e: b.generate(e, ["hm"], 4, max_new_tokens=True), "max_new_tokens must be a whole number"),
        (lambda b, e: b.generate(e, ["hm"], torch.tensor(True)), "m must be"),
    ],
)
def test_impossible_calls_are_one_clear_error(tiny, pictures, call, rule):
    with pytest.raises(MatryoshkaError, match=rule):
        call(tiny, tiny.encode(pictures[:1]))


def test_whole_numbers_of_other_kinds_are_numbers(tiny, pictures):
    encoded = tiny.encode(pictures[:1])
    assert tiny.generate(encoded, ["hm"], np.array(4))[0].m == 4
    assert len(tiny.generate(encoded, ["hm"], 4, temperature=1)) == 1
    warm = tiny.generate(encoded, ["hm"], 4, temperature=0.5, top_p=0.75, seed=3)
    assert tiny.generate(encoded, ["hm"], 4, temperature=np.float32(0.5), top_p=np.float32(0.75), seed=3) == warm


def test_one_text_is_no_list_of_texts(tiny, pictures):
    """Each of four characters would be asked of its own picture."""
    encoded, four = tiny.encode(pictures), ["hm"] * 4
    calls = (
        lambda: tiny.generate(encoded, "what", 4),
        lambda: tiny.score(encoded, four, "blue", 4),
        lambda: tiny.measure_ladder(encoded, four, ["red", "blue", "no", "4711"]),
        lambda: tiny.score_ladder(encoded, four, "blue"),
    )
    for call in calls:
        with pytest.raises(QuestionError, match="must be a list of strings, was: '"):
            call()
    assert tiny.generate(encoded, np.array(four), 4) == tiny.generate(encoded, four, 4)


@pytest.mark.parametrize("seed", [None, 1.5, True, "1", 2**64, -(2**63) - 1])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_seed_is_a_whole_number(tiny, pictures, seed, temperature):
    with pytest.raises(BackboneError, match="a seed must be a whole number of at most 64 bits, was: "):
        tiny.generate(tiny.encode(pictures[:1]), ["hm"], 4, temperature=temperature, seed=seed)


def test_numpys_seeds_are_seeds(tiny, pictures):
    encoded = tiny.encode(pictures[:1])
    ours, its = (tiny.generate(encoded, ["hm"], 4, temperature=1.0, seed=seed) for seed in (3, np.int64(3)))
    assert ours == its


def test_pictures_encoded_before_a_cast_are_answered_after_it(make_tiny, pictures, questions):
    backbone = make_tiny("mqt")
    encoded = backbone.encode(pictures)
    backbone.to(torch.float64)
    fresh = backbone.from_patches(encoded.patches.double())
    assert backbone.generate(encoded, questions, 9) == backbone.generate(fresh, questions, 9)


def test_a_tokenizer_must_say_how_a_text_begins_and_ends(tiny):
    nameless = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer.backend_tokenizer, eos_token="</s>")
    with pytest.raises(BackboneError, match="must name the tokens that begin and end a text, was: bos None"):
        NestedLlava(tiny.config, nameless)


def test_numbers_of_numpy_are_numbers_of_a_configuration(make_tiny):
    plain = make_tiny("mqt")
    given = replace(
        plain.config,
        ladder=tuple(map(np.int64, plain.ladder)),
        image_mean=np.array(plain.config.image_mean),
        pad_colour=np.array(plain.config.pad_colour),
    )
    assert given.canonical() == plain.config.canonical()


def test_a_strangers_number_that_raises_is_no_number(tiny):
    class Odd:
        def __index__(self):
            raise RuntimeError("no index today")

    with pytest.raises(BudgetError, match="m must be a whole number"):
        tiny.check_m(Odd())


def test_angles_that_follow_the_longest_row_are_refused(tiny):
    factors = [1.0] * (tiny.language.config.head_dim // 2)
    rope = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "rope_theta": 1e4}
    config = replace(tiny.config, language={**tiny.config.language, "rope_parameters": rope})
    with pytest.raises(BackboneError, match="same angle in every batch, was: 'longrope'"):
        NestedLlava(config, tiny.tokenizer)
