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
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import torch
import typer
from numpy.lib.format import open_memmap
from safetensors.torch import load_file
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
from training_data.corpus import LABELS, VOCABULARY, Packer, chances, draw_corpus, make_tokenizer, read_questions
from training_data.marks import GRID, PATCH
from training_data.relations import UNTOLD
from training_data.scenes import SIDE

MQT_LADDER = (1, 2, 4, 8, 16, 36, 64, 144)
M3_LADDER = (1, 9, 36, 144)
SCENES, CROWDS, LATTICES = 150_000, 70_000, 20_000
VISION = Recipe(steps=9_500, learning_rate=1.2e-3, matrix_rate=8e-3, warmup_steps=200, checkpoint_every=250)
HEADS = Recipe(steps=250, learning_rate=6e-3, matrix_rate=0.0, warmup_steps=20, checkpoint_every=250)
MQT = Recipe(steps=9_000, learning_rate=1.2e-3, matrix_rate=6e-3, warmup_steps=200, checkpoint_every=250)
M3 = Recipe(steps=3_000, learning_rate=8e-4, matrix_rate=4e-3, warmup_steps=100, checkpoint_every=250)

_TOWER_DRAWN = dict(relation=60, count=40, number=60, hand=30, largest_shape=20, largest_colour=15)  # see `chances`
_SHARES = {"character": 2.0, "ground": 0.5, "order": 0.5}  # of the tower's loss, for labels so named; others 1

Precision = Literal["bf16", "no"]


# ---- the models


def nano_config(name: str, connector: dict[str, object], ladder: tuple[int, ...]) -> LlavaConfig:
    """Proportions of the real thing: a slim tower, a language model that is most of the cost at full m."""
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
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
    """Teaches a vision tower what stands in each patch and where the patch is: one linear head per label.

    Class 0 of a label ("none") is weighed down. Row and column are asked too: a tower that is asked only what stands in
    a patch forgets where it is, and no language model above it can then read a number from left to right (docs/log.md).
    """

    mean: Tensor
    std: Tensor
    places: Tensor

    def __init__(self, vision: CLIPVisionModel) -> None:
        super().__init__()
        width = vision.config.hidden_size
        self.vision, self.norm = vision, nn.LayerNorm(width)
        self.head = nn.Linear(width, sum(LABELS.values()) + 2 * GRID)
        side = torch.arange(GRID)
        self.register_buffer("places", torch.stack([side.repeat_interleave(GRID), side.repeat(GRID)]), persistent=False)
        self.register_buffer("mean", torch.tensor(CLIP_MEAN) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD) * 255, persistent=False)

    def forward(self, step: int, pixels: Tensor, marks: Tensor) -> dict[str, Tensor]:
        """Pixels (B, side, side, 3) uint8, marks (B, labels, patches) uint8."""
        hidden = self.vision(pixel_values=normalised(pixels, self.mean, self.std)).last_hidden_state[:, 1:]
        *parts, rows, columns = self.head(self.norm(hidden)).float().split([*LABELS.values(), GRID, GRID], dim=-1)
        loss, right = torch.zeros((), device=pixels.device), {}
        for logits, truth in zip((rows, columns), self.places, strict=True):
            loss = loss + functional.cross_entropy(logits.flatten(0, 1), truth.repeat(len(pixels)))
        right["row"] = (rows.argmax(-1) == self.places[0]).float().mean()
        for number, (name, logits) in enumerate(zip(LABELS, parts, strict=True)):
            said, truth, weight = logits.flatten(0, 1), marks[:, number].flatten().long(), _class_weights(name, logits)
            told = truth != UNTOLD
            part = functional.cross_entropy(said, truth, weight=weight, ignore_index=UNTOLD, reduction="sum")
            part = part / weight[truth[told]].sum().clamp(min=1)
            loss = loss + part * next((share for word, share in _SHARES.items() if word in name), 1.0)
            there = told & (truth > (1 if name == "alike" else 0))
            right[name] = (said[there].argmax(-1) == truth[there]).float().mean()
        return {"loss": loss, **right}


