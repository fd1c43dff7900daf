"""What a scene is made of: records of plain numbers and words, in pixels of a 96 x 96 canvas.

Knows nothing of drawing, of random choice or of questions. Everything asked about a picture is answered from these
records, so a gold answer is known even where no eye could read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SIDE = 96
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
PATTERNS = ("plain", "stripes", "dots", "checks", "photo")
PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)
Tone = tuple[int, int, int]
StyleName = Literal["a", "b"]
STYLE_NAMES: tuple[StyleName, ...] = ("a", "b")
Split = Literal["train", "calibrate", "test"]


@dataclass(frozen=True)
class Ground:
    """The background. `clutter` counts thin strokes drawn over it; they are never asked about.

    `bars` is the width in pixels of two bars (above and below, or left and right) such as padding a picture to a square
    leaves.
    """

    pattern: str
    colour: str
    tone: Tone
    period: int
    clutter: int
    seed: int
    bars: int = 0
    bars_across: bool = False


@dataclass(frozen=True)
class Thing:
    """One shape, centred at (x, y); `size` is its diameter in pixels, `angle` in degrees."""

    shape: str
    colour: str
    tone: Tone
    x: float
    y: float
    size: float
    angle: float


@dataclass(frozen=True)
class Print:
    """A printed number or word; `height` is that of a capital in pixels, `paper` the name of the sign's colour."""

    text: str
    x: float
    y: float
    width: float
    height: float
    font: int
    ink: Tone
    paper: str | None
    paper_tone: Tone | None
    blur: float

    @property
    def is_number(self) -> bool:
        """Whether digits only are printed."""
        return self.text.isdigit()


@dataclass(frozen=True)
class Hand:
    """A real handwritten digit: row `index` of scikit-learn's bundled set, drawn `size` pixels wide."""

    index: int
    value: int
    x: float
    y: float
    size: float
    ink: Tone
    blur: float


@dataclass(frozen=True)
class Scene:
    """One picture's facts. `lost` says that what its family asks for cannot be read by any eye (see `compose`)."""

    id: str
    style: StyleName
    family: str
    ground: Ground
    things: tuple[Thing, ...]
    prints: tuple[Print, ...]
    hands: tuple[Hand, ...]
    noise: float
    seed: int
    lost: bool
    arrangement: str = "free"


def luminance(tone: Tone) -> float:
    """Rec. 601 luma, 0 to 255."""
    return 0.299 * tone[0] + 0.587 * tone[1] + 0.114 * tone[2]


def place_of(thing: Thing) -> str | None:
    """The ninth of the canvas a thing sits in; None within four pixels of a border between two."""
    third = SIDE / 3
    for position in (thing.x, thing.y):
        if min(abs(position - third), abs(position - 2 * third)) < 4:
            return None
    return PLACES[int(thing.y // third)][int(thing.x // third)]


@dataclass(frozen=True)
class Question:
    """One question about a scene; `answerable` is false where no m can help, though the gold answer is known.

    Of what must be seen to answer it: `need_px` is the size in pixels of the smallest, `contrast` the least difference
    in luma (0 to 255) from what it stands on, `blur` the largest radius in pixels.
    """

    family: str
    text: str
    answer: str
    answerable: bool
    need_px: float
    contrast: float
    blur: float
