"""What a router must beat: nulls, other heads, ablations, the privileged router, each fitted on the same pictures.

Every competitor is what an evaluation takes: curves beside test rows and beside calibration rows, what its own training
rows say of each data set, its prices, and what one of its decisions costs. Loads LightGBM and scikit-learn. Knows no
model, no picture and no figure (`router.study`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast, get_args

import numpy as np

from router.bench import Known
from router.calibration import FEWEST
from router.columns import GROUPS, MORE, TEXT, group_of
from router.fitting import Prepared, fit, prepared, routing_charge
from router.predictor import ComplexityPredictor, Head, folds_of
from router.probed import Gate, Probed, second_look
from router.routed import Routed, price_grid
from router.routing import Router
from training_data.outcomes import FIRST_TOKEN, Outcomes

_FEWER = (100, 150, 250, 500, 1000, 2000, 4000, 8000, 16000)
_MOST_DATASETS = 30
_MOST_WORDS = 50  # of one fact; what has more names things, and a column for each would fill the memory


@dataclass(frozen=True, eq=False)
class Competitor:
    """Curves, and all that an evaluation needs beside them.

    Attributes:
        name: for tables.
        test, calibration: rows.
        known: what its training rows say of each data set.
        prices: (p,) fixed before a test row was seen.
        routing_cost: of one decision; nothing for one that looks at no picture.
        count: pictures it was fitted on, where the row is about that; 0 elsewhere.
        out_of_fold: G on the very rows it was fitted on, each predicted without its fold: what a choice between
            competitors may look at. NaN where it was not asked for.
        operating: the price of its own that it goes by, NaN for full; None where it has none.
    """

    name: str
    test: Routed
    calibration: Routed
    known: Known
    prices: np.ndarray
    routing_cost: float
    count: int = 0
    out_of_fold: float = math.nan
    operating: float | None = None

    @classmethod
    def of(cls, name: str, router: Router, test: Outcomes, count: int = 0) -> Competitor:
        """A fitted router as a competitor."""
        own = router.calibration
        parts = router.routed(test), own.routed(), own.known(), own.prices, router.routing_cost
        return cls(name, *parts, count, out_of_fold(router), own.operating)


class Competitors:
    """Makes the competitors of a router, part by part.

    Args:
        router: the one in question; competitors have its head, its groups and its seed where they may.
        train, test: originals with its arms.
    """

    def __init__(self, router: Router, train: Outcomes, test: Outcomes) -> None:
        self.router, self.train, self.test = router, train, test
        facts = router.facts
        self._head = cast(Head, facts["head"]) if facts.get("head") in get_args(Head) else "gain"
        self._seed = facts["seed"] if isinstance(facts.get("seed"), int) else 0
        told = facts.get("groups")
        self._groups = (
            [group for group in (*GROUPS, *MORE) if group in told] if isinstance(told, list) else list(GROUPS)
        )

    @cached_property
    def _ready(self) -> Prepared:
        return prepared(self.train, self._groups, self._seed)

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """The router's columns of the rows fitted on, the test rows and the calibration rows."""
        ready = self._ready
        rest = (ready.columns.of(rows.question.tolist(), rows.features) for rows in (self.test, ready.held))
        return [ready.X, *rest]

    @cached_property
    def _known(self) -> Known:
        return Known.of(self.train.dataset, self.train.score, self.train.cost)

    def nulls(self) -> Iterator[Competitor]:
        rows = self.test, self._ready.held, self._ready.own
        mean = self._known.score[-1]
        yield self._from_curves("constant arms (hull)", [np.tile(mean, (len(part), 1)) for part in rows], 0.0)
        yield self._from_curves("data set's name", [self._known.means(part.dataset)[0] for part in rows], 0.0)
        own = Competitor.of("shuffled router (same m)", self.router, self.test)
        rng = np.random.default_rng(self._seed)
        yield replace(own, test=_shuffled(own.test, rng), calibration=_shuffled(own.calibration, rng))
        yield self._refit("question only", groups=TEXT)
        if self.router.features is not None:
            yield self._refit("image only", groups=[group for group in self._groups if group not in TEXT])
        yield self._logistic()

    def heads(self) -> Iterator[Competitor]:
        same = self.router.facts.get("data") == self.train.digest()
        for head in get_args(Head):
            own = same and head == self._head
            yield (
                Competitor.of(f"head {head}", self.router, self.test) if own else self._refit(f"head {head}", head=head)
            )

    def privileged(self) -> Iterator[Competitor]:
        words = {} if self.train.meta is None or self.test.meta is None else _words(self.train.meta)
        if not words:
            return
        ready = self._ready
        facts = [_told(rows, words, self.train) for rows in (ready.own, self.test, ready.held)]
        own, test, held = self._curves(facts)
        yield self._from_curves("privileged (knows the facts)", [test, held, own], 0.0)

    def probe(self) -> Iterator[Competitor]:
        """The router's columns, and the model's own first token at the smallest m where a gate finds it worth its cost.

        Beside it the same without a gate, and as if the pass cost nothing. Skill, slope and adherence of these rows are
        those of the first curve. None for a router that treats all questions alike.
        """
        ready = self._ready
        rows = [ready.own, self.test, ready.held]
        looks = [look for part in rows if (look := second_look(part)) is not None]
        if len(looks) < len(rows) or self.router.facts.get("believed") is False:
            return
        told, costs = zip(*looks, strict=True)
        X, readings = self._tables, ready.columns.readings
        more = [np.concatenate([own, table], axis=1) for own, table in zip(X, told, strict=True)]
        first, second = (self._curves(columns, readings) for columns in (X, more))
        typical = ready.own.cost.mean(axis=0)
        own, test, held = (Routed.of(part, curve, typical) for part, curve in zip(rows, first, strict=True))
        prices = price_grid(own)

        def row(name: str, worth: Sequence[np.ndarray], share: float) -> Competitor:
            tested, calibrated = (
                Probed.after(part, curve, gate, share * cost)
                for part, curve, gate, cost in zip((test, held), second[1:], worth, costs[1:], strict=True)
            )
            return Competitor(name, tested, calibrated, self._known, prices, self.router.routing_cost)

        gate = Gate(prices, self._seed).fit(X[0], own, second[0], costs[0])
        always = [np.ones((len(part), prices.size)) for part in (test, held)]
        yield row("+ probe where it pays", [gate(*pair) for pair in zip(X[1:], first[1:], strict=True)], 1.0)
        yield row("+ probe always", always, 1.0)
        yield row("+ probe, were it free", always, 0.0)

    def _curves(self, X: Sequence[np.ndarray], readings: tuple[int, ...] = ()) -> list[np.ndarray]:
        """A predictor's curves for several tables of columns: it is fitted on the first, whose own are out of fold."""
        ready = self._ready
        fitted = ComplexityPredictor(self._head, readings=readings, seed=self._seed)
        fitted.fit(X[0], ready.own.score, ready.own.group, ready.target)
        return [fitted.out_of_fold_, *(fitted.predict(columns) for columns in X[1:])]

    def groups(self) -> Iterator[Competitor]:
        there = list(dict.fromkeys(group_of(name) for name in self.router.columns.names))
        for left_out in there if len(there) > 1 else []:
            yield self._refit(f"without {left_out}", groups=[group for group in there if group != left_out])
        measured = () if self.train.features is None else self.train.features.names
        for more in [group for group in MORE if group in map(group_of, measured) and group not in there]:
            yield self._refit(f"with {more}", groups=[*there, more])

    def permuted(self) -> Iterator[Competitor]:
        order = np.random.default_rng(self._seed).permutation(len(self.train))
        tables: dict[str, Any] = {
            name: None if (table := getattr(self.train, name)) is None else table[order]
            for name in ("score", "gold_logprob", "confidence", "text", *FIRST_TOKEN)
        }
        # Held against what data sets' names truly say: of permuted labels they would say nothing.
        yield replace(self._refit("permuted labels", replace(self.train, **tables)), known=self._known)

    def left_out(self) -> Iterator[Competitor]:
        names, sizes = np.unique(self.test.dataset, return_counts=True)
        if len(names) < 2:
            return
        for name in names[np.argsort(-sizes, kind="stable")][:_MOST_DATASETS]:
            others = self.train.dataset != name
            if np.unique(self.train.group[others]).size >= 2 * FEWEST:
                own = self.test.select(self.test.dataset == name)
                yield self._refit(f"never saw {name}", self.train.select(others), own)

    def labels(self) -> Iterator[Competitor]:
        place = folds_of(self.train.group, 10**9, self._seed)  # every picture's place in a random order
        pictures = int(place.max()) + 1
        for count in [count for count in _FEWER if count < pictures]:
            yield self._refit(f"fitted on {count:,} pictures", self.train.select(place < count), count=count)

    def _refit(
        self,
        name: str,
        train: Outcomes | None = None,
        test: Outcomes | None = None,
        *,
        head: Head | None = None,
        groups: Sequence[str] | None = None,
        count: int = 0,
    ) -> Competitor:
        """A router of the same kind but for what is named; arms keep their order whatever the rest of the rows cost."""
        rows = self.train if train is None else train
        kept = self._groups if groups is None else groups
        own = self.router
        counted = own.routing_cost == routing_charge(self.train, own.columns.visual)
        router = fit(rows, head or self._head, kept, None if counted else own.routing_cost, self._seed)
        if own.columns.visual and not router.columns.visual:
            router = replace(router, routing_cost=0.0)
        return Competitor.of(name, router, self.test if test is None else test, count)

    def _logistic(self) -> Competitor:
        """Per arm, the chance of a score of one half or more, from the router's own columns."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        ready = self._ready
        parts = self._tables
        curves = [np.empty((len(X), len(self.router.arms))) for X in parts]
        for arm in range(len(self.router.arms)):
            right = ready.own.score[:, arm] >= 0.5
            if right.all() or not right.any():
                for curve in curves:
                    curve[:, arm] = right.mean()
                continue
            fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(ready.X, right)
            for curve, X in zip(curves, parts, strict=True):
                curve[:, arm] = fitted.predict_proba(X)[:, 1]
        own, test, held = curves
        return self._from_curves("logistic regression per arm", [test, held, own], self.router.routing_cost)

    def _from_curves(self, name: str, curves: Sequence[np.ndarray], routing_cost: float) -> Competitor:
        """From curves for test rows, calibration rows, and the rows fitted on, which only spread the prices."""
        rows, typical = (self.test, self._ready.held, self._ready.own), self._ready.own.cost.mean(axis=0)
        tested, calibrated, fitted = (Routed.of(part, curve, typical) for part, curve in zip(rows, curves, strict=True))
        return Competitor(name, tested, calibrated, self._known, price_grid(fitted), routing_cost)


def out_of_fold(router: Router) -> float:
    """G on the rows a router was fitted on, out of fold, as its facts tell; NaN where they do not."""
    told = router.facts.get("out_of_fold_gap")
    return told if isinstance(told, float) else math.nan


def _shuffled(rows: Routed, rng: np.random.Generator) -> Routed:
    """Rows with each other's curves."""
    return replace(rows, curve=rows.curve[rng.permutation(len(rows))])


def _words(meta: Collection[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What the source knew, by name: the words it used, none where they are numbers. Names of pictures are no facts."""
    found = {}
    for name in sorted({name for facts in meta for name in facts}):
        values = [facts.get(name) for facts in meta]
        numbers = all(value is None or isinstance(value, int | float) for value in values)
        words = [] if numbers else sorted(set(map(str, values)))
        if len(words) <= _MOST_WORDS:
            found[name] = words
    return found


def _told(rows: Outcomes, told: Mapping[str, Sequence[str]], known: Outcomes) -> np.ndarray:
    """What the source knew of each row, as numbers; words as one column each, the data set among them."""
    columns = []
    for name, words in told.items():
        own = [facts.get(name) for facts in rows.meta]  # type: ignore[union-attr]
        columns += [np.array([str(value) == word for value in own]) for word in words] or [
            np.array([_number(value) for value in own])
        ]
    columns += [rows.dataset == name for name in np.unique(known.dataset)]
    return np.stack(columns, axis=1).astype(np.float32)


def _number(value: object) -> float:
    """A fact as a number; 0 where it is none, or not finite."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
