"""Which m a question gets, and why: the record, what may decide, and the plainest rule.

Knows a backbone's ladder and a budget. Spends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from encoders.backbone import NestedBackbone
from encoders.errors import BudgetError
from router.budget import Budget

Reason = tuple[str, float]  # a group of columns, and how much it moved a gain


class Why(NamedTuple):
    """What moved the predicted gain of one arm over a cheaper one, by group of columns, the largest first."""

    arm: str
    than: str
    moved: list[Reason]


@dataclass(frozen=True)
class Decision:
    """An arm and why.

    Attributes:
        m: visual tokens to ask for; 0 where arms stand for no m.
        reason: one line.
        arm: the arm's name.
        curve: predicted expected score by arm, within [0, 1]; empty where nothing was predicted.
        price: score paid per unit of cost; None where no price was in play.
        unit: of that cost.
        tflops: what deciding took, beside the vision pass, in 10^12 operations.
    """

    m: int
    reason: str
    arm: str = ""
    curve: dict[str, float] = field(default_factory=dict)
    price: float | None = None
    unit: str = ""
    tflops: float = 0.0
    _why: Callable[[], Why | None] = field(default=lambda: None, repr=False, compare=False)

    def explain(self) -> str:
        """m, the curve, the price and the main reasons, in at most five lines."""
        lines = [f"m={self.m}: {self.reason}" if self.m else f"{self.arm}: {self.reason}"]
        if self.curve:
            lines.append("expected score: " + "  ".join(f"{arm}: {value:.2f}" for arm, value in self.curve.items()))
        if self.price is not None:
            lines.append(f"price: {self.price:.4g} of score per unit of cost ({self.unit})")
        if (why := self._why()) is not None:
            told = ", ".join(f"{group} {value:+.3f}" for group, value in why.moved[:4])
            if not any(value for _, value in why.moved):
                told = "nothing: this router treats all questions alike"
            lines.append(f"what moved the gain of {why.arm} over {why.than}, against an average question: {told}")
        return "\n".join(lines)


class Choice(NamedTuple):
    """Arms of n rows (n,) int64, the price in play (None where there was none), the unit it is paid in, and why."""

    arms: np.ndarray
    price: float | None
    unit: str
    reason: str


class Rule(Protocol):
    """What chooses m for encoded pictures and their questions."""

    def decide(
        self, backbone: NestedBackbone, encoded: Any, questions: Sequence[str], budget: Budget | None
    ) -> list[Decision]: ...


class LargestWithin:
    """The plain rule: the largest m of the ladder within the cap; the largest of all where there is none."""

    def decide(
        self, backbone: NestedBackbone, encoded: Any, questions: Sequence[str], budget: Budget | None
    ) -> list[Decision]:
        """One decision per question.

        Raises:
            BudgetError: the cap is below the smallest m, or the budget is not a cap in tokens.
        """
        if budget is None:
            return [_at(backbone.ladder[-1], "no budget: the largest m")] * len(questions)
        if budget.cap is None or budget.unit != "tokens":
            raise BudgetError(f"without a router a budget is a cap in visual tokens, was: {budget}; give a router")
        counts = {m: backbone.visual_tokens(encoded, m) for m in backbone.ladder}
        decisions = []
        for row in range(len(questions)):
            within = [m for m in backbone.ladder if counts[m][row] <= budget.cap]
            if not within:
                least = min(counts[m][row] for m in backbone.ladder)
                raise BudgetError(
                    f"a budget must reach the smallest m of {backbone.name}, {least} visual tokens, was: {budget.cap}"
                )
            decisions.append(_at(within[-1], f"the largest m within {budget.cap} visual tokens"))
        return decisions


def _at(m: int, reason: str) -> Decision:
    return Decision(m, reason, str(m))
