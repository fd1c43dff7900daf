"""Replicates: the same example after a change that should not matter, to tell luck from need.

A source that can draw itself again does so (scenes); any other picture is moved by at most two pixels each way and
given faint noise; choices that a question lists come in another order. Knows pixels and choices. Knows no model.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from training_data.example import Example, Source
from training_data.scores import LETTERS, listed

_SHIFT = 2  # pixels
_NOISE = 2.0  # standard deviation, of 255


def replicate_of(source: Source, number: int) -> tuple[Any, bool]:
    """(the source of replicate `number`, whether the source itself made the change)."""
    redraw = getattr(source, "replicate", None)
    return (redraw(number), True) if number and callable(redraw) else (source, False)


def reordered(example: Example, number: int) -> Example:
    """An example whose question lists its choices as lines "A. ...", with these in another order for another replicate.

    Gold letters move along. Any other example, and replicate 0, stays as it is.
    """
    choices = example.choices or ()
    lines = "\n".join(listed(choices))
    if not number or not 2 <= len(choices) <= len(LETTERS) or example.question.count(lines) != 1:
        return example
    order = np.random.default_rng([number, zlib.crc32(example.id.encode())]).permutation(len(choices))
    moved = tuple(choices[old] for old in order)
    letter_of = {LETTERS[old]: LETTERS[new] for new, old in enumerate(order.tolist())}
    lettered = set(example.answers) <= set(letter_of)
    answers = tuple(letter_of[gold] for gold in example.answers) if lettered else example.answers
    return replace(
        example, question=example.question.replace(lines, "\n".join(listed(moved))), choices=moved, answers=answers
    )


def disturbed(picture: Image.Image, number: int) -> Image.Image:
    """An RGB picture moved by up to two pixels, its border repeated, with faint noise; the same for the same number."""
    rng = np.random.default_rng([number, zlib.crc32(picture.tobytes())])
    right, down = rng.integers(-_SHIFT, _SHIFT + 1, 2)
    pixels = np.pad(np.asarray(picture), ((_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    top, left = _SHIFT - down, _SHIFT - right
    moved = pixels[top : top + picture.height, left : left + picture.width]
    noisy = moved + rng.normal(0, _NOISE, moved.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))
