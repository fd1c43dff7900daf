"""What a decision needs of a loaded backbone: the features of encoded pictures, and what every arm would cost them.

Knows a backbone's contract. Chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.errors import BackboneError, BudgetError
from encoders.prompts import check_question
from training_data.outcomes import Features

if TYPE_CHECKING:
    from router.routing import Router


class Spending:
    """n questions about n encoded pictures, before an arm is chosen.

    Raises:
        BackboneError: the backbone is not the one the router was fitted on, or not the one that encoded the pictures.
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
        self._router, self._backbone, self._encoded, self._questions = router, backbone, encoded, list(questions)

    def features(self) -> Features | None:
        """Visual features of the pictures, as a sweep records them; None where the router looks at none.

        Raises:
            BackboneError: this installation makes features of another version.
        """
        if self._router.features is None:
            return None
        from encoders import features

        if features.VERSION != self._router.features[0]:
            raise BackboneError(
                f"this router reads visual features of version {self._router.features[0]}, was: version "
                f"{features.VERSION}; run `matryoshka-router features` and fit again"
            )
        values = features.visual_features(self._backbone, self._encoded, self._questions)
        return Features(features.VERSION, features.feature_names(self._backbone), values)

    def costs(self, unit: str) -> np.ndarray:
        """What each question would cost at each arm, (n, k): tokens counted, the rest predicted at full answer length.

        Raises:
            BudgetError: the unit is unknown, or milliseconds were never measured on this machine.
        """
        backbone, arms = self._backbone, [int(m) for m in self._router.m]  # type: ignore[union-attr]
        tokens = np.array([backbone.visual_tokens(self._encoded, m) for m in arms], np.float64).T
        if unit == "tokens":
            return tokens
        if unit not in ("tflops", "ms"):
            raise BudgetError(f"a budget is counted in tokens, tflops or ms, was: {unit!r}")
        longest = backbone.decoding(None).max_new_tokens
        predict = backbone.counted_cost if unit == "tflops" else backbone.cost
        table = np.empty(tokens.shape)
        for row, question in enumerate(self._questions):
            length = len(backbone.prefix_ids) + len(backbone.suffix_ids(question))
            for arm, visual in enumerate(tokens[row].astype(int).tolist()):
                cost = predict(visual, length, longest)
                if (value := getattr(cost, unit)) is None:
                    raise BudgetError(
                        "a budget in ms needs a latency profile, missing; run `matryoshka-router profile`"
                    )
                table[row, arm] = value
        return table
