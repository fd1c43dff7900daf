"""Posters drawn as a person with Pillow draws them: on a canvas of any size, shrunk afterwards as any picture is.

The proportions of a cross or a heart, the weight and slant of print differ from picture to picture. A model that had
seen the one cross of the scenes' own code took a cross with broad arms, its edges between patches, for a square
(docs/log.md). Knows the facts of a poster, and pixels. Knows no question.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training_data.marks import PATCH
from training_data.scenes.draft import STYLES
from training_data.scenes.facts import SIDE, Print, Scene, StyleName, Thing

_CANVASES = (SIDE, SIDE, 128, 192, 200, 224, 256, 300, 336, 384, 400, 448, 512)
_WEIGHTED = 18.0  # print at least so many pixels tall is made lighter or bolder
# Of a capital's height, put on each side of a stroke at most; a third of it taken off at most: hairlines would vanish.
_WEIGHT = 0.035
_OVERHANG = 1.5  # pixels, at most, that slanted print leans out of its box on either side
_Points = list[tuple[float, float]]


def sketch(scene: Scene) -> Image.Image:
    """The one thing or print of a poster on its plain ground, as an RGB picture of 96 x 96; its noise is left out."""
    rng = np.random.default_rng([scene.seed, 5])
    side = int(rng.choice(_CANVASES))
    picture = Image.new("RGB", (side, side), scene.ground.tone)
    for thing in scene.things:
        _draw_thing(picture, thing, scene.ground.tone, rng)
    for item in scene.prints:
        _draw_print(picture, item, scene.style, rng)
    return picture if side == SIDE else picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _draw_thing(picture: Image.Image, thing: Thing, under: tuple[int, int, int], rng: np.random.Generator) -> None:
    draw, scale, radius = ImageDraw.Draw(picture), picture.width / SIDE, thing.size / 2

    def box(x: float, y: float, reach: float) -> tuple[float, float, float, float]:
        return (x - reach) * scale, (y - reach) * scale, (x + reach) * scale, (y + reach) * scale

    if thing.shape in ("circle", "ring"):
        draw.ellipse(box(thing.x, thing.y, radius), fill=thing.tone)
        if thing.shape == "ring":
            draw.ellipse(box(thing.x, thing.y, radius * rng.uniform(0.35, 0.75)), fill=under)
        return
    if thing.shape == "heart":
        for x, y in _turned(thing, [(-0.5, -0.5), (0.5, -0.5)]):
            draw.ellipse(box(x, y, radius / 2), fill=thing.tone)
    on_grid = thing.angle == 0 and thing.shape != "heart" and rng.random() < 0.7
    for corners in _parts(thing.shape, rng):
        placed = _snapped(thing, corners) if on_grid else _turned(thing, corners)
        draw.polygon([(x * scale, y * scale) for x, y in placed], fill=thing.tone)


def _parts(shape: str, rng: np.random.Generator) -> list[_Points]:
    """Polygons within the unit circle's square, y downwards, that make up one shape of some proportions."""
    if shape == "cross":
        arm, reach = rng.uniform(0.16, 0.42), rng.uniform(0.85, 1)
        return [_rectangle(arm, reach), _rectangle(reach, arm)]
    if shape == "square":
        half = rng.uniform(0.7, 0.95)
        return [_rectangle(half, half)]
    if shape == "diamond":
        wide = rng.uniform(0.6, 1)
        return [[(0, -1), (wide, 0), (0, 1), (-wide, 0)]]
    if shape == "triangle":
        wide, low = rng.uniform(0.75, 1), rng.uniform(0.5, 0.9)
        return [[(0, -1), (wide, low), (-wide, low)]]
    if shape == "star":
        radii, turn = (1.0, rng.uniform(0.35, 0.5)), np.pi / 5
        return [[(radii[k % 2] * np.sin(turn * k), -radii[k % 2] * np.cos(turn * k)) for k in range(10)]]
    shoulder, wide = rng.uniform(-0.4, -0.2), rng.uniform(0.9, 1)  # a heart, below its two circles
    return [[(-wide, shoulder), (wide, shoulder), (0, 1)]]


def _rectangle(half_x: float, half_y: float) -> _Points:
    return [(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)]


def _turned(thing: Thing, corners: _Points) -> _Points:
    angle, radius = np.deg2rad(thing.angle), thing.size / 2
    cos, sin = float(np.cos(angle)) * radius, float(np.sin(angle)) * radius
    return [(thing.x + u * cos - v * sin, thing.y + u * sin + v * cos) for u, v in corners]


def _snapped(thing: Thing, corners: _Points) -> _Points:
    """Corners on the borders of patches, or half-way between two: no patch's pixels alone tell such a shape."""
    step, radius = PATCH / 2, thing.size / 2
    return [
        tuple(
            round(centre / step) * step + np.sign(part) * max(step, round(abs(part) * radius / step) * step)
            for centre, part in ((thing.x, u), (thing.y, v))
        )
        for u, v in corners
    ]


def _draw_print(picture: Image.Image, item: Print, style: StyleName, rng: np.random.Generator) -> None:
    look, scale = STYLES[style], picture.width / SIDE
    if item.paper_tone is not None:
        pad = look.sign_pad(item.height)
        half_x, half_y = item.width / 2 + pad, item.height / 2 + pad
        edges = (item.x - half_x, item.y - half_y, item.x + half_x, item.y + half_y)
        ImageDraw.Draw(picture).rectangle([edge * scale for edge in edges], fill=item.paper_tone)
    origin = ((item.x - item.width / 2) * scale, (item.y + item.height / 2) * scale)
    layer = Image.new("L", picture.size, 0)
    ImageDraw.Draw(layer).text(origin, item.text, fill=255, font=look.font(item.font, item.height * scale), anchor="ls")
    if item.height >= _WEIGHTED:
        radius = round(rng.uniform(-_WEIGHT / 3, _WEIGHT) * item.height * scale)
        if radius:
            layer = layer.filter((ImageFilter.MaxFilter if radius > 0 else ImageFilter.MinFilter)(2 * abs(radius) + 1))
    if rng.random() < 0.3:
        lean = min(float(rng.uniform(0, 0.3)), 2 * _OVERHANG / item.height)
        shear = (1, lean, -lean * item.y * scale, 0, 1, 0)
        layer = layer.transform(layer.size, Image.Transform.AFFINE, shear, Image.Resampling.BICUBIC)
    picture.paste(item.ink, (0, 0), layer)
