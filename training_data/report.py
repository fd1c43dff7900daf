"""The report: one HTML page that needs no network, with its figures as PNG files and its tables as CSV files.

Knows how numbers are shown. Computes none of them (`training_data.analysis`) and draws no figure
(`training_data.figures`). Questions, names and answers come from strangers: every text is escaped, and the page's own
policy forbids scripts and anything from outside.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from encoders.errors import ImageError
from training_data import figures
from training_data.analysis import HULL, ORACLE, WITHOUT_LUCK, Analysis, Part, analyse
from training_data.bootstrap import Estimate
from training_data.curves import NEAR, gap_recovered
from training_data.diagnosis import spelled
from training_data.outcomes import Outcomes
from training_data.page import Table, html_table, image, page, write_folder

Pictures = Callable[[str], Image.Image | None]

_SHOWN = 8  # pictures at either end of the contact sheet
_THUMBNAIL = 160  # px
_POINTS = 400  # of a curve in its table
_FEATURES = 12  # correlations on the page; the table has them all


def report(
    outcomes: Outcomes,
    folder: str | Path,
    pictures: Pictures | None = None,
    resamples: int = 2000,
    seed: int = 0,
    points: float = 1.0,
) -> Path:
    """Analyse outcomes and write `report.html`, the figures and the tables into `folder`; returns the page's path.

    Args:
        outcomes: as measured, replicates included.
        folder: made where it is missing; files of an earlier report are overwritten.
        pictures: the picture of a group, or None where it is gone. Left out, the page has no contact sheet and says so.
        resamples: of the pictures, for every interval.
        seed: of the resamples.
        points: hundredths of score that an arm may be below the best and still be enough.

    Raises:
        DataError: matplotlib is not installed, the folder cannot be written, or `points` is negative.
    """
    return write(analyse(outcomes, resamples, seed, points), folder, pictures)


def write(analysis: Analysis, folder: str | Path, pictures: Pictures | None = None) -> Path:
    """`report` of an analysis that was made already; arguments and errors as there."""
    drawn, tables = figures.draw(analysis), csv_tables(analysis)
    text = page("Does this data need all those tokens?", _sections(analysis, drawn, pictures))
    return write_folder(Path(folder), text, drawn, tables)


def csv_tables(analysis: Analysis) -> dict[str, Table]:
    """Every table in full, by name; scores in [0, 1], costs in the outcomes' unit. Curves are thinned to 400 points."""
    arms, parts = analysis.outcomes.arms, (analysis.whole, *analysis.parts)
    mean_cost, within = analysis.outcomes.cost.mean(axis=0), spelled(analysis.diagnosis.points).replace(" ", "_")
    scores = [
        [part.name, arm, f"{cost:.9g}", *_digits(one), str(part.examples), str(part.pictures)]
        for part in parts
        for arm, cost, one in zip(arms, mean_cost, part.mean, strict=True)
    ]
    curves = [
        [name, f"{cost:.9g}", f"{score:.6f}"]
        for name, curve in analysis.curves.items()
        for point in np.unique(np.linspace(0, len(curve.cost) - 1, _POINTS).astype(int))
        for cost, score in [(curve.cost[point], curve.score[point])]
    ]
    complexity = zip(analysis.pictures.tolist(), analysis.complexity, strict=True)
    tables = {
        "datasets": [["dataset", "arm", "mean_cost", "score", "low", "high", "examples", "pictures"], *scores],
        "curves": [["curve", "mean_cost", "mean_score"], *curves],
        "labels": [
            ["dataset", "label", *arms, "never"],
            *([part.name, "cheapest", *map(str, part.label)] for part in parts),
            *([part.name, "stable", *map(str, part.stable)] for part in parts),
        ],
        "needs": [
            ["dataset", f"smallest_within_{within}", "low", "high", *(f"chosen_{arm}" for arm in arms)],
            *([part.name, *_need_cells(part, arms), *(f"{share:.4f}" for share in part.need.share)] for part in parts),
        ],
        "complexity": [["picture", "mean_rung"], *([name, f"{rung:.4f}"] for name, rung in complexity)],
    }
    if analysis.correlation:
        tables["correlation"] = [["feature", "spearman"], *([name, f"{rho:.4f}"] for name, rho in analysis.correlation)]
    if analysis.failures:
        tables["failures"] = [["id", "reason"], *map(list, analysis.failures)]
    return tables


def _sections(analysis: Analysis, drawn: dict[str, bytes], pictures: Pictures | None) -> Iterable[str]:
    arms, parts = analysis.outcomes.arms, (analysis.whole, *analysis.parts)
    found = analysis.diagnosis
    yield f"<p>Verdict: <span class=verdict>{found.verdict}</span> ({found.support:.0%} of resamples agree)</p>"
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in found.advice) + "</ul>"
    yield html_table(_evidence(analysis))
    yield "<p class=small>Intervals: 95 %, bootstrap of pictures. Full figures and tables lie beside this page.</p>"
    yield "<h2>Score at every m</h2>" + _figure("accuracy", drawn)
    yield html_table(_score_table(analysis))
    yield "<h2>What hindsight could do</h2>" + _figure("curves", drawn)
    yield html_table(_curve_table(analysis))
    yield (
        "<p class=small>The oracle knows the answers: a curve to look up to, not a target. Luck counts for it, since "
        "the best of several arms is better than each even where all of them guess. Without luck: arms chosen by "
        "other replicates of an example; an upper reading of what a router could earn, and too low where replicates "
        "are few.</p>"
    )
    yield "<h2>What examples need</h2>" + _figure("labels", drawn)
    yield html_table([["data set", *arms, "never solved"], *([part.name, *_percent(part.label)] for part in parts)])
    yield "<h2>How many tokens does this data need?</h2>"
    if "datasets" in drawn:
        yield _figure("datasets", drawn)
    yield f"<p>The smallest arm within {spelled(found.points)} of the best, and the range of 95 % of resamples.</p>"
    needs = ([part.name, f"{part.examples:,}", *_need_cells(part, arms)] for part in parts)
    yield html_table([["data set", "examples", "smallest", "from", "to"], *needs])
    yield "<h2>Complexity per picture</h2>" + _figure("complexity", drawn)
    yield from _correlation(analysis)
    yield "<h2>Pictures that need the least and the most</h2>"
    yield from _contact_sheet(analysis, pictures)


