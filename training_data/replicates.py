"""Replicates: the same example after a change that should not matter, to tell luck from need.

A source that can draw itself again does so (scenes); any other picture is moved by at most two pixels each way and
given faint noise. Knows pixels. Knows no model.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from PIL import Image

from training_data.example import Source

_SHIFT = 2  # pixels
_NOISE = 2.0  # standard deviation, of 255


def replicate_of(source: Source, number: int) -> tuple[Any, bool]:
    """(the source of replicate `number`, whether the source itself made the change)."""
    redraw = getattr(source, "replicate", None)
    return (redraw(number), True) if number and callable(redraw) else (source, False)


def disturbed(picture: Image.Image, number: int) -> Image.Image:
    """An RGB picture moved by up to two pixels, its border repeated, with faint noise; the same for the same number."""
    rng = np.random.default_rng([number, zlib.crc32(picture.tobytes())])
    right, down = rng.integers(-_SHIFT, _SHIFT + 1, 2)
    pixels = np.pad(np.asarray(picture), ((_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    top, left = _SHIFT - down, _SHIFT - right
    moved = pixels[top : top + picture.height, left : left + picture.width]
    noisy = moved + rng.normal(0, _NOISE, moved.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))
