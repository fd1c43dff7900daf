"""Pictures after the vision pass, from which every m is had.

Knows patches and a connector. Knows no question and no language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoders.connector import Connector
from encoders.counts import whole_number
from encoders.errors import QuestionError, shown
from encoders.weights import held, version


class _Prepared(NamedTuple):
    """What a connector made of the patches for tokens up to m, and which weights it then had."""

    m: int
    weights: object
    tokens: Tensor


class LlavaImages:
    """Pictures after the vision pass: patches (n, N, width), and the nested tokens that were asked for so far.

    `pictures` are the RGB pictures themselves where `encode` opened them, for features that look at pixels; else None.
    """

    def __init__(self, connector: Connector, patches: Tensor, pictures: tuple[Image.Image, ...] | None = None) -> None:
        self._connector = connector
        self.patches, self.pictures = patches, pictures
        self._prepared: _Prepared | None = None

    def __len__(self) -> int:
        return len(self.patches)

    def belongs_to(self, connector: Connector) -> bool:
        """Whether these pictures were encoded for this connector."""
        return self._connector is connector

    def select(self, rows: Sequence[int]) -> LlavaImages:
        """The pictures at `rows`, repeats allowed; what was computed comes along.

        Raises:
            QuestionError: rows are no list of whole numbers from 0 to n - 1.
        """
        if not isinstance(rows, Sequence | np.ndarray) or any(whole_number(r) not in range(len(self)) for r in rows):
            raise QuestionError(f"rows must be whole numbers from 0 to {len(self) - 1}, was: {shown(rows)}")
        pictures = None if self.pictures is None else tuple(self.pictures[row] for row in rows)
        chosen, prepared = LlavaImages(self._connector, self.patches[list(rows)], pictures), self._prepared
        if prepared is not None:
            chosen._prepared = prepared._replace(tokens=prepared.tokens[list(rows)])
        return chosen

    @torch.inference_mode()
    def tokens(self, m: int) -> Tensor:
        """Nested tokens (n, m, D); what was computed for one m serves every other that it can, until weights change."""
        prepared, weights = self._prepared, version(held(self._connector))
        if prepared is None or prepared.weights != weights or (prepared.m < m and not self._connector.prepares_all):
            weight = next(self._connector.parameters())  # patches stay as they were made, the model may have moved on
            patches = self.patches.to(weight.device, weight.dtype)
            prepared = self._prepared = _Prepared(m, weights, self._connector.prepare(patches, m))
        return self._connector.at(prepared.tokens, m)
