"""Every question that a scene answers, worded in several ways, the one it was composed for first.

Knows facts and words. Draws nothing; chooses nothing about the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from training_data.scenes.facts import SIDE, Hand, Print, Question, Scene, Thing, luminance, place_of

_WORDINGS: dict[str, tuple[str, ...]] = {
    "ground": ("what colour is the background", "what is the background colour", "which colour is the background"),
    "pattern": ("what pattern is the background", "what pattern does the background have"),
    "largest_shape": ("what is the largest shape", "which shape is the largest", "what shape is the biggest"),
    "only_shape": ("what shape is this", "what shape is in the picture", "which shape is it", "what is the shape"),
    "largest_colour": ("what colour is the largest shape", "what colour is the biggest shape"),
    "only_colour": ("what colour is the shape", "what colour is it"),
    "colour": ("what colour is the {0}", "which colour is the {0}", "what is the colour of the {0}"),
    "shape": ("what shape is {0}", "which shape is {0}", "what is the {0} shape"),
    "count": ("how many {0} are there", "how many {0} do you see", "how many {0} are in the picture", "count the {0}"),
    "place": ("where is the {0}", "where in the picture is the {0}"),
    "hand": ("what digit is handwritten", "which digit is written by hand", "what handwritten digit is this"),
    "left": ("what is left of the {0}", "what is to the left of the {0}"),
    "right": ("what is right of the {0}", "what is to the right of the {0}"),
    "above": ("what is above the {0}",),
    "below": ("what is below the {0}", "what is under the {0}"),
    "inside": ("what is inside the {0}", "what is in the {0}"),
    "number": ("what number is written", "what number is printed", "which number is shown", "read the number"),
    "word": ("what word is written", "what word is printed", "what does it say", "read the word"),
    "sign": ("what number is on the {0} sign", "what number is written on the {0} sign"),
}


class _Found(NamedTuple):
    """What can be asked: the words, the answer, and what must be seen for it; nothing where the background is asked."""

    family: str
    wording: str
    about: str
    answer: str
    seen: tuple[Thing | Print | Hand, ...] = ()


def _plural(shape: str) -> str:
    return "crosses" if shape == "cross" else shape + "s"


def _word(rng: np.random.Generator, wording: str, about: str) -> str:
    """One wording; half of them as people type: capital letter, question mark, American spelling."""
    choices = _WORDINGS[wording]
    text = choices[int(rng.integers(len(choices)))].format(about)
    if rng.random() < 0.3:
        text = text.replace("colour", "color")
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.3:
        text += "." if text.lower().startswith(("read", "count")) else "?"
    return text


def _named(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _neighbours(scene: Scene) -> Iterator[tuple[str, Thing, Thing]]:
    """(wording, asked about, answer) for a lined-up or nested scene."""
    if scene.arrangement == "inside":
        yield "inside", scene.things[0], scene.things[1]
        return
    before, after = ("left", "right") if scene.arrangement == "row" else ("above", "below")
    ordered = sorted(scene.things, key=lambda thing: thing.x if scene.arrangement == "row" else thing.y)
    for first, second in pairwise(ordered):
        yield after, first, second
        yield before, second, first


def _about_things(scene: Scene) -> Iterator[_Found]:
    things = scene.things
    shapes, colours = Counter(t.shape for t in things), Counter(t.colour for t in things)
    by_size = sorted(things, key=lambda thing: -thing.size)
    if things and (len(things) == 1 or by_size[0].size > 1.35 * by_size[1].size) and scene.arrangement == "free":
        alone = len(things) == 1
        largest = by_size[0]
        yield _Found("largest_shape", "only_shape" if alone else "largest_shape", "", largest.shape, (largest,))
        yield _Found("largest_colour", "only_colour" if alone else "largest_colour", "", largest.colour, (largest,))
    signs = {item.paper for item in scene.prints}
    for thing in things:
        if shapes[thing.shape] == 1:
            yield _Found("colour", "colour", thing.shape, thing.colour, (thing,))
            place = place_of(thing)
            if place is not None and not scene.ground.bars:
                yield _Found("place", "place", thing.shape, place, (thing,))
        if colours[thing.colour] == 1 and thing.colour not in signs and thing.colour != scene.ground.colour:
            yield _Found("shape", "shape", thing.colour, thing.shape, (thing,))
    if things and scene.arrangement == "free":
        if len(things) < 9:
            yield _Found("count", "count", "shapes", str(len(things)), things)
        for shape, number in shapes.items():
            yield _Found("count", "count", _plural(shape), str(number), things)
    if scene.arrangement != "free":
        for wording, asked, answer in _neighbours(scene):
            yield _Found("relation", wording, asked.shape, _named(answer), (asked, answer))


def _about_print(scene: Scene) -> Iterator[_Found]:
    numbers = [item for item in scene.prints if item.is_number]
    words = [item for item in scene.prints if not item.is_number]
    if len(numbers) == 1:
        yield _Found("number", "number", "", numbers[0].text, (numbers[0],))
    elif len(numbers) > 1:
        for item in numbers:
            if item.paper is not None:
                yield _Found("sign", "sign", item.paper, item.text, (item,))
    if len(words) == 1:
        yield _Found("word", "word", "", words[0].text, (words[0],))
    if len(scene.hands) == 1:
        yield _Found("hand", "hand", "", str(scene.hands[0].value), (scene.hands[0],))


def _lost(scene: Scene, family: str, need: float) -> bool:
    """Whether this question asks for the very element that was made unreadable."""
    if not scene.lost or family in ("ground", "pattern", "colour", "count", "place"):
        return False
    if family in ("shape", "relation"):
        return need < 4
    if family in ("number", "word", "sign", "hand"):
        return family == scene.family
    return False


def questions(scene: Scene) -> list[Question]:
    """All questions on a scene, those of its own family first, otherwise in a seeded order."""
    rng = np.random.default_rng([scene.seed, 1])
    found = list(_about_things(scene)) + list(_about_print(scene))
    if scene.ground.colour:
        found.append(_Found("ground", "ground", "", scene.ground.colour))
    found.append(_Found("pattern", "pattern", "", scene.ground.pattern))
    asked = [_asked(scene, one, _word(rng, one.wording, one.about)) for one in found]
    shuffled = [asked[k] for k in rng.permutation(len(asked))]
    target = _target(scene)
    return sorted(shuffled, key=lambda question: (question.family != scene.family, question.answer != target))


def _asked(scene: Scene, found: _Found, text: str) -> Question:
    background = float(SIDE if found.family == "ground" else scene.ground.period)
    need = min((_size(element) for element in found.seen), default=background)
    contrast = min((_contrast(scene, element) for element in found.seen), default=255.0)
    blur = max((0.0 if isinstance(element, Thing) else element.blur for element in found.seen), default=0.0)
    answerable = not _lost(scene, found.family, need)
    return Question(found.family, text, found.answer, answerable, need, round(contrast, 1), blur)


def _size(element: Thing | Print | Hand) -> float:
    return element.height if isinstance(element, Print) else element.size


def _contrast(scene: Scene, element: Thing | Print | Hand) -> float:
    """Difference in luma from the paper, the shape around it, or the background's first tone."""
    mark = element.tone if isinstance(element, Thing) else element.ink
    under = scene.ground.tone
    if isinstance(element, Print) and element.paper_tone is not None:
        under = element.paper_tone
    elif scene.arrangement == "inside" and element is scene.things[1]:
        under = scene.things[0].tone
    return abs(luminance(mark) - luminance(under))


def _target(scene: Scene) -> str | None:
    """The answer that the scene was balanced for, where its family could ask for several."""
    if scene.family == "colour":
        return scene.things[0].colour
    if scene.family == "shape":
        return scene.things[0].shape
    if scene.family == "place":
        return place_of(scene.things[0])
    if scene.family == "relation" and scene.lost:
        return _named(scene.things[0] if scene.arrangement != "inside" else scene.things[1])
    if scene.family == "count":
        return str(Counter(thing.shape for thing in scene.things)[scene.things[0].shape])
    return None
