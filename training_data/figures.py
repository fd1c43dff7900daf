"""Figures of an analysis: axes with units, legends, markers and line styles that survive black-and-white print.

Knows numbers and matplotlib, which is optional and loaded at use; no global state of it is touched. Knows no HTML.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from encoders.errors import DataError
from training_data.analysis import Analysis, Part
from training_data.bootstrap import Estimate
from training_data.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "osD^vPX<>*hp"
_LINES = ("-", "--", "-.", ":")
_GREYS = ("0.0", "0.35", "0.6")
_MOST_LINES = 12  # data sets in one figure; the table has them all
_MOST_BARRED = 4  # lines whose error bars can be told apart
_MOST_TICKS = 9
_LETTERS_ABREAST = 60  # of tick labels that fit side by side


def draw(analysis: Analysis) -> dict[str, bytes]:
    """Every figure as a PNG, by name.

    Raises:
        DataError: matplotlib is not installed.
    """
    figures = {"accuracy": _accuracy, "curves": _curves, "labels": _labels, "complexity": _complexity}
    if len(analysis.parts) > 1:
        figures["datasets"] = _datasets
    pages = {}
    for name, fill in figures.items():
        figure = new_figure()
        fill(figure.subplots(), analysis)
        pages[name] = png(figure)
    return pages


def new_figure() -> Figure:
    """An empty figure of the house's size; matplotlib is loaded here."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError(
            "a report's figures need matplotlib, was: not installed; run `pip install matplotlib`"
        ) from error
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names of data sets may be of any script
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _accuracy(axes: Axes, analysis: Analysis) -> None:
    _line(axes, analysis, analysis.whole, 0, "all examples, 95 % interval by picture")
    axes.set_title(f"{analysis.whole.examples:,} examples on {analysis.whole.pictures:,} pictures")
    _along_arms(axes, analysis)
    finish(axes, "score, %")


def _datasets(axes: Axes, analysis: Analysis) -> None:
    shown = sorted(analysis.parts, key=lambda part: (-part.examples, part.name))[:_MOST_LINES]
    barred = len(shown) <= _MOST_BARRED
    for number, part in enumerate(shown):
        _line(axes, analysis, part, number, f"{plain(part.name)} ({part.examples:,})", barred)
    left = len(analysis.parts) - len(shown)
    elsewhere = [f"{left} smaller ones"] * bool(left) + ["intervals"] * (not barred)
    axes.set_title("by data set" + (f" ({' and '.join(elsewhere)} in datasets.csv)" if elsewhere else ""))
    _along_arms(axes, analysis)
    finish(axes, "score, %", outside=True)


def _line(axes: Axes, analysis: Analysis, part: Part, number: int, label: str, barred: bool = True) -> None:
    value, reach = percents(part.mean)
    axes.errorbar(
        _places(analysis),
        value,
        yerr=reach if barred else None,
        capsize=3,
        marker=_MARKS[number % len(_MARKS)],
        linestyle=_LINES[number % len(_LINES)],
        color=_GREYS[number % len(_GREYS)],
        label=label,
    )


