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


class Spending:
    """n questions about n encoded pictures, before an arm is chosen; what it holds of the pictures is a few numbers.

    The pictures are looked at here and now, so that whoever decides for thousands need not keep them.

    Raises:
        BackboneError: the backbone is not the one the router was fitted on, or not the one that encoded the pictures,
            or this installation makes features of another version.
        QuestionError: a question that cannot be asked.
    """

    def __init__(self, router: Router, backbone: Any, encoded: Any, questions: Sequence[str]) -> None:
        if router.backbone is None or router.m is None:
            raise BackboneError(
                "this router was fitted on a table of no backbone, was: asked about a picture; use its `choose`"
            )
        if router.backbone[1] != backbone.fingerprint:
            name, fingerprint = router.backbone
            raise BackboneError(
                f"this router was fitted on {name} ({fingerprint[:8]}), was: {backbone.name} "
                f"({backbone.fingerprint[:8]}); sweep and fit for it, or leave the router out"
            )
        backbone.check_pictures(encoded)
        for question in questions:
            check_question(question)
        self._router, self._backbone, self._questions = router, backbone, list(questions)
        self._features = None if router.features is None else self._seen(encoded, router.features[0])
        self._tokens = np.array([backbone.visual_tokens(encoded, m) for m in router.m.tolist()]).T

    def features(self) -> Features | None:
        """Visual features of the pictures, as a sweep records them; None where the router looks at none."""
        return self._features

    def _seen(self, encoded: Any, version: int) -> Features:
        from encoders import features

        if version != features.VERSION:
            raise BackboneError(
                f"this router reads visual features of version {version}, was: version {features.VERSION}; run "
                "`matryoshka-router features` and fit again"
            )
        groups = {group_of(name) for name in self._router.columns.visual}  # what it does not read is not computed
        values = features.visual_features(self._backbone, encoded, self._questions, groups=groups)
        return Features(features.VERSION, features.feature_names(self._backbone, groups), values)

    def costs(self, unit: str) -> np.ndarray:
        """What each question would cost at each arm, (n, k), predicted at full answer length.

        TFLOPs are those of the whole answer: what deciding takes is in them wherever the router knows it.

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
        known: dict[tuple[int, ...], list[float]] = self._router._remembered(("costs", unit, profile), dict)
        lengths = {question: self._text_tokens(question) for question in dict.fromkeys(self._questions)}
        table = []
        for question, visual in zip(self._questions, self._tokens.tolist(), strict=True):
            key = lengths[question], *visual  # thousands of questions share a few dozen of these
            if key not in known:
                known[key] = [self._predicted(tokens, key[0], profile) for tokens in visual]
            table.append(known[key])
        return np.array(table)

    def _text_tokens(self, question: str) -> int:
        return len(self._backbone.prefix_ids) + len(self._backbone.suffix_ids(question))

    def _predicted(self, visual_tokens: int, text_tokens: int, profile: LatencyProfile | None) -> float:
        longest = self._backbone.decoding(None).max_new_tokens
        if profile is not None:
            return profile.ms(visual_tokens, text_tokens, longest)
        deciding = self._router.routing_cost if self._router.unit == "tflops" else 0.0
        return float(self._backbone.counted_cost(visual_tokens, text_tokens, longest).tflops + deciding)
