"""What every benchmark shares: the machine in words, medians of interleaved runs, one JSON line last."""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, object]:
    """Where and with what this ran."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    return {
        "commit": commit.stdout.strip() or None,
        "date": time.strftime("%Y-%m-%d"),
        "cpu": f"{_processor()}, {torch.get_num_threads()} thread(s)",
        "torch": torch.__version__,
    }


def _processor() -> str:
    """What the processor calls itself, where the system tells; else its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def interleaved_seconds(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each action; the actions take turns, so that a noisy machine disturbs all alike."""
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def _plain(value: object) -> object:
    """Numbers that JSON has not, as null."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report(name: str, result: dict[str, object]) -> None:
    """Save the result under `results/` and print it as the last line."""
    line = _plain({"benchmark": name, **machine(), **result})
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(line, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps(line))
