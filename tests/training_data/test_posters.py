"""Posters, sketches and posts: pictures of the corpus beside scenes, held against what they claim to show."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import ImageColor

from training_data import corpus, sketches
from training_data.posters import is_poster, poster
from training_data.posts import add_posts
from training_data.relations import RELATIONS, relations
from training_data.scenes import SIDE, questions, render, scene
from training_data.scenes.draft import STYLES
from training_data.scenes.facts import COLOURS, luminance
from training_data.sketches import sketch


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


def test_many_posters_are_printed_in_the_face_that_pillow_brings():
    prints = [item for k in range(600) for item in poster(k, "a").prints]
    assert 0.45 < np.mean([STYLES["a"].font(item.font, 20.0).getname()[0] == "Aileron" for item in prints]) < 0.65


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


def test_a_frame_goes_along_the_edges_or_close_around_what_is_read():
    close = wide = 0
    for facts in (poster(k, "a") for k in range(900)):
        if not facts.prints:
            continue
        before = np.asarray(render(facts)).astype(int)
        changed = (before != np.asarray(add_posts(render(facts), facts)).astype(int)).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if not changed.any():
            continue
        top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
        sides = (changed[top, left : right + 1], changed[bottom, left : right + 1])
        sides += (changed[top : bottom + 1, left], changed[top : bottom + 1, right])
        if not all(side.all() for side in sides):
            continue  # no frame
        [(x, y, across, down)] = boxes(facts)
        gaps = np.array([x - across - left, right + 1 - x - across, y - down - top, bottom + 1 - y - down])
        wide += bool(top == left and bottom == right == SIDE - 1 - top)
        close += bool(gaps.max() <= 13 and gaps.min() >= 2)
    assert close > 20 and wide > 20


def test_posts_are_the_same_every_time_and_tell_no_tower_anything():
    facts = next(f for f in map(poster, range(200)) if add_posts(render(f), f).tobytes() != render(f).tobytes())
    assert add_posts(render(facts), facts).tobytes() == add_posts(render(facts), facts).tobytes()
    order = relations(facts)[list(RELATIONS).index("cover_order")]
    assert order.max() <= len(facts.prints[0].text)


def test_the_ground_of_a_poster_has_the_colour_that_is_asked_for(posters):
    named = {name: ImageColor.getrgb(name) for name in COLOURS}
    for facts in posters:
        look = STYLES[facts.style]
        rng = np.random.default_rng(0)
        shades = np.array([look.tone(rng, facts.ground.colour) for _ in range(200)] + [named[facts.ground.colour]])
        assert np.abs(shades - facts.ground.tone).max(axis=1).min() < 25


def test_a_sketch_shows_what_its_poster_says_where_it_says(posters):
    for facts in posters:
        pixels, ground = np.asarray(sketch(facts)).astype(int), np.array(facts.ground.tone)
        changed = np.abs(pixels - ground).max(axis=-1) > 8
        [(x, y, across, down)] = boxes(facts)
        inside = np.zeros_like(changed)
        reach = 5  # a corner moves by half a patch at most when it is put on the grid
        inside[
            max(0, round(y - down) - reach) : round(y + down) + reach,
            max(0, round(x - across) - reach) : round(x + across) + reach,
        ] = True
        assert not (changed & ~inside).any()
        assert changed[inside].mean() > 0.02, facts.id
        for thing in facts.things:
            shown = np.abs(pixels - np.array(thing.tone)).max(axis=-1)[inside] < 40
            assert shown.mean() > 0.12, facts.id


def test_sketched_crosses_have_many_proportions_and_some_lie_on_the_grid():
    arms, on_grid = [], 0
    for facts in (poster(k, style) for k in range(4_000) for style in ("a", "b")):
        if not facts.things or facts.things[0].shape != "cross" or facts.things[0].angle:
            continue
        thing, picture = facts.things[0], np.asarray(sketch(facts)).astype(int)
        shown = (
            np.abs(picture - facts.ground.tone).max(axis=-1)
            > 0.5 * np.abs(np.array(thing.tone) - facts.ground.tone).max()
        )
        columns = shown.sum(axis=0)
        arms.append(columns[columns > 0].min() / shown.any(axis=1).sum())
        edges = np.flatnonzero(np.diff(columns))
        on_grid += len(edges) == 4 and all(min((edge + 1) % 4, -(edge + 1) % 4) <= 1 for edge in edges)
    assert len(arms) > 30
    assert min(arms) < 0.25 and max(arms) > 0.38
    rng = np.random.default_rng(0)
    drawn = [upright[1] for upright, _ in (sketches._parts("cross", rng) for _ in range(200))]
    shares = [arm / -reach for arm, reach in drawn]
    assert min(shares) < 0.2 and max(shares) > 0.42
    assert 0.4 * len(arms) < on_grid


def test_a_sketched_heart_is_whole_and_never_put_on_the_grid(monkeypatch):
    monkeypatch.setattr(sketches, "_snapped", lambda thing, corners: pytest.fail(thing.shape))
    hearts = [facts for facts in map(poster, range(2_500)) if facts.things and facts.things[0].shape == "heart"]
    assert len([sketch(facts) for facts in hearts if facts.things[0].angle == 0]) > 20


def test_a_sketch_is_the_same_every_time(posters):
    for facts in posters[:20]:
        assert sketch(facts).tobytes() == sketch(facts).tobytes()


def test_one_scene_of_a_corpus_in_six_is_a_poster_and_most_of_these_are_sketched(tmp_path):
    shown = [corpus._shown(k, "a") for k in range(240)]
    assert [is_poster(facts) for facts in shown] == [k % 6 == 0 for k in range(240)]
    sketched = [corpus._picture(facts).tobytes() == sketch(facts).tobytes() for facts in shown if is_poster(facts)]
    assert 0.5 < np.mean(sketched) < 0.95
    corpus.draw_corpus(tmp_path, "scenes", 60)
    drawn, plain = np.load(tmp_path / "scenes-images.npy"), 0
    for k, picture in enumerate(drawn):
        facts = corpus._shown(k // 2, "ab"[k % 2])
        expected = corpus._picture(facts)
        assert is_poster(facts) or expected.tobytes() == render(facts).tobytes()
        assert (picture == np.asarray(add_posts(expected, facts))).all()
        plain += (picture == np.asarray(expected)).all()
    assert 30 < plain < 60  # the others have posts
