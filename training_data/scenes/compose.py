"""Builds one scene around one family of question.

The target's size, the kind of background and the amount of clutter are drawn independently of each other and of the
family: clutter stands behind large targets, tiny print on plain ground, a busy background under a colour question.
The answer is drawn first, uniformly over its family's answers, so that a question alone tells little. Knows facts and
drafts. Draws no pixel and words no question.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training_data.scenes.draft import STYLES, Draft, log_uniform, make_ground, number
from training_data.scenes.facts import (
    COLOURS,
    PATTERNS,
    SHAPES,
    SIDE,
    Hand,
    Print,
    Scene,
    Split,
    StyleName,
    Thing,
    place_of,
)

# The share of each family: about a third each of families that a trial found flat, gentle and steep in m.
MIX: dict[str, float] = {
    "ground": 0.09,
    "pattern": 0.08,
    "largest_shape": 0.08,
    "largest_colour": 0.08,
    "colour": 0.08,
    "shape": 0.07,
    "count": 0.06,
    "place": 0.06,
    "hand": 0.06,
    "relation": 0.08,
    "number": 0.10,
    "word": 0.07,
    "sign": 0.09,
}
_LOSABLE = dict.fromkeys(("shape", "relation", "hand", "number", "word", "sign"), 0.27)
_HEIGHTS = (7.0, 40.0)


def _extras(draft: Draft, things: int) -> None:
    """Company for the target: shapes in colours of their own, small enough to leave it room."""
    for _ in range(things):
        draft.add_thing(str(draft.rng.choice(SHAPES)), draft.free_colour(), log_uniform(draft.rng, 8, 20))


def _different_shapes(draft: Draft, count: int, target_size: float) -> None:
    """`count` things, no two of one shape or one colour; the first is the target."""
    shapes = draft.rng.permutation(SHAPES)[:count]
    for k, shape in enumerate(shapes):
        draft.add_thing(str(shape), draft.free_colour(), target_size if k == 0 else log_uniform(draft.rng, 8, 26))


def _largest(draft: Draft) -> None:
    size = log_uniform(draft.rng, 14, 80)
    draft.add_thing(str(draft.rng.choice(SHAPES)), draft.colour(), size)
    for _ in range(int(draft.rng.integers(0, 5))):
        draft.add_thing(
            str(draft.rng.choice(SHAPES)), draft.free_colour(), log_uniform(draft.rng, 6, max(7.0, size * 0.6))
        )


def _count(draft: Draft) -> None:
    asked = int(draft.rng.integers(1, 8))
    shape, others = str(draft.rng.choice(SHAPES)), 0 if draft.rng.random() < 0.5 else int(draft.rng.integers(1, 4))
    top = 26 if asked + others < 5 else 18
    one_colour = draft.colour() if draft.rng.random() < 0.5 else None
    for _ in range(asked):
        draft.add_thing(shape, one_colour or draft.colour(), log_uniform(draft.rng, 8, top))
    for _ in range(others):
        other = str(draft.rng.choice([name for name in SHAPES if name != shape]))
        draft.add_thing(other, draft.colour(), log_uniform(draft.rng, 8, top))


def _relation(draft: Draft) -> None:
    """A row, a column, or one thing inside another."""
    rng = draft.rng
    draft.arrangement = str(rng.choice(("row", "column", "inside"), p=(0.35, 0.35, 0.3)))
    if draft.arrangement == "inside":
        outer = log_uniform(rng, 28, 66)
        draft.add_thing(str(rng.choice(("circle", "square", "triangle", "diamond"))), draft.free_colour(), outer)
        inner = 2.0 if draft.lost else max(8.0, outer * rng.uniform(0.22, 0.38))
        draft.add_thing(str(rng.choice([s for s in SHAPES if s != draft.things[0].shape])), draft.free_colour(), inner)
        return
    count, size = int(rng.integers(2, 5)), log_uniform(rng, 9, 20)
    for k, shape in enumerate(rng.permutation(SHAPES)[:count]):
        draft.add_thing(
            str(shape), draft.free_colour(), 2.0 if draft.lost and k == 0 else size * rng.uniform(0.85, 1.15)
        )


def _lost_height(draft: Draft) -> tuple[float, float]:
    """Height and blur of print that nobody can read: too small, or blurred beyond its strokes."""
    if draft.rng.random() < 0.5:
        return 3.0, 0.6
    height = log_uniform(draft.rng, 8, 20)
    return height, height * 0.45


def _lettering(draft: Draft, text: str, paper: str | None, top: float = _HEIGHTS[1]) -> bool:
    height, blur = _lost_height(draft) if draft.lost else (log_uniform(draft.rng, _HEIGHTS[0], top), 0.0)
    for _ in range(12):
        if draft.add_print(text, height, paper, blur):
            return True
        height *= 0.85
    return False


def _printed(draft: Draft, family: str) -> None:
    rng = draft.rng
    paper = draft.free_colour() if draft.ground.pattern == "photo" or rng.random() < 0.35 else None
    text = (
        str(rng.choice(draft.words))
        if family == "word"
        else number(rng, int(rng.choice((1, 2, 3, 4), p=(0.2, 0.3, 0.3, 0.2))))
    )
    _lettering(draft, text, paper, top=64 if len(text) <= 2 and family == "number" else 40)
    if rng.random() < 0.2:  # the other kind of print beside it
        other = str(rng.choice(draft.words)) if family == "number" else number(rng, 2)
        draft.add_print(other, log_uniform(rng, 7, 12), None if paper is None else draft.free_colour())
    _extras(draft, int(rng.integers(0, 4)))


def _signs(draft: Draft) -> None:
    for _ in range(int(draft.rng.integers(2, 4))):
        paper = str(draft.rng.choice([c for c in COLOURS if c not in {item.paper for item in draft.prints}]))
        _lettering(draft, number(draft.rng, int(draft.rng.integers(1, 4))), paper, top=22)
    _extras(draft, int(draft.rng.integers(0, 2)))


def _hand(draft: Draft) -> None:
    small = draft.lost and draft.rng.random() < 0.5
    size = 4.0 if small else log_uniform(draft.rng, 12, 56)
    draft.add_hand(int(draft.rng.integers(10)), size, blur=0.0 if small or not draft.lost else size * 0.3)
    _extras(draft, int(draft.rng.integers(0, 3)))


def _build(draft: Draft, family: str) -> None:
    rng = draft.rng
    if family in ("ground", "pattern"):
        if rng.random() < 0.25:
            _printed(draft, "number")
        else:
            _extras(draft, int(rng.integers(0, 6)))
    elif family in ("largest_shape", "largest_colour"):
        _largest(draft)
    elif family in ("colour", "place"):
        _different_shapes(draft, int(rng.integers(1, 7)), log_uniform(rng, 8, 42 if family == "colour" else 22))
    elif family == "shape":
        _different_shapes(draft, int(rng.integers(1, 7)), 2.0 if draft.lost else log_uniform(rng, 8, 42))
    elif family == "count":
        _count(draft)
    elif family == "relation":
        _relation(draft)
    elif family in ("number", "word"):
        _printed(draft, family)
    elif family == "sign":
        _signs(draft)
    else:
        _hand(draft)


def _line_up(draft: Draft) -> list[tuple[float, float]] | None:
    """Centres for a row, a column or a nest; None where they do not fit."""
    rng, sizes = draft.rng, [thing.size for thing in draft.things]
    if draft.arrangement == "inside":
        margin = sizes[0] / 2 + 3
        x, y = rng.uniform(margin, SIDE - margin, 2)
        return [
            (float(x), float(y)),
            (float(x), float(y + (sizes[0] * 0.08 if draft.things[0].shape == "triangle" else 0))),
        ]
    gap = rng.uniform(3, 14)
    length = sum(sizes) + gap * (len(sizes) - 1)
    if length > SIDE - 6:
        return None
    start, across = rng.uniform(3, SIDE - 3 - length), rng.uniform(14, SIDE - 14)
    centres = []
    for size in sizes:
        centres.append((float(start + size / 2), float(across + rng.uniform(-2, 2))))
        start += size + gap
    order = rng.permutation(len(centres))
    return [centres[k] if draft.arrangement == "row" else centres[k][::-1] for k in order]


def _settle(draft: Draft, must: int) -> bool:
    """Give every element its place, dropping company that does not fit; False when the target itself does not."""
    if draft.arrangement != "free":
        centres = _line_up(draft)
    else:
        centres = draft.look.place(draft.rng, draft.boxes())
        while centres is None and len(draft.things) > must:
            draft.things.pop()
            centres = draft.look.place(draft.rng, draft.boxes())
    if centres is None:
        return False
    places = iter([(round(x, 1), round(y, 1)) for x, y in centres])
    draft.things = [replace(thing, x=x, y=y) for thing, (x, y) in zip(draft.things, places, strict=False)]
    draft.prints = [replace(item, x=x, y=y) for item, (x, y) in zip(draft.prints, places, strict=False)]
    draft.hands = [replace(hand, x=x, y=y) for hand, (x, y) in zip(draft.hands, places, strict=False)]
    return True


def _add_bars(draft: Draft) -> None:
    """Bars as wide as the free space around the elements allows, at most a quarter of the canvas each."""
    across = bool(draft.rng.random() < 0.5)
    elements: list[Thing | Print | Hand] = [*draft.things, *draft.prints, *draft.hands]
    spare = SIDE / 4
    for element, box in zip(elements, draft.boxes(), strict=True):
        centre, reach = (element.y, box[1] / 2) if across else (element.x, box[0] / 2)
        spare = min(spare, centre - reach - 3, SIDE - centre - reach - 3)
    if spare >= 4:
        draft.ground = replace(draft.ground, bars=int(draft.rng.integers(3, int(spare) + 1)), bars_across=across)


def compose(rng: np.random.Generator, name: str, style: StyleName, words: tuple[str, ...], split: Split) -> Scene:
    """One scene called `name`; every choice comes from `rng`."""
    family = str(rng.choice(list(MIX), p=np.array(list(MIX.values())) / sum(MIX.values())))
    # Balanced answers: the pattern is drawn uniformly for its own family, by the usual weights elsewhere.
    pattern = str(rng.choice(PATTERNS)) if family == "pattern" else None
    lost = bool(rng.random() < _LOSABLE.get(family, 0.0))
    while True:
        ground = make_ground(rng, STYLES[style], pattern)
        if family == "ground" and ground.pattern == "photo":
            continue
        draft = Draft(rng, style, split, words, ground, lost=lost)
        _build(draft, family)
        must = {"count": len(draft.things), "ground": 0, "pattern": 0, "number": 0, "word": 0, "sign": 0, "hand": 0}
        wanted_prints = {"number": 1, "word": 1, "sign": 2}.get(family, 0)
        if len(draft.prints) < wanted_prints or not _settle(draft, must.get(family, 1)):
            continue
        if family != "place" or place_of(draft.things[0]) is not None:
            break
    if family != "place" and rng.random() < 0.3:
        _add_bars(draft)
    ground = draft.ground
    noise = 0.0 if rng.random() < 0.4 else float(rng.uniform(1, 9))
    elements = (tuple(draft.things), tuple(draft.prints), tuple(draft.hands))
    return Scene(
        name, style, family, ground, *elements, round(noise, 1), int(rng.integers(2**31)), lost, draft.arrangement
    )
