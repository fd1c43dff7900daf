"""What each patch's thing or character is to the others: neighbours, how many of its kind, its place in its text.

Labels beside those of `training_data.marks`. A tower that is asked only what stands in a patch leaves comparing
places and counting to a small language model, which learned neither: of three things in a row it named any of the other
two (docs/log.md). Knows facts and the patch grid. Knows no model and no loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

import numpy as np

from training_data.marks import FILLED, GRID, PATCH, cell, characters, covered
from training_data.scenes.draft import STYLES
from training_data.scenes.facts import COLOURS, SHAPES, Scene, Thing

UNTOLD = 255  # nothing is asked of this patch
_MOST = 9  # counts and places in a text beyond it share its class
_ABREAST = float(PATCH)  # centres at most so far apart across a line are of one line
_SIDES = ("left", "right", "above", "below", "inside")

# name of each relation -> number of its classes; class 0 is "none" throughout
RELATIONS: dict[str, int] = {
    **{f"{side}_{what}": len(names) + 1 for side in _SIDES for what, names in (("shape", SHAPES), ("colour", COLOURS))},
    "alike": _MOST + 1,  # things of this thing's shape
    "things": _MOST + 1,  # in the whole picture, told in every patch
    "left_order": _MOST + 1,  # which character of its text stands in the patch's left half, from 1
    "right_order": _MOST + 1,
    "cover_order": _MOST + 1,
    "cover_length": _MOST + 1,  # of the text that covers the patch
}


def relations(scene: Scene) -> np.ndarray:
    """(len(RELATIONS), GRID * GRID) uint8, relations in the order of RELATIONS, patches in raster order.

    As in `marks`, what cannot be made out (shapes below four pixels, blurred print) is told nowhere. Where things stand
    in no line, neighbours are UNTOLD.
    """
    grids = {name: np.zeros((GRID, GRID), dtype=np.uint8) for name in RELATIONS}
    grids["things"][:] = min(len(scene.things), _MOST)
    alike = Counter(thing.shape for thing in scene.things)
    for thing in scene.things:
        grids["alike"][_own(thing)] = min(alike[thing.shape], _MOST)
    if scene.arrangement == "free":
        for side, what in product(_SIDES, ("shape", "colour")):
            grids[f"{side}_{what}"][:] = UNTOLD
    else:
        for thing, side, other in _neighbours(scene):
            own = _own(thing)
            grids[f"{side}_shape"][own] = SHAPES.index(other.shape) + 1 if other.size >= 4 else 0
            grids[f"{side}_colour"][own] = COLOURS.index(other.colour) + 1
    for item in scene.prints:
        if item.blur:
            continue
        for place, (side, centre, cover) in enumerate(characters(item, STYLES[scene.style]), 1):
            grids[f"{side}_order"][centre] = grids["cover_order"][cover] = min(place, _MOST)
            grids["cover_length"][cover] = min(len(item.text), _MOST)
    return np.stack([grid.reshape(-1) for grid in grids.values()])


def _own(thing: Thing) -> np.ndarray:
    """Patches that tell of a thing: those it covers, and that of its centre."""
    own = covered(thing.x, thing.y, thing.size * FILLED, thing.size * FILLED)
    own[cell(thing.x, thing.y)] = True
    return own


def _neighbours(scene: Scene) -> Iterator[tuple[Thing, str, Thing]]:
    """(thing, side, the nearest that stands abreast there) for things in lines, or one inside another."""
    if scene.arrangement == "inside":
        yield scene.things[0], "inside", scene.things[1]
        return
    for thing in scene.things:
        across = [other for other in scene.things if abs(other.y - thing.y) <= _ABREAST]
        down = [other for other in scene.things if abs(other.x - thing.x) <= _ABREAST]
        nearest = {
            "left": max((other for other in across if other.x < thing.x), key=lambda other: other.x, default=None),
            "right": min((other for other in across if other.x > thing.x), key=lambda other: other.x, default=None),
            "above": max((other for other in down if other.y < thing.y), key=lambda other: other.y, default=None),
            "below": min((other for other in down if other.y > thing.y), key=lambda other: other.y, default=None),
        }
        yield from ((thing, side, other) for side, other in nearest.items() if other is not None)
