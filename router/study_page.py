"""A study as a page: its curves and competitors as figures, its numbers as tables.

Knows how numbers are shown. Computes none of them (`router.study`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np

from router.evaluation import OPERATING
from router.study import Row, Study
from training_data import figures
from training_data.curves import Curve
from training_data.page import Table, html_table, image, page, write_folder

_LEARNING = "labels"


def write(study: Study, folder: str | Path) -> Path:
    """Write `report.html`, figures and tables into `folder`; returns the page's path.

    Raises:
        DataError: matplotlib is not installed, or the folder cannot be written.
    """
    drawn = {"curves": _curves(study), "gaps": _gaps(study)}
    if learning := [row for row in study.rows if row.part == _LEARNING]:
        drawn["labels"] = _learning(study, learning)
    tables = {"competitors": competitors(study), "curves": _points(study)}
    return write_folder(Path(folder), page("What does routing earn?", _sections(study, drawn)), drawn, tables)


def competitors(study: Study) -> Table:
    """One row per competitor, the router first; shares in [0, 1]."""
    gaps = ("gap recovered", "low", "high", "linear axis", "over identity", "low", "high")
    saved = ("saved at 99 %", "of the hull's cost", "where both have 99 %")
    more = ("Brier skill", "slope of gains", "gap recovered out of fold")
    table = [["part", "competitor", *gaps, *saved, *more]]
    for row in study.lines():
        found = row.evaluation
        gap, over, saving = found.gap_recovered, found.gap_recovered_over_identity, found.savings[OPERATING]
        values = [gap.value, gap.low, gap.high, found.gap_recovered_linear.value, over.value, over.low, over.high]
        values += [one.value for one in (saving.against_full, saving.against_hull, saving.same_score)]
        values += [found.brier_skill.value, found.gain_slope.value]
        out_of_fold = "" if math.isnan(row.out_of_fold) else f"{row.out_of_fold:.3f}"
        table.append([row.part, row.name, *(f"{value:.3f}" for value in values), out_of_fold])
    return table


def _lines(study: Study) -> dict[str, Curve]:
    found = study.router
    curves = {"fixed arms, mixed (hull)": found.hull, "this router": found.curve, "data set's name": found.identity}
    for row in study.rows:
        if row.part == "privileged":
            curves[row.name] = row.evaluation.curve
    if found.oracle_crossfit is not None:
        curves["oracle without luck"] = found.oracle_crossfit
    return curves | {"oracle (hindsight, luck included)": found.oracle}


def _curves(study: Study) -> bytes:
    figure, found = figures.new_figure(), study.router
    axes, cost, score = figure.subplots(), np.array(found.arm_cost), np.array(found.arm_score)
    figures.against_cost(axes, found.arms, cost, score, _lines(study), found.unit)
    axes.set_title(f"{found.rows:,} questions about {found.pictures:,} unseen pictures")
    return figures.png(figure)


def _gaps(study: Study) -> bytes:
    figure = figures.new_figure()
    rows = study.lines()
    figure.set_size_inches(7.5, 1.5 + 0.27 * len(rows))
    axes = figure.subplots()
    value, reach = figures.percents([row.evaluation.gap_recovered for row in rows])
    places = np.arange(len(rows))[::-1]
    axes.errorbar(value, places, xerr=reach, fmt="ko", capsize=3, label="95 % interval")
    axes.axvline(0, color="0.5", linewidth=1)
    axes.axvline(100 * study.router.gap_recovered_identity.value, color="0.5", linestyle=":", label="data set's name")
    axes.set_yticks(places, [figures.plain(row.name) for row in rows])
    axes.set_xlabel("gap recovered, % of the area between hull and oracle (log2 of cost, to c99)")
    figures.finish(axes, "")
    return figures.png(figure)


def _learning(study: Study, rows: list[Row]) -> bytes:
    figure = figures.new_figure()
    axes = figure.subplots()
    value, reach = figures.percents([row.evaluation.gap_recovered for row in rows])
    count = np.array([row.count for row in rows])
    axes.errorbar(count, value, yerr=reach, fmt="ko-", capsize=3, label="95 % interval")
    axes.axhline(0, color="0.5", linewidth=1)
    axes.axhline(100 * study.router.gap_recovered_identity.value, color="0.5", linestyle=":", label="data set's name")
    axes.set_xscale("log", base=2)
    axes.set_xticks(count, [f"{number:,}" for number in count])
    axes.minorticks_off()
    axes.set_xlabel("pictures with labels at every m (log scale)")
    axes.set_title("how many labels until it pays")
    figures.finish(axes, "gap recovered, %")
    return figures.png(figure)


def _points(study: Study) -> Table:
    rows = [
        [name, f"{cost:.9g}", f"{score:.6f}"]
        for name, curve in _lines(study).items()
        for cost, score in zip(curve.cost.tolist(), curve.score.tolist(), strict=True)
    ]
    return [["curve", "mean_cost", "mean_score"], *rows]


def _sections(study: Study, drawn: dict[str, bytes]) -> Iterable[str]:
    yield "<h2>Score against cost</h2><figure>" + image(drawn["curves"], "curves") + "</figure>"
    yield (
        "<p class=small>The router's prices were fixed on other pictures. The oracle knows the answers: a curve to "
        "look up to, not a target; luck counts for it, since the best of several arms is better than each even where "
        "all of them guess.</p>"
    )
    yield "<h2>Against everything it must beat</h2><figure>" + image(drawn["gaps"], "gaps") + "</figure>"
    yield html_table([[*row[1:5], row[6], *row[9:11], *row[12:]] for row in competitors(study)])  # as wide as the page
    if "labels" in drawn:
        yield "<h2>How many labels until it pays</h2><figure>" + image(drawn["labels"], "labels") + "</figure>"
    yield f"<h2>Everything</h2><pre>{escape(str(study.router))}</pre>"