def percents(estimates: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Shares as percentages, (n,), and how far their intervals reach down and up, (2, n), as `errorbar` takes them."""
    value, low, high = (100 * np.array([getattr(one, end) for one in estimates]) for end in ("value", "low", "high"))
    return value, np.maximum([value - low, high - value], 0)


def _curves(axes: Axes, analysis: Analysis) -> None:
    rows = analysis.outcomes
    against_cost(axes, rows.arms, rows.cost.mean(axis=0), rows.score.mean(axis=0), analysis.curves, rows.unit)
    axes.set_title("fixed arms, and what hindsight could do")


def against_cost(
    axes: Axes,
    arms: Sequence[str],
    cost: np.ndarray,
    score: np.ndarray,
    curves: Mapping[str, Curve],
    unit: str,
) -> None:
    """Mean scores (drawn in %) of arms, `cost` and `score` (k,), and of curves, against mean cost, logarithmic."""
    axes.plot(cost, 100 * score, "ko", label="fixed arms")
    for name, x, y in zip(arms, cost, 100 * score, strict=True):
        axes.annotate(plain(name), (x, y), xytext=(4, -11), textcoords="offset points", fontsize=8)
    for number, (name, curve) in enumerate(curves.items()):
        span = np.unique(
            np.concatenate([np.geomspace(curve.cost[0], max(curve.cost[-1], cost.max()), 200), curve.cost])
        )
        axes.plot(
            span,
            100 * curve.at(span),
            marker=_MARKS[number + 1],
            markevery=(10 * number, 80),
            linestyle=_LINES[number % len(_LINES)],
            color=_GREYS[number % len(_GREYS)],
            label=name,
        )
    axes.set_xscale("log", base=2)
    ticks = np.geomspace(cost.min(), cost.max(), 6)
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(f"mean cost per example, {plain(unit)} (log scale)")
    finish(axes, "mean score, %", outside=True)


def _labels(axes: Axes, analysis: Analysis) -> None:
    names = [*(plain(arm) for arm in analysis.outcomes.arms), "never"]
    places = np.arange(len(names))
    kinds = {
        "cheapest arm with the best score": (analysis.whole.label, "0.3", ""),
        "and every dearer arm has it too": (analysis.whole.stable, "0.85", "///"),
    }
    for number, (name, (counts, grey, hatch)) in enumerate(kinds.items()):
        share = 100 * counts / analysis.whole.examples
        axes.bar(places + 0.4 * number - 0.2, share, 0.4, color=grey, edgecolor="black", hatch=hatch, label=name)
    _named_ticks(axes, places, names)
    axes.set_xlabel("oracle label: m or arm; never: solved by none, or by none that stays solved")
    axes.set_title("what examples need")
    finish(axes, "examples, %")


def _complexity(axes: Axes, analysis: Analysis) -> None:
    arms = analysis.outcomes.arms
    edges = np.linspace(-0.25, len(arms) - 0.75, 2 * len(arms))
    name = f"{analysis.pictures.size:,} pictures with a solved question"
    axes.hist(analysis.complexity, edges.tolist(), color="0.8", edgecolor="black", hatch="//", label=name)
    _named_ticks(axes, np.arange(len(arms)), [plain(arm) for arm in arms])
    axes.set_xlabel("mean oracle label of a picture's solved questions, on the ladder of arms")
    axes.set_title("complexity per picture")
    finish(axes, "pictures")


def _places(analysis: Analysis) -> np.ndarray:
    m = analysis.outcomes.m
    return np.arange(len(analysis.outcomes.arms)) if m is None else m


def _along_arms(axes: Axes, analysis: Analysis) -> None:
    places, arms = _places(analysis), analysis.outcomes.arms
    shown = np.unique(np.linspace(0, len(arms) - 1, min(len(arms), _MOST_TICKS)).round().astype(int))
    if analysis.outcomes.m is not None:
        axes.set_xscale("log", base=2)
    _named_ticks(axes, places[shown], [plain(arms[number]) for number in shown])
    axes.minorticks_off()
    axes.set_xlabel("arm" if analysis.outcomes.m is None else "visual tokens m (log scale)")


def _named_ticks(axes: Axes, places: np.ndarray, names: Sequence[str]) -> None:
    """Names that would run into each other side by side stand aslant."""
    if sum(map(len, names)) <= _LETTERS_ABREAST:
        axes.set_xticks(places, names)
    else:
        axes.set_xticks(places, names, rotation=30, ha="right", rotation_mode="anchor")


def finish(axes: Axes, y: str, outside: bool = False) -> None:
    """Label, grid and legend."""
    axes.set_ylabel(y)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    if outside:
        axes.figure.set_size_inches(7.5, 6.5)  # type: ignore[union-attr]
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    else:
        axes.legend(fontsize=8)


def plain(name: str) -> str:
    """A name as matplotlib draws it: no mathematics, no hidden label, no line break, at most 30 letters."""
    text = " ".join(name.split())
    text = text if len(text) <= 30 else f"{text[:29]}…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
