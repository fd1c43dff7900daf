"""Real handwritten digits: scikit-learn's bundled set, parted by writer so that every split has its own.

Knows rows and splits. Knows nothing of layouts or questions. Source: UCI "Optical Recognition of Handwritten Digits"
(CC BY 4.0), as scikit-learn bundles it: 1,797 pictures of 8 x 8 pixels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from training_data.scenes.facts import Hand, Split

# The set is ordered by writer. A model knows the digits it was trained on; whoever calibrates on those learns to spend
# too little on anybody else's.
_ROWS: dict[Split, tuple[int, int]] = {"train": (0, 1300), "calibrate": (1300, 1548), "test": (1548, 1797)}


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return (bundle.images * (255 / 16)).astype(np.uint8), bundle.target


def pick(rng: np.random.Generator, value: int, split: Split) -> int:
    """A row of the asked value from the asked split."""
    _, values = _digits()
    first, stop = _ROWS[split]
    return int(rng.choice(first + np.flatnonzero(values[first:stop] == value)))


def draw(picture: Image.Image, hand: Hand) -> None:
    """Ink one digit; its 8 x 8 pixels are enlarged smoothly."""
    images, _ = _digits()
    side = max(3, round(hand.size))
    strength = Image.fromarray(images[hand.index]).resize((side, side), Image.Resampling.BICUBIC)
    strength = strength.point(lambda level: min(255, int(level * 1.5)))
    if hand.blur:
        framed = Image.new("L", (side + 16, side + 16), 0)
        framed.paste(strength, (8, 8))
        strength = framed.filter(ImageFilter.GaussianBlur(hand.blur))
    left, top = round(hand.x - strength.width / 2), round(hand.y - strength.height / 2)
    picture.paste(hand.ink, (left, top), strength)
