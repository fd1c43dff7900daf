"""Training-free baselines: spend m tokens on a stock LLaVA that was never trained to work with few.

The three heuristics of the M3 paper (arXiv 2405.17430, table 4): average pooling, spatial sampling, sequential
sampling, each on the output of LLaVA's ordinary projector. Knows grids and m. Chooses no m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from encoders.counts import whole_number
from encoders.errors import BackboneError, BudgetError, shown
from encoders.m3 import MatryoshkaPooling, grid_side, levels, pool, projector_weights


def spatial_sample(tokens: Tensor, m: int) -> Tensor:
    """Keep the token in the middle of each cell of a sqrt(m) x sqrt(m) grid: (B, N, D) -> (B, m, D), raster order.

    Where a cell has no middle token (even sides), the one right below and right of the middle is kept.

    Raises:
        BudgetError: m is not an exact divisor level of the grid.
        BackboneError: the N tokens are not a square grid.
    """
    patches = tokens.shape[1]
    side = grid_side(patches)
    if whole_number(m) not in levels(patches):
        raise BudgetError(f"m must be one of {levels(patches)} for spatial sampling, was: {shown(m)}")
    out = math.isqrt(m)
    kernel = side // out
    kept = torch.arange(out, device=tokens.device) * kernel + kernel // 2
    return tokens[:, (kept[:, None] * side + kept).flatten()]


def sequential_sample(tokens: Tensor, m: int) -> Tensor:
    """Keep the first m tokens in raster order: (B, N, D) -> (B, m, D).

    Raises:
        BudgetError: m is not a whole number from 1 to N.
    """
    if not _within(m, tokens.shape[1]):
        raise BudgetError(f"m must be a whole number from 1 to {tokens.shape[1]}, was: {shown(m)}")
    return tokens[:, :m]


def _within(m: int, most: int) -> bool:
    count = whole_number(m)
    return count is not None and 1 <= count <= most


METHODS = {"average": pool, "spatial": spatial_sample, "sequential": sequential_sample}


class SampledProjection(MatryoshkaPooling):
    """LLaVA-1.5's projector with one of the heuristics in the place of trained pooling."""

    def __init__(self, width: int, out_width: int, patches: int, method: str) -> None:
        if method not in METHODS:
            raise BackboneError(f"a sampling method must be one of {sorted(METHODS)}, was: {shown(method)}")
        super().__init__(width, out_width, patches)
        self.method = method
        self.prefix_nested = method == "sequential"

    @classmethod
    def from_state_dict(  # type: ignore[override]  # which heuristic is the caller's to say: it has no default
        cls, state_dict: Mapping[str, Tensor], patches: int = 576, *, method: str
    ) -> SampledProjection:
        """Build from a stock LLaVA's weights, keys and errors as for `MatryoshkaPooling`; `method` is a heuristic."""
        tensors, width, out_width = projector_weights(state_dict)
        return cls(width, out_width, patches, method).filled(tensors)

    def allows(self, m: int) -> bool:
        """Every number up to N for sequential sampling, exact divisor levels for the others."""
        if self.method == "sequential":
            return _within(m, self.patches)
        return super().allows(m)

    @property
    def rule(self) -> str:
        """What `allows` asks, in words for error messages."""
        return f"a whole number from 1 to {self.patches}" if self.method == "sequential" else super().rule

    def forward(self, patches: Tensor, m: int) -> Tensor:
        """Patches (B, N, width) -> (B, m, out_width)."""
        return self.at(self.projector(patches), m)

    def at(self, prepared: Tensor, m: int) -> Tensor:
        """Tokens at m from the projected grid: (B, m, out_width)."""
        return METHODS[self.method](prepared, m)
