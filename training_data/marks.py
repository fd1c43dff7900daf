"""What stands in each 8 x 8 patch of a scene: labels that teach a vision tower before any language is learned.

Knows facts and the patch grid. Knows no model and no loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from training_data.scenes.draft import STYLES
from training_data.scenes.facts import COLOURS, PATTERNS, SHAPES, SIDE, Print, Scene

PATCH = 8
GRID = SIDE // PATCH
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FILLED = 0.36  # of its diameter that every shape fills around its centre, each way
_SIZES = (6.0, 11.0, 20.0, 36.0)  # borders between five classes of diameter, pixels

# name of each mark -> number of its classes; class 0 is "none" throughout
MARKS: dict[str, int] = {
    "centre_shape": len(SHAPES) + 1,
    "centre_colour": len(COLOURS) + 1,
    "centre_size": len(_SIZES) + 2,
    "left_character": len(CHARACTERS) + 1,
    "right_character": len(CHARACTERS) + 1,
    "centre_hand": 11,
    "cover_shape": len(SHAPES) + 1,
    "cover_colour": len(COLOURS) + 1,
    "cover_character": len(CHARACTERS) + 1,
    "cover_hand": 11,
    "ground_colour": len(COLOURS) + 1,
    "ground_pattern": len(PATTERNS) + 1,
}


def cell(x: float, y: float) -> tuple[int, int]:
    """Row and column of the patch that holds a point."""
    return int(y // PATCH), int(x // PATCH)


def covered(x: float, y: float, half_x: float, half_y: float) -> np.ndarray:
    """Patches whose centres lie in a box: (GRID, GRID) bool."""
    centres = (np.arange(GRID) + 0.5) * PATCH
    return (np.abs(centres - y) <= half_y)[:, None] & (np.abs(centres - x) <= half_x)[None]


def characters(item: Print, look: ModuleType) -> Iterator[tuple[str, tuple[int, int], np.ndarray]]:
    """Of each character of a print: the half of its patch that its centre is in, that patch, the patches it covers."""
    start = 0.0
    for end in look.advances(item.text, item.font, item.height):
        x = item.x - item.width / 2 + (start + end) / 2
        side = "left" if x % PATCH < PATCH / 2 else "right"
        yield side, cell(x, item.y), covered(x, item.y, (end - start) / 2, item.height / 2)
        start = end


def marks(scene: Scene) -> np.ndarray:
    """(len(MARKS), GRID * GRID) uint8, marks in the order of MARKS, patches in raster order.

    Print and digits that were made unreadable carry no mark: nothing is to be learned from them.
    """
    grids = {name: np.zeros((GRID, GRID), dtype=np.uint8) for name in MARKS}
    grids["ground_colour"][:] = COLOURS.index(scene.ground.colour) + 1 if scene.ground.colour else 0
    grids["ground_pattern"][:] = PATTERNS.index(scene.ground.pattern) + 1
    for thing in scene.things:
        shape, colour = SHAPES.index(thing.shape) + 1, COLOURS.index(thing.colour) + 1
        centre = cell(thing.x, thing.y)
        if thing.size >= 4:
            grids["centre_shape"][centre] = shape
            cover = covered(thing.x, thing.y, thing.size * FILLED, thing.size * FILLED)
            grids["cover_shape"][cover] = shape
            grids["cover_colour"][cover] = colour
        grids["centre_colour"][centre] = colour
        grids["centre_size"][centre] = int(np.searchsorted(_SIZES, thing.size)) + 1
    for hand in scene.hands:
        if hand.blur or hand.size < 6:
            continue
        grids["centre_hand"][cell(hand.x, hand.y)] = hand.value + 1
        grids["cover_hand"][covered(hand.x, hand.y, hand.size * 0.4, hand.size * 0.4)] = hand.value + 1
    _mark_prints(scene, grids)
    return np.stack([grid.reshape(-1) for grid in grids.values()])


def _mark_prints(scene: Scene, grids: dict[str, np.ndarray]) -> None:
    look = STYLES[scene.style]
    for item in scene.prints:
        if item.paper is not None:
            pad = look.sign_pad(item.height)
            box = covered(item.x, item.y, item.width / 2 + pad - 2, item.height / 2 + pad - 2)
            grids["cover_colour"][box] = COLOURS.index(item.paper) + 1
        if item.blur:
            continue
        for character, (side, centre, cover) in zip(item.text, characters(item, look), strict=True):
            code = CHARACTERS.index(character) + 1
            grids[f"{side}_character"][centre] = grids["cover_character"][cover] = code
