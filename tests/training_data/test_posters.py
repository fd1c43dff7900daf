"""Posters and posts: pictures of the training corpus beside scenes, held against what they claim to show."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import ImageColor

from training_data import corpus
from training_data.posters import poster
from training_data.posts import add_posts
from training_data.relations import RELATIONS, relations
from training_data.scenes import SIDE, questions, render, scene
from training_data.scenes.draft import STYLES
from training_data.scenes.facts import luminance


@pytest.fixture(scope="module")
def posters():
    return [poster(k, style) for k in range(400) for style in ("a", "b")]


def boxes(facts):
    for thing in facts.things:
        yield thing.x, thing.y, thing.size / 2, thing.size / 2
    for hand in facts.hands:
        yield hand.x, hand.y, hand.size / 2, hand.size / 2
    for item in facts.prints:
        pad = STYLES[facts.style].sign_pad(item.height) if item.paper else 0
        yield item.x, item.y, item.width / 2 + pad, item.height / 2 + pad


def test_a_poster_shows_one_thing_within_the_picture_and_asks_for_it_first(posters):
    for facts in posters:
        [(x, y, across, down)] = boxes(facts)
        assert across - 0.1 <= min(x, SIDE - x) and down - 0.1 <= min(y, SIDE - y)
        first = questions(facts)[0]
        assert first.family == facts.family and first.answerable
        shown = [item.text for item in facts.prints] or [facts.things[0].shape, facts.things[0].colour]
        assert first.answer in shown


def test_half_of_the_longer_numbers_repeat_a_digit(posters):
    numbers = [item.text for facts in posters for item in facts.prints if item.is_number and len(item.text) > 1]
    assert {len(text) for text in numbers} == {2, 3, 4, 5}
    repeating = [any(a == b for a, b in pairwise(text)) for text in numbers]
    assert 0.5 < np.mean(repeating) < 0.75  # by chance a sixth
    assert not any(text.startswith("0") for text in numbers)


def test_print_on_a_poster_stands_out_and_pure_tones_are_among_the_grounds(posters):
    for facts in posters:
        for item in facts.prints:
            under = item.paper_tone if item.paper else facts.ground.tone
            assert abs(luminance(item.ink) - luminance(under)) >= 75
    assert {ImageColor.getrgb(name) for name in ("white", "brown", "green")} <= {f.ground.tone for f in posters}


def test_posts_stand_apart_from_everything_shown():
    drawn = 0
    facts_drawn = [poster(k, style) for k in range(150) for style in ("a", "b")]
    facts_drawn += [scene(k, style) for k in range(150) for style in ("a", "b")]
    for facts in facts_drawn:
        before = np.asarray(render(facts)).astype(int)
        after = np.asarray(add_posts(render(facts), facts)).astype(int)
        changed = (before != after).any(axis=-1)
        drawn += changed.any()
        assert not changed.any() or facts.prints or facts.hands
        for x, y, across, down in boxes(facts):
            top, left = max(0, int(y - down - 1)), max(0, int(x - across - 1))
            assert not changed[top : int(y + down + 2), left : int(x + across + 2)].any()
    assert 40 < drawn < 300


def test_posts_are_the_same_every_time_and_tell_no_tower_anything():
    facts = next(f for f in map(poster, range(200)) if add_posts(render(f), f).tobytes() != render(f).tobytes())
    assert add_posts(render(facts), facts).tobytes() == add_posts(render(facts), facts).tobytes()
    order = relations(facts)[list(RELATIONS).index("cover_order")]
    assert order.max() <= len(facts.prints[0].text)


def test_one_scene_of_a_corpus_in_eight_is_a_poster(tmp_path):
    shown = [corpus._shown(k, "a") for k in range(80)]
    assert sum("poster" in facts.id for facts in shown) == 10
    corpus.draw_corpus(tmp_path, "scenes", 60)
    drawn, plain = np.load(tmp_path / "scenes-images.npy"), 0
    for k, picture in enumerate(drawn):
        facts = corpus._shown(k // 2, "ab"[k % 2])
        assert (picture == np.asarray(add_posts(render(facts), facts))).all()
        plain += (picture == np.asarray(render(facts))).all()
    assert 30 < plain < 60  # the others have posts
