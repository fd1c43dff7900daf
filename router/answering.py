"""`answer`: one picture, one question, within a budget.

Joins a backbone with what chooses m. Knows neither how m is spent nor how pictures are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from encoders.backbone import Generation, NestedBackbone
from encoders.cost import Cost
from encoders.counts import whole_number
from encoders.errors import BackboneError, BudgetError, QuestionError, shown
from encoders.loading import load
from encoders.prompts import check_question
from router.budget import Budget
from router.decision import Decision, LargestWithin, Rule
from router.shelf import shelved, shipped

if TYPE_CHECKING:
    from encoders.backbone import EncodedImages
    from encoders.images import ImageSource


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
        decision: the whole decision, with curve and price where there was a router.
    """

    text: str
    m: int
    visual_tokens: int
    cost: Cost
    logprob: float
    reason: str
    backbone: str
    decision: Decision

    def __str__(self) -> str:
        return self.text

    def explain(self) -> str:
        """m, the success curve, the price and the main reasons, in at most five lines."""
        return self.decision.explain()


def answer(
    image: ImageSource | EncodedImages,
    q: str,
    budget: int | Budget | None = None,
    *,
    m: int | None = None,
    backbone: str | Path | NestedBackbone = "nano-mqt",
    router: str | Path | Rule | None = None,
) -> Answer:
    """Answer a question about a picture within a budget of visual tokens.

    Args:
        image: a path, bytes, a PIL picture, a NumPy array, or one picture encoded by the backbone.
        q: the question.
        budget: an int is a hard cap in visual tokens; None is the router's operating point; all else is a `Budget`.
        m: force this m, any that the backbone allows; excludes `budget` and needs no router.
        backbone: a packaged model's name, a model folder, or a loaded backbone. Loaded once per process.
        router: what chooses m: a router, or the folder of one. None for the router shipped for this backbone; where
            none is, the largest m of the ladder within the budget.

    Raises:
        BudgetError, ImageError, QuestionError, BackboneError: as named; all are ValueErrors and say what to do.
    """
    if m is not None and (budget is not None or router is not None):
        raise BudgetError(
            f"m excludes a budget and a router, was: m={shown(m)}, "
            f"budget={budget if isinstance(budget, Budget) else shown(budget)}, "
            f"router={shown(router)}; give one of them"
        )
    limit = Budget.of(budget)
    check_question(q)
    model = loaded(backbone)
    rule = LargestWithin() if m is not None else rule_for(model, router)
    started = time.perf_counter()  # loading the model once per process is not this answer's time
    encoded, fresh = encoded_by(model, image)
    given = m is not None
    decision = (
        Decision(cast(int, m), "m was given", shown(whole_number(m)))
        if given
        else rule.decide(model, encoded, [q], limit)[0]
    )
    check_cap(model, encoded, [decision], limit)
    [generation] = model.generate(encoded, [q], [decision.m])
    return answered(model, generation, decision, fresh, (time.perf_counter() - started) * 1000)


def answered(model: NestedBackbone, generation: Generation, decision: Decision, fresh: bool, ms: float) -> Answer:
    """The record of a generated answer; `fresh` says whether its vision pass is part of its cost."""
    counted = getattr(model, "counted_cost", model.cost)  # ms is measured here: no profile is asked
    cost = counted(generation.visual_tokens, generation.text_tokens, generation.new_tokens)
    vision = cost.vision_tflops if fresh else 0.0
    spent = replace(cost, vision_tflops=vision, ms=ms, routing_tflops=decision.tflops)
    return Answer(
        generation.text,
        generation.m,
        generation.visual_tokens,
        spent,
        generation.logprob,
        decision.reason,
        model.name,
        decision,
    )


def rule_for(model: NestedBackbone, router: Any) -> Rule:
    """What chooses m for a backbone: the given router, a folder's, the shipped one, or the plain rule."""
    if router is None:
        return shipped(model) or LargestWithin()
    if isinstance(router, str | Path):
        return shelved(router)
    if not callable(getattr(router, "decide", None)):
        raise BudgetError(
            f"a router must have a method decide (see Rule), was: {type(router).__name__}; or leave it out"
        )
    return cast(Rule, router)


def loaded(backbone: Any) -> NestedBackbone:
    """A backbone from a name, a folder or itself; each loaded once per process."""
    if isinstance(backbone, str | Path):
        return load(backbone)
    parts = ("name", "ladder", "encode", "generate", "cost")  # asked of the object: a contract's field may be set on it
    if not isinstance(backbone, type) and all(hasattr(backbone, part) for part in parts):
        return cast(NestedBackbone, backbone)
    raise BackboneError(f"a backbone must be a name, a folder or a loaded backbone, was: {type(backbone).__name__}")


def encoded_by(model: NestedBackbone, image: Any) -> tuple[Any, bool]:
    """(one encoded picture, whether this call paid for its vision pass)."""
    if hasattr(image, "select") and hasattr(image, "__len__"):
        if len(image) != 1:
            raise QuestionError(f"one question needs one encoded picture, was: {len(image)}; use encoded.select([row])")
        return image, False
    return model.encode([image]), True


def check_cap(model: NestedBackbone, encoded: Any, decisions: Sequence[Decision], limit: Budget | None) -> None:
    """A cap holds whatever rule decided; one decision per encoded picture."""
    if limit is None or limit.cap is None or limit.unit != "tokens":
        return
    for row, decision in enumerate(decisions):
        if (spent := model.visual_tokens(encoded, decision.m)[row]) > limit.cap:
            raise BudgetError(
                f"a router must keep within the cap of {limit.cap} visual tokens, was: {spent} (m={decision.m})"
            )
