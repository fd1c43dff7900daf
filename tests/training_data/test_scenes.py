"""The procedural world: deterministic, balanced, honest about what cannot be read."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from training_data.marks import CHARACTERS, GRID, MARKS, marks
from training_data.scenes import FAMILIES, SIDE, crowded, examples, questions, render, scene
from training_data.scenes.compose import MIX
from training_data.scenes.facts import COLOURS, SHAPES, place_of
from training_data.scenes.hands import pick

FLAT = ("ground", "pattern", "largest_shape", "largest_colour")
STEEP = ("relation", "number", "word", "sign")


@pytest.fixture(scope="module")
def world():
    """1,500 scenes of each style."""
    return {style: [scene(k, style) for k in range(1500)] for style in "ab"}


def test_a_scene_is_a_function_of_its_index():
    first, again = scene(7, "a"), scene(7, "a")
    assert first == again
    assert np.array_equal(np.asarray(render(first)), np.asarray(render(again)))
    assert questions(first) == questions(again)


def test_splits_styles_and_seeds_share_no_scene():
    variants = [scene(3, "a"), scene(3, "b"), scene(3, "a", "test"), scene(3, "a", "calibrate"), scene(3, "a", seed=1)]
    assert len({np.asarray(render(facts)).tobytes() for facts in variants}) == 5


def test_the_mix_is_a_third_flat_a_third_gentle_a_third_steep():
    assert sum(MIX.values()) == pytest.approx(1)
    assert sum(MIX[family] for family in FLAT) == pytest.approx(1 / 3, abs=0.02)
    assert sum(MIX[family] for family in STEEP) == pytest.approx(1 / 3, abs=0.02)


def test_every_example_is_of_its_scenes_family(world):
    for style in "ab":
        first = [questions(facts)[0] for facts in world[style]]
        assert all(question.family == facts.family for question, facts in zip(first, world[style], strict=True))
        share = Counter(question.family for question in first)
        assert all(abs(share[family] / 1500 - MIX[family]) < 0.035 for family in FAMILIES)


def test_a_tenth_or_so_of_the_questions_cannot_be_answered(world):
    for style in "ab":
        lost = np.mean([not questions(facts)[0].answerable for facts in world[style]])
        assert 0.10 <= lost <= 0.15


def test_a_blind_answerer_stays_near_the_prior(world):
    """Answers are balanced within a family: the commonest is right about as often as chance."""
    chance = {"ground": 1 / 11, "pattern": 1 / 5, "largest_shape": 1 / 8, "largest_colour": 1 / 11, "colour": 1 / 10}
    chance |= {"shape": 1 / 8, "count": 1 / 7, "place": 1 / 9, "hand": 1 / 10, "relation": 1 / 70, "word": 0.01}
    for family, prior in (chance | {"number": 0.05, "sign": 0.05}).items():
        answers = [answer for _, answer in _first(world, family)]
        commonest = Counter(answers).most_common(1)[0][1] / len(answers)
        assert commonest < prior + 4 * np.sqrt(prior * (1 - prior) / len(answers)) + 0.05, family


@pytest.mark.parametrize("family", FAMILIES)
def test_the_words_of_a_question_do_not_tell_its_answer(family, world):
    """No more than when answers are dealt out anew among the family's questions: no shape has a place of its own."""
    rows = _first(world, family)
    texts, answers = zip(*rows, strict=True)
    rng = np.random.default_rng(0)
    dealt = [_best_by_text(texts, rng.permutation(answers).tolist()) for _ in range(400)]
    assert _best_by_text(texts, answers) <= np.quantile(dealt, 0.999)


def _first(world, family):
    """(what is asked about, answer) of every scene composed for the family."""
    asked = [questions(facts)[0] for facts in world["a"] + world["b"] if facts.family == family]
    return [(_named(question.text), question.answer) for question in asked]


def _named(text):
    """Shapes, colours and sides in a question; capitals, spelling and wording are drawn apart from the answer."""
    words = text.lower().rstrip("?.").split()
    sides = {"left", "right", "above", "below", "under", "inside"}
    shapes = {shape + plural for shape in SHAPES for plural in ("", "s", "es")}
    return tuple(word for word in words if word in sides or word in shapes or word in COLOURS)


def _best_by_text(texts, answers):
    """How many a blind answerer gets right who knows the commonest answer to each text."""
    told = defaultdict(Counter)
    for text, answer in zip(texts, answers, strict=True):
        told[text][answer] += 1
    return sum(counts.most_common(1)[0][1] for counts in told.values())


def test_need_varies_within_a_template_whatever_the_ground(world):
    """No shortcut: tiny print stands on plain ground, large print behind clutter."""
    cells = Counter()
    for facts in world["a"] + world["b"]:
        if facts.family in ("number", "word") and not facts.lost:
            size = "tiny" if facts.prints[0].height < 11 else "large" if facts.prints[0].height > 18 else ""
            cells[size, facts.ground.clutter > 8] += 1
    assert min(cells["tiny", True], cells["tiny", False], cells["large", True], cells["large", False]) >= 10


