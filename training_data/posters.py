"""Pictures as people draw them: one large print or shape on plain ground, in the colours that Pillow has by name.

They stand beside scenes in the training corpus, outside the recipe of what a scene is, and nothing is measured on them.
Models that had seen scenes alone read two equal digits side by side as one ("5322" as "532") and called Pillow's brown
red (docs/log.md). Knows drafts. Draws no pixel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib.resources import files

import numpy as np
from PIL import ImageColor

from training_data.scenes.draft import STYLES, Draft, log_uniform, make_ground, number
from training_data.scenes.facts import SHAPES, SIDE, STYLE_NAMES, Scene, StyleName, Tone, luminance

_NAME = "-poster-"
_MARGIN = 3.0  # pixels that stay free around what is shown
_PILLOW = {"a": 3}  # style -> which of its faces is the one that Pillow brings, and most people draw with
_LIKELY = {"cross": 0.2, "square": 0.2}  # shapes of posters: a cross with broad arms is told from a square last


@lru_cache(maxsize=1)
def _words() -> tuple[str, ...]:
    return tuple(files("training_data.scenes").joinpath("words.txt").read_text(encoding="utf-8").split())


def poster(index: int, style: StyleName = "a") -> Scene:
    """Facts of poster `index`: a number, a word or a shape."""
    rng = np.random.default_rng([11, STYLE_NAMES.index(style), index])
    ground = replace(make_ground(rng, STYLES[style], "plain"), clutter=0)
    kind = str(rng.choice(("number", "word", "largest_shape", "largest_colour"), p=(0.55, 0.15, 0.15, 0.15)))
    printed = kind in ("number", "word")
    if rng.random() < (0.6 if printed else 0.2):
        ground = replace(ground, colour="white", tone=STYLES[style].tone(rng, "white"))
    if rng.random() < 0.7:
        ground = replace(ground, tone=_named(ground.colour))
    draft = Draft(rng, style, "train", _words(), ground)
    if printed:
        _add_print(draft, _repeating(rng) if kind == "number" else str(rng.choice(draft.words)))
    else:
        _add_shape(draft)
    _place(draft)
    noise = 0.0 if rng.random() < 0.6 else round(float(rng.uniform(1, 9)), 1)
    seed, name = int(rng.integers(2**31)), f"{style}{_NAME}{index}"
    return Scene(name, style, kind, ground, tuple(draft.things), tuple(draft.prints), (), noise, seed, lost=False)


def is_poster(facts: Scene) -> bool:
    """Whether a poster, and no scene, has these facts."""
    return _NAME in facts.id


def _named(colour: str) -> Tone:
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


def _repeating(rng: np.random.Generator) -> str:
    """A number of one to five digits; in half of those that have two or more, some digit stands twice in a row."""
    digits = number(rng, int(rng.choice((1, 2, 3, 4, 5), p=(0.08, 0.2, 0.3, 0.34, 0.08))))
    if len(digits) > 1 and rng.random() < 0.5:
        place = int(rng.integers(1, len(digits)))
        digits = digits[:place] + digits[place - 1] + digits[place + 1 :]
    return digits


def _add_print(draft: Draft, text: str) -> None:
    height, paper = log_uniform(draft.rng, 12, 66), draft.free_colour() if draft.rng.random() < 0.2 else None
    face = _PILLOW.get(draft.style) if draft.rng.random() < 0.4 else None
    while not draft.prints:
        if not draft.add_print(text, height, paper):
            height *= 0.9
        elif face not in (None, draft.prints[0].font):
            draft.prints.clear()
    item = draft.prints[0]
    if luminance(item.paper_tone or draft.ground.tone) > 150 and draft.rng.random() < 0.6:
        draft.prints[0] = replace(item, ink=(0, 0, 0))


def _add_shape(draft: Draft) -> None:
    rng, colour = draft.rng, draft.colour()
    others = (1 - sum(_LIKELY.values())) / (len(SHAPES) - len(_LIKELY))
    shape = str(rng.choice(SHAPES, p=[_LIKELY.get(name, others) for name in SHAPES]))
    draft.add_thing(shape, colour, log_uniform(rng, 24, SIDE - 2 * _MARGIN))
    if rng.random() < 0.5:
        draft.things[0] = replace(draft.things[0], angle=0.0)
    if rng.random() < 0.7:
        draft.things[0] = replace(draft.things[0], tone=_named(colour))


def _place(draft: Draft) -> None:
    """In the middle or anywhere, half of the time each."""
    [(width, height)] = draft.boxes()
    x = y = SIDE / 2
    if draft.rng.random() < 0.5:
        spare_x, spare_y = (max(0.0, (SIDE - extent) / 2 - _MARGIN) for extent in (width, height))
        x, y = x + draft.rng.uniform(-spare_x, spare_x), y + draft.rng.uniform(-spare_y, spare_y)
    draft.things = [replace(thing, x=round(x, 1), y=round(y, 1)) for thing in draft.things]
    draft.prints = [replace(item, x=round(x, 1), y=round(y, 1)) for item in draft.prints]
