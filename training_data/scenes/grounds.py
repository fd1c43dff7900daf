"""Backgrounds and clutter: plain, striped, dotted, checked and photographic, each tinted with its named colour.

Knows tones and periods. Knows nothing of shapes, print or questions. The photographs are scikit-learn's two bundled
samples (china.jpg and flower.jpg, licensed CC BY by their authors, named in scikit-learn's `images/README.txt`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from training_data.scenes.facts import SIDE, Ground

PADDING = (122, 116, 104)  # what pad-to-square fills with (CLIP's mean colour)


@lru_cache(maxsize=1)
def _photographs() -> tuple[Image.Image, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(Image.fromarray(picture) for picture in load_sample_images().images)


def _photo(rng: np.random.Generator) -> Image.Image:
    photographs = _photographs()
    while True:
        picture = photographs[int(rng.integers(len(photographs)))]
        side = int(rng.integers(SIDE, 340))
        left, top = (int(rng.integers(0, extent - side)) for extent in picture.size)
        patch = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if np.asarray(patch).std() > 32:  # empty sky would be a plain ground by another name
            return patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else patch


def _mask(ground: Ground, rng: np.random.Generator) -> np.ndarray:
    """Where the second tone goes: (96, 96) bool."""
    y, x = np.mgrid[:SIDE, :SIDE]
    x, y = x + int(rng.integers(ground.period)), y + int(rng.integers(ground.period))
    half = ground.period / 2
    if ground.pattern == "stripes":
        axis = (x, y, x + y, x - y)[int(rng.integers(4))]
        return (axis % ground.period) < half
    if ground.pattern == "checks":
        return ((x // half).astype(int) + (y // half).astype(int)) % 2 == 0
    if ground.pattern == "dots":
        return np.hypot(x % ground.period - half, y % ground.period - half) < ground.period * 0.3
    return np.zeros((SIDE, SIDE), dtype=bool)


def paint(ground: Ground, clutter_tones: list[tuple[int, int, int]]) -> Image.Image:
    """The background with its clutter as an RGB picture of 96 x 96."""
    rng = np.random.default_rng(ground.seed)
    if ground.pattern == "photo":
        picture = _photo(rng)
    else:
        # The second tone stays within the same colour name: darker on light grounds, lighter on dark ones.
        base = np.array(ground.tone, dtype=float)
        second = base * 0.8 if base.mean() > 90 else base + (255 - base) * 0.22
        canvas = np.where(_mask(ground, rng)[..., None], second, base)
        picture = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(ground.clutter):
        tone = clutter_tones[int(rng.integers(len(clutter_tones)))]
        x, y = rng.uniform(0, SIDE, 2)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(3, 22)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        if rng.random() < 0.7:
            draw.line([(x, y), end], fill=tone, width=1)
        else:
            start = int(rng.integers(360))  # at most 150 degrees, so that no stroke reads as a ring
            draw.arc([x, y, x + length, y + length], start, start + int(rng.integers(40, 150)), fill=tone)
    return picture


def bars(picture: Image.Image, ground: Ground) -> None:
    """Cover what a picture that is not square is padded with: two bars in the padding colour of LLaVA."""
    if ground.bars:
        box = (SIDE, ground.bars) if ground.bars_across else (ground.bars, SIDE)
        bar = Image.new("RGB", box, PADDING)
        picture.paste(bar, (0, 0))
        picture.paste(bar, (0, SIDE - ground.bars) if ground.bars_across else (SIDE - ground.bars, 0))
