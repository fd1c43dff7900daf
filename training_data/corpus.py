"""The training corpus of the nano models: pictures, marks and questions, drawn once, packed batch by batch.

Knows scenes, files and token ids. Knows no weights and no stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.lib.format import open_memmap
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from encoders import checkpoint
from encoders.errors import DataError
from encoders.llava import NestedLlava
from training_data.lattice import lattice
from training_data.marks import GRID, MARKS, marks
from training_data.posters import is_poster, poster
from training_data.posts import add_posts
from training_data.relations import RELATIONS, relations
from training_data.scenes import SIDE, STYLE_NAMES, Scene, crowded, questions, render, scene
from training_data.scenes.facts import StyleName
from training_data.sketches import sketch

VOCABULARY = 512
Kind = Literal["scenes", "crowds", "lattices"]
LABELS = MARKS | RELATIONS  # what a vision tower is asked about every patch: name -> number of classes, 0 is "none"
_POSTERS = 6  # every so many of a corpus' scenes is a poster
_BLOCK = 1_000  # pictures drawn by one task
_PACK = 72  # tokens of questions in one training sequence
_CROWDED = ("colour", "shape", "place", "count")  # many of these questions per picture; at most two of each are asked
_KEPT = {  # share of questions that stay beside a picture's own; one glance answers the others' families
    **dict.fromkeys(("ground", "pattern", "largest_shape", "largest_colour", "colour", "place"), 0.35),
    "count": 0.25,  # nearly all of these ask for one of a kind, and teach to answer 1 without a look
}
_DRAWN = {  # parts of a batch whose pictures' own question is of a family: what is learned last is shown most
    **dict.fromkeys(("ground", "pattern"), 1),
    **dict.fromkeys(("largest_colour", "colour", "place"), 3),
    "shape": 8,
    **dict.fromkeys(("largest_shape", "word"), 10),
    "hand": 13,
    "sign": 15,
    "relation": 17,
    "count": 20,
    "number": 27,
}


def draw_corpus(folder: Path, kind: Kind, pictures: int, first: int = 0) -> None:
    """Draw both styles (even numbers a, odd b) into memory-mapped arrays; goes on where it was stopped.

    Pictures are numbered from `first`: a model that goes on learns most from pictures it has not seen.

    Writes `<kind>-images.npy` (n, 96, 96, 3) and `<kind>-marks.npy` (n, labels, patches), both uint8, and for scenes
    `questions.jsonl`, one row of [family, question, answer] per picture.

    Raises:
        DataError: the folder was begun with another number of pictures, or from another one on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done_file = folder / f"{kind}-drawn.json"
    begun, done = json.loads(done_file.read_text()) if done_file.is_file() else (first, 0)
    if begun != first:
        raise DataError(f"{folder.name} goes on from picture {begun}, was asked for: from {first}; give another folder")
    images = _array(folder / f"{kind}-images.npy", (pictures, SIDE, SIDE, 3), done > 0)
    labels = _array(folder / f"{kind}-marks.npy", (pictures, len(LABELS), GRID * GRID), done > 0)
    starts = range(done, pictures, _BLOCK)
    tasks = (delayed(_draw)(kind, first + start, first + min(start + _BLOCK, pictures)) for start in starts)
    blocks = Parallel(n_jobs=-1, return_as="generator")(tasks)
    for start, (drawn, marked, asked) in tqdm(zip(starts, blocks, strict=True), total=len(starts), desc=kind):
        images[start : start + len(drawn)], labels[start : start + len(drawn)] = drawn, marked
        if kind == "scenes":
            _append_rows(folder / "questions.jsonl", start, asked)
        _write_whole(done_file, json.dumps([first, start + len(drawn)]))


def _array(path: Path, shape: tuple[int, ...], resume: bool) -> np.ndarray:
    if not resume:
        return open_memmap(path, "w+", np.uint8, shape)
    array = open_memmap(path, "r+")
    if array.shape != shape:
        raise DataError(
            f"a corpus goes on at its own size {len(array):,}, was asked for: {shape[0]:,}; use a new folder"
        )
    return array


