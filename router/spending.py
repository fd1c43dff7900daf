"""What a decision needs of a loaded backbone: the features of encoded pictures, and what every arm would cost them.

Knows a backbone's contract. Chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.errors import BackboneError, BudgetError
from encoders.prompts import check_question
from router.columns import group_of
from training_data.outcomes import Features

if TYPE_CHECKING:
    from encoders.cost import LatencyProfile
    from router.routing import Router

_ASKED = ("check_pictures", "visual_tokens", "text_tokens", "decoding", "counted_cost", "profile")


def check_has(backbone: Any, parts: Sequence[str], purpose: str, else_: str) -> None:
    """Refuse a backbone that lacks one of the parts it is asked for beyond the contract.

    Raises:
        BackboneError: it lacks some; what else can be done is the remedy's second half.
    """
    if missing := [name for name in parts if not hasattr(backbone, name)]:
        raise BackboneError(
            f"{purpose}, a backbone is asked for {', '.join(parts)}, missing: {', '.join(missing)} of "
            f"{type(backbone).__name__}; derive yours from encoders.llava.NestedLlava, or {else_}"
        )


class Spending:
    """n questions about n encoded pictures, before an arm is chosen; what it holds of the pictures is a few numbers.

    `features` are those a sweep records; None where the router looks at no picture.

    The pictures are looked at here and now, so that whoever decides for thousands need not keep them.

    Raises:
        BackboneError: the backbone is not the one the router was fitted on, or not the one that encoded the pictures,
            or this installation makes features of another version.
        QuestionError: a question that cannot be asked.
    """

    def __init__(self, router: Router, backbone: Any, encoded: Any, questions: Sequence[str]) -> None:
        if router.backbone is None or router.m is None:
            raise BackboneError(
                "this router was fitted on a table of no backbone, was: asked about a picture; use "
                "`router.choose(router.curves(questions), budget)`"
            )
        if router.backbone[1] != backbone.fingerprint:
            name, fingerprint = router.backbone
            raise BackboneError(
                f"this router was fitted on {name} ({fingerprint[:8]}), was: {backbone.name} "
                f"({backbone.fingerprint[:8]}); give that backbone, fit a router for this one, or leave the router out"
            )
        check_has(backbone, _ASKED, "to decide", "use `choose`")
        backbone.check_pictures(encoded)
        for question in questions:
            check_question(question)
        self._router, self._backbone, self.questions = router, backbone, list(questions)
        self.features = None if router.features is None else self._seen(encoded, router.features[0])
        self._tokens = np.array([backbone.visual_tokens(encoded, m) for m in router.m.tolist()]).T

    def _seen(self, encoded: Any, version: int) -> Features:
        from encoders import features

        if version != features.VERSION:
            raise BackboneError(
                f"this router reads visual features of version {version}, was: version {features.VERSION}; run "
                "`matryoshka-router features` and fit again"
            )
        groups = {group_of(name) for name in self._router.columns.visual}  # what it does not read is not computed
        values = features.visual_features(self._backbone, encoded, self.questions, groups=groups)
        return Features(features.VERSION, features.feature_names(self._backbone, groups), values)

    def costs(self, unit: str, longest: bool = True) -> np.ndarray:
        """What each question would cost at each arm, (n, k), with an answer of the most tokens or of typical length.

        A cap is charged the longest; typical is what the router's training saw, or else the longest too. Milliseconds
        are the profile's, without those of deciding; TFLOPs are those of the whole answer, deciding included wherever
        the router knows what it takes.

        Raises:
            BudgetError: the unit is unknown, or milliseconds were never measured on this machine.
        """
        if unit == "tokens":
            return self._tokens.astype(np.float64)
        if unit not in ("tflops", "ms"):
            raise BudgetError(f"a budget is counted in tokens, tflops or ms, was: {unit!r}")
        profile = self._backbone.profile if unit == "ms" else None
        if unit == "ms" and profile is None:
            raise BudgetError("a budget in ms needs a latency profile, missing; run `matryoshka-router profile`")
        typical = None if longest else self._router.answer_tokens
        length = float(self._backbone.decoding(None).max_new_tokens) if typical is None else typical
        known: dict[tuple[int, ...], list[float]] = self._router.remembered(("costs", unit, profile, length), dict)
        lengths = {question: self._backbone.text_tokens(question) for question in dict.fromkeys(self.questions)}
        table = []
        for question, visual in zip(self.questions, self._tokens.tolist(), strict=True):
            key = lengths[question], *visual  # thousands of questions share a few dozen of these
            if key not in known:
                known[key] = [self._predicted(tokens, key[0], length, profile) for tokens in visual]
            table.append(known[key])
        return np.array(table)

    def _predicted(self, visual: int, text: int, length: float, profile: LatencyProfile | None) -> float:
        """Cost at an answer length that may lie between two whole ones."""
        below, between = int(length), length % 1
        costs = [self._counted(visual, text, tokens, profile) for tokens in (below, below + 1)[: 2 if between else 1]]
        return costs[0] + between * (costs[-1] - costs[0])

    def _counted(self, visual: int, text: int, tokens: int, profile: LatencyProfile | None) -> float:
        if profile is not None:
            return profile.ms(visual, text, tokens)
        deciding = self._router.routing_cost if self._router.unit == "tflops" else 0.0
        return float(self._backbone.counted_cost(visual, text, tokens).tflops + deciding)
