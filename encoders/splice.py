"""Puts visual tokens between text embeddings: a different number of them in every row of one batch.

Knows embeddings, lengths and padding. Knows no decoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from encoders.encoded import LlavaImages
    from encoders.llava import NestedLlava


@dataclass
class SplicedBatch:
    """Prompts of different lengths in one tensor, padded on the left: embeds (B, S, D), mask and positions (B, S)."""

    backbone: NestedLlava
    encoded: LlavaImages
    m: list[int]
    suffixes: list[list[int]]
    targets: list[list[int]]
    embeds: Tensor = field(init=False)
    mask: Tensor | None = field(init=False)
    positions: Tensor = field(init=False)
    longest: int = field(init=False)

    def __post_init__(self) -> None:
        backbone, start = self.backbone, self.backbone.prefix_ids
        visual = self._visual()
        device = visual[0].device
        lengths = [
            len(start) + m + len(suffix) + len(target)
            for m, suffix, target in zip(self.m, self.suffixes, self.targets, strict=True)
        ]
        self.longest = max(lengths)
        backbone.check_length(self.longest)
        head = backbone.embed(torch.tensor(start, device=device))
        self.embeds = head.new_zeros(len(lengths), self.longest, head.shape[-1])
        for row, (suffix, target) in enumerate(zip(self.suffixes, self.targets, strict=True)):
            tail = backbone.embed(torch.tensor([*suffix, *target], device=device))
            self.embeds[row, self.longest - lengths[row] :] = torch.cat([head, visual[row].to(head.dtype), tail])
        places = (
            torch.arange(self.longest, device=device) - (self.longest - torch.tensor(lengths, device=device))[:, None]
        )
        self.positions = places.clamp(min=0)
        self.mask = None if min(lengths) == self.longest else (places >= 0).long()

    def _visual(self) -> list[Tensor]:
        """Each row's m visual tokens, one connector pass for each m that occurs, the largest first."""
        visual: list[Tensor] = [torch.empty(0)] * len(self.m)
        for m in sorted(set(self.m), reverse=True):
            tokens = self.encoded.tokens(m)
            for row, own in enumerate(self.m):
                if own == m:
                    visual[row] = tokens[row]
        return visual
