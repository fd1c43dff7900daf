"""What sharing work across m saves: every m of the ladder for 256 questions at batch size 32.

    python benchmarks/sweep_cost.py

Compares the shared sweep (one vision pass, one key-value prefill where tokens are nested) with one pass at full m and
with independent passes, beside the bound that arithmetic allows: FLOPs counted from the shapes of what was really asked
and answered, vision included (a question costs prefix + m + text tokens when it is run alone; shared, the
prefix and the visual tokens are paid once). The bar is 85 % of that bound. "measured" is what the sweep command runs:
every m, the gold answers' log-probabilities, features, scores and the SQLite file, pictures opened in this process.
Whatever is compared, texts of like width stand in a batch, as in that command.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from common import interleaved_seconds, report
from rich.console import Console
from rich.table import Table

from encoders.backbone import Generation
from encoders.cost import LanguageShape
from encoders.llava import NestedLlava
from encoders.loading import load
from encoders.prefix import shares
from training_data.example import Example
from training_data.measurement import tokens_read
from training_data.scenes import examples
from training_data.sweep import by_width, sweep

BATCH = 32


def drawn(count: int, backbone: NestedLlava) -> list[Example]:
    """Questions on pictures drawn beforehand, so that drawing is not timed; by width, as a sweep asks them."""
    found = [replace(example, image=example.picture()) for example in examples(count, "a", "test", start=50_000)]
    return [example for _, example in by_width(list(enumerate(found)), partial(tokens_read, backbone))]


def batches(found: list[Example]) -> list[tuple[list, list[str]]]:
    """(pictures, questions) in batches."""
    parts = [found[k : k + BATCH] for k in range(0, len(found), BATCH)]
    return [([example.image for example in part], [example.question for example in part]) for part in parts]


def full(backbone: NestedLlava, work: list) -> None:
    """One pass at the largest m."""
    for pictures, questions in work:
        backbone.generate(backbone.encode(pictures), questions, backbone.ladder[-1])


def shared(backbone: NestedLlava, work: list) -> None:
    """Every m, work shared."""
    for pictures, questions in work:
        backbone.answer_ladder(backbone.encode(pictures), questions)


def independent(backbone: NestedLlava, work: list) -> None:
    """Every m on its own."""
    for pictures, questions in work:
        for m in backbone.ladder:
            backbone.generate(backbone.encode(pictures), questions, m)


def measured(backbone: NestedLlava, found: list[Example]) -> None:
    """What the sweep command runs, into a file that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        sweep(backbone, found, Path(scratch, "outcomes.sqlite"), batch_size=BATCH, workers=1)


def bounds(backbone: NestedLlava, work: list, found: list[Example]) -> dict[str, float]:
    """FLOPs of the four, per question: what each must compute, with no padding and nothing twice."""
    language, prefix, total = (
        backbone.language_shape,
        len(backbone.prefix_ids),
        dict.fromkeys(("full", "shared", "independent", "measured"), 0.0),
    )
    vision, most = backbone.vision_shape.flops(), backbone.ladder[-1]
    patches, golds = backbone.vision_shape.patches, iter(example.answers[0] for example in found)
    for pictures, questions in work:
        answers = backbone.answer_ladder(backbone.encode(pictures), questions)
        for row in answers:
            gold = backbone.answer_ids(next(golds))
            alone = {
                g.m: language.prefill_flops(g.visual_tokens + g.text_tokens)
                + language.decode_flops(g.visual_tokens + g.text_tokens, g.new_tokens)
                for g in row
            }
            connector = {m: backbone.connector.flops(patches, m) for m in backbone.ladder}
            total["full"] += vision + connector[most] + alone[most]
            total["independent"] += sum(vision + connector[m] + alone[m] for m in backbone.ladder)
            if shares(backbone):
                text = [
                    language.block_flops(t, prefix + g.m + t) + 2 * language.width * language.vocabulary * g.new_tokens
                    for g in row
                    for t in [g.text_tokens - prefix + g.new_tokens - 1]
                ]
                total["shared"] += (
                    vision + connector[most] + language.block_flops(prefix + most, prefix + most) + sum(text)
                )
            else:
                total["shared"] += vision + connector[most] + sum(alone.values())
            total["measured"] += sum(_gold_flops(language, g, gold) for g in row)
    total["measured"] += total["shared"]
    return {name: flops / len(found) for name, flops in total.items()}


def _gold_flops(language: LanguageShape, g: Generation, gold: list[int]) -> int:
    """The gold answer's own tokens but its last, behind which nothing is asked; none where the answer is the same."""
    if list(g.token_ids) == gold:
        return 0
    read = len(gold) - 1
    return language.block_flops(read, g.m + g.text_tokens + read) + 2 * language.width * language.vocabulary * read


def main() -> None:
    """Measure both packaged models and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    result = {}
    table = Table(title=f"{options.examples} questions, batch {BATCH}: time as a multiple, and the bound of arithmetic")
    for heading in (
        "model",
        "shared / full pass",
        "bound",
        "share of bound",
        "independent / shared",
        "bound",
        "share of bound",
        "measured / full pass",
        "bound",
        "share of bound",
    ):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in ("nano-mqt", "nano-m3"):
        backbone = load(name)
        found = drawn(options.examples, backbone)
        work = batches(found)
        actions = {f.__name__: partial(f, backbone, work) for f in (full, shared, independent)}
        actions["measured"] = partial(measured, backbone, found)
        seconds, flops = interleaved_seconds(actions, options.repeats), bounds(backbone, work, found)
        command, command_bound = seconds["measured"] / seconds["full"], flops["measured"] / flops["full"]
        over_full, full_bound = seconds["shared"] / seconds["full"], flops["shared"] / flops["full"]
        saved, saved_bound = seconds["independent"] / seconds["shared"], flops["independent"] / flops["shared"]
        row = {
            "shared_over_full": over_full,
            "shared_over_full_bound": full_bound,
            "share_of_full_bound": full_bound / over_full,
            "independent_over_shared": saved,
            "independent_over_shared_bound": saved_bound,
            "share_of_independent_bound": saved / saved_bound,
            "measured_over_full": command,
            "measured_over_full_bound": command_bound,
            "share_of_measured_bound": command_bound / command,
        }
        result[name] = {key: round(value, 3) for key, value in row.items()}
        table.add_row(
            name,
            f"{over_full:.2f}",
            f"{full_bound:.2f}",
            f"{full_bound / over_full:.0%}",
            f"{saved:.2f}",
            f"{saved_bound:.2f}",
            f"{saved / saved_bound:.0%}",
            f"{command:.2f}",
            f"{command_bound:.2f}",
            f"{command_bound / command:.0%}",
        )
    Console().print(table)
    report("sweep_cost", {"examples": options.examples, "batch": BATCH, **result})


if __name__ == "__main__":
    main()
