"""The procedural world: seeded, infinite picture-question pairs whose every fact is known.

`scene(index)` composes facts, `render` draws them, `examples` yields ready questions. Two styles, a and b, share the
facts and, backgrounds and handwriting apart, no drawing code. It is a world to learn and to be measured on, not a
picture of the real one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from training_data.example import Example
from training_data.scenes import grounds, hands
from training_data.scenes.compose import MIX, compose
from training_data.scenes.crowds import crowd
from training_data.scenes.draft import STYLES
from training_data.scenes.facts import COLOURS, SIDE, STYLE_NAMES, Question, Scene, Split, StyleName
from training_data.scenes.questions import questions

__all__ = [
    "FAMILIES",
    "SIDE",
    "STYLE_NAMES",
    "Question",
    "Scene",
    "SceneImage",
    "crowded",
    "examples",
    "questions",
    "recipe_hash",
    "render",
    "scene",
]

FAMILIES = tuple(MIX)
_SPLITS: dict[str, int] = {"train": 0, "calibrate": 1, "test": 2}
_HERE = Path(__file__).resolve().parent


@lru_cache(maxsize=1)
def _words() -> tuple[str, ...]:
    return tuple((_HERE / "words.txt").read_text(encoding="utf-8").split())


def scene(index: int, style: StyleName = "a", split: Split = "train", seed: int = 0) -> Scene:
    """Facts of picture `index`; splits share no random stream and no handwritten digit."""
    stream = [seed, _SPLITS[split], STYLE_NAMES.index(style), index]
    name = f"{style}-{split}-{seed}-{index}"
    return compose(np.random.default_rng(stream), name, style, _words(), split)


def crowded(index: int, style: StyleName = "a") -> Scene:
    """Facts of crowded picture `index`; handwritten digits are of the training split."""
    return crowd(np.random.default_rng([9, STYLE_NAMES.index(style), index]), f"{style}-crowd-{index}", style, _words())


def render(facts: Scene, replicate: int = 0) -> Image.Image:
    """Draw a scene as an RGB picture of 96 x 96.

    Replicate 0 is the picture itself; others move it by at most two pixels each way and redraw the noise: harmless
    changes that tell luck from need.
    """
    rng = np.random.default_rng([facts.seed, 2])
    look = STYLES[facts.style]
    noise = np.random.default_rng([facts.seed, 3, replicate])
    strokes = [look.tone(rng, str(rng.choice(COLOURS))) for _ in range(4)]
    picture = grounds.paint(facts.ground, strokes)
    busy = facts.ground.pattern == "photo" or facts.ground.clutter > 12
    for thing in facts.things:
        dark = sum(thing.tone) < 380
        look.draw_thing(picture, thing, ((255, 255, 255) if dark else (0, 0, 0)) if busy and thing.size > 6 else None)
    for hand in facts.hands:
        hands.draw(picture, hand)
    for item in facts.prints:
        look.draw_print(picture, item)
    grounds.bars(picture, facts.ground)
    if replicate:
        shift = noise.integers(-2, 3, 2)
        picture = Image.fromarray(_moved(np.asarray(picture), int(shift[0]), int(shift[1])))
    if facts.noise:
        grain = noise.normal(0, facts.noise, (SIDE, SIDE, 3))
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    return picture


def _moved(pixels: np.ndarray, right: int, down: int) -> np.ndarray:
    """The picture moved by whole pixels; the edge it leaves repeats its border (elements keep clear of it)."""
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), mode="edge")
    return padded[2 - down : 2 - down + SIDE, 2 - right : 2 - right + SIDE]


def examples(
    count: int,
    style: StyleName = "a",
    split: Split = "train",
    seed: int = 0,
    start: int = 0,
    questions_per_picture: int = 1,
) -> Iterator[Example]:
    """Ready questions on pictures `start` .. `start + count - 1`, the one a picture was balanced for first.

    Each Example carries dataset = family, group = picture, and in meta the generator's facts.
    """
    for index in range(start, start + count):
        facts = scene(index, style, split, seed)
        for number, question in enumerate(questions(facts)[:questions_per_picture]):
            yield _example(facts, question, number)


def _example(facts: Scene, question: Question, number: int) -> Example:
    shapes = Counter(thing.shape for thing in facts.things)
    return Example(
        id=f"{facts.id}-{number}",
        image=SceneImage(facts),
        question=question.text,
        answers=(question.answer,),
        group=facts.id,
        dataset=question.family,
        meta={
            "answerable": question.answerable,
            "need_px": question.need_px,
            "contrast": question.contrast,
            "blur": question.blur,
            "answer_length": len(question.answer),
            "pattern": facts.ground.pattern,
            "clutter": facts.ground.clutter,
            "noise": facts.noise,
            "things": len(facts.things),
            "distinct_shapes": len(shapes),
            "prints": len(facts.prints),
            "style": facts.style,
        },
    )


class SceneImage:
    """A picture that is drawn when it is opened; `replicate(r)` is the same scene re-rendered."""

    def __init__(self, facts: Scene, replicate: int = 0) -> None:
        self._facts, self._replicate = facts, replicate
        self._key = facts.id, facts.seed, replicate

    def __call__(self) -> Image.Image:
        return render(self._facts, self._replicate)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SceneImage) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def replicate(self, number: int) -> SceneImage:
        """The `number`-th harmless re-rendering."""
        return SceneImage(self._facts, number)


def recipe_hash() -> str:
    """sha256 over everything that decides what a scene is: code, words and fonts. Fixed before any router is fitted."""
    digest = hashlib.sha256()
    files = [*_HERE.glob("*.py"), _HERE / "words.txt", *(_HERE.parent / "fonts").glob("*.?tf")]
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
