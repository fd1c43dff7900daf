"""The real command: how fast `matryoshka-router sweep` is, whether its memory grows, and what `analyse` says of scenes.

    python benchmarks/sweep_command.py [--few 1000 --many 10000 --diagnosed 2000]

Each sweep is a process of its own, so that peak memory is its own. Prints a table and a JSON line last; the diagnosis
is what the README shows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import report
from rich.console import Console
from rich.table import Table

COMMAND = [sys.executable, "-m", "router.commands"]


def sweep(backbone: str, examples: int, out: Path) -> dict[str, float]:
    """Seconds, rows per second and peak resident memory (MiB) of one sweep."""
    data = f"scenes:a:test:{examples}"
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "sweep", "--backbone", backbone, "--data", data, "--out", str(out)], stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the sweep must end well, was: status {status}")
    seconds = time.monotonic() - started
    return {"examples": examples, "seconds": seconds, "peak_mib": usage.ru_maxrss / 1024}


def diagnosis(outcomes: Path, examples: int, folder: Path) -> str:
    """What `analyse` prints."""
    command = [*COMMAND, "analyse", str(outcomes), "--out", str(folder), "--data", f"scenes:a:test:{examples}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Sweep, measure, diagnose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--diagnosed", type=int, default=2_000)
    parser.add_argument("--backbone", default="nano-mqt")
    parser.add_argument("--report", type=Path, help="keep the report here")
    options = parser.parse_args()
    table = Table(title=f"matryoshka-router sweep, {options.backbone}, every m")
    for heading in ("examples", "seconds", "examples per second", "peak memory, MiB"):
        table.add_column(heading, justify="right")
    result: dict[str, object] = {"backbone": options.backbone}
    with tempfile.TemporaryDirectory() as scratch:
        runs = {}
        for count in sorted({options.few, options.diagnosed, options.many}):
            runs[count] = run = sweep(options.backbone, count, Path(scratch, f"{count}.sqlite"))
            rate = count / run["seconds"]
            table.add_row(f"{count:,}", f"{run['seconds']:.0f}", f"{rate:.1f}", f"{run['peak_mib']:.0f}")
            result[f"examples_per_second_{count}"] = round(rate, 2)
            result[f"peak_mib_{count}"] = round(run["peak_mib"])
        result["memory_growth"] = round(runs[options.many]["peak_mib"] / runs[options.few]["peak_mib"], 3)
        folder = options.report or Path(scratch, "report")
        result["diagnosed"] = options.diagnosed
        result["diagnosis"] = diagnosis(Path(scratch, f"{options.diagnosed}.sqlite"), options.diagnosed, folder)
    Console().print(table)
    report("sweep_command", result)


if __name__ == "__main__":
    main()
