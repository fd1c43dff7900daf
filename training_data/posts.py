"""Posts, edges and frames beside what is printed or handwritten: strokes that nobody asks about and that are no 1.

Drawn over pictures of the training corpus, outside the recipe of what a scene is: models that had never seen such a
stroke read it as a digit. Knows facts and pixels. Knows no question.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from training_data.scenes.draft import STYLES
from training_data.scenes.facts import COLOURS, SIDE, Hand, Print, Scene, Thing

_SHARE = 0.45  # of the pictures in which something is read
_GAP = 2.0  # pixels between a stroke and any element, at least
_TRIES = 12
_Box = tuple[float, float, float, float]


def add_posts(picture: Image.Image, scene: Scene) -> Image.Image:
    """A copy with up to three strokes, or a frame, where nothing stands; most pictures are returned as they are."""
    rng = np.random.default_rng([scene.seed, 4])
    if not (scene.prints or scene.hands) or scene.ground.bars or rng.random() >= _SHARE:
        return picture
    picture = picture.copy()
    taken, draw = _taken(scene), ImageDraw.Draw(picture)
    read: Print | Hand = (scene.prints or scene.hands)[-1]
    tone = read.ink if rng.random() < 0.4 else STYLES[scene.style].tone(rng, str(rng.choice(COLOURS)))
    if rng.random() < 0.3:
        frame, width = _frame(rng, taken[-1]), int(rng.integers(1, 4))
        hole = _grown(frame, -width - _GAP)
        if _within(frame, (0, 0, SIDE, SIDE)) and all(_within(box, hole) for box in taken):
            draw.rectangle((frame[0], frame[1], frame[2] - 1, frame[3] - 1), outline=tone, width=width)
        return picture
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(_TRIES):
            stroke = _stroke(rng, taken[-1])
            if all(_apart(stroke, box) for box in taken):
                draw.rectangle((stroke[0], stroke[1], stroke[2] - 1, stroke[3] - 1), fill=tone)
                break
    return picture


def _taken(scene: Scene) -> list[_Box]:
    """(left, top, right, bottom) of every element; what is read comes last."""
    sized: list[Thing | Hand] = [*scene.things, *scene.hands]
    centred = [(one.x, one.y, one.size / 2, one.size / 2) for one in sized]
    for item in scene.prints:
        pad = STYLES[scene.style].sign_pad(item.height) if item.paper else 1.0
        centred.append((item.x, item.y, item.width / 2 + pad, item.height / 2 + pad))
    return [(x - across, y - down, x + across, y + down) for x, y, across, down in centred]


def _frame(rng: np.random.Generator, around: _Box) -> _Box:
    """Along the picture's edges, or close around what is read, half of the time each."""
    if rng.random() < 0.5:
        return _grown((0, 0, SIDE, SIDE), -float(rng.integers(0, 5)))
    left, top, right, bottom = _grown(around, _GAP + rng.uniform(1, 9))
    return round(left), round(top), round(right), round(bottom)


def _stroke(rng: np.random.Generator, beside: _Box) -> _Box:
    """A bar of one to six pixels, upright two times in three, near what is read, anywhere, or at the picture's edge."""
    thick = int(rng.integers(1, 7))
    upright = rng.random() < 2 / 3
    low, high, start, end = (beside[0], beside[2], beside[1], beside[3]) if upright else (*beside[1::2], *beside[::2])
    where = rng.random()
    if where < 0.65:  # beside
        gap = _GAP + rng.uniform(0, 8)
        near = low - gap - thick if rng.random() < 0.5 else high + gap
    else:
        near = float(rng.choice((0, SIDE - thick))) if where < 0.8 else rng.uniform(0, SIDE - thick)
    if rng.random() < 0.4:  # as long as what it stands beside, or from edge to edge, or from one edge
        start, end = start - rng.uniform(0, 6), end + rng.uniform(0, 6)
    else:
        start, end = (0.0, SIDE) if rng.random() < 0.5 else (start - rng.uniform(0, 6), SIDE)
    near, start, end = round(near), round(max(0.0, start)), round(min(SIDE, end))
    return (near, start, near + thick, end) if upright else (start, near, end, near + thick)


def _apart(stroke: _Box, box: _Box) -> bool:
    inside = 0 <= stroke[0] < stroke[2] <= SIDE and 0 <= stroke[1] < stroke[3] <= SIDE
    across = stroke[2] + _GAP <= box[0] or stroke[0] >= box[2] + _GAP
    return inside and (across or stroke[3] + _GAP <= box[1] or stroke[1] >= box[3] + _GAP)


def _within(box: _Box, room: _Box) -> bool:
    return box[0] >= room[0] and box[1] >= room[1] and box[2] <= room[2] and box[3] <= room[3]


def _grown(box: _Box, by: float) -> _Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
