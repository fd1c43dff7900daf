"""Measures a trained nano model on held-out scenes and writes its folder: weights, measured.json and model card.

    python -m training_data.nano_card nano-mqt --folder runs/nano --out encoders/packaged/nano-mqt

Knows accuracy tables. Trains nothing; no measured figure of a card is written by hand.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from tqdm import tqdm

from encoders import checkpoint
from encoders.llava import NestedLlava
from training_data import nano
from training_data.example import Example
from training_data.scenes import FAMILIES, STYLE_NAMES, SceneImage, examples, recipe_hash
from training_data.scores import exact

SCENES = 4_000
_BATCH = 64


def right_at_every_m(
    backbone: NestedLlava, questions: Sequence[Example], ladder: Sequence[int], replicate: int = 0
) -> np.ndarray:
    """Whether each answer is right at each m of a ladder: (n, k) bool."""
    rows = []
    for start in tqdm(range(0, len(questions), _BATCH), desc=f"{backbone.name} replicate {replicate}", mininterval=5):
        part = questions[start : start + _BATCH]
        pictures = [cast(SceneImage, example.image).replicate(replicate)() for example in part]
        answers = backbone.answer_ladder(backbone.encode(pictures), [example.question for example in part], ladder)
        rows += [[exact(g.text, example).value == 1 for g in row] for row, example in zip(answers, part, strict=True)]
    return np.array(rows)


class BlindAnswerer:
    """Answers from the question alone: the commonest answer to these words in training scenes, else in their family."""

    def __init__(self, scenes: int = 40_000) -> None:
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for style in STYLE_NAMES:
            for example in examples(scenes // 2, style, "train", start=10_000_000):
                seen[_bare(example.question)][example.answers[0]] += 1
                seen[example.dataset][example.answers[0]] += 1
        self._best = {words: counts.most_common(1)[0][0] for words, counts in seen.items()}

    def right(self, questions: Sequence[Example]) -> np.ndarray:
        """Whether each blind answer is right: (n,) bool."""
        guesses = [self._best.get(_bare(example.question), self._best[example.dataset]) for example in questions]
        return np.array([exact(guess, example).value == 1 for guess, example in zip(guesses, questions, strict=True)])


def _bare(question: str) -> str:
    return question.lower().rstrip("?.").replace("color", "colour")


def measure(backbone: NestedLlava, blind: BlindAnswerer, scenes: int = SCENES) -> dict[str, Any]:
    """Accuracy per m, style and family on held-out scenes with held-out handwritten digits."""
    styles, pooled = {}, []
    for style in STYLE_NAMES:
        questions = list(examples(scenes, style, "test"))
        right = right_at_every_m(backbone, questions, backbone.ladder)
        again = right_at_every_m(backbone, questions, backbone.ladder[-1:], replicate=1)
        styles[style] = _table(backbone, questions, right, again, blind.right(questions))
        pooled.append((questions, right, again, blind.right(questions)))
    every = [example for questions, *_ in pooled for example in questions]
    arrays = [np.concatenate(parts) for parts in list(zip(*pooled, strict=True))[1:]]
    return {"scenes_per_style": scenes, **_table(backbone, every, *arrays), "styles": styles}


def _table(
    backbone: NestedLlava, questions: Sequence[Example], right: np.ndarray, again: np.ndarray, blind: np.ndarray
) -> dict[str, Any]:
    answerable = np.array([example.meta["answerable"] for example in questions])
    family = np.array([example.dataset for example in questions])

    def by_m(rows: np.ndarray) -> dict[str, float]:
        return {str(m): round(float(right[rows, k].mean()), 4) for k, m in enumerate(backbone.ladder)}

    return {
        "accuracy": by_m(answerable),
        "accuracy_with_unanswerable": by_m(np.ones(len(right), dtype=bool)),
        "accuracy_unanswerable_only": by_m(~answerable),
        "blind": round(float(blind[answerable].mean()), 4),
        "replicates_agree": round(float((right[:, -1] == again[:, -1]).mean()), 4),
        "questions": len(questions),
        "answerable": int(answerable.sum()),
        "families": {
            name: {"blind": round(float(blind[(family == name) & answerable].mean()), 4)}
            | by_m((family == name) & answerable)
            for name in FAMILIES
            if ((family == name) & answerable).any()
        },
    }


def card(backbone: NestedLlava, measured: dict[str, Any], training: dict[str, Any]) -> str:
    """The model card, every figure from `measured` and `training`."""
    ladder = [str(m) for m in backbone.ladder]
    parts = {name: _millions(backbone, name) for name in ("vision", "connector", "language")}
    lines = [
        f"# {backbone.name}",
        "",
        f"A nested-token vision-language model of {sum(parts.values()):.2f} million parameters "
        f"(vision {parts['vision']:.2f}, connector {parts['connector']:.2f}, language {parts['language']:.2f}), "
        "trained from scratch on the procedural scenes of `training_data/scenes`. It knows those, not the world: "
        "use it to learn the library, to try routers and in tests.",
        "",
        "## Training",
        "",
        *(f"- {key}: {value}" for key, value in training.items()),
        "",
        "## Accuracy on held-out scenes",
        "",
        f"{measured['scenes_per_style']:,} scenes of each style, seeds and handwritten digits unseen in training, one "
        f"question each, greedy, exact match; {measured['answerable']:,} of {measured['questions']:,} questions are "
        "answerable, and rows speak of those unless they say otherwise. Blind is the commonest training answer to the "
        "question's words.",
        "",
        "| | " + " | ".join(f"m={m}" for m in ladder) + " | blind |",
        "|---" * (len(ladder) + 2) + "|",
        _row("both styles", measured["accuracy"], ladder, measured["blind"]),
        *(
            _row(f"style {style}", table["accuracy"], ladder, table["blind"])
            for style, table in measured["styles"].items()
        ),
        _row("all, unanswerable included", measured["accuracy_with_unanswerable"], ladder, None),
        _row("unanswerable only", measured["accuracy_unanswerable_only"], ladder, None),
        *(_row(name, table, ladder, table["blind"]) for name, table in measured["families"].items()),
        "",
        f"Re-rendered (shifted by at most 2 px, new noise), {measured['replicates_agree']:.1%} of the scenes stay "
        f"right or stay wrong at m={ladder[-1]}.",
        "",
        "| by style | " + " | ".join(f"{name}" for name in FAMILIES) + " |",
        "|---" * (len(FAMILIES) + 1) + "|",
        *(
            f"| {style}, m={ladder[-1]} | "
            + " | ".join(f"{table['families'].get(name, {}).get(ladder[-1], math.nan):.2f}" for name in FAMILIES)
            + " |"
            for style, table in measured["styles"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, table: dict[str, float], ladder: list[str], blind: float | None) -> str:
    return (
        f"| {name} | "
        + " | ".join(f"{table[m]:.3f}" for m in ladder)
        + f" | {'' if blind is None else f'{blind:.3f}'} |"
    )


def _millions(backbone: NestedLlava, part: str) -> float:
    return sum(parameter.numel() for parameter in getattr(backbone, part).parameters()) / 1e6


def training_facts(name: str, folder: Path) -> dict[str, Any]:
    """What the checkpoints and logs say of the training, with what the folder's notes add (`training.json`)."""
    facts: dict[str, Any] = {}
    for stage in ("vision", name):
        progress = json.loads((folder / stage / "checkpoint" / "progress.json").read_text(encoding="utf-8"))
        recipe = progress["recipe"]
        facts[f"{stage} stage"] = (
            f"{progress['step']:,} steps, peak learning rate {recipe['learning_rate']:g}, "
            f"{recipe['precision']} autocast"
        )
    notes = folder / "training.json"
    if notes.is_file():
        facts |= json.loads(notes.read_text(encoding="utf-8")).get(name, {})
    return facts | {"scene recipe": f"sha256 {recipe_hash()[:16]}..."}


app = typer.Typer(add_completion=False)


@app.command()
def main(
    name: str,
    folder: Annotated[Path, typer.Option(help="where the training ran")],
    out: Annotated[Path, typer.Option(help="the model folder to write")],
    scenes: int = SCENES,
) -> None:
    """Measure a trained model and write its folder."""
    checkpoint.save(nano.trained(name, folder), out, "")
    backbone = checkpoint.load(out)  # what is measured is what ships: weights rounded to half precision
    measured = measure(backbone, BlindAnswerer(), scenes)
    (out / "measured.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    text = card(backbone, measured, training_facts(name, folder))
    (out / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    app()
