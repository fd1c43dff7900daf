"""The measuring stick: what counts as right, what a blind answerer knows, a card that reports what was measured."""

import numpy as np
import pytest

from training_data import corpus, nano, nano_card
from training_data.scenes import examples


def test_the_blind_answerer_hits_about_the_prior():
    blind = nano_card.BlindAnswerer(scenes=4000)
    found = list(examples(1500, "a", "test"))
    assert 0.05 < blind.right(found).mean() < 0.22


@pytest.mark.slow
def test_a_card_reports_what_was_measured(tmp_path):
    corpus.draw_corpus(tmp_path, "scenes", 20)
    backbone = nano.nano_m3(corpus.make_tokenizer(tmp_path))
    measured = nano_card.measure(backbone, nano_card.BlindAnswerer(scenes=200), scenes=24)
    questions = list(examples(24, "a", "test")) + list(examples(24, "b", "test"))
    right = nano_card.right_at_every_m(backbone, questions, backbone.ladder)
    answerable = np.array([example.meta["answerable"] for example in questions])
    assert measured["accuracy"]["144"] == pytest.approx(right[answerable, -1].mean(), abs=1e-4)
    text = nano_card.card(backbone, measured, {"steps": 0})
    assert f"{measured['accuracy']['144']:.3f}" in text
    assert f"{measured['blind']:.3f}" in text
