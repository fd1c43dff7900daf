"""The one training loop, and the objectives of the two recipes.

`train` runs any objective over a stream of batches: resumable at any checkpoint, bf16 or fp32, on one CPU or several
GPUs through accelerate. Knows batches and steps. Knows no scenes, no files of examples and no ladder's purpose.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import AttentionInterface, PreTrainedModel

from encoders.connector import Connector
from encoders.counts import positive
from encoders.errors import BackboneError

_IGNORED = -100
_FULL = 0.4  # of MQT's steps are at the most tokens
TRAINING_ATTENTION = "matryoshka_training"


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Plain matmul-softmax attention, softmax in the working dtype: (B, heads, S, d) in, (B, S, heads, d) out.

    On a CPU torch's fused kernel is several times slower backwards, and an fp32 softmax costs a third of the step
    (docs/log.md); for training only.
    """
    if attention_mask is None and getattr(module, "is_causal", False):
        raise BackboneError("training attention builds no causal mask of its own, was: called without one; pass a mask")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # grouped key-value heads
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    with torch.autocast(query.device.type, enabled=False):
        scores = (query * scaling) @ key.transpose(2, 3)
        if attention_mask is not None:
            scores = scores + attention_mask.to(scores.dtype)
        mixed = scores.softmax(dim=-1) @ value.to(scores.dtype)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(TRAINING_ATTENTION, _attend)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train. Both rates: linear warm-up, then cosine to a hundredth.

    `matrix_rate` is Muon's, for the weights of hidden linear layers; `learning_rate` is AdamW's, for all the rest
    (embeddings, output heads, convolutions, biases, norms, free parameters). At these sizes Muon reaches AdamW's loss
    in less than half the steps (docs/log.md).

    `accumulate` averages the losses of so many micro-batches: where each is a mean over its own answers' tokens, short
    answers weigh more than in one large batch.
    """

    steps: int
    learning_rate: float
    matrix_rate: float
    warmup_steps: int = 200
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    accumulate: int = 1
    precision: str = "bf16"
    checkpoint_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "warmup_steps", "accumulate", "checkpoint_every", "log_every"):
            positive(f"a recipe's {name}", getattr(self, name), least=0 if name.endswith("steps") else 1)

    def pace(self, step: int) -> float:
        """Share of the full learning rates at an optimiser step, in (0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    objective: nn.Module, batch_at: Callable[[int], Mapping[str, Tensor]], recipe: Recipe, folder: Path, title: str = ""
) -> None:
    """Minimise `objective(step=..., **batch)["loss"]`; the objective's other values are logged.

    Args:
        objective: a module; only its parameters with requires_grad are trained.
        batch_at: micro-batch number -> tensors. A function of the number alone, so a resumed run sees what an
            uninterrupted one would have seen; with several processes each takes its own numbers.
        recipe: steps and rates; no steps save the weights as they are.
        folder: holds `checkpoint/` (latest state) and `metrics.jsonl`. Where it holds a checkpoint of the same recipe,
            training goes on from there.
        title: shown on the progress bar.

    Raises:
        BackboneError: the folder holds a checkpoint of another recipe.
    """
    if is_initialized() and AcceleratorState().mixed_precision != recipe.precision:
        AcceleratorState._reset_state()  # accelerate keeps the first precision of a process for good
    accelerator = Accelerator(mixed_precision=recipe.precision, gradient_accumulation_steps=recipe.accumulate)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    objective, *optimizers = accelerator.prepare(objective, *_optimizers(objective, recipe))
    full_rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    step = _resume(accelerator, recipe, folder)  # which puts other groups in, at the rates they had come down to
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    objective.train()
    bar = tqdm(total=recipe.steps, initial=step, desc=title, mininterval=5, disable=not accelerator.is_main_process)
    started = time.monotonic()
    while step < recipe.steps:
        for group, full_rate in zip(groups, full_rates, strict=True):
            group["lr"] = full_rate * recipe.pace(step)
        for part in range(recipe.accumulate):
            number = step * recipe.accumulate + part
            mine = number * accelerator.num_processes + accelerator.process_index
            batch = {name: value.to(accelerator.device) for name, value in batch_at(mine).items()}
            with accelerator.accumulate(objective):
                values = objective(step=number, **batch)
                accelerator.backward(values["loss"])
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(trained, recipe.clip_norm)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        step += 1
        bar.update()
        if step % recipe.log_every == 0 and accelerator.is_main_process:
            row = {name: round(float(value.detach()), 5) for name, value in values.items()}
            _log(folder, {"step": step, **row, "seconds": round(time.monotonic() - started, 1)})
            bar.set_postfix(row, refresh=False)
        if step % recipe.checkpoint_every == 0 or step == recipe.steps:
            _save(accelerator, recipe, folder, step)
    if recipe.steps == 0:
        _save(accelerator, recipe, folder, step)
    bar.close()


