"""What routing adds to an answer: features and decision for one question on one core, and in batches.

    python benchmarks/routing_overhead.py [--router FOLDER]

Features are those that the router reads, beside the vision pass that runs anyway. The decision is everything from
features to an m. The smallest full answer is the one at the ladder's first m, vision pass included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import report
from rich.console import Console
from rich.table import Table

from encoders import features
from encoders.encoded import LlavaImages
from encoders.loading import load
from router import Budget, Router, answer
from router.columns import group_of
from router.shelf import shipped
from training_data.outcomes import Features
from training_data.scenes import examples


def median_ms(function: Callable[[int], Any], count: int) -> float:
    """Median milliseconds of function(0) .. function(count - 1), the first tenth left out."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        function(number)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[count // 10 :])


def main() -> None:
    """Measure every backbone that has a router and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--router", help="a router folder; the shipped ones by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = [(e.picture(), e.question) for e in examples(options.questions, "a", "test", start=60_000)]
    questions = [question for _, question in work]
    table = Table(title=f"routing on one core, median of {options.questions} questions, ms")
    for heading in ("model", "features", "decision", "decision in a batch", "smallest answer", "routing's share"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    result = {}
    for name in ("nano-mqt", "nano-m3"):
        backbone = load(name)
        router = Router.load(options.router) if options.router else shipped(backbone)
        if router is None or router.backbone is None or router.backbone[1] != backbone.fingerprint:
            continue
        encoded = [backbone.encode([picture]) for picture, _ in work]
        groups = {group_of(name) for name in router.columns.visual}
        names = features.feature_names(backbone, groups)
        columns = [
            features.visual_features(backbone, one, [q], groups=groups)
            for one, q in zip(encoded, questions, strict=True)
        ]
        together = Features(features.VERSION, names, np.concatenate(columns))

        def look(k: int, backbone: Any = backbone, encoded: Any = encoded, groups: Any = groups) -> None:
            seen = LlavaImages(backbone.connector, encoded[k].patches, encoded[k].pictures)  # nothing is prepared yet
            features.visual_features(backbone, seen, [questions[k]], groups=groups)

        def decide(k: int, router: Router = router, columns: Any = columns, names: Any = names) -> None:
            curve = router.curves([questions[k]], Features(features.VERSION, names, columns[k]))
            router.choose(curve, Budget(64), router.arm_cost)

        def decide_all(_: int, router: Router = router, together: Features = together) -> None:
            router.choose(router.curves(questions, together), Budget(mean=16), router.arm_cost, questions)

        looking, deciding = median_ms(look, options.questions), median_ms(decide, options.questions)
        batched = median_ms(decide_all, 20) / options.questions
        least = backbone.ladder[0]
        smallest = median_ms(
            lambda k, name=name, least=least: answer(*work[k], m=least, backbone=name),  # type: ignore[misc]
            options.questions,
        )
        share = (looking + deciding) / smallest
        row = {"features_ms": looking, "decision_ms": deciding, "batch_decision_ms": batched}
        row |= {"smallest_answer_ms": smallest, "share": share}
        table.add_row(name, *(f"{value:.3f}" for value in list(row.values())[:-1]), f"{share:.0%}")
        result[name] = {key: round(value, 4) for key, value in row.items()}
    Console().print(table)
    report("routing_overhead", result)


if __name__ == "__main__":
    main()
