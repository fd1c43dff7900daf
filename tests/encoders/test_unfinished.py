"""Answers of several passes are decoded together, few calls for many rows, and none differs for it."""

import pytest
import torch

from encoders import unfinished
from encoders.prefix import VisualPrefix, _Asked
from tests.encoders.test_prefix import independent, same


@pytest.fixture
def decoded(monkeypatch):
    """How many answers each decoding took."""
    counts, real = [], unfinished.resume

    def counted(language, cache, tokens, *others):
        counts.append(len(tokens))
        return real(language, cache, tokens, *others)

    monkeypatch.setattr(unfinished, "resume", counted)
    return counts


def test_answers_of_several_m_are_decoded_together(tiny, pictures, questions, decoded, monkeypatch):
    """One answer of four is not known beforehand, at any of five m: they wait until more than two are there."""
    encoded, ladder = tiny.encode(pictures), tiny.ladder
    alone = independent(tiny, encoded, questions, ladder)
    spelled = {f"{row} {k}": list(alone[row][k].token_ids) for row in range(3) for k in range(len(ladder))}
    monkeypatch.setattr(tiny, "answer_ids", spelled.__getitem__)
    given = [[f"{row} {k}" for k in range(len(ladder))] for row in range(3)] + [[]]
    shared, _ = tiny.measure_ladder(encoded, questions, given)
    assert decoded == [3, 2]
    same(shared, alone)


def test_a_pass_at_one_m_waits_for_no_other(tiny, pictures, questions, decoded):
    prefix = VisualPrefix(tiny, tiny.encode(pictures), 9)
    for asked in range(1, 3):
        prefix.ask(questions)
        assert decoded == [4] * asked


def test_rows_that_ended_are_decoded_no_further(tiny, pictures, questions, monkeypatch):
    encoded = tiny.encode(pictures)
    right = [g.token_ids for g in tiny.generate(encoded, questions, 9, max_new_tokens=6)]
    assert {len(ids) for ids in right} == {6}
    prefix, rows, real = VisualPrefix(tiny, encoded, 9), [], tiny.language.forward
    monkeypatch.setattr(tiny.language, "forward", lambda **given: rows.append(len(given["input_ids"])) or real(**given))
    drafts = [right[0][:-1], right[1][:-1], right[2][:-2], ()]
    assert [g.token_ids for g in prefix.ask(questions, 6, drafts)] == right
    assert rows == [4, 2, 1, 1, 1]


def test_a_row_that_waits_is_guessed_to_go_on_as_what_it_followed(tiny, pictures, questions):
    """One token of each draft is wrong: what the model says instead is known, and the draft's end is kept."""
    encoded, how = tiny.encode(pictures), tiny.decoding(None)
    right = [list(g.token_ids) for g in tiny.generate(encoded, questions, 9)]
    drafts = [[*ids[:2], ids[2] + 1, *ids[3:]] for ids in right]
    asked, waiting = _Asked(tiny, questions, [()] * 4), unfinished.Unfinished(tiny.language, how, enough=4)
    _, guesses, _ = VisualPrefix(tiny, encoded, 9)._begin(asked, how, drafts, waiting)
    assert guesses == right


def test_nothing_is_recorded_for_gradients(tiny, pictures, questions, monkeypatch):
    recorded, real = [], tiny.language.forward
    monkeypatch.setattr(
        tiny.language, "forward", lambda **given: recorded.append(torch.is_grad_enabled()) or real(**given)
    )
    prefix = VisualPrefix(tiny, tiny.encode(pictures), 9)
    prefix.ask(questions)
    tiny.answer_ladder(tiny.encode(pictures), questions)
    assert recorded and not any(recorded)