def test_elements_lie_within_the_picture_and_apart(world):
    for facts in world["a"] + world["b"]:
        for thing in facts.things:
            assert 2 <= thing.x - thing.size / 2 + 1 and thing.x + thing.size / 2 <= SIDE - 1
        if facts.arrangement == "free":
            for k, one in enumerate(facts.things):
                for other in facts.things[k + 1 :]:
                    assert np.hypot(one.x - other.x, one.y - other.y) > (one.size + other.size) / 2 - 0.2


def test_counting_questions_count_what_is_there(world):
    for facts in world["a"]:
        for question in questions(facts):
            if question.family == "count" and "shapes" in question.text:
                assert question.answer == str(len(facts.things))


def test_places_are_read_off_the_ninths(world):
    for facts in world["b"]:
        if facts.family == "place":
            assert questions(facts)[0].answer == place_of(facts.things[0])


def test_a_replicate_moves_and_regrains_but_asks_the_same():
    facts = next(facts for facts in map(scene, range(99)) if facts.noise > 4)
    plain, moved = np.asarray(render(facts)).astype(int), np.asarray(render(facts, 1)).astype(int)
    assert (plain != moved).mean() > 0.5
    best = min(
        np.abs(np.roll(moved, (dy, dx), (0, 1))[4:-4, 4:-4] - plain[4:-4, 4:-4]).mean()
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    )
    assert best < 2.2 * facts.noise
    assert np.array_equal(np.asarray(render(facts, 1)), moved)


def test_styles_draw_the_same_facts_with_other_pixels(world):
    tones = {style: {thing.tone for facts in world[style] for thing in facts.things} for style in "ab"}
    assert len(tones["a"] & tones["b"]) < 0.02 * len(tones["a"])


def test_every_split_has_handwriting_of_its_own():
    """A router calibrated on digits that the model was trained on would spend too little on other writers' digits."""
    rng = np.random.default_rng(0)
    splits = ("train", "calibrate", "test")
    drawn = [{pick(rng, value, split) for value in range(10) for _ in range(1500)} for split in splits]
    assert sum(map(len, drawn)) == len(set.union(*drawn))
    for split, rows in zip(splits, drawn, strict=True):
        shown = {hand.index for k in range(400) for hand in scene(k, "a", split).hands}
        assert shown and shown <= rows


def test_examples_carry_family_picture_and_facts():
    [first, second] = list(examples(1, "a", "test", start=5, questions_per_picture=2))
    assert first.group == second.group == "a-test-0-5"
    assert first.id != second.id
    assert first.dataset in FAMILIES
    assert {"answerable", "need_px", "clutter", "things", "style"} <= first.meta.keys()
    assert first.picture().size == (SIDE, SIDE)
    assert not np.array_equal(np.asarray(first.image.replicate(1)()), np.asarray(first.image.replicate(2)()))


def test_marks_name_what_stands_in_each_patch(world):
    names = list(MARKS)
    for facts in world["a"][:300]:
        grid = marks(facts)
        assert grid.shape == (len(MARKS), GRID * GRID)
        assert all(row.max() < size for row, size in zip(grid, MARKS.values(), strict=True))
        for thing in facts.things:
            if thing.size >= 4 and facts.arrangement == "free":
                cell = int(thing.y // 8) * GRID + int(thing.x // 8)
                shapes = {
                    SHAPES.index(t.shape) + 1
                    for t in facts.things
                    if (t.x // 8, t.y // 8) == (thing.x // 8, thing.y // 8)
                }
                assert grid[names.index("centre_shape"), cell] in shapes
        readable = [item for item in facts.prints if not item.blur]
        written = "".join(item.text for item in readable)
        seen = np.concatenate([grid[names.index("left_character")], grid[names.index("right_character")]])
        marked = [CHARACTERS[code - 1] for code in seen if code]
        assert not Counter(marked) - Counter(written)
        assert len(marked) >= 0.6 * len(written)


def test_a_crowd_is_full_and_nothing_in_it_overlaps():
    for k in range(20):
        facts = crowded(k, "ab"[k % 2])
        elements = [*facts.things, *facts.prints, *facts.hands]
        assert len(elements) >= 3
        assert all(hand.index < 1300 for hand in facts.hands)
        for n, one in enumerate(facts.things):
            for other in facts.things[n + 1 :]:
                reach = (one.size + other.size) / 2
                assert abs(one.x - other.x) >= reach - 0.2 or abs(one.y - other.y) >= reach - 0.2


def test_colours_in_answers_are_words_everybody_knows():
    assert set(COLOURS) == {*"red orange yellow green blue purple pink brown black white gray".split()}
