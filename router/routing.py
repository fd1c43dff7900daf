"""The router: from a picture and a question to a success curve, and from a budget to an arm.

Joins columns, readout, calibration and allocation. Fitted on Outcomes; decides for a backbone's encoded pictures, or
for a table's rows. Knows neither how m is spent nor how answers are scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from encoders.errors import BackboneError, BudgetError, DataError, shown
from router.allocate import allocate, checked, share_out, tie_keys
from router.budget import Budget
from router.calibration import Calibration
from router.certificate import Certificate
from router.columns import Columns, group_of
from router.decision import Choice, Decision, Reason, Why
from router.evaluation import Evaluation, Fixed, evaluate
from router.readout import Readout
from router.routed import Routed
from router.spending import Spending
from router.stream import FeedbackPrice
from training_data.outcomes import Features, Outcomes

if TYPE_CHECKING:
    from encoders.backbone import NestedBackbone
    from encoders.images import ImageSource
    from router.predictor import Head
    from router.study import Study

_REMEMBERED = 1000  # budgets

Costs = Callable[[str], np.ndarray]  # from a unit to what each arm costs each question


@dataclass(frozen=True, eq=False)
class Router:
    """A fitted router. `Router.fit` makes one, `save` and `load` keep it.

    Attributes:
        arms: k names, cheapest first. m: (k,) int64 visual tokens, or None where arms stand for no m.
        unit: what its costs and its price are counted in.
        backbone: (name, fingerprint) of the model whose outcomes it was fitted on, or None.
        features: (version, names) of the visual features it was fitted on, or None for a table without pictures.
        columns, readout, calibration: what it reads, predicts and knows of its spending.
        routing_cost: of one decision, in `unit`; charged in every evaluation.
        facts: what the card tells: rows, pictures, data digest, head, seed, versions.
        answer_tokens: mean length of the answers it was fitted on, or None where they were not counted; means and
            prices in another unit than its own are charged at it.
    """

    arms: tuple[str, ...]
    m: np.ndarray | None
    unit: str
    backbone: tuple[str, str] | None
    features: tuple[int, tuple[str, ...]] | None
    columns: Columns
    readout: Readout
    calibration: Calibration
    routing_cost: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    answer_tokens: float | None = None

    # ---- fitting and keeping

    @classmethod
    def fit(
        cls,
        outcomes: Outcomes | str | Path,
        *,
        head: Head = "gain",
        groups: Sequence[str] | None = None,
        routing_cost: float | None = None,
        seed: int = 0,
    ) -> Router:
        """Learn to spend from measured outcomes; minutes on a CPU.

        Nine tenths of the pictures are fitted on, one tenth fixes prices (up to a fifth of fewer than 2,000, but 50 at
        least; a fifth of 20,000 or more). Replicates are left out.

        Args:
            outcomes: or a file of them.
            head: of the predictor.
            groups: of columns to read, of `router.columns.GROUPS` and `MORE`; None for the first and, of the others,
                what each rung adds to a picture's tokens where that costs next to nothing, as it does where they are
                pooled.
            routing_cost: of one decision, in the outcomes' unit; None for what the sweep counted its features at.
            seed: of everything random.

        Raises:
            DataError: too few pictures, or nothing to read.
        """
        from router.fitting import cheapest_first, fit, worth_reading

        if isinstance(groups, str) or (groups is not None and not isinstance(groups, Sequence)):
            raise DataError(f"groups must be a list of names, was: {shown(groups)}; leave them out")
        rows = cheapest_first(_loaded(outcomes).originals())
        return fit(rows, head, worth_reading(rows) if groups is None else groups, routing_cost, seed)

    def save(self, folder: str | Path) -> Path:
        """Write a router folder (`router.saving`).

        Raises:
            DataError: the folder cannot be written, or holds something that is no router.
        """
        from router.saving import save

        if not isinstance(folder, str | Path):
            raise DataError(f"a router is saved in a folder, was: {type(folder).__name__}; give a path")
        return save(self, Path(folder))

    @staticmethod
    def load(folder: str | Path) -> Router:
        """Read a router folder; nothing in it is ever run.

        Raises:
            DataError: the folder is missing, damaged or of another format.
        """
        from router.saving import load

        if not isinstance(folder, str | Path):
            raise DataError(f"a router is read from its folder, was: {type(folder).__name__}; give a path")
        return load(Path(folder))

    # ---- testing

    def evaluate(
        self, outcomes: Outcomes | str | Path, *, at: Sequence[float] = (), resamples: int = 2000, seed: int = 0
    ) -> Evaluation:
        """Score this router on outcomes of pictures it has not seen, against every null that needs no fitting.

        Replicates, where there are any, serve the cross-fitted oracle alone.

        Raises:
            DataError: other arms, unit, backbone or features than it was fitted on.
        """
        test = self.matched(_loaded(outcomes))
        started = time.perf_counter()
        routed = self.routed(test)
        ms = (time.perf_counter() - started) * 1000 / len(test)
        return evaluate(
            routed,
            self.fixed,
            at=at,
            replicate=test.replicate if test.replicate.any() else None,
            id=test.id if test.replicate.any() else None,
            router_ms=ms,
            resamples=resamples,
            seed=seed,
        )

    @property
    def fixed(self) -> Fixed:
        """What an evaluation takes for fixed."""
        own = self.calibration
        rows, names, cost = own.routed(), own.trained_names, self.routing_cost
        return Fixed(rows, self.arms, own.full, self.m, self.unit, own.known(), names, own.prices, own.operating, cost)

    def study(self, train: Outcomes | str | Path, test: Outcomes | str | Path, **options: Any) -> Study:
        """Refit what must be refitted (nulls, ablations, permuted labels, ...) and set it beside this router."""
        from router.study import study

        return study(_loaded(train), _loaded(test), router=self, **options)

    def matched(self, outcomes: Outcomes) -> Outcomes:
        """Outcomes with this router's arms in its order.

        Raises:
            DataError: they were measured with something else.
        """
        if missing := [arm for arm in self.arms if arm not in outcomes.arms]:
            raise DataError(
                f"this router chooses among {', '.join(map(repr, self.arms))}, was: outcomes without "
                f"{', '.join(map(repr, missing))}; measure them, or fit a router on these arms"
            )
        if outcomes.unit != self.unit:
            raise DataError(
                f"this router counts in {self.unit!r}, was: outcomes in {outcomes.unit!r}; count both in one unit"
            )
        if self.backbone and outcomes.backbone and self.backbone != outcomes.backbone:
            raise DataError(_other_backbone(self.backbone, outcomes.backbone))
        return outcomes.take_arms([outcomes.arms.index(arm) for arm in self.arms])

    def routed(self, outcomes: Outcomes) -> Routed:
        """Outcomes beside this router's curves for them."""
        curve = self.curves(outcomes.question.tolist(), outcomes.features)
        return Routed.of(outcomes, curve, self.calibration.typical)

    # ---- deciding

    def curves(self, questions: Sequence[str], features: Any = None) -> np.ndarray:
        """Success curves (n, k): expected scores by arm, a sum that may leave [0, 1] by a little.

        Args:
            questions: n texts.
            features: `Features` of their pictures; may be left out where the router looks at none.

        Raises:
            DataError: one text instead of several, or features that are missing or of another kind.
        """
        if not isinstance(questions, Sequence | np.ndarray) or isinstance(questions, str | bytes):
            raise DataError(f"questions must be a list of texts, was: {shown(questions)}; write [question]")
        if others := [question for question in questions if not isinstance(question, str)]:
            raise DataError(f"every question must be a text, was: {shown(others[0])}")
        return self.readout(self._rows(questions, features))

    def _rows(self, questions: Sequence[str], features: Any) -> np.ndarray:
        if features is not None and not isinstance(features, Features):
            raise DataError(
                f"features must be Features, with names and version, was: {type(features).__name__}; take "
                "those of Outcomes"
            )
        if self.features is not None and features is not None and features.version != self.features[0]:
            raise DataError(
                f"this router reads visual features of version {self.features[0]}, was: version {features.version}; "
                "run `matryoshka-router features` and fit again"
            )
        return self.columns.of(questions, features)

    @property
    def operating_price(self) -> float | None:
        """What None spends at: the price that kept 99 % of full's score on all training pictures; None for full."""
        return None if np.isnan(self.calibration.operating) else self.calibration.operating

    def certificate(self, budget: Budget) -> Certificate:
        """The evidence behind Budget(max_loss=...) or Budget(max_broken=...).

        Raises:
            BudgetError: another kind of budget, of which none is needed.
        """
        if not isinstance(budget, Budget) or budget.kind not in ("max_loss", "max_broken"):
            raise BudgetError(f"a certificate stands behind a loss, was: {budget}; write Budget(max_loss=0.01)")
        return cast(Certificate, self.remembered(("certificate", budget), lambda: self.calibration.certificate(budget)))

    def _price_of_mean(self, mean: float, cost: np.ndarray) -> float:
        key = "mean", mean, cost.tobytes()
        return float(self.remembered(key, lambda: self.calibration.price_of_mean(mean, cost)))

    def remembered(self, key: object, find: Callable[[], Any]) -> Any:
        """What thousands of rows were gone through for is found once per budget."""
        found = self._memory.get(key)  # another thread may forget or find it meanwhile; both are harmless
        if found is None:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            found = self._memory[key] = find()
        return found

    @cached_property
    def _memory(self) -> dict[object, Any]:
        return {}

    def choose(
        self,
        curve: np.ndarray,
        budget: int | Budget | None = None,
        costs: Costs | None = None,
        ids: Sequence[object] | None = None,
    ) -> Choice:
        """Arms for rows of curves: `router.choose(router.curves(questions), Budget(mean=16))` needs no backbone.

        Args:
            curve: (n, k).
            budget: what the caller asks for; None for the operating point.
            costs: a function of a unit: what each arm costs each question in it, (n, k) or (k,); None for `arm_cost`.
            ids: names of the rows of one batch that shares a mean; None where every row stands alone, and a mean
                becomes the price that met it on calibration pictures.

        Raises:
            BudgetError: the budget cannot be met.
            DataError: rows and ids that do not fit.
        """
        costs = self.arm_cost if costs is None else costs
        if not callable(costs):
            raise DataError(f"costs must be a function of a unit, was: {shown(costs)}; write lambda unit: costs")
        typical, own = self.calibration.typical, self.operating_price
        curve, _ = checked(curve, typical)
        if ids is not None and (not isinstance(ids, Sequence | np.ndarray) or len(ids) != len(curve)):
            raise DataError(f"ids must name each of the {len(curve):,} rows, was: {shown(ids)}")
        if (budget := Budget.of(budget)) is None:
            if own is None:
                return self._full(len(curve), "full: no price keeps 99 % of its score in calibration")
            reason = "the operating point, 99 % of full's score on training pictures"
            return Choice(allocate(curve, typical, None, price=own), own, self.unit, reason)
        if budget.cap is not None:
            arms = allocate(curve, costs(str(budget.unit)), budget, price=own or 0.0, price_cost=typical)
            return Choice(arms, own or 0.0, self.unit, f"the best value within {budget}")
        if budget.mean is not None:
            return self._within_mean(curve, budget, costs, ids)
        if budget.price is not None:
            unit = budget.unit or self.unit
            return Choice(allocate(curve, costs(unit), budget), budget.price, unit, "the price that was asked for")
        found = self.certificate(budget)
        if found.price is None:
            return self._full(len(curve), found.message)
        arms = allocate(curve, typical, Budget(price=found.price))
        return Choice(arms, found.price, self.unit, found.message)

    def _within_mean(
        self,
        curve: np.ndarray,
        budget: Budget,
        costs: Costs,
        ids: Sequence[object] | None,
    ) -> Choice:
        unit, mean = str(budget.unit), float(budget.value)
        cost = np.asarray(costs(unit), np.float64)
        if ids is not None:
            arms, price = share_out(*checked(curve, cost), mean, tie_keys(ids))
            return Choice(arms, price, unit, f"its share of {budget} over {len(curve):,} questions")
        reason = f"the price that met {budget} in calibration"
        if unit == self.unit or cost.ndim == 1 or (cost == cost[0]).all():
            typical = self.arm_cost(unit) if unit == self.unit else np.atleast_2d(cost)[0]
            price = self._price_of_mean(mean, typical)
            return Choice(allocate(curve, cost, Budget(price=price, unit=unit)), price, unit, reason)
        prices = [self._price_of_mean(mean, own) for own in cost]  # each question stands alone
        each = [
            allocate(curve[[row]], cost[[row]], Budget(price=price, unit=unit))[0] for row, price in enumerate(prices)
        ]
        return Choice(np.array(each), prices[0] if len(prices) == 1 else None, unit, reason)

    def _full(self, count: int, reason: str) -> Choice:
        return Choice(np.full(count, self.calibration.full), None, self.unit, reason)

    def decide(
        self, backbone: NestedBackbone, encoded: Any, questions: Sequence[str], budget: Budget | None
    ) -> list[Decision]:
        """One decision per question about an encoded picture, each standing alone.

        Raises:
            BackboneError: another backbone than it was fitted on.
            BudgetError: the budget cannot be met.
        """
        return self.decide_together(backbone, [(encoded, questions)], budget)

    def decide_together(
        self,
        backbone: NestedBackbone,
        parts: Iterable[tuple[Any, Sequence[str]]],
        budget: Budget | None,
        ids: Sequence[object] | None = None,
    ) -> list[Decision]:
        """Decisions for one batch that was encoded in parts of (encoded pictures, questions); see `choose` for ids.

        Under a cap, and where a batch shares a mean, each is charged by its length, else as a typical one.
        """
        capped = budget is not None and budget.cap is not None
        shared = budget is not None and budget.mean is not None and ids is not None
        spendings = [Spending(self, backbone, *part) for part in parts]
        rows = np.concatenate([self._rows(one.questions, one.features) for one in spendings])
        curve = self.readout(rows)

        def costs(unit: str) -> np.ndarray:
            if unit == self.unit and not (capped or shared):
                return self.arm_cost(unit)
            return np.concatenate([spending.costs(unit, capped) for spending in spendings])

        arms, price, unit, reason = self.choose(curve, budget, costs, ids)
        told = curve.clip(0, 1)  # a sum of trees and readings may leave the scale; what is chosen by keeps it
        return [
            Decision(
                0 if self.m is None else int(self.m[arm]),
                reason,
                self.arms[arm],
                dict(zip(self.arms, told[row].tolist(), strict=True)),
                price,
                unit,
                self.routing_cost if self.unit == "tflops" else 0.0,
                partial(self._why, rows[row], int(arm)),
            )
            for row, arm in enumerate(arms)
        ]

    def _why(self, row: np.ndarray, arm: int) -> Why:
        """The gain over the cheapest arm; where that was chosen, the gain of full that was not worth its price."""
        cheapest, full = int(self.calibration.typical.argmin()), self.calibration.full
        more = next(other for other in (arm, full, len(self.arms) - 1, 0) if other != cheapest)
        return Why(self.arms[more], self.arms[cheapest], self.reasons(row, more, cheapest))

    def reasons(self, row: np.ndarray, arm: int, than: int) -> list[Reason]:
        """What moved the predicted gain of one arm over another, by group of columns, the largest first."""
        moved = self.readout.contributions(row)
        gains: dict[str, float] = {}
        for name, gain in zip(self.columns.names, (moved[:, arm] - moved[:, than]).tolist(), strict=True):
            gains[group_of(name)] = gains.get(group_of(name), 0.0) + gain
        return sorted(gains.items(), key=lambda pair: -abs(pair[1]))

    def route(
        self,
        image: ImageSource | Any,
        q: str,
        budget: int | Budget | None = None,
        *,
        backbone: str | Path | NestedBackbone | None = None,
    ) -> Decision:
        """Only the decision: one vision pass, no language model.

        Args:
            image: as `answer` takes it.
            q: the question.
            budget: as `answer` takes it.
            backbone: None for the packaged model it was fitted on.
        """
        from router.answering import encoded_by, loaded

        if backbone is None:
            if self.backbone is None:
                raise BackboneError("this router was fitted on a table of no backbone, was: asked for a picture's m")
            backbone = self.backbone[0]
        model = loaded(backbone)
        encoded, _ = encoded_by(model, image)
        return self.decide(model, encoded, [q], Budget.of(budget))[0]

    def stream(self, budget: Budget) -> FeedbackPrice:
        """The feedback price for a stream under Budget(mean=...), in tokens or the router's own unit.

        It holds the state that `answer` does not: `choose(curve, cost)` for each question, curves from `curves`.
        """
        if not isinstance(budget, Budget) or budget.mean is None:
            raise BudgetError(f"a stream holds a mean, was: {budget}; write Budget(mean=16)")
        return FeedbackPrice(budget.mean, self.calibration.curve, self.arm_cost(str(budget.unit)))

    def arm_cost(self, unit: str) -> np.ndarray:
        """What each arm costs a typical question, (k,): visual tokens, or deciding included the router's own unit."""
        if unit == self.unit:
            return self.calibration.typical + self.routing_cost
        if unit == "tokens" and self.m is not None:
            return self.m.astype(np.float64)
        raise BudgetError(f"this router's budgets are counted in {self._units}, was: {unit}; give Budget that unit")

    @property
    def _units(self) -> str:
        return self.unit if self.m is None or self.unit == "tokens" else f"{self.unit} or tokens"


def _loaded(outcomes: Outcomes | str | Path) -> Outcomes:
    return outcomes if isinstance(outcomes, Outcomes) else Outcomes.load(outcomes)


def _other_backbone(own: tuple[str, str], other: tuple[str, str]) -> str:
    said = [f"{name} ({fingerprint[:8]})" for name, fingerprint in (own, other)]
    return f"this router was fitted on {said[0]}, was: {said[1]}; fit one for it"
