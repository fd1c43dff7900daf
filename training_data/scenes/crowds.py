"""Pictures as full as they get, for teaching a tower what patches hold: no question is asked about them.

Knows drafts and free places. A scene holds about two elements, a crowd fifteen: so many labels more per vision pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from training_data.scenes.draft import STYLES, Draft, log_uniform, make_ground, number
from training_data.scenes.facts import SHAPES, SIDE, Hand, Print, Scene, StyleName, Thing


def crowd(rng: np.random.Generator, name: str, style: StyleName, words: tuple[str, ...]) -> Scene:
    """A picture as full as it gets, for teaching a tower what patches hold: no question is asked about it."""
    draft = Draft(rng, style, "train", words, make_ground(rng, STYLES[style], None))
    taken: list[tuple[float, float, float, float]] = []
    placed: dict[type, list[Any]] = {Thing: [], Print: [], Hand: []}
    misses = 0
    while misses < 12:
        element, width, height = _any_element(draft)
        spot = _free_spot(rng, taken, width, height)
        if spot is None:
            misses += 1
        else:
            taken.append((*spot, width, height))
            placed[type(element)].append(replace(element, x=round(spot[0], 1), y=round(spot[1], 1)))
    noise = 0.0 if rng.random() < 0.4 else float(rng.uniform(1, 9))
    things, prints, hands = (tuple(placed[kind]) for kind in (Thing, Print, Hand))
    seed = int(rng.integers(2**31))
    return Scene(name, style, "crowd", draft.ground, things, prints, hands, round(noise, 1), seed, lost=False)


def _any_element(draft: Draft) -> tuple[Thing | Print | Hand, float, float]:
    """A shape, print or digit of any size, with the width and height it takes."""
    rng, kind = draft.rng, draft.rng.random()
    draft.things, draft.prints, draft.hands = [], [], []
    if kind < 0.35:
        draft.add_thing(str(rng.choice(SHAPES)), draft.colour(), log_uniform(rng, 6, 44))
    elif kind < 0.55:
        draft.add_hand(int(rng.integers(10)), log_uniform(rng, 11, 44))
    else:
        text = str(rng.choice(draft.words)) if rng.random() < 0.4 else number(rng, int(rng.integers(1, 5)))
        paper = draft.colour() if draft.ground.pattern == "photo" or rng.random() < 0.5 else None
        if not draft.add_print(text, log_uniform(rng, 6.5, 34), paper):
            return _any_element(draft)
    elements: list[Thing | Print | Hand] = [*draft.things, *draft.prints, *draft.hands]
    return elements[0], *draft.boxes()[0]


def _free_spot(
    rng: np.random.Generator, taken: list[tuple[float, float, float, float]], width: float, height: float
) -> tuple[float, float] | None:
    half_x, half_y = width / 2 + 1, height / 2 + 1
    if 2 * half_x > SIDE or 2 * half_y > SIDE:
        return None
    for _ in range(25):
        x, y = float(rng.uniform(half_x, SIDE - half_x)), float(rng.uniform(half_y, SIDE - half_y))
        if all(abs(x - u) >= half_x + w / 2 or abs(y - v) >= half_y + h / 2 for u, v, w, h in taken):
            return x, y
    return None