def _optimizers(objective: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for the rest, and Muon where there are hidden matrices. Vectors do not decay."""
    hidden = {
        id(module.weight)
        for name, module in objective.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("head")
    }
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if id(parameter) in hidden]
    others = [parameter for parameter in trained if id(parameter) not in hidden]
    groups = [
        {"params": [parameter for parameter in others if parameter.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in others if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    if not matrices:
        return [adamw]
    muon = torch.optim.Muon(matrices, recipe.matrix_rate, recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [adamw, muon]


def _log(folder: Path, row: Mapping[str, float]) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _save(accelerator: Accelerator, recipe: Recipe, folder: Path, step: int) -> None:
    """Write the state beside the old one, then swap names: a kill at any point leaves one whole checkpoint."""
    fresh, current, old = (folder / name for name in ("checkpoint.new", "checkpoint", "checkpoint.old"))
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(fresh))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (fresh / "progress.json").write_text(json.dumps({"step": step, "recipe": asdict(recipe)}), encoding="utf-8")
        if current.exists():  # an old one beside it is what an earlier kill left
            shutil.rmtree(old, ignore_errors=True)
            current.rename(old)
        fresh.rename(current)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def _forget_later_metrics(folder: Path, step: int) -> None:
    """Drop rows that a killed run logged after its last checkpoint: they come again."""
    path = folder / "metrics.jsonl"
    if path.is_file():
        rows = path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if row.endswith("}") and json.loads(row)["step"] <= step]
        path.write_text("".join(row + "\n" for row in kept), encoding="utf-8")


def _resume(accelerator: Accelerator, recipe: Recipe, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("checkpoint", "checkpoint.old"):
        if (folder / name / "progress.json").is_file():
            break
    else:
        if accelerator.is_main_process:
            _forget_later_metrics(folder, 0)
        return 0
    try:
        progress = json.loads((folder / name / "progress.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(
            f"a checkpoint must be whole, was: {name} in {folder.name!r}, damaged; begin anew"
        ) from error
    if progress["recipe"] != asdict(recipe):
        raise BackboneError(
            f"a checkpoint goes on only under its own recipe, which was {progress['recipe']}, now: {asdict(recipe)}; "
            f"give another folder than {folder.name!r} or the same recipe"
        )
    accelerator.load_state(str(folder / name))
    if accelerator.is_main_process:
        _forget_later_metrics(folder, int(progress["step"]))
    return int(progress["step"])


class PackedQuestions(nn.Module):
    """Next-token loss of a language model on pictures with several questions each, in one sequence a picture.

    Sequence: prefix ids, m visual tokens, question 1 with its answer, question 2 ...; every question sees the prefix,
    the picture and itself (an additive mask), at the positions it would have alone.
    """

    prefix: Tensor

    def __init__(self, connector: Connector, language: PreTrainedModel, prefix: list[int]) -> None:
        super().__init__()
        self.connector, self.language = connector, language
        self.register_buffer("prefix", torch.tensor(prefix), persistent=False)

    def loss_at(
        self, visual: Tensor, ids: Tensor, block: Tensor, place: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(loss, share of answer tokens right) for visual tokens (B, m, D) and packed questions (B, T).

        `block` numbers each token's question (-1 is padding), `place` its position within it; `labels` holds the next
        token where it belongs to an answer and -100 elsewhere.
        """
        embed = self.language.get_input_embeddings()
        batch, head = len(ids), len(self.prefix) + visual.shape[1]
        start = embed(self.prefix).expand(batch, -1, -1)
        hidden = torch.cat([start, visual.to(start.dtype), embed(ids)], dim=1)
        positions = torch.cat([torch.arange(head, device=ids.device).expand(batch, -1), head + place], dim=1)
        mask = _block_mask(head, block, hidden.dtype)
        out = self.language.model(inputs_embeds=hidden, attention_mask=mask, position_ids=positions, use_cache=False)
        asked = labels != _IGNORED
        logits = self.language.lm_head(out.last_hidden_state[:, head:][asked]).float()
        loss = functional.cross_entropy(logits, labels[asked])
        return loss, (logits.argmax(-1) == labels[asked]).float().mean()


def _block_mask(head: int, block: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive (B, 1, S, S) mask: causal over the first `head` places, then each question alone behind them."""
    batch, length = block.shape
    total = head + length
    owner = torch.cat([torch.full((batch, head), -2, device=block.device), block], dim=1)  # -2: seen by everyone
    seen = (owner[:, None, :] == owner[:, :, None]) | (owner == -2)[:, None, :]
    seen &= torch.ones(total, total, dtype=torch.bool, device=block.device).tril()
    return torch.zeros(batch, 1, total, total, dtype=dtype, device=block.device).masked_fill_(
        ~seen[:, None], torch.finfo(dtype).min
    )


class MqtObjective(PackedQuestions):
    """MQT's recipe: one random m in 1..`most` for each step. Four draws in ten are `most`, the others log-uniform.

    (The paper draws even numbers uniformly; a short training sees too few small m that way. What takes many tokens to
    see, as counts and relations do, is learned at `most`.)
    """

    def __init__(self, connector: Connector, language: PreTrainedModel, prefix: list[int], most: int) -> None:
        super().__init__(connector, language, prefix)
        self.most = most

    def forward(self, step: int, patches: Tensor, **questions: Tensor) -> dict[str, Tensor]:
        """Loss at this step's m; patches (B, N, width)."""
        dice = random.Random(step)
        m = self.most if dice.random() < _FULL else round(math.exp(dice.uniform(0, math.log(self.most))))
        loss, right = self.loss_at(self.connector.prepare(patches, m), **questions)
        return {"loss": loss, "right": right, "m": torch.tensor(float(m))}


class M3Objective(PackedQuestions):
    """M3's recipe: the loss averaged over every scale of the ladder, from one projection of the patches."""

    def __init__(
        self, connector: Connector, language: PreTrainedModel, prefix: list[int], ladder: tuple[int, ...]
    ) -> None:
        super().__init__(connector, language, prefix)
        self.ladder = ladder

    def forward(self, step: int, patches: Tensor, **questions: Tensor) -> dict[str, Tensor]:
        """Mean loss over the scales; patches (B, N, width)."""
        grid = self.connector.prepare(patches, max(self.ladder))
        results = [self.loss_at(self.connector.at(grid, m), **questions) for m in self.ladder]
        values = {"loss": torch.stack([loss for loss, _ in results]).mean()}
        return values | {f"right_{m}": right for m, (_, right) in zip(self.ladder, results, strict=True)}