def _class_weights(name: str, logits: Tensor) -> Tensor:
    weights = torch.ones(logits.shape[-1], device=logits.device)
    if name == "alike":  # most things are one of a kind
        weights[0], weights[1] = 0.03, 0.3
    elif not name.startswith(("ground", "things")):
        weights[0] = 0.2 if name.startswith("cover") else 0.08
    return weights


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, side, side, 3) uint8 to (B, 3, side, side) float32 as the tower takes it."""
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


# ---- the stages


def train_vision(folder: Path, recipe: Recipe, batch_size: int, start: Path | None = None) -> None:
    """Stage 1: the tower alone. Crowds teach what stands in a patch, lattices what is beside it, scenes the rest."""
    torch.manual_seed(0)
    backbone = nano_mqt(make_tokenizer(folder))
    if start is not None:
        backbone.vision.load_state_dict(checkpoint.load(start).vision.state_dict())
    backbone.vision.set_attn_implementation(TRAINING_ATTENTION)
    sources = [
        [np.load(folder / f"{kind}-{what}.npy", mmap_mode="r") for what in ("images", "marks")]
        for kind in ("crowds", "lattices", "scenes")
    ]
    chance = chances(read_questions(folder), **_TOWER_DRAWN)

    def batch_at(number: int) -> Mapping[str, Tensor]:
        rng, third = np.random.default_rng([1, number]), batch_size // 3
        rows = [np.sort(rng.integers(0, len(images), third)) for images, _ in sources[:2]]
        rows.append(np.sort(rng.choice(len(chance), batch_size - 2 * third, p=chance)))
        pixels = np.concatenate([images[own] for own, (images, _) in zip(rows, sources, strict=True)])
        labels = np.concatenate([marked[own] for own, (_, marked) in zip(rows, sources, strict=True)])
        return {"pixels": torch.from_numpy(pixels), "marks": torch.from_numpy(labels)}

    objective = PatchMarks(backbone.vision)
    if start is not None and recipe.steps:
        fit_heads(objective, batch_at, folder, recipe.precision)
    train(objective, batch_at, recipe, folder / "vision", "vision")


def fit_heads(
    objective: PatchMarks, batch_at: Callable[[int], Mapping[str, Tensor]], folder: Path, precision: str
) -> None:
    """Fit fresh heads to a tower that already sees; the first gradients of random ones would undo part of that."""
    objective.vision.requires_grad_(False)
    train(objective, batch_at, replace(HEADS, precision=precision), folder / "heads", "heads")
    objective.vision.requires_grad_(True)


def load_tower(backbone: NestedLlava, folder: Path) -> None:
    """Put the trained tower into a backbone."""
    tensors = load_file(_finished(folder, "vision"))
    tower = {key.removeprefix("vision."): value for key, value in tensors.items() if key.startswith("vision.")}
    backbone.vision.load_state_dict(tower)


def cache_features(backbone: NestedLlava, folder: Path, precision: str) -> np.ndarray:
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
        with torch.autocast(device_type, torch.bfloat16, enabled=precision == "bf16"):
            features[start : start + len(pixels)] = backbone.from_pixels(pixels).patches.float().cpu().numpy()
    features.flush()
    fresh.rename(path)
    return np.load(path, mmap_mode="r")


def train_language(backbone: NestedLlava, folder: Path, recipe: Recipe, batch_size: int, seed: int) -> None:
    """Stage 2: connector and language model on the frozen tower's features; `seed` chooses the batches."""
    features, packer = cache_features(backbone, folder, recipe.precision), Packer(folder, backbone)
    if len(packer) != len(features):
        raise DataError(f"a corpus needs one row of questions per picture, was: {len(packer):,} for {len(features):,}")
    stock = backbone.language.config._attn_implementation
    backbone.language.set_attn_implementation(TRAINING_ATTENTION)

    def batch_at(number: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([seed, number])
        rows = packer.draw(batch_size, rng)
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
Start = Annotated[Path | None, typer.Option(help="a model folder whose weights to go on from")]
Steps = Annotated[int | None, typer.Option(help="optimiser steps; the recipe's own by default")]
Rates = Annotated[
    float, typer.Option(min=0.0, help="share of the recipe's learning rates; a trained model goes on at less")
]
Seed = Annotated[int, typer.Option(help="of the batches; a model that goes on with the same pictures takes another")]
Precise = Annotated[Precision, typer.Option(help="no is fp32: five times as fast where bf16 is only emulated")]


def _start_from(backbone: NestedLlava, folder: Path) -> None:
    """Connector and language model of a model folder; the tower stays the one of this run."""
    earlier = checkpoint.load(folder)
    if earlier.tokenizer.get_vocab() != backbone.tokenizer.get_vocab():
        raise DataError(f"a model goes on with its own tokenizer, was: another; copy {folder.name}/tokenizer.json here")
    backbone.connector.load_state_dict(earlier.connector.state_dict())
    backbone.language.load_state_dict(earlier.language.state_dict())


def _asked(recipe: Recipe, steps: int | None, rates: float, precision: str) -> Recipe:
    return replace(
        recipe,
        steps=recipe.steps if steps is None else steps,
        learning_rate=recipe.learning_rate * rates,
        matrix_rate=recipe.matrix_rate * rates,
        precision=precision,
    )


@app.command()
def data(folder: Folder, scenes: int = SCENES, crowds: int = CROWDS, lattices: int = LATTICES, first: int = 0) -> None:
    """Draw the corpus: scenes with questions, crowds and lattices without; numbered from --first."""
    draw_corpus(folder, "scenes", scenes, first)
    draw_corpus(folder, "crowds", crowds, first)
    draw_corpus(folder, "lattices", lattices, first)


@app.command()
def vision(
    folder: Folder,
    steps: Steps = None,
    batch: int = 80,
    start: Start = None,
    rates: Rates = 1.0,
    precision: Precise = "bf16",
) -> None:
    """Teach the vision tower; --start with --steps 0 takes that model's tower as it is."""
    train_vision(folder, _asked(VISION, steps, rates, precision), batch, start)


@app.command()
def mqt(
    folder: Folder,
    steps: Steps = None,
    batch: int = 64,
    start: Start = None,
    rates: Rates = 1.0,
    seed: Seed = 2,
    precision: Precise = "bf16",
) -> None:
    """Train nano-mqt's connector and language model."""
    torch.manual_seed(0)
    backbone = nano_mqt(make_tokenizer(folder))
    load_tower(backbone, folder)
    if start is not None:
        _start_from(backbone, start)
    train_language(backbone, folder, _asked(MQT, steps, rates, precision), batch, seed)


@app.command()
def m3(
    folder: Folder,
    steps: Steps = None,
    batch: int = 32,
    start: Start = None,
    rates: Rates = 1.0,
    seed: Seed = 2,
    precision: Precise = "bf16",
) -> None:
    """Train nano-m3, starting from nano-mqt's language model as M3 starts from LLaVA's."""
    torch.manual_seed(0)
    backbone = nano_m3(make_tokenizer(folder))
    load_tower(backbone, folder)
    if start is not None:
        _start_from(backbone, start)
    else:
        backbone.language.load_state_dict(trained("nano-mqt", folder).language.state_dict())
    train_language(backbone, folder, _asked(M3, steps, rates, precision), batch, seed)


if __name__ == "__main__":
    # A sharp softmax in fp32 is full of denormals, which halve a CPU's pace; threads inherit this only when they start.
    torch.set_flush_denormal(True)
    try:
        app()
    except MatryoshkaError as error:
        raise SystemExit(f"error: {error}") from error
