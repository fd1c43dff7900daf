"""What the published per-scale tables of MQT and M3 imply for a router: hulls, data-set identity, M3's oracle.

    python benchmarks/published.py

Draws docs/published.png. Nothing is run: the scores are the papers' own, of real 7B models, data sets in equal parts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import report
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from training_data.curves import Curve, gap_recovered
from training_data.published import M3_NEXT, MQT, TABLES, PublishedTable

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "published.png"
MARKS = "osD^vPX<>*h"
LINES = ("-", "--", "-.", ":")


def saved(null: Curve, better: Curve, share: float) -> tuple[float, float]:
    """Mean costs at which each reaches `share` of the null's best."""
    wanted = share * null.score.max() - 1e-12
    return null.reach(wanted), better.reach(wanted)


def identity_row(published: PublishedTable) -> dict[str, float]:
    """What knowing only the data set saves, in m and in TFLOPs of the whole answer."""
    row = {}
    for unit, cost in (("m", None), ("tflops", published.tflops)):
        fixed, identity = published.fixed(cost), published.identity(cost)
        for share in (0.99, 1.0):
            hull_cost, identity_cost = saved(fixed, identity, share)
            row[f"hull_{unit}_{share:.0%}"] = round(hull_cost, 2)
            row[f"identity_{unit}_{share:.0%}"] = round(identity_cost, 2)
    return row


def draw_curves(axes: Axes, published: PublishedTable) -> None:
    """Arms, hull, identity and, where it was printed, the oracle; score against mean m."""
    m, mean = np.array(published.m), 100 * published.score.mean(axis=0)
    fixed, identity = published.fixed(), published.identity()
    span = np.geomspace(m[0], m[-1], 400)
    axes.plot(m, mean, "ko", label="one m for all")
    axes.plot(span, 100 * fixed.at(span), "k-", label="F: best mixture of fixed m")
    axes.plot(span, 100 * identity.at(span), "--", color="0.25", linewidth=2, label="one m per data set")
    if published.oracle:
        floor, readings = published.oracle_floor(), published.oracle_readings().values()
        span = np.geomspace(m[0], floor.cost[-1], 400)
        axes.plot(span, 100 * floor.at(span), ":", color="0.25", linewidth=2, label="the oracle is nowhere below")
        score = 100 * np.mean([reading.score for reading in readings])
        for name, mark in (("cheapest", "*"), ("dearest", "P")):
            mean_m = np.mean([getattr(reading, name) for reading in readings])
            label = f"oracle, never-solved charged m = {m[0] if name == 'cheapest' else m[-1]}"
            axes.plot(mean_m, score, mark, color="0.25", markersize=10, label=label)
    finish(axes, published, "mean score, %")
    axes.set_title(f"{published.model}: mean of {len(published.printed)} benchmarks")


def draw_datasets(axes: Axes, published: PublishedTable) -> None:
    """Every data set's score as a share of its own best."""
    for number, (name, row) in enumerate(zip(published.printed, published.score, strict=True)):
        style = {"marker": MARKS[number % len(MARKS)], "linestyle": LINES[number % len(LINES)]}
        axes.plot(published.m, 100 * row / row.max(), color=f"{0.6 * (number % 3) / 2:.2f}", label=name, **style)
    axes.axhline(99, color="0.7", linewidth=1)
    finish(axes, published, "score, % of the data set's best")
    axes.set_title(f"{published.model}: what each benchmark needs")


def finish(axes: Axes, published: PublishedTable, y: str) -> None:
    """Axes that say what they count."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(published.m, [str(m) for m in published.m])
    axes.minorticks_off()
    axes.set_xlabel(
        "visual tokens m" + (f" per grid ({published.grids} grids a picture)" if published.grids > 1 else "")
    )
    axes.set_ylabel(y)
    axes.grid(color="0.9")
    axes.legend(fontsize=8, loc="lower right")


def draw() -> None:
    """Two models, side by side."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    for column, published in enumerate((MQT, M3_NEXT)):
        draw_curves(panels[0, column], published)
        draw_datasets(panels[1, column], published)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Print both tables, draw the figure."""
    rows = {published.model: identity_row(published) for published in TABLES}
    table = Table(title="m (TFLOPs) that reach a share of the best fixed m: hull, and one m per data set")
    for heading in ("model", "hull 99 %", "data set 99 %", "hull 100 %", "data set 100 %"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, row in rows.items():
        cells = [
            f"{row[f'{policy}_m_{share}']:.1f} ({row[f'{policy}_tflops_{share}']:.2f})"
            for share in ("99%", "100%")
            for policy in ("hull", "identity")
        ]
        table.add_row(model, *cells)
    Console().print(table)
    oracle = Table(title=f"{M3_NEXT.source}: the oracle, m per grid")
    for heading in ("data set", "score", "over best m", "m, cheapest", "m, dearest", "m, solved later", "rise to 576"):
        oracle.add_column(heading, justify="left" if heading == "data set" else "right")
    readings = M3_NEXT.oracle_readings()
    for name, reading in readings.items():
        tokens = [f"{value:.1f}" for value in (reading.cheapest, reading.dearest, reading.later)]
        oracle.add_row(name, f"{reading.score:.1%}", f"{reading.headroom:+.1%}", *tokens, f"{reading.rise:+.1%}")
    Console().print(oracle)
    gap = gap_recovered(M3_NEXT.identity(), M3_NEXT.fixed(), M3_NEXT.oracle_floor())
    Console().print(f"one m per data set recovers at most {gap.recovered:.1%} of M3's oracle gap (log2 of m, to c99)")
    draw()
    dearest = {name: round(reading.dearest, 1) for name, reading in readings.items()}
    report("published", {"identity": rows, "m3_dearest_m": dearest, "m3_identity_gap_at_most": round(gap.recovered, 4)})


if __name__ == "__main__":
    main()
