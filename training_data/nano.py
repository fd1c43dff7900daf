"""The recipe of nano-mqt and nano-m3: scenes joined with the trainer, stage by stage, resumable at every one.

    python -m training_data.nano data   --folder runs/nano      draw pictures, marks and questions once
    python -m training_data.nano vision --folder runs/nano      teach the tower what stands in each patch; freeze it
    python -m training_data.nano mqt    --folder runs/nano      connector and language model, MQT's recipe
    python -m training_data.nano m3     --folder runs/nano      the same with M3's, from nano-mqt's language model

Knows scenes, objectives and files. The loop itself is `encoders.train`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import torch
import typer
from joblib import Parallel, delayed
from numpy.lib.format import open_memmap
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPVisionModel, PreTrainedTokenizerFast

from encoders import checkpoint
from encoders.config import CLIP_MEAN, CLIP_STD, LlavaConfig
from encoders.errors import DataError, MatryoshkaError
from encoders.llava import NestedLlava
from encoders.mqt import MatryoshkaQueryTransformer
from encoders.train import TRAINING_ATTENTION, M3Objective, MqtObjective, PackedQuestions, Recipe, train
from training_data.scenes import SIDE, STYLE_NAMES, crowded, questions, render, scene
from training_data.scenes.marks import GRID, MARKS, PATCH, marks

VOCABULARY = 512
MQT_LADDER = (1, 2, 4, 8, 16, 36, 64, 144)
M3_LADDER = (1, 9, 36, 144)
SCENES, CROWDS = 150_000, 70_000
VISION = Recipe(steps=9_500, learning_rate=1.2e-3, warmup_steps=300)
MQT = Recipe(steps=9_000, learning_rate=1.2e-3, warmup_steps=400)
M3 = Recipe(steps=3_000, learning_rate=8e-4, warmup_steps=200)

_BLOCK = 1_000  # pictures drawn by one task
_PACK = 96  # tokens of questions in one training sequence
_TEXT_SHARE = 0.5  # of each batch are pictures with print, which is slowest to learn
_CROWDED = ("colour", "shape", "place", "count")  # many of these questions per picture; at most two of each are asked
_CHARACTER_WEIGHT = 2.0


# ---- the corpus


def draw_corpus(folder: Path, kind: Literal["scenes", "crowds"], pictures: int) -> None:
    """Draw both styles (even numbers a, odd b) into memory-mapped arrays; goes on where it was stopped.

    Writes `<kind>-images.npy` (n, 96, 96, 3) and `<kind>-marks.npy` (n, marks, patches), both uint8, and for scenes
    `questions.jsonl`, one row of [family, question, answer] per picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done_file = folder / f"{kind}-drawn.json"
    done = json.loads(done_file.read_text()) if done_file.is_file() else 0
    images = _array(folder / f"{kind}-images.npy", (pictures, SIDE, SIDE, 3), done > 0)
    labels = _array(folder / f"{kind}-marks.npy", (pictures, len(MARKS), GRID * GRID), done > 0)
    starts = range(done, pictures, _BLOCK)
    tasks = (delayed(_draw)(kind, start, min(start + _BLOCK, pictures)) for start in starts)
    blocks = Parallel(n_jobs=-1, return_as="generator")(tasks)
    for start, (drawn, marked, asked) in tqdm(zip(starts, blocks, strict=True), total=len(starts), desc=kind):
        images[start : start + len(drawn)], labels[start : start + len(drawn)] = drawn, marked
        if kind == "scenes":
            _append_rows(folder / "questions.jsonl", start, asked)
        _write_whole(done_file, json.dumps(start + len(drawn)))


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