def _append_rows(path: Path, start: int, rows: list[list[tuple[str, str, str]]]) -> None:
    """Write rows behind the first `start`; what a killed run wrote beyond them is dropped."""
    if not start:
        path.write_text("", encoding="utf-8")
    with path.open("r+", encoding="utf-8") as file:
        for _ in range(start):
            file.readline()
        file.seek(file.tell())
        file.truncate()
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _write_whole(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _draw(kind: Kind, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, list[list[tuple[str, str, str]]]]:
    make: Callable[[int, StyleName], Scene] = {"scenes": _shown, "crowds": crowded, "lattices": lattice}[kind]
    scenes = [make(k // 2, STYLE_NAMES[k % 2]) for k in range(start, stop)]
    asked = [[(q.family, q.text, q.answer) for q in questions(facts)] for facts in scenes] if kind == "scenes" else []
    pictures = np.stack([np.asarray(add_posts(_picture(facts), facts)) for facts in scenes])
    return pictures, np.stack([np.concatenate([marks(facts), relations(facts)]) for facts in scenes]), asked


def _shown(index: int, style: StyleName) -> Scene:
    """A scene, or every so often a poster."""
    return scene(index, style) if index % _POSTERS else poster(index, style)


def _picture(facts: Scene) -> Image.Image:
    """As the scenes' own code draws it; most posters as a person does."""
    return sketch(facts) if is_poster(facts) and facts.seed % 4 else render(facts)


def read_questions(folder: Path) -> list[list[tuple[str, str, str]]]:
    """(family, question, answer) of every picture of the corpus."""
    path = folder / "questions.jsonl"
    if not path.is_file():
        raise DataError(f"training needs a corpus, missing: {path.name}; run `python -m training_data.nano data` first")
    with path.open(encoding="utf-8") as file:
        return [[(family, text, answer) for family, text, answer in json.loads(line)] for line in file]


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 512 entries: any text has tokens. Digits and printed words stay single characters."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        corpus = [
            text
            for asked in read_questions(folder)[:20_000]
            for family, question, answer in asked
            for text in ((question + "\n",) if family == "word" else (question + "\n", answer))
        ]
        tokenizer = Tokenizer(models.BPE())
        digits, letters = (
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        specials = ["<pad>", "<s>", "</s>"]
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(corpus, trainer)
        tokenizer.save(str(path))
    return checkpoint.read_tokenizer(folder)


def chances(asked: list[list[tuple[str, str, str]]], **parts: int) -> np.ndarray:
    """How likely a batch draws each picture, (n,) summing to one: families in the parts of `_DRAWN`, or those given."""
    families, own, counts = np.unique([row[0][0] for row in asked], return_inverse=True, return_counts=True)
    drawn = _DRAWN | parts
    chance = (np.array([drawn[family] for family in families.tolist()]) / counts)[own]
    return np.asarray(chance / chance.sum())


class Packer:
    """Cuts and packs questions of pictures into rows of equal length."""

    def __init__(self, folder: Path, backbone: NestedLlava) -> None:
        asked = read_questions(folder)
        prompts, answers = _token_table(asked, backbone)
        self._asked = [[(family, prompts[text], answers[answer]) for family, text, answer in row] for row in asked]
        self._chance = chances(asked)

    def __len__(self) -> int:
        return len(self._asked)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers of pictures for one batch, in rising order, families in the parts of `_DRAWN`."""
        return np.sort(rng.choice(len(self), size, p=self._chance))

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """ids, block, place and labels, each (B, T), as `PackedQuestions.loss_at` takes them."""
        shape = (len(rows), _PACK)
        ids, place = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        block, labels = np.full(shape, -1, np.int64), np.full(shape, -100, np.int64)
        for k, row in enumerate(rows):
            used, seen = 0, dict.fromkeys(_CROWDED, 0)
            others = 1 + rng.permutation(len(self._asked[row]) - 1)
            for number, chosen in enumerate([0, *others]):  # its own, the balanced one, comes first
                family, prompt, answer = self._asked[row][chosen]
                if seen.get(family, 0) >= 2 or (number and rng.random() > _KEPT.get(family, 1.0)):
                    continue
                text = [*prompt, *answer]
                stop = used + len(text) - 1  # the end token is predicted, never read
                if stop > _PACK:
                    break
                if family in seen:
                    seen[family] += 1
                ids[k, used:stop], block[k, used:stop] = text[:-1], number
                place[k, used:stop] = range(stop - used)
                labels[k, used + len(prompt) - 1 : stop] = answer
                used = stop
        arrays = {"ids": ids, "block": block, "place": place, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _token_table(
    asked: list[list[tuple[str, str, str]]], backbone: NestedLlava
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Token ids of every distinct question (as prompted) and answer."""
    texts = {question for row in asked for _, question, _ in row}
    answers = {answer for row in asked for _, _, answer in row}
    return {t: backbone.suffix_ids(t) for t in texts}, {a: backbone.answer_ids(a) for a in answers}
