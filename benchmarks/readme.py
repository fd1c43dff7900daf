"""Writes the README's figures from what was measured: model cards and `benchmarks/results`.

    python benchmarks/readme.py

`blocks()` gives every generated block as text; a test compares them with the README. The example is run for real.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

from encoders.loading import load, packaged

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_TEXT_TOKENS, _NEW_TOKENS = 9, 3  # of a usual scene question and its answer


def blocks() -> dict[str, str]:
    """The generated blocks by name, without the example's measured milliseconds."""
    return {"saves": saves(), "accuracy": accuracy(), "sweep": sweep(), "diagnosis": diagnosis()}


def saves() -> str:
    """What fewer tokens save and cost, on nano-mqt."""
    model = packaged()["nano-mqt"]
    backbone, right = load("nano-mqt"), model.measured["accuracy"]
    costs = {m: backbone.cost(m, _TEXT_TOKENS, _NEW_TOKENS).tflops for m in model.ladder}
    most = model.ladder[-1]
    chosen = [m for m in model.ladder if m in (1, 16, 36, 64)]
    parts = [f"m={m}: {right[str(m)] / right[str(most)]:.0%} of it for {costs[m] / costs[most]:.0%}" for m in chosen]
    return (
        f"What it saves and at what price, measured on the packaged `nano-mqt`: of the accuracy of all {most} tokens "
        f"({right[str(most)]:.3f}) and of their FLOPs (vision, text and decoding included), " + "; ".join(parts) + "."
    )


def accuracy() -> str:
    """Accuracy against m of the packaged models, from their measured.json."""
    models = packaged()
    ladder = sorted({m for model in models.values() for m in model.ladder})
    lines = [
        "Share right on held-out, answerable scenes (both styles; blind: the best guess from the question alone):",
        "",
        "| m | " + " | ".join(map(str, ladder)) + " | blind |",
        "|---" * (len(ladder) + 2) + "|",
    ]
    for name, model in models.items():
        cells = [f"{model.measured['accuracy'][str(m)]:.3f}" if m in model.ladder else "" for m in ladder]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {model.measured['blind']:.3f} |")
    count = next(iter(models.values())).measured["answerable"]
    lines += [
        "",
        f"n = {count:,} questions; every family's curve is in each model card (`encoders/packaged/*/README.md`).",
    ]
    return "\n".join(lines)


def sweep() -> str:
    """The sweep benchmark's ratios."""
    path = ROOT / "benchmarks" / "results" / "sweep_cost.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        f"Measured (`python benchmarks/sweep_cost.py`, {result['examples']} questions, batch {result['batch']}, "
        f"{result['cpu']}, commit {result['commit']}); the bound is what counted FLOPs allow:",
        "",
        "| | every m, shared / one full pass | bound | independent passes / shared | bound |",
        "|---|---|---|---|---|",
    ]
    for name in packaged():
        row = result[name]
        lines.append(
            f"| {name} | {row['shared_over_full']:.2f} | {row['shared_over_full_bound']:.2f} | "
            f"{row['independent_over_shared']:.2f} | {row['independent_over_shared_bound']:.2f} |"
        )
    return "\n".join(lines)


def diagnosis() -> str:
    """What `analyse` said of the scenes, and what the sweep took."""
    path = ROOT / "benchmarks" / "results" / "sweep_command.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    count = result["diagnosed"]
    rate = result[f"examples_per_second_{count}"]
    return (
        f"```\n{result['diagnosis']}```\n\n({count:,} questions of style a on {result['backbone']}, every m, "
        f"{rate:.0f} questions per second; {result['cpu']}, commit {result['commit']}.)"
    )


def example_code() -> str:
    """The README's first block of Python."""
    found = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError("the README must hold a block of Python")
    return found.group(1)


def run_example() -> str:
    """What the first block prints."""
    printed = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
        exec(example_code(), {})
        printed.seek(0)
        printed.truncate()
        exec(example_code(), {})  # the second time the model is warm
    return printed.getvalue()


def fill(text: str, name: str, content: str) -> str:
    """The README with one block replaced."""
    pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the README must hold the markers of {name!r}")
    return pattern.sub(lambda _: f"<!-- {name} -->\n{content}\n<!-- /{name} -->", text)


def main() -> None:
    """Fill every block."""
    text = README.read_text(encoding="utf-8")
    for name, content in blocks().items():
        text = fill(text, name, content)
    README.write_text(fill(text, "example", f"```\n{run_example()}```"), encoding="utf-8")


if __name__ == "__main__":
    main()
