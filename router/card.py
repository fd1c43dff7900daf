"""A router's card: what it was fitted on, what it reads and what it decides by default, in a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from router.columns import group_of

if TYPE_CHECKING:
    from router.routing import Router


def card(router: Router) -> str:
    """The README.md of a router folder."""
    facts, name = router.facts, "a table" if router.backbone is None else router.backbone[0]
    libraries, scores = (facts[part] if isinstance(facts.get(part), dict) else {} for part in ("libraries", "score"))
    groups: dict[str, int] = {}
    for column in router.columns.names:
        groups[group_of(column)] = groups.get(group_of(column), 0) + 1
    lines = [
        f"# Router for {name}",
        "",
        f"Chooses among {', '.join(map(_plain, router.arms))} ({_plain(router.unit)}). Nothing in this folder is ever",
        "run: trees are arrays, and every file's sha256 stands in config.json.",
        "",
    ]
    if router.backbone is not None:
        lines.append(f"- backbone: {router.backbone[0]}, fingerprint {router.backbone[1]}")
    lines += [
        f"- fitted on {_count(facts, 'fitted_rows')} questions, prices fixed on {_count(facts, 'calibration_rows')} "
        f"others; {_count(facts, 'pictures')} pictures in all; data {str(facts.get('data', ''))[:16]}",
        f"- head {facts.get('head', '')}, seed {facts.get('seed', '')}",
        "- columns: " + ", ".join(f"{group} {count}" for group, count in groups.items()),
        f"- operating point (no budget): {_operating(router)}",
        f"- gap recovered out of fold, where it was fitted: {_gap(facts)}",
        f"- full, the best constant arm: {_plain(router.arms[router.calibration.full])}",
        "- libraries: " + ", ".join(f"{library} {version}" for library, version in libraries.items()),
        "",
        "| arm | mean score where it was fitted | mean cost |",
        "|---|---|---|",
    ]
    for arm, cost in zip(router.arms, router.calibration.typical.tolist(), strict=True):
        score = scores.get(arm)
        lines.append(f"| {_plain(arm)} | {f'{score:.3f}' if isinstance(score, float) else 'unknown'} | {cost:.4g} |")
    return "\n".join(lines) + "\n"


def _plain(name: str) -> str:
    """A name that Markdown takes for nothing but text, within a table too."""
    return "".join(f"&#{ord(sign)};" if sign in "|<&`[" else sign for sign in name)


def _count(facts: Mapping[str, Any], name: str) -> str:
    """A fact that counts; a loaded folder's facts are whatever somebody wrote there."""
    count = facts.get(name)
    return f"{count:,}" if isinstance(count, int) else "unknown"


def _gap(facts: Mapping[str, Any]) -> str:
    """G and whether it is believed."""
    gap, error = facts.get("out_of_fold_gap"), facts.get("out_of_fold_error")
    slope, slope_error = facts.get("out_of_fold_slope"), facts.get("out_of_fold_slope_error")
    if isinstance(gap, float) and isinstance(error, float):
        told = f"{gap:.3f}, standard error {error:.3f}"
    elif isinstance(slope, float) and isinstance(slope_error, float):
        told = (
            "undefined, for the cheapest arm keeps 99 % of the best; gains come true at a slope of "
            f"{slope:.2f}, standard error {slope_error:.2f}"
        )
    else:
        return "unknown"
    if facts.get("believed") is False:
        told += "; it could be luck, so this router treats all questions alike: label more"
    return told


def _operating(router: Router) -> str:
    if router.operating_price is None:
        return "full, since no price kept 99 % of its score on training pictures"
    return f"price {router.operating_price:.6g} of score per {_plain(router.unit)}"
