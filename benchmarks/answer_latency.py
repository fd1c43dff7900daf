"""How long a warm `answer()` takes at full m on one core, and how much of it is not the model.

    python benchmarks/answer_latency.py

Bookkeeping is everything but reading the picture and the forward passes of tower, connector and language model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from common import report
from rich.console import Console
from rich.table import Table

from encoders import llava
from encoders.images import Preparation
from encoders.loading import load
from router import answer
from training_data.scenes import examples


class Clock:
    """Sums the time spent in wrapped functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def main() -> None:
    """Measure both packaged models and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = [(example.picture(), example.question) for example in examples(options.questions, "a", "test", start=60_000)]
    table = Table(title=f"warm answer() at full m, one core, median of {options.questions} questions, ms")
    for heading in ("model", "whole call", "picture", "model passes", "bookkeeping"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    result = {}
    for name in ("nano-mqt", "nano-m3"):
        backbone, model, picture = load(name), Clock(), Clock()
        backbone.vision.forward = model.wrap(backbone.vision.forward)
        backbone.connector.prepare = model.wrap(backbone.connector.prepare)
        backbone.connector.at = model.wrap(backbone.connector.at)
        backbone.language.forward = model.wrap(backbone.language.forward)
        llava.open_image, Preparation.__call__ = picture.wrap(llava.open_image), picture.wrap(Preparation.__call__)
        rows = []
        for image, question in work[:10] + work:
            model.seconds = picture.seconds = 0.0
            started = time.perf_counter()
            answer(image, question, m=backbone.ladder[-1], backbone=name)
            whole = time.perf_counter() - started
            rows.append([whole, picture.seconds, model.seconds, whole - picture.seconds - model.seconds])
        medians = [statistics.median(column) * 1000 for column in zip(*rows[10:], strict=True)]
        table.add_row(name, *(f"{value:.2f}" for value in medians))
        result[name] = {
            key: round(value, 2)
            for key, value in zip(("whole_ms", "picture_ms", "model_ms", "bookkeeping_ms"), medians, strict=True)
        }
    Console().print(table)
    report("answer_latency", result)


if __name__ == "__main__":
    main()
