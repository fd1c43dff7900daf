"""Style a: saturated colours, flat fills with an outline now and then, upright sans-serif print, free layout.

Draws facts; decides nothing about them. Drawn straight on the pixel grid, so edges are hard.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training_data.scenes.facts import SIDE, Print, Thing, Tone

FONTS = Path(__file__).resolve().parent.parent / "fonts"
PALETTE: dict[str, tuple[Tone, ...]] = {
    "red": ((225, 30, 30), (255, 0, 0)),
    "orange": ((245, 135, 20), (255, 165, 0)),
    "yellow": ((250, 220, 40), (255, 255, 0)),
    "green": ((30, 160, 50), (0, 128, 0), (20, 220, 40)),
    "blue": ((30, 70, 220), (0, 0, 255), (20, 30, 150)),
    "purple": ((130, 40, 165), (128, 0, 128)),
    "pink": ((250, 135, 190), (255, 192, 203)),
    "brown": ((130, 75, 35), (110, 55, 25)),
    "black": ((18, 18, 18), (0, 0, 0)),
    "white": ((245, 245, 245), (255, 255, 255)),
    "gray": ((135, 135, 135), (160, 160, 160)),
}
_JITTER = 14
_FACES = ("DejaVuSans-Bold.ttf", "Roboto-Regular.ttf", "ComicNeue-Bold.otf", None)  # None: Pillow's own Aileron
_CAPITAL = (0.73, 0.71, 0.67, 0.71)  # a capital's height as a share of the font size


def tone(rng: np.random.Generator, colour: str) -> Tone:
    """A shade that a person would call `colour`."""
    anchors = PALETTE[colour]
    anchor = np.array(anchors[int(rng.integers(len(anchors)))])
    red, green, blue = np.clip(anchor + rng.integers(-_JITTER, _JITTER + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def fonts() -> int:
    """How many faces there are."""
    return len(_FACES)


@lru_cache(maxsize=512)
def font(index: int, height: float) -> ImageFont.FreeTypeFont:
    """The face whose capitals are `height` pixels tall."""
    size = max(3.0, height / _CAPITAL[index])
    face = _FACES[index]
    if face is None:
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    return ImageFont.truetype(FONTS / face, size)


def advances(text: str, index: int, height: float) -> list[float]:
    """Where each character ends, in pixels from the start of the print: len(text) ascending numbers."""
    face = font(index, height)
    return [face.getlength(text[: end + 1]) for end in range(len(text))]


def place(rng: np.random.Generator, boxes: Sequence[tuple[float, float]]) -> list[tuple[float, float]] | None:
    """Centres for boxes (width, height) that neither touch nor leave the canvas; None when they do not fit."""
    taken: list[tuple[float, float, float, float]] = []
    for width, height in boxes:
        half_x, half_y = width / 2 + 1.5, height / 2 + 1.5
        if 2 * half_x > SIDE - 4 or 2 * half_y > SIDE - 4:
            return None
        for _ in range(40):
            x, y = rng.uniform(half_x + 2, SIDE - 2 - half_x), rng.uniform(half_y + 2, SIDE - 2 - half_y)
            if all(abs(x - u) >= half_x + p or abs(y - v) >= half_y + q for u, v, p, q in taken):
                taken.append((x, y, half_x, half_y))
                break
        else:
            return None
    return [(x, y) for x, y, _, _ in taken]


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners of a shape within the unit circle, y downwards."""
    turn = np.pi * 2
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "diamond":
        return [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]
    if shape == "triangle":
        return [(np.sin(turn * k / 3), -np.cos(turn * k / 3)) for k in range(3)]
    if shape == "star":
        radii = (1.0, 0.42)
        return [(radii[k % 2] * np.sin(turn * k / 10), -radii[k % 2] * np.cos(turn * k / 10)) for k in range(10)]
    if shape == "cross":
        a, b = 0.3, 0.95
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    angles = np.linspace(0, turn, 32, endpoint=False)
    x = 16 * np.sin(angles) ** 3
    y = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
    return [(float(u) / 17, -float(v + 2.5) / 17) for u, v in zip(x, y, strict=True)]


def draw_thing(picture: Image.Image, thing: Thing, edge: Tone | None) -> None:
    """Fill one shape; `edge` outlines it, for grounds on which its colour could drown."""
    draw = ImageDraw.Draw(picture)
    radius = thing.size / 2
    box = (thing.x - radius, thing.y - radius, thing.x + radius, thing.y + radius)
    if thing.shape == "circle":
        draw.ellipse(box, fill=thing.tone, outline=edge)
        return
    if thing.shape == "ring":
        draw.ellipse(box, outline=thing.tone, width=max(1, round(radius * 0.42)))
        return
    angle = np.deg2rad(thing.angle)
    cos, sin = float(np.cos(angle)) * radius, float(np.sin(angle)) * radius
    corners = [(thing.x + u * cos - v * sin, thing.y + u * sin + v * cos) for u, v in _outline(thing.shape)]
    draw.polygon(corners, fill=thing.tone, outline=edge)


def draw_print(picture: Image.Image, item: Print) -> None:
    """Letter one number or word, on its sign where it has one."""
    draw = ImageDraw.Draw(picture)
    if item.paper_tone is not None:
        pad = sign_pad(item.height)
        half_x, half_y = item.width / 2 + pad, item.height / 2 + pad
        box = (item.x - half_x, item.y - half_y, item.x + half_x, item.y + half_y)
        draw.rectangle(box, fill=item.paper_tone, outline=item.ink if item.height > 9 else None)
    face = font(item.font, item.height)
    origin = (item.x - item.width / 2, item.y + item.height / 2)
    if not item.blur:
        draw.text(origin, item.text, fill=item.ink, font=face, anchor="ls")
        return
    layer = Image.new("L", picture.size, 0)
    ImageDraw.Draw(layer).text(origin, item.text, fill=255, font=face, anchor="ls")
    picture.paste(item.ink, (0, 0), layer.filter(ImageFilter.GaussianBlur(item.blur)))


def sign_pad(height: float) -> float:
    """Pixels of paper around print of this height."""
    return 2.0 + 0.3 * height
