"""Do certificates keep their word? Calibration sets are drawn from a pool whose true risk is known, and certified.

    python benchmarks/certificates.py --router router/shipped/nano-mqt [--draws 1000 --pictures 5000]

The pool is the router's own calibration pictures, which it was not fitted on: whatever holds of the whole pool is the
truth for sets drawn from it with replacement. A violation is a certified price whose true risk breaks the promise; at
alpha = .1 at most one in ten sets may. "half" is the share of sets whose certified price saves at least half of what
the best price that truly keeps the promise would.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import report
from rich.console import Console
from rich.table import Table

from router.certificate import certify
from router.routing import Router


def tried(router: Router, promise: dict[str, float], pictures: int, draws: int) -> dict[str, Any]:
    """What came of `draws` calibration sets of so many pictures."""
    pool, full = router.calibration.routed(), router.calibration.full
    prices = router.calibration.prices[::-1]
    (choice, cost, score), every = pool.realised(prices), np.arange(len(pool))
    loss = pool.score[:, [full]] - score
    true_risk = (loss > 0).mean(axis=0) if "max_broken" in promise else loss.mean(axis=0)
    true_saving = 1 - cost.mean(axis=0) / pool.cost[:, full].mean()
    [limit] = promise.values()
    best = float(true_saving[true_risk <= limit].max(initial=0.0))
    rng = np.random.default_rng(0)
    broken, half, certified = 0, 0, 0
    for _ in range(draws):
        rows = rng.choice(every, pictures)
        drawn = pool.score[rows], pool.cost[rows], choice[rows]
        place = certify(*drawn, prices, full, np.arange(pictures), alpha=0.1, **promise).index
        saved = 0.0 if place is None else float(true_saving[place])
        certified += place is not None
        broken += place is not None and bool(true_risk[place] > limit)
        half += saved >= best / 2
    return {
        "pictures": pictures,
        "draws": draws,
        "violations": broken / draws,
        "certified": certified / draws,
        "half": half / draws,
        "best_true_saving": round(best, 4),
    }


def main() -> None:
    """Try every promise at two sizes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--router", required=True)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=5000)
    options = parser.parse_args()
    router = Router.load(options.router)
    table = Table(title=f"certificates at alpha = .1, {options.draws:,} calibration sets each")
    for heading in ("promise", "pictures", "violations", "certified", "at least half", "best true saving"):
        table.add_column(heading, justify="left" if heading == "promise" else "right")
    result: dict[str, Any] = {"pool": len(router.calibration.curve)}
    for name, promise in (("max_loss .01", {"max_loss": 0.01}), ("max_broken .05", {"max_broken": 0.05})):
        for pictures in (options.pictures // 5, options.pictures):
            found = tried(router, promise, pictures, options.draws)
            result[f"{name}, {pictures}"] = found
            shares = (f"{found[key]:.1%}" for key in ("violations", "certified", "half", "best_true_saving"))
            table.add_row(name, f"{pictures:,}", *shares)
    Console().print(table)
    report("certificates", result)


if __name__ == "__main__":
    main()