def _evidence(analysis: Analysis) -> Table:
    found = analysis.diagnosis
    drop = [[f"{found.dearest} below {found.best}, points", *_points(found.drop)]]
    return [
        ["evidence", "", "from", "to"],
        [f"share of {found.best}'s score that {found.cheapest} keeps, %", *_points(found.kept)],
        *(drop if found.dearest != found.best else []),
        [f"hindsight above {found.best}, points", *_points(found.headroom)],
        [f"luck in hindsight's gain, % (from {found.luck_from})", *_points(found.luck)],
        ["never solved, %", f"{100 * found.never_solved:.1f}", "", ""],
        *([["answers that could not be read", found.unread, "", ""]] if found.unread else []),
        *([["examples that could not be measured", f"{found.failed:,}", "", ""]] if found.failed else []),
    ]


def _score_table(analysis: Analysis) -> Table:
    rows = analysis.outcomes
    heading = ["arm", f"mean cost, {rows.unit}", "score, %", "from", "to"]
    cells = [
        [arm, f"{cost:.4g}", *_points(one)]
        for arm, cost, one in zip(rows.arms, rows.cost.mean(axis=0), analysis.whole.mean, strict=True)
    ]
    if analysis.agreement is None:
        return [heading, *cells]
    agreed = (f"{100 * share:.1f}" for share in analysis.agreement)
    return [[*heading, "replicates agree, %"], *([*row, share] for row, share in zip(cells, agreed, strict=True))]


def _curve_table(analysis: Analysis) -> Table:
    fixed, oracle = analysis.curves[HULL], analysis.curves[ORACLE]
    best, table = (
        float(fixed.score[-1]),
        [["curve", "best score, %", "cost of the best fixed score", "gap recovered, %"]],
    )
    for name, curve in analysis.curves.items():
        recovered, bounds = "-", (fixed, oracle)
        if name in WITHOUT_LUCK and analysis.replicated is not None:
            bounds = analysis.replicated
        if curve.cost[0] <= bounds[0].cost[0] * (1 + NEAR):
            share = gap_recovered(curve, *bounds).recovered
            recovered = "-" if np.isnan(share) else f"{100 * share:.1f}"
        reach = curve.reach(best - 1e-12)
        cost = "never" if np.isinf(reach) else f"{reach:.4g} {analysis.outcomes.unit}"
        table.append([name, f"{100 * curve.score.max():.1f}", cost, recovered])
    return table


def _correlation(analysis: Analysis) -> Iterable[str]:
    if not analysis.correlation:
        yield "<p class=small>These outcomes carry no visual features to compare complexity with.</p>"
        return
    yield f"<p>Rank correlation with the picture's features, the strongest of {len(analysis.correlation)}.</p>"
    shown = analysis.correlation[:_FEATURES]
    yield html_table([["feature", "Spearman"], *([name, f"{rho:+.2f}"] for name, rho in shown)])


def _contact_sheet(analysis: Analysis, pictures: Pictures | None) -> Iterable[str]:
    if pictures is None:
        yield "<p>The pictures were not at hand when this page was made.</p>"
        return
    order = np.lexsort((analysis.pictures, analysis.complexity))
    count = min(_SHOWN, len(order) // 2)
    for title, chosen in (("The least", order[:count]), ("The most", order[::-1][:count])):
        yield f"<h3>{title}</h3><div class=sheet>"
        for number in chosen:
            yield _card(analysis, str(analysis.pictures[number]), float(analysis.complexity[number]), pictures)
        yield "</div>"


def _card(analysis: Analysis, name: str, rung: float, pictures: Pictures) -> str:
    """A picture with its hardest solved question."""
    rows, arms = analysis.outcomes, analysis.outcomes.arms
    solved = np.flatnonzero((rows.group == name) & (analysis.label < len(arms)))
    hardest = solved[analysis.label[solved].argmax()]
    caption = f"{rows.question[hardest]} → {arms[analysis.label[hardest]]} (mean rung {rung:.1f})"
    try:
        picture = pictures(name)
    except (ImageError, OSError):
        picture = None
    shown = "<p>(picture not at hand)</p>"
    if picture is not None:
        small, buffer = picture.convert("RGB"), io.BytesIO()
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
        small.save(buffer, "PNG")
        shown = image(buffer.getvalue(), name)
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _figure(name: str, drawn: dict[str, bytes]) -> str:
    return f"<figure>{image(drawn[name], name)}</figure>"


def _need_cells(part: Part, arms: Sequence[str]) -> list[str]:
    return [arms[place] for place in (part.need.arm, part.need.low, part.need.high)]


def _digits(one: Estimate) -> list[str]:
    return [f"{value:.6f}" for value in (one.value, one.low, one.high)]


def _points(one: Estimate) -> list[str]:
    return [f"{100 * value:.1f}" for value in (one.value, one.low, one.high)]


def _percent(counts: np.ndarray) -> list[str]:
    return [f"{share:.1f} %" for share in 100 * counts / counts.sum()]
