"""Style b: muted colours, soft edges and shading from distance fields, serif and mono print, layout on a loose grid.

Draws facts; decides nothing about them. Shares no code for shapes, print and layout with style a, so that
a router fitted on a meets pictures that it has not learned the looks of.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training_data.scenes.facts import SIDE, Print, Thing, Tone
from training_data.scenes.style_a import FONTS

PALETTE: dict[str, Tone] = {
    "red": (190, 55, 55),
    "orange": (228, 138, 66),
    "yellow": (228, 204, 92),
    "green": (86, 152, 92),
    "blue": (76, 110, 182),
    "purple": (126, 84, 164),
    "pink": (228, 156, 178),
    "brown": (118, 84, 58),
    "black": (38, 38, 42),
    "white": (234, 232, 226),
    "gray": (140, 140, 146),
}
_SPREAD = 9.0
_FACES = ("LiberationSerif-Bold.ttf", "LiberationMono-Bold.ttf", "LeagueSpartan-Bold.otf", "Oxygen-Sans-Bold.ttf")
_CAPITAL = (0.66, 0.66, 0.67, 0.73)
_OVER = 3  # print is drawn three times too large and averaged down


def tone(rng: np.random.Generator, colour: str) -> Tone:
    """A shade that a person would call `colour`."""
    red, green, blue = np.clip(rng.normal(PALETTE[colour], _SPREAD), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def fonts() -> int:
    """How many faces there are."""
    return len(_FACES)


@lru_cache(maxsize=512)
def font(index: int, height: float) -> ImageFont.FreeTypeFont:
    """The face whose capitals are `height` pixels tall."""
    return ImageFont.truetype(FONTS / _FACES[index], max(3.0, height / _CAPITAL[index]))


def advances(text: str, index: int, height: float) -> list[float]:
    """Where each character ends, in pixels from the start of the print: len(text) ascending numbers."""
    face = font(index, height * _OVER)
    return [face.getlength(text[: end + 1]) / _OVER for end in range(len(text))]


def place(rng: np.random.Generator, boxes: Sequence[tuple[float, float]]) -> list[tuple[float, float]] | None:
    """Centres on the cells of the coarsest grid that takes every box, jittered within the cell; None if none does."""
    columns = int((SIDE - 4) // (max(width for width, _ in boxes) + 3)) if boxes else 1
    rows = int((SIDE - 4) // (max(height for _, height in boxes) + 3)) if boxes else 1
    if columns * rows < len(boxes):
        return None
    cell_x, cell_y = (SIDE - 4) / columns, (SIDE - 4) / rows
    centres = []
    for cell, (width, height) in zip(rng.permutation(columns * rows), boxes, strict=False):
        slack_x, slack_y = max(0.0, cell_x - width - 3) / 2, max(0.0, cell_y - height - 3) / 2
        x = 2 + (cell % columns + 0.5) * cell_x + rng.uniform(-slack_x, slack_x)
        y = 2 + (cell // columns + 0.5) * cell_y + rng.uniform(-slack_y, slack_y)
        centres.append((float(x), float(y)))
    return centres


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (about, negative inside) to a shape in the unit circle, v downwards."""
    radius = np.hypot(u, v)
    if shape == "circle":
        return radius - 0.97
    if shape == "ring":
        return np.abs(radius - 0.76) - 0.2
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.78
    if shape == "diamond":
        return (np.abs(u) / 0.72 + np.abs(v) - 1) * 0.58
    if shape == "triangle":
        slope = np.sqrt(0.75)
        return np.maximum(v - 0.55, slope * np.abs(u) - 0.5 * v - 0.5)
    if shape == "cross":
        wide, tall = np.abs(u), np.abs(v)
        return np.minimum(np.maximum(wide - 0.3, tall - 0.95), np.maximum(wide - 0.95, tall - 0.3))
    if shape == "star":
        wedge = np.abs((np.arctan2(u, -v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        return (radius * np.cos(wedge) * 0.7 + radius * np.sin(wedge)) - 0.68
    lobe = np.hypot(np.abs(u) - 0.45, v + 0.35) - 0.47
    return np.minimum(lobe, np.maximum(0.78 * np.abs(u) + 0.62 * v - 0.56, -v - 0.35))


def draw_thing(picture: Image.Image, thing: Thing, edge: Tone | None) -> None:
    """Blend one shaded shape; `edge` gives it a rim, for grounds on which its colour could drown."""
    radius = thing.size / 2
    left, top = int(thing.x - radius) - 2, int(thing.y - radius) - 2
    reach = int(thing.size) + 5
    window = picture.crop((left, top, left + reach, top + reach))
    y, x = np.mgrid[:reach, :reach] + 0.5
    angle = np.deg2rad(thing.angle)
    across, down = (x + left - thing.x) / radius, (y + top - thing.y) / radius
    u, v = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
    distance = _distance(thing.shape, u, v) * radius
    under = np.asarray(window, dtype=float)
    light = 1.06 - 0.12 * (down + 1) / 2
    fill = np.clip(np.array(thing.tone) * light[..., None], 0, 255)
    if edge is not None:
        rim = np.clip(1.5 + distance, 0, 1)[..., None]
        fill = fill * (1 - rim) + np.array(edge) * rim
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    blended = Image.fromarray((under * (1 - cover) + fill * cover).astype(np.uint8))
    picture.paste(blended, (left, top))


def draw_print(picture: Image.Image, item: Print) -> None:
    """Letter one number or word with smooth edges, on a rounded sign where it has one."""
    if item.paper_tone is not None:
        pad = sign_pad(item.height)
        half_x, half_y = item.width / 2 + pad, item.height / 2 + pad
        box = (item.x - half_x, item.y - half_y, item.x + half_x, item.y + half_y)
        ImageDraw.Draw(picture).rounded_rectangle(box, radius=min(half_y * 0.6, 6), fill=item.paper_tone)
    layer = Image.new("L", (picture.width * _OVER, picture.height * _OVER), 0)
    origin = ((item.x - item.width / 2) * _OVER, (item.y + item.height / 2) * _OVER)
    face = font(item.font, item.height * _OVER)
    ImageDraw.Draw(layer).text(origin, item.text, fill=255, font=face, anchor="ls")
    layer = layer.reduce(_OVER)
    picture.paste(item.ink, (0, 0), layer.filter(ImageFilter.GaussianBlur(item.blur)) if item.blur else layer)


def sign_pad(height: float) -> float:
    """Pixels of paper around print of this height."""
    return 2.5 + 0.25 * height
