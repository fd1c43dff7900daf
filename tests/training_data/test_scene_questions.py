"""Gold answers and what must be seen for them, on scenes made by hand; and that what is said is what is drawn."""

from itertools import combinations

import numpy as np
import pytest

from training_data.scenes import questions, render
from training_data.scenes.facts import SHAPES, SIDE, Ground, Hand, Print, Scene, Thing

WHITE, RED, BLUE, GREEN = (255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 128, 0)


def thing(shape, colour, x, y, size=20.0):
    return Thing(shape, colour, {"red": RED, "blue": BLUE, "green": GREEN}[colour], x, y, size, 0.0)


def printed(text, y, height=12.0, paper=None, blur=0.0):
    tone = {"red": RED, "blue": BLUE}.get(paper)
    return Print(text, 48, y, 30, height, 0, WHITE if paper else (0, 0, 0), paper, tone, blur)


def made(things=(), prints=(), hands=(), arrangement="free", style="a", lost=False, family="pattern"):
    ground = Ground("plain", "white", WHITE, 10, 0, 0)
    return Scene("made", style, family, ground, tuple(things), tuple(prints), tuple(hands), 0.0, 5, lost, arrangement)


def asked(scene):
    """{(family, words): answer}, spelled one way."""
    plain = {}
    for question in questions(scene):
        text = question.text.lower().rstrip("?.").replace("color", "colour")
        plain[question.family, text] = question.answer
    return plain


def answer_to(scene, family, *words):
    """The one answer that the scene gives to a question of this family with these words."""
    found = {a for (own, text), a in asked(scene).items() if own == family and all(w in text.split() for w in words)}
    assert len(found) == 1, (family, words, asked(scene))
    return found.pop()


def test_loose_shapes_are_named_counted_and_placed():
    scene = made([thing("star", "blue", 12, 12), thing("circle", "red", 80, 80, 30.0), thing("star", "green", 12, 80)])
    assert answer_to(scene, "largest_shape") == "circle"
    assert answer_to(scene, "largest_colour") == "red"
    assert answer_to(scene, "colour", "circle") == "red"
    assert answer_to(scene, "shape", "green") == "star"
    assert answer_to(scene, "count", "stars") == "2"
    assert answer_to(scene, "count", "circles") == "1"
    assert answer_to(scene, "count", "shapes") == "3"
    assert answer_to(scene, "place", "circle") == "bottom right"
    assert answer_to(scene, "ground") == "white"
    assert answer_to(scene, "pattern") == "plain"
    assert not any(family == "colour" and "star" in text for family, text in asked(scene))  # there are two
    assert not any(family == "relation" for family, _ in asked(scene))


@pytest.mark.parametrize(
    ("arrangement", "before", "after"), [("row", ("left",), ("right",)), ("column", ("above",), ("below", "under"))]
)
def test_neighbours_are_asked_from_both_sides(arrangement, before, after):
    places = [(16, 48), (48, 48), (80, 48)]
    if arrangement == "column":
        places = [(y, x) for x, y in places]
    shapes = (("heart", "blue"), ("circle", "red"), ("star", "green"))
    things = [thing(shape, colour, *place) for (shape, colour), place in zip(shapes, places, strict=True)]
    scene = made([things[1], things[2], things[0]], arrangement=arrangement)  # order of drawing is no order of places

    def neighbour(of, sides):
        found = {
            answer
            for (family, text), answer in asked(scene).items()
            if family == "relation" and of in text.split() and any(side in text.split() for side in sides)
        }
        return found or None

    assert neighbour("circle", before) == {"blue heart"}
    assert neighbour("circle", after) == {"green star"}
    assert neighbour("heart", after) == {"red circle"}
    assert neighbour("star", before) == {"red circle"}
    assert neighbour("heart", before) is neighbour("star", after) is None


def test_what_is_inside_is_asked_of_the_outer_shape():
    scene = made([thing("circle", "red", 48, 48, 50.0), thing("star", "green", 48, 48, 14.0)], arrangement="inside")
    assert answer_to(scene, "relation", "circle") == "green star"
    [relation] = [question for question in questions(scene) if question.family == "relation"]
    assert relation.need_px == 14
    assert relation.contrast == pytest.approx(abs(0.587 * 128 - 0.299 * 255), abs=0.06)  # on the circle, not on white


def test_print_and_handwriting_are_read():
    signs = made(prints=[printed("408", 20, paper="blue"), printed("71", 70, 8.0, paper="red")])
    assert answer_to(signs, "sign", "blue") == "408"
    assert answer_to(signs, "sign", "red") == "71"
    assert not any(family == "number" for family, _ in asked(signs))
    assert answer_to(made(prints=[printed("6", 40)]), "number") == "6"
    assert answer_to(made(prints=[printed("moss", 40)]), "word") == "moss"
    assert answer_to(made(hands=[Hand(3, 9, 40, 40, 20.0, RED, 0.0)]), "hand") == "9"


def test_what_must_be_seen_is_told():
    scene = made(prints=[printed("408", 20, paper="blue", blur=1.5), printed("moss", 70, 8.0)])
    told = {question.family: question for question in questions(scene)}
    number, word = told["number"], told["word"]
    assert (number.need_px, number.blur, number.contrast) == (12, 1.5, pytest.approx(255 - 0.114 * 255, abs=0.06))
    assert (word.need_px, word.blur, word.contrast) == (8, 0, 255)
    shapes = made([thing("star", "blue", 12, 12, 9.0), thing("circle", "red", 80, 80, 30.0)])
    assert {q.need_px for q in questions(shapes) if q.family == "count"} == {9}


@pytest.mark.parametrize("family", ["number", "word", "hand"])
def test_what_was_made_unreadable_is_not_answerable(family):
    prints, hands = [printed("408" if family == "number" else "moss", 20)], [Hand(3, 9, 40, 70, 20.0, RED, 2.0)]
    scene = made([thing("star", "blue", 12, 12)], [] if family == "hand" else prints, hands, lost=True, family=family)
    answerable = {question.family: question.answerable for question in questions(scene)}
    assert not answerable.pop(family)
    assert all(answerable.values())


@pytest.mark.parametrize("style", ["a", "b"])
def test_shapes_are_drawn_where_and_as_they_are_said_to_be(style):
    masks = {}
    for shape in SHAPES:
        pixels = np.asarray(render(made([thing(shape, "red", 30, 60, 40.0)], style=style))).astype(int)
        masks[shape] = np.abs(pixels - WHITE).sum(axis=2) > 200
        rows, columns = np.nonzero(masks[shape])
        assert abs(rows.mean() - 60) < 5 and abs(columns.mean() - 30) < 5, shape
        assert 26 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 42, shape
        if shape != "ring":
            red, green, blue = pixels[60, 30]
            assert red > 180 and max(green, blue) < 80, shape
    assert not masks["ring"][60, 30]
    for one, other in combinations(SHAPES, 2):
        assert (masks[one] ^ masks[other]).sum() > 60, (one, other)


@pytest.mark.parametrize("style", ["a", "b"])
def test_print_is_drawn_on_its_sign(style):
    pixels = np.asarray(render(made(prints=[printed("408", 30, 14.0, paper="blue")], style=style))).astype(int)
    paper = np.abs(pixels - BLUE).sum(axis=2) < 120
    rows, columns = np.nonzero(paper)
    assert paper.sum() > 300 and abs(rows.mean() - 30) < 4 and abs(columns.mean() - SIDE / 2) < 4
    inside = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (np.abs(inside - WHITE).sum(axis=2) < 120).sum() > 20  # the digits' ink