def _draw(kind: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, list[list[tuple[str, str, str]]]]:
    make = scene if kind == "scenes" else crowded
    scenes = [make(k // 2, STYLE_NAMES[k % 2]) for k in range(start, stop)]
    asked = [[(q.family, q.text, q.answer) for q in questions(facts)] for facts in scenes] if kind == "scenes" else []
    pictures = np.stack([np.asarray(render(facts)) for facts in scenes])
    return pictures, np.stack([marks(facts) for facts in scenes]), asked


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


class Packer:
    """Cuts and packs questions of pictures into rows of equal length."""

    def __init__(self, folder: Path, backbone: NestedLlava) -> None:
        asked = read_questions(folder)
        prompts, answers = _token_table(asked, backbone)
        self._asked = [[(family, prompts[text], answers[answer]) for family, text, answer in row] for row in asked]
        self.with_print = np.flatnonzero(
            [any(family in ("number", "word", "sign") for family, _, _ in row) for row in asked]
        )

    def __len__(self) -> int:
        return len(self._asked)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """ids, block, place and labels, each (B, T), as `PackedQuestions.loss_at` takes them."""
        shape = (len(rows), _PACK)
        ids, place = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        block, labels = np.full(shape, -1, np.int64), np.full(shape, -100, np.int64)
        for k, row in enumerate(rows):
            used, seen = 0, dict.fromkeys(_CROWDED, 0)
            for number, chosen in enumerate(rng.permutation(len(self._asked[row]))):
                family, prompt, answer = self._asked[row][chosen]
                if seen.get(family, 0) >= 2:
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


# ---- the models


def nano_config(name: str, connector: dict[str, object], ladder: tuple[int, ...]) -> LlavaConfig:
    """Proportions of the real thing: a slim tower, a language model that is most of the cost at full m."""
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_act": "gelu",
    }
    language = {
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlavaConfig(name, ladder, connector, vision, language, template="nano", max_new_tokens=8)


def nano_mqt(tokenizer: PreTrainedTokenizerFast) -> NestedLlava:
    """nano-mqt with fresh weights: 144 queries."""
    connector = {"type": "mqt", "num_queries": GRID * GRID, "num_heads": 8}
    backbone = NestedLlava(nano_config("nano-mqt", connector, MQT_LADDER), tokenizer)
    cast(MatryoshkaQueryTransformer, backbone.connector).start_local()
    return backbone


def nano_m3(tokenizer: PreTrainedTokenizerFast) -> NestedLlava:
    """nano-m3 with fresh weights."""
    return NestedLlava(nano_config("nano-m3", {"type": "m3"}, M3_LADDER), tokenizer)


class PatchMarks(nn.Module):
    """Teaches a vision tower what stands in each patch: one linear head per mark, class 0 ("none") weighed down."""

    mean: Tensor
    std: Tensor

    def __init__(self, vision: CLIPVisionModel) -> None:
        super().__init__()
        width = vision.config.hidden_size
        self.vision, self.norm, self.head = vision, nn.LayerNorm(width), nn.Linear(width, sum(MARKS.values()))
        self.register_buffer("mean", torch.tensor(CLIP_MEAN) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD) * 255, persistent=False)

    def forward(self, step: int, pixels: Tensor, marks: Tensor) -> dict[str, Tensor]:
        """Pixels (B, side, side, 3) uint8, marks (B, marks, patches) uint8."""
        hidden = self.vision(pixel_values=normalised(pixels, self.mean, self.std)).last_hidden_state[:, 1:]
        parts = self.head(self.norm(hidden)).float().split(list(MARKS.values()), dim=-1)
        loss, right = torch.zeros((), device=pixels.device), {}
        for number, (name, logits) in enumerate(zip(MARKS, parts, strict=True)):
            truth = marks[:, number].flatten().long()
            weight = torch.ones(logits.shape[-1], device=pixels.device)
            if not name.startswith("ground"):
                weight[0] = 0.2 if name.startswith("cover") else 0.08
            part = functional.cross_entropy(logits.flatten(0, 1), truth, weight=weight)
            loss = loss + part * (_CHARACTER_WEIGHT if "character" in name else 0.5 if "ground" in name else 1.0)
            there = truth > 0
            right[name] = (logits.flatten(0, 1).argmax(-1)[there] == truth[there]).float().mean()
        return {"loss": loss, **right}


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, side, side, 3) uint8 to (B, 3, side, side) float32 as the tower takes it."""
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


# ---- the stages


def train_vision(folder: Path, recipe: Recipe, batch_size: int) -> None:
    """Stage 1: the tower alone, three crowds to one scene."""
    torch.manual_seed(0)
    backbone = nano_mqt(make_tokenizer(folder))
    backbone.vision.set_attn_implementation(TRAINING_ATTENTION)
    sources = [
        (part, *(np.load(folder / f"{kind}-{what}.npy", mmap_mode="r") for what in ("images", "marks")))
        for kind, part in (("crowds", batch_size * 3 // 4), ("scenes", batch_size - batch_size * 3 // 4))
    ]

    def batch_at(number: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([1, number])
        rows = [np.sort(rng.integers(0, len(images), part)) for part, images, _ in sources]
        pixels = np.concatenate([images[own] for own, (_, images, _) in zip(rows, sources, strict=True)])
        labels = np.concatenate([marked[own] for own, (_, _, marked) in zip(rows, sources, strict=True)])
        return {"pixels": torch.from_numpy(pixels), "marks": torch.from_numpy(labels)}

    train(PatchMarks(backbone.vision), batch_at, recipe, folder / "vision", "vision")


def load_tower(backbone: NestedLlava, folder: Path) -> None:
    """Put the trained tower into a backbone."""
    tensors = load_file(_finished(folder, "vision"))
    tower = {key.removeprefix("vision."): value for key, value in tensors.items() if key.startswith("vision.")}
    backbone.vision.load_state_dict(tower)


def cache_features(backbone: NestedLlava, folder: Path) -> np.ndarray:
    """The frozen tower's patches of the whole corpus, (n, patches, width) float16, computed once."""
    tower = hashlib.sha256(_finished(folder, "vision").read_bytes()).hexdigest()[:12]
    path, images = folder / f"features-{tower}.npy", np.load(folder / "scenes-images.npy", mmap_mode="r")
    if path.is_file():
        return np.load(path, mmap_mode="r")
    fresh = folder / "features.new.npy"
    features = open_memmap(fresh, "w+", np.float16, (len(images), *backbone.patches_shape))
    mean, std = torch.tensor(CLIP_MEAN) * 255, torch.tensor(CLIP_STD) * 255
    device_type = next(backbone.parameters()).device.type
    for start in tqdm(range(0, len(images), 256), desc="features"):
        pixels = normalised(torch.from_numpy(np.array(images[start : start + 256])), mean, std)
        with torch.autocast(device_type, torch.bfloat16):
            features[start : start + len(pixels)] = backbone.from_pixels(pixels).patches.float().cpu().numpy()
    features.flush()
    fresh.rename(path)
    return np.load(path, mmap_mode="r")


