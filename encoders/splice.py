"""Puts visual tokens between text embeddings: a different number of them in every row of one batch.

Knows embeddings, lengths and padding. Knows no decoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
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
        texts = [[*suffix, *target] for suffix, target in zip(self.suffixes, self.targets, strict=True)]
        lengths = [len(start) + m + len(text) for m, text in zip(self.m, texts, strict=True)]
        self.longest = max(lengths)
        backbone.check_length(self.longest)
        ids = torch.tensor([*start, *chain.from_iterable(texts)], device=device)
        head, *tails = backbone.embed(ids).split([len(start), *map(len, texts)])
        pads = [self.longest - length for length in lengths]
        nothing = head.new_zeros(max(pads), head.shape[-1])
        parts = zip(pads, visual, tails, strict=True)
        rows = [torch.cat([nothing[:pad], head, own.to(head.dtype), tail]) for pad, own, tail in parts]
        self.embeds = rows[0][None] if len(rows) == 1 else torch.stack(rows)
        places = torch.arange(self.longest, device=device) - torch.tensor(pads, device=device)[:, None]
        self.positions = places.clamp(min=0)
        self.mask = (places >= 0).long() if any(pads) else None

    def _visual(self) -> list[Tensor]:
        """Each row's m visual tokens, one connector pass for each m that occurs, the largest first."""
        visual: list[Tensor] = [torch.empty(0)] * len(self.m)
        for m in sorted(set(self.m), reverse=True):
            tokens = self.encoded.tokens(m)
            for row, own in enumerate(self.m):
                if own == m:
                    visual[row] = tokens[row]
        return visual
