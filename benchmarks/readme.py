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
from statistics import mean
from typing import Any

from encoders.loading import load, packaged

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_ROUTING = ("router_study", "routing_overhead", "certificates")
_ROWS = {
    "best constant": "constant",
    "hull of fixed arms": "hull",
    "permuted labels": "permuted labels",
    "shuffled router (its m, on other questions)": "shuffled router (same m)",
    "question only": "question only",
    "picture only": "image only",
    "logistic regression per arm": "logistic regression per arm",
    "the data set's name": "data set's name",
    "**this router** (question and picture)": "router",
    "question and picture, + probe where it pays (cost paid)": "+ probe where it pays",
    "question and picture, + probe, were it free": "+ probe, were it free",
    "privileged (the generator's facts)": "privileged (knows the facts)",
    "oracle without luck (cross-fitted over replicates)": "crossfit",
    "oracle (hindsight)": "hindsight",
}
_TEXT_TOKENS, _NEW_TOKENS = 9, 3  # of a usual scene question and its answer


def blocks() -> dict[str, str]:
    """The generated blocks by name, without the example's measured milliseconds."""
    return {"saves": saves(), "accuracy": accuracy(), "sweep": sweep(), "diagnosis": diagnosis(), "router": router()}


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
        f"({right[str(most)]:.3f} of held-out, answerable scenes) and of their FLOPs (vision, text and "
        "decoding included), " + "; ".join(parts) + "."
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
        "| | every m, shared / one full pass | bound | of it | independent passes / shared | bound | of it |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in packaged():
        row = result[name]
        lines.append(
            f"| {name} | {row['shared_over_full']:.2f} | {row['shared_over_full_bound']:.2f} | "
            f"{row['share_of_full_bound']:.0%} | {row['independent_over_shared']:.2f} | "
            f"{row['independent_over_shared_bound']:.2f} | {row['share_of_independent_bound']:.0%} |"
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


def router() -> str:
    """What routing earns and costs, from the study of the shipped router and the overhead benchmark."""
    folder = ROOT / "benchmarks" / "results"
    measured = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in _ROUTING}
    study, overhead, promises = measured.values()
    tests = list(study["tests"].values())
    lines = [
        f"`{study['backbone']}` on pictures that neither model nor router has seen (fitted on "
        f"{study['trained_rows']:,} questions of style a, one in five only to fix prices; {tests[0]['pictures']:,} "
        "test pictures each; style b has shapes, print, palette and layout of its own). G is the share of the area "
        "between the hull of fixed arms and the oracle, over log2 of total FLOPs, routing included; hindsight, luck "
        "and all, is 1. The 99 % point is the router's operating point, the price at which it kept 99 % of full's "
        "score on the pictures it was fitted on (predicted out of fold) and calibrated on; what it keeps here stands "
        "beside what it saves. The oracle "
        f"without luck is of {study['replicated']['rows']:,} pictures in {study['replicated']['replicates']} "
        "replicates, a ratio of two ratios, and has no interval.",
        "",
        "| | "
        + " | ".join(f"style {name}: G | saves at the 99 % point | of the hull's cost" for name in study["tests"])
        + " |",
        "|---" * (1 + 3 * len(study["tests"])) + "|",
    ]
    for title, name in _ROWS.items():
        cells = [_cells(test, name, study) for test in tests]
        if all(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    both = " and ".join
    gaps = both(f"{test['gap_mean']:.3f} (style {name})" for name, test in study["tests"].items())
    over = both("{:.3f} [{:.3f}, {:.3f}]".format(*test["router"]["over_identity"]) for test in tests)
    over_by_seed = both(f"{mean(test['over_identity_by_seed']):.3f}" for test in tests)
    same = both("{:.0%} [{:.0%}, {:.0%}]".format(*test["router"]["same_score_99"]) for test in tests)
    same_by_seed = both(f"{mean(test['same_score_99_by_seed']):.0%}" for test in tests)
    slopes = both(f"{test['router']['slope']:.2f}" for test in tests)
    taken, probed = (
        both(f"{_share(test, name):.0%}" for test in tests) for name in ("router", "+ probe where it pays")
    )
    taken_by_seed = both(f"{test['share_of_privileged']:.0%}" for test in tests)
    costs = ", ".join(
        f"{row['features_ms']:.1f} ms of features and {row['decision_ms']:.1f} ms of decision on {name}"
        for name, row in overhead.items()
        if isinstance(row, dict)
    )
    commits = ", ".join(f"{name} {found['commit']}" for name, found in measured.items())
    lines += [
        "",
        f"- Over {len(tests[0]['gap_by_seed'])} seeds G is {gaps}; over the data set's name it is {over} more (over "
        f"the seeds {over_by_seed}). Gains come true at a slope of {slopes}.",
        f"- Where both curves have 99 % of full's score, the router costs {same} less than the hull (over the seeds "
        f"{same_by_seed}): what routing is worth at one score, read off the test's own curves. The operating point is "
        "what somebody gets who fixed a price before.",
        f"- Of the privileged router's area the router takes {taken} (over the seeds {taken_by_seed}), with the probe "
        f"{probed}.",
        f"- One question costs the router {costs}, on one core. Fitting took {study['fit_seconds']:.0f} s and at most "
        f"{study['peak_gib']:.1f} GiB ({study['cpu']}).",
        "- Promises: over 1,000 calibration sets of 5,000 pictures, drawn with replacement from the router's own, a "
        "certified loss of one point was exceeded in "
        f"{promises['max_loss .01, 5000']['violations']:.1%} and a share of 5 % broken in "
        f"{promises['max_broken .05, 5000']['violations']:.1%} of them (10 % are allowed).",
        "",
        f"Intervals are of {study['resamples']:,} resamples of the pictures. (`benchmarks/`: {commits}.)",
    ]
    return "\n".join(lines)


def _share(test: dict[str, Any], name: str) -> float:
    """The router's or a competitor's area as a share of the privileged router's, all of one seed."""
    rows = {"router": test["router"], **test["competitors"]}
    return float(rows[name]["area"] / rows["privileged (knows the facts)"]["area"])


def _cells(test: dict[str, Any], name: str, study: dict[str, Any]) -> str:
    """G with its interval and both savings of one competitor; empty where it was not tried."""
    known = {"constant": "- | 0% (keeps 100.0%) | -", "hull": "0 | - | 0%", "hindsight": "1 | - | -"}
    first = next(iter(study["tests"].values()))  # the one whose pictures were replicated
    if "replicated" in study:
        known["crossfit"] = f"{study['replicated']['oracle_crossfit']:.2f} | - | -" if test is first else "- | - | -"
    if name in known:
        return known[name]
    row = test["router"] if name == "router" else test["competitors"].get(name)
    if row is None:
        return ""
    gap = "{:.3f} [{:z.3f}, {:z.3f}]".format(*row["gap"])
    beyond = ", beyond it" if row.get("beyond_hull") else ""  # no mixture scores as much: the saving is against full
    saved = f"{row['saved_99']:z.0%} (keeps {row['kept_99']:.1%})"
    return f"{gap} | {saved} | {row['saved_99_hull'][0]:z.0%}{beyond}"


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
