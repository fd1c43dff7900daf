"""A scene under construction: adding elements, before they have their places.

Knows facts, styles and one random stream. Chooses no family and no layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from training_data.scenes import hands as handwriting
from training_data.scenes import style_a, style_b
from training_data.scenes.facts import (
    COLOURS,
    PATTERNS,
    SIDE,
    Ground,
    Hand,
    Print,
    Split,
    StyleName,
    Thing,
    Tone,
    luminance,
)

STYLES: dict[StyleName, ModuleType] = {"a": style_a, "b": style_b}


@dataclass
class Draft:
    """The elements of a scene so far, the most important of each kind first."""

    rng: np.random.Generator
    style: StyleName
    split: Split
    words: tuple[str, ...]
    ground: Ground
    things: list[Thing] = field(default_factory=list)
    prints: list[Print] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    lost: bool = False
    arrangement: str = "free"

    @property
    def look(self) -> ModuleType:
        return STYLES[self.style]

    def free_colour(self) -> str:
        """A colour neither the background nor any element wears yet."""
        worn = {self.ground.colour, *(thing.colour for thing in self.things), *(item.paper for item in self.prints)}
        free = [colour for colour in COLOURS if colour not in worn]
        return str(self.rng.choice(free))

    def colour(self) -> str:
        """A colour other than the background's."""
        return str(self.rng.choice([colour for colour in COLOURS if colour != self.ground.colour]))

    def add_thing(self, shape: str, colour: str, size: float) -> None:
        angle = float(self.rng.uniform(-12, 12))
        self.things.append(
            Thing(shape, colour, self.look.tone(self.rng, colour), 0, 0, round(size, 1), round(angle, 1))
        )

    def ink_for(self, under: Tone) -> Tone:
        """An ink with a luminance at least 75 of 255 away from what it is drawn on."""
        while True:
            ink: Tone = self.look.tone(self.rng, str(self.rng.choice(COLOURS)))
            if abs(luminance(ink) - luminance(under)) >= 75:
                return ink

    def add_print(self, text: str, height: float, paper: str | None, blur: float = 0.0) -> bool:
        """Letter `text`; False when it is too wide for the canvas."""
        height = max(3.0, round(height * 2) / 2)
        font = int(self.rng.integers(self.look.fonts()))
        width = self.look.advances(text, font, height)[-1]
        if width + 2 * self.look.sign_pad(height) > SIDE - 9:
            return False
        tone = None if paper is None else self.look.tone(self.rng, paper)
        ink = self.ink_for(tone if tone is not None else self.ground.tone)
        self.prints.append(Print(text, 0, 0, width, height, font, ink, paper, tone, round(blur, 2)))
        return True

    def add_hand(self, value: int, size: float, blur: float = 0.0) -> None:
        row = handwriting.pick(self.rng, value, self.split)
        ink = self.ink_for(self.ground.tone)
        self.hands.append(Hand(row, value, 0, 0, round(size, 1), ink, round(blur, 2)))

    def boxes(self) -> list[tuple[float, float]]:
        pads = [self.look.sign_pad(item.height) * 2 if item.paper else 2.0 for item in self.prints]
        printed = [(item.width + pad, item.height + pad) for item, pad in zip(self.prints, pads, strict=True)]
        return (
            [(thing.size, thing.size) for thing in self.things]
            + printed
            + [(hand.size, hand.size) for hand in self.hands]
        )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """As many small as large values, by ratio."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def make_ground(rng: np.random.Generator, style: ModuleType, pattern: str | None) -> Ground:
    """A background; the pattern is drawn by the usual weights where none is given."""
    chosen = pattern or str(rng.choice(PATTERNS, p=(0.4, 0.15, 0.15, 0.15, 0.15)))
    colour = str(rng.choice(COLOURS))
    clutter = 0 if rng.random() < 0.45 else int(rng.integers(3, 26))
    tone = (128, 128, 128) if chosen == "photo" else style.tone(rng, colour)
    return Ground(
        chosen, colour if chosen != "photo" else "", tone, int(rng.integers(6, 22)), clutter, int(rng.integers(2**31))
    )


def number(rng: np.random.Generator, digits: int) -> str:
    """A number of so many digits, the first of several not 0."""
    return str(int(rng.integers(10 ** (digits - 1), 10**digits))) if digits > 1 else str(int(rng.integers(10)))
