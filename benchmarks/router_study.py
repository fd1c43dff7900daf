"""What routing earns on pictures the router never saw: every competitor of the README's table, over several seeds.

    matryoshka-router sweep --data scenes:a:calibrate:30000 --out train.sqlite
    matryoshka-router sweep --data scenes:a:test:5000 --out a.sqlite
    matryoshka-router sweep --data scenes:b:test:5000 --out b.sqlite
    matryoshka-router sweep --data scenes:a:test:1500 --replicates 8 --out r.sqlite
    python benchmarks/router_study.py --train train.sqlite --test a=a.sqlite --test b=b.sqlite --replicated r.sqlite

The backbone was trained on the scenes' "train" split, so a router is fitted on "calibrate": pictures the backbone has
not seen either. "test" shows handwritten digits that neither has seen. Nothing was chosen on the test files.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from typing import Any

from common import report
from rich.console import Console
from rich.table import Table

from router.evaluation_record import Evaluation
from router.routing import Router
from router.study import studies
from training_data.bootstrap import Estimate
from training_data.outcomes import Outcomes

_PARTS = ("nulls", "heads", "privileged", "probe", "permuted")
_MORE = ("groups", "labels")


def ends(estimate: Estimate) -> list[float]:
    """A figure and its interval."""
    return [round(end, 4) for end in (estimate.value, estimate.low, estimate.high)]


def figures(found: Evaluation) -> dict[str, Any]:
    """What the README shows of one competitor."""
    saving = found.savings[0.99]
    return {
        "gap": ends(found.gap_recovered),
        "linear": round(found.gap_recovered_linear.value, 4),
        "area": round(found.gap.gained, 5),
        "over_identity": ends(found.gap_recovered_over_identity),
        "saved_99": round(saving.against_full.value, 4),
        "beyond_hull": saving.beyond_hull,
        "tokens_99": None if saving.tokens is None else round(saving.tokens, 1),
        "saved_99_hull": ends(saving.against_hull),
        "same_score_99": ends(saving.same_score),
        "kept_99": round(saving.kept.value, 4),
        "skill": round(found.brier_skill.value, 4),
        "slope": round(found.gain_slope.value, 3),
        "entropy_bits": round(found.choice_entropy, 3),
    }


def replicated(router: Router, outcomes: Outcomes) -> dict[str, Any]:
    """The oracle that is chosen by some replicates and scored on the others: what is stable need, not luck."""
    found = router.evaluate(outcomes, resamples=200)
    gap = found.gap_recovered.value
    return {
        "rows": found.rows,
        "replicates": int(outcomes.replicate.max()) + 1,
        "router": round(gap, 4),
        "router_of_crossfit": round(found.gap_recovered_crossfit, 4),
        "oracle_crossfit": round(gap / found.gap_recovered_crossfit, 4),
    }


def main() -> None:
    """Fit, test, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", action="append", required=True, help="NAME=FILE; may be given again")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--replicated", help="a sweep of test pictures with --replicates, for the oracle without luck")
    parser.add_argument("--quick", action="store_true", help="leave out ablations and the learning curve")
    options = parser.parse_args()
    train = Outcomes.load(options.train)
    tests = {name: Outcomes.load(path) for name, path in (text.split("=", 1) for text in options.test)}
    several = Outcomes.load(options.replicated) if options.replicated else None  # refused now, not after the study
    routers, seconds = [], []
    for seed in range(options.seeds):
        started = time.perf_counter()
        routers.append(Router.fit(train, seed=seed))
        seconds.append(time.perf_counter() - started)
    result: dict[str, Any] = {
        "backbone": train.backbone[0] if train.backbone else None,
        "trained_rows": len(train),
        "fit_seconds": round(statistics.median(seconds), 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),  # after the fits alone
        "resamples": options.resamples,
        "routing_tflops": routers[0].routing_cost,
        "tests": {},
    }
    parts = _PARTS if options.quick else (*_PARTS, *_MORE)
    whole = studies(train, tests, router=routers[0], parts=parts, resamples=options.resamples)
    for name, found in whole.items():
        test = tests[name]
        own = found.router
        seeds = [router.evaluate(test, resamples=2) for router in routers]
        gaps = [one.gap_recovered.value for one in seeds]
        over = [one.gap_recovered_over_identity.value for one in seeds]
        saved = [one.savings[0.99].against_hull.value for one in seeds]
        same = [one.savings[0.99].same_score.value for one in seeds]
        kept = [one.savings[0.99].kept.value for one in seeds]
        areas = [one.gap.gained for one in seeds]
        rows = {row.name: figures(row.evaluation) for row in found.rows}
        privileged = next((row.evaluation for row in found.rows if row.part == "privileged"), None)
        result["tests"][name] = {
            "rows": own.rows,
            "pictures": own.pictures,
            "shared_pictures": own.shared_pictures,
            "arm_score": dict(zip(own.arms, (round(value, 4) for value in own.arm_score), strict=True)),
            "arm_cost": dict(zip(own.arms, own.arm_cost, strict=True)),
            "router": figures(own),
            "gap_by_seed": [round(value, 4) for value in gaps],
            "gap_mean": round(statistics.mean(gaps), 4),
            "over_identity_by_seed": [round(value, 4) for value in over],
            "saved_99_hull_by_seed": [round(value, 4) for value in saved],
            "same_score_99_by_seed": [round(value, 4) for value in same],
            "kept_99_by_seed": [round(value, 4) for value in kept],
            "identity": round(own.gap_recovered_identity.value, 4),
            "share_of_privileged": None
            if privileged is None or math.isnan(privileged.gap.gained)
            else round(statistics.mean(areas) / privileged.gap.gained, 4),
            "families": {
                one.name: [round(value, 4) for value in (one.full, one.routed, one.share)] for one in own.members
            },
            "competitors": rows,
        }
        show(name, result["tests"][name])
    if several is not None:
        result["replicated"] = replicated(routers[0], several)
    report("router_study", result)


def show(name: str, found: dict[str, Any]) -> None:
    """One test file's table."""
    table = Table(
        title=f"{name}: {found['rows']:,} questions; identity {found['identity']:.3f}, seeds' mean G "
        f"{found['gap_mean']:.3f}, share of the privileged area {found['share_of_privileged']}"
    )
    for heading in ("competitor", "G", "linear", "over identity", "saved at 99 %", "of the hull's", "skill", "slope"):
        table.add_column(heading, justify="left" if heading == "competitor" else "right")
    for label, row in {"this router": found["router"], **found["competitors"]}.items():
        gap, over, hull = (row[key] for key in ("gap", "over_identity", "saved_99_hull"))
        table.add_row(
            label,
            f"{gap[0]:.3f} [{gap[1]:.3f}, {gap[2]:.3f}]",
            f"{row['linear']:.3f}",
            f"{over[0]:.3f} [{over[1]:.3f}, {over[2]:.3f}]",
            f"{row['saved_99']:.1%}",
            f"{hull[0]:.1%}",
            f"{row['skill']:.3f}",
            f"{row['slope']:.2f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
