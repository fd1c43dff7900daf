"""`answer`: one picture, one question, within a budget.

Joins a backbone with a rule that chooses m. Knows neither how m is spent nor how pictures are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from encoders.backbone import NestedBackbone
from encoders.cost import Cost
from encoders.errors import BackboneError, BudgetError, QuestionError
from encoders.loading import load
from encoders.prompts import check_question
from router.budget import Budget

if TYPE_CHECKING:
    from encoders.backbone import EncodedImages
    from encoders.images import ImageSource


@dataclass(frozen=True)
class Decision:
    """An m and why."""

    m: int
    reason: str


class Rule(Protocol):
    """What chooses m for encoded pictures and their questions."""

    def decide(
        self, backbone: NestedBackbone, encoded: EncodedImages, questions: Sequence[str], budget: Budget | None
    ) -> list[Decision]: ...


class LargestWithin:
    """The plain rule: the largest m of the ladder within the cap; the largest of all where there is none."""

    def decide(
        self, backbone: NestedBackbone, encoded: EncodedImages, questions: Sequence[str], budget: Budget | None
    ) -> list[Decision]:
        """One decision per question.

        Raises:
            BudgetError: the cap is below the smallest m.
        """
        if budget is None:
            return [Decision(backbone.ladder[-1], "no budget: the largest m")] * len(questions)
        counts = {m: backbone.visual_tokens(encoded, m) for m in backbone.ladder}
        decisions = []
        for row in range(len(questions)):
            within = [m for m in backbone.ladder if counts[m][row] <= budget.cap]
            if not within:
                least = min(counts[m][row] for m in backbone.ladder)
                raise BudgetError(
                    f"a budget must reach the smallest m of {backbone.name}, {least} visual tokens, was: {budget.cap}"
                )
            decisions.append(Decision(within[-1], f"the largest m within {budget.cap} visual tokens"))
        return decisions


@dataclass(frozen=True)
class Answer:
    """An answer with what it spent and why.

    Attributes:
        text: the answer.
        m: visual tokens asked of the connector.
        visual_tokens: visual tokens the language model received.
        cost: what this call spent: FLOPs counted, milliseconds measured (loading the model once per process left out).
            The vision pass of a picture that came in already encoded is not counted.
        logprob: natural log-probability of the answer.
        reason: why this m.
        backbone: the model's name.
    """

    text: str
    m: int
    visual_tokens: int
    cost: Cost
    logprob: float
    reason: str
    backbone: str

    def __str__(self) -> str:
        return self.text


def answer(
    image: ImageSource | EncodedImages,
    q: str,
    budget: int | Budget | None = None,
    *,
    m: int | None = None,
    backbone: str | Path | NestedBackbone = "nano-mqt",
    router: Rule | None = None,
) -> Answer:
    """Answer a question about a picture within a budget of visual tokens.

    Args:
        image: a path, bytes, a PIL picture, a NumPy array, or one picture encoded by the backbone.
        q: the question.
        budget: an int is a hard cap in visual tokens; None is no cap.
        m: force this m, any that the backbone allows; excludes `budget` and needs no router.
        backbone: a packaged model's name, a model folder, or a loaded backbone. Loaded once per process.
        router: what chooses m; None for the largest m of the ladder within the budget.

    Raises:
        BudgetError, ImageError, QuestionError, BackboneError: as named; all are ValueErrors and say what to do.
    """
    if m is not None and (budget is not None or router is not None):
        raise BudgetError(f"m excludes a budget and a router, was: m={m!r}, budget={budget!r}; give one of them")
    limit = Budget.of(budget)
    check_question(q)
    rule = _rule(router)
    model = _backbone(backbone)
    started = time.perf_counter()  # loading the model once per process is not this answer's time
    encoded, fresh = _encode(model, image)
    decision = Decision(m, "m was given") if m is not None else rule.decide(model, encoded, [q], limit)[0]
    _check_cap(model, encoded, decision, limit)
    [generation] = model.generate(encoded, [q], decision.m)
    cost = model.cost(generation.visual_tokens, generation.text_tokens, generation.new_tokens)
    spent = replace(
        cost,
        vision_tflops=cost.vision_tflops if fresh else 0.0,
        ms=(time.perf_counter() - started) * 1000,
    )
    return Answer(
        generation.text,
        generation.m,
        generation.visual_tokens,
        spent,
        generation.logprob,
        decision.reason,
        model.name,
    )


def _rule(router: Any) -> Rule:
    if router is None:
        return LargestWithin()
    if not callable(getattr(router, "decide", None)):
        raise BudgetError(
            f"a router must have a method decide (see Rule), was: {type(router).__name__}; or leave it out"
        )
    return cast(Rule, router)


def _backbone(backbone: Any) -> NestedBackbone:
    if isinstance(backbone, str | Path):
        return load(backbone)
    if all(hasattr(type(backbone), name) for name in ("encode", "generate", "cost", "ladder")):
        return cast(NestedBackbone, backbone)
    raise BackboneError(f"a backbone must be a name, a folder or a loaded backbone, was: {type(backbone).__name__}")


def _encode(model: NestedBackbone, image: Any) -> tuple[Any, bool]:
    """(one encoded picture, whether this call paid for its vision pass)."""
    if hasattr(image, "select") and hasattr(image, "__len__"):
        if len(image) != 1:
            raise QuestionError(f"one question needs one encoded picture, was: {len(image)}; use encoded.select([row])")
        return image, False
    return model.encode([image]), True


def _check_cap(model: NestedBackbone, encoded: Any, decision: Decision, limit: Budget | None) -> None:
    """A cap holds whatever rule decided."""
    if limit is not None and (spent := model.visual_tokens(encoded, decision.m)[0]) > limit.cap:
        raise BudgetError(
            f"a router must keep within the cap of {limit.cap} visual tokens, was: {spent} (m={decision.m})"
        )