def train_language(backbone: NestedLlava, folder: Path, recipe: Recipe, batch_size: int) -> None:
    """Stage 2: connector and language model on the frozen tower's features."""
    features, packer = cache_features(backbone, folder), Packer(folder, backbone)
    printed = int(batch_size * _TEXT_SHARE)
    if len(packer) != len(features):
        raise DataError(f"a corpus needs one row of questions per picture, was: {len(packer):,} for {len(features):,}")
    stock = backbone.language.config._attn_implementation
    backbone.language.set_attn_implementation(TRAINING_ATTENTION)

    def batch_at(number: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([2, number])
        some = rng.integers(0, len(features), batch_size - printed)
        rows = np.sort(np.concatenate([some, rng.choice(packer.with_print, printed)]))
        return {"patches": torch.from_numpy(features[rows]).float(), **packer.batch(rows, rng)}

    objective: PackedQuestions
    if backbone.config.connector["type"] == "mqt":
        most = backbone.ladder[-1]
        objective = MqtObjective(backbone.connector, backbone.language, list(backbone.prefix_ids), most)
    else:
        objective = M3Objective(backbone.connector, backbone.language, list(backbone.prefix_ids), backbone.ladder)
    try:
        train(objective, batch_at, recipe, folder / backbone.name, backbone.name)
    finally:  # training attention builds no causal mask: a model must not be asked with it
        backbone.language.set_attn_implementation(stock)
        backbone.eval()


def _finished(folder: Path, stage: str) -> Path:
    """The weights of a stage that ran to its end.

    Raises:
        DataError: it never started, or stopped early.
    """
    checkpoint_folder = folder / stage / "checkpoint"
    if not (checkpoint_folder / "progress.json").is_file():
        raise DataError(f"this stage needs {stage} trained before, was: no checkpoint of it; run that stage first")
    progress = json.loads((checkpoint_folder / "progress.json").read_text(encoding="utf-8"))
    if progress["step"] < progress["recipe"]["steps"]:
        raise DataError(
            f"this stage needs {stage} finished, was: at step {progress['step']:,} of {progress['recipe']['steps']:,}; "
            "run that stage again, it goes on"
        )
    return checkpoint_folder / "model.safetensors"


def trained(name: str, folder: Path) -> NestedLlava:
    """The backbone with the weights of its finished training."""
    if name not in ("nano-mqt", "nano-m3"):
        raise DataError(f"a nano model must be nano-mqt or nano-m3, was: {name!r}")
    backbone = (nano_mqt if name == "nano-mqt" else nano_m3)(make_tokenizer(folder))
    load_tower(backbone, folder)
    tensors = load_file(_finished(folder, name))
    missing, unexpected = backbone.load_state_dict(tensors, strict=False)
    missing = [key for key in missing if not key.startswith("vision.") and "lm_head" not in key]
    if missing or unexpected:
        raise DataError(f"the checkpoint must fit the recipe, was: missing {missing}, unexpected {unexpected}")
    backbone.language.tie_weights()
    return backbone.eval()


app = typer.Typer(
    add_completion=False, help="Train the packaged models, stage by stage; each resumes where it stopped."
)
Folder = Annotated[Path, typer.Option(help="where corpus, checkpoints and metrics live")]
Steps = Annotated[int | None, typer.Option(help="optimiser steps; the recipe's own by default")]


def _with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    return recipe if steps is None else replace(recipe, steps=steps)


@app.command()
def data(folder: Folder, scenes: int = SCENES, crowds: int = CROWDS) -> None:
    """Draw the corpus: scenes with questions, crowds without."""
    draw_corpus(folder, "scenes", scenes)
    draw_corpus(folder, "crowds", crowds)


@app.command()
def vision(folder: Folder, steps: Steps = None, batch: int = 80) -> None:
    """Teach the vision tower."""
    train_vision(folder, _with_steps(VISION, steps), batch)


@app.command()
def mqt(folder: Folder, steps: Steps = None, batch: int = 64) -> None:
    """Train nano-mqt's connector and language model."""
    torch.manual_seed(0)
    backbone = nano_mqt(make_tokenizer(folder))
    load_tower(backbone, folder)
    train_language(backbone, folder, _with_steps(MQT, steps), batch)


@app.command()
def m3(folder: Folder, steps: Steps = None, batch: int = 32) -> None:
    """Train nano-m3, starting from nano-mqt's language model as M3 starts from LLaVA's."""
    torch.manual_seed(0)
    backbone = nano_m3(make_tokenizer(folder))
    load_tower(backbone, folder)
    backbone.language.load_state_dict(trained("nano-mqt", folder).language.state_dict())
    train_language(backbone, folder, _with_steps(M3, steps), batch)


if __name__ == "__main__":
    try:
        app()
    except MatryoshkaError as error:
        raise SystemExit(f"error: {error}") from error
