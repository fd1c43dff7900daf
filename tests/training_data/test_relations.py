"""Labels that tell a tower what a patch's thing or character is to the others, held against the scene's own answers."""

import pytest

from training_data.lattice import lattice
from training_data.marks import GRID, PATCH
from training_data.relations import RELATIONS, UNTOLD, relations
from training_data.scenes import questions, scene
from training_data.scenes.facts import COLOURS, SHAPES

SIDE_WORDS = {
    "left": "left",
    "right": "right",
    "above": "above",
    "below": "below",
    "under": "below",
    "inside": "inside",
}
SIDE_WORDS |= {"in": "inside"}


@pytest.fixture(scope="module")
def world():
    return [scene(k, style) for k in range(500) for style in ("a", "b")]


def told(facts, name, thing):
    grid = relations(facts)[list(RELATIONS).index(name)].reshape(GRID, GRID)
    return grid[int(thing.y // PATCH), int(thing.x // PATCH)]


def test_the_neighbour_a_question_asks_for_is_told_where_the_named_thing_stands(world):
    asked = 0
    for facts in world:
        for question in questions(facts):
            if question.family != "relation" or question.need_px < 4:
                continue
            colour, shape = question.answer.split()
            words = question.text.rstrip("?").lower().split()
            named = next(thing for thing in facts.things if thing.shape == words[-1])
            side = next(SIDE_WORDS[word] for word in words if word in SIDE_WORDS)
            assert told(facts, f"{side}_shape", named) == SHAPES.index(shape) + 1
            assert told(facts, f"{side}_colour", named) == COLOURS.index(colour) + 1
            asked += 1
    assert asked > 100


def test_counts_are_told_where_the_counted_things_stand(world):
    asked = 0
    for facts in world:
        assert set(relations(facts)[list(RELATIONS).index("things")]) == {min(len(facts.things), 9)}
        for question in questions(facts):
            words = question.text.rstrip("?.").lower().split()
            kind = next((s for s in SHAPES if {s + "s", s + "es"} & set(words)), None)
            if question.family == "count" and kind:
                alike = [thing for thing in facts.things if thing.shape == kind]
                assert {told(facts, "alike", thing) for thing in alike} == {int(question.answer)}
                asked += 1
    assert asked > 300


def test_every_character_of_a_large_print_knows_its_place_in_the_text(world):
    read = 0
    for facts in world:
        if len(facts.prints) != 1 or facts.prints[0].blur or facts.prints[0].height < 24 or facts.things:
            continue
        grid = dict(zip(RELATIONS, relations(facts).reshape(-1, GRID, GRID), strict=True))
        item = facts.prints[0]
        row = grid["cover_order"][int(item.y // PATCH)]
        places = [int(place) for place in row if place]
        assert places == sorted(places)
        assert set(places) <= set(range(1, len(item.text) + 1)) and max(places) == len(item.text)
        assert set(grid["cover_length"][grid["cover_order"] > 0].tolist()) == {len(item.text)}
        read += 1
    assert read > 5


def test_blurred_print_and_lost_shapes_are_told_nowhere(world):
    lost = [facts for facts in world if facts.lost]
    assert len(lost) > 30
    for facts in lost:
        grid = dict(zip(RELATIONS, relations(facts), strict=True))
        if facts.prints and all(item.blur for item in facts.prints):
            assert not grid["cover_order"].any() and not grid["left_order"].any()
        if facts.arrangement == "inside":
            assert not grid["inside_shape"].any() and grid["inside_colour"].any()


def test_neighbours_are_untold_where_things_stand_in_no_line(world):
    sides = [
        k for k, name in enumerate(RELATIONS) if name.startswith(("left_s", "right_c", "above_", "below_", "inside_"))
    ]
    free = next(facts for facts in world if facts.arrangement == "free" and facts.things)
    assert (relations(free)[sides] == UNTOLD).all()
    assert (relations(free) == UNTOLD).any(1).sum() == 10


@pytest.mark.parametrize("style", ["a", "b"])
def test_a_lattice_stands_in_lines_within_the_canvas_and_tells_every_neighbour(style):
    pairs = 0
    for index in range(40):
        facts = lattice(index, style)
        assert facts == lattice(index, style)
        for thing in facts.things:
            assert 0 < thing.x - thing.size / 2 and thing.x + thing.size / 2 < 96
            assert 0 < thing.y - thing.size / 2 and thing.y + thing.size / 2 < 96
            beside = [t for t in facts.things if abs(t.y - thing.y) < 6 and t.x > thing.x]
            nearest = min(beside, key=lambda t: t.x, default=None)
            expected = SHAPES.index(nearest.shape) + 1 if nearest else 0
            assert told(facts, "right_shape", thing) == expected
            pairs += nearest is not None
    assert pairs > 80
