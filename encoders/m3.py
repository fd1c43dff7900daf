"""Matryoshka Multimodal Models: project the patches, then average-pool the grid to m tokens.

Exactly the published operation (Cai et al., "Matryoshka Multimodal Models", arXiv 2405.17430; `llava_arch.py` of its
released code), with one difference: an m whose square root does not divide the grid is refused, where the released code
silently spends another number. Also packs LLaVA-NeXT tiles. Knows grids and m. Chooses no m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from encoders.connector import Connector
from encoders.counts import positive, whole_number
from encoders.errors import BackboneError, BudgetError, shown

MergeType = Literal["flat", "spatial", "spatial_unpad"]
_PREFIX = "mm_projector."


def levels(patches: int) -> tuple[int, ...]:
    """Every m that a square grid of `patches` pools to exactly, ascending: k * k for each divisor k of the side."""
    side = math.isqrt(patches)
    return tuple(k * k for k in range(1, side + 1) if side % k == 0)


def grid_side(patches: int) -> int:
    """The side of a square grid of so many tokens.

    Raises:
        BackboneError: they are none.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise BackboneError(f"tokens must form a square grid, was: {patches} tokens; drop CLS")
    return side


def pool(tokens: Tensor, m: int) -> Tensor:
    """Average-pool projected tokens (B, N, D) to (B, m, D), dtype kept.

    Raises:
        BudgetError: m is not one of `levels(N)`.
        BackboneError: the N tokens are not a square grid.
    """
    batch, patches, width = tokens.shape
    side = grid_side(patches)
    if whole_number(m) not in levels(patches):
        raise BudgetError(f"m must be one of {levels(patches)} on a grid of {side} x {side}, was: {shown(m)}")
    if m == patches:
        return tokens
    out = math.isqrt(m)
    kernel = side // out
    cells = tokens.float() if tokens.itemsize < 4 else tokens  # two means of half precision would round twice
    cells = cells.reshape(batch, out, kernel, out, kernel, width)
    means = cells.mean(dim=2).mean(dim=3)  # both at once takes torch nine times as long
    return means.reshape(batch, m, width).to(tokens.dtype)


def projector_weights(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int, int]:
    """The projector's tensors by their bare names, its width and its out_width, from published weights.

    Raises:
        BackboneError: a tensor is missing, unexpected or of another shape; every one is listed.
    """
    tensors = {key.rpartition(_PREFIX)[2]: value for key, value in state_dict.items()}
    own = {key: value for key, value in tensors.items() if key[:1].isdigit()}  # a checkpoint holds other modules too
    wanted = {f"{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    if wanted != own.keys():
        raise BackboneError(
            f"projector weights do not fit: missing {sorted(wanted - own.keys())}, "
            f"unexpected {sorted(own.keys() - wanted)}"
        )
    out_width, width = (*own["0.weight"].shape, 0, 0)[:2]
    shapes = {"0.weight": (out_width, width), "2.weight": (out_width, out_width)}
    if misshapen := sorted(key for key in wanted if tuple(own[key].shape) != shapes.get(key, (out_width,))):
        raise BackboneError(f"projector weights do not fit each other: of another shape {misshapen}")
    return own, width, out_width


class MatryoshkaPooling(Connector):
    """The nested connector of LLaVA-M3: the two-layer GELU projector of LLaVA-1.5, then `pool`."""

    prefix_nested, prepares_all = False, True

    def __init__(self, width: int, out_width: int, patches: int) -> None:
        super().__init__()
        self.patches = patches
        self.projector = nn.Sequential(nn.Linear(width, out_width), nn.GELU(), nn.Linear(out_width, out_width))

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], patches: int = 576) -> MatryoshkaPooling:
        """Build from published weights; keys end in `mm_projector.{0,2}.{weight,bias}` or are just `{0,2}.{...}`.

        Raises:
            BackboneError: a tensor of the projector is missing, unexpected or of another shape; every one is listed.
        """
        tensors, width, out_width = projector_weights(state_dict)
        return cls(width, out_width, patches).filled(tensors)

    def filled(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take over, in their dtype, the weights that `projector_weights` found; in evaluation mode from then on."""
        self.to(tensors["0.weight"].dtype).projector.load_state_dict(tensors)
        return self.eval()

    def allows(self, m: int) -> bool:
        """Exact divisor levels of the grid only."""
        return whole_number(m) in levels(self.patches)

    @property
    def rule(self) -> str:
        """What `allows` asks, in words for error messages."""
        return f"one of {levels(self.patches)}"

    def forward(self, patches: Tensor, m: int) -> Tensor:
        """Patches (B, N, width) -> (B, m, out_width)."""
        return pool(self.projector(patches), m)

    def prepare(self, patches: Tensor, m: int) -> Tensor:
        """What serves every m of these patches: the projected grid, (B, N, out_width)."""
        grid: Tensor = self.projector(patches)
        return grid

    def at(self, prepared: Tensor, m: int) -> Tensor:
        """Tokens at m from what `prepare` made: (B, m, out_width)."""
        return pool(prepared, m)

    def flops(self, patches: int, m: int) -> int:
        """Multiply-adds times two of the projector, per picture; pooling's additions are not counted."""
        layers = [layer for layer in self.projector if isinstance(layer, nn.Linear)]
        return 2 * patches * sum(layer.in_features * layer.out_features for layer in layers)


def tile_grid(
    image_size: tuple[int, int], pinpoints: Sequence[tuple[int, int] | list[int]], tile_size: int = 336
) -> tuple[int, int]:
    """(columns, rows) of tiles for a picture of `image_size` = (width, height).

    LLaVA-NeXT's rule (`select_best_resolution`): the pinpoint that keeps the most of the picture's pixels, then the one
    that wastes the fewest of its own.
    """
    width, height = image_size
    positive("tile_size", tile_size)
    if not (width >= 1 and height >= 1):
        raise BackboneError(f"image_size must be (width, height) of at least one pixel each, was: {image_size}")
    if not pinpoints:
        raise BackboneError("pinpoints must name at least one (width, height), was empty")

    def merit(pinpoint: Sequence[int]) -> tuple[int, int]:
        scale = min(pinpoint[0] / width, pinpoint[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - pinpoint[0] * pinpoint[1]

    best = max(pinpoints, key=merit)  # the first of equals, as published
    return best[0] // tile_size, best[1] // tile_size


def unpad(grid: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Cut from a grid (rows, columns, D) what padding the picture (width, height) to its shape has added."""
    rows, columns = grid.shape[:2]
    width, height = image_size
    if width / height > columns / rows:
        border = (rows - int(height * (columns / width))) // 2
        return grid[border : rows - border]
    border = (columns - int(width * (rows / height))) // 2
    return grid[:, border : columns - border]


def pack_tiles(
    tiles: Tensor,
    m: int,
    image_size: tuple[int, int],
    merge_type: MergeType,
    newline: Tensor,
    pinpoints: Sequence[tuple[int, int] | list[int]],
    tile_size: int = 336,
) -> Tensor:
    """Pool every tile to m tokens and pack them as LLaVA-NeXT does: (n, D), the thumbnail's tokens first.

    Args:
        tiles: (1 + T, N, D) projected tokens, thumbnail first, tiles in raster order.
        m: tokens per tile, one of `levels(N)`.
        image_size: the picture's (width, height) in pixels.
        merge_type: "flat" keeps tile order; "spatial" reads the joined grid row by row; "spatial_unpad" cuts the
            padding at the pooled resolution and ends every row that is left with `newline`.
        newline: (D,) the learned end-of-row vector.
        pinpoints: allowed (width, height) of the tiled picture.
        tile_size: pixels along a tile.

    Raises:
        BackboneError: an unknown merge type, or a number of tiles that the picture's grid does not have.
        BudgetError: m is not a level of the grid.
    """
    if merge_type not in ("flat", "spatial", "spatial_unpad"):
        raise BackboneError(f"merge_type must be 'flat', 'spatial' or 'spatial_unpad', was: {shown(merge_type)}")
    if merge_type == "spatial_unpad" and getattr(newline, "shape", None) != tiles.shape[-1:]:
        raise BackboneError(f"newline must be a tensor of shape ({tiles.shape[-1]},), was: {shown(newline)}")
    pooled = pool(tiles, m)
    if len(tiles) == 1:
        return torch.cat([pooled[0], newline[None].to(pooled)]) if merge_type == "spatial_unpad" else pooled[0]
    columns, rows = tile_grid(image_size, pinpoints, tile_size)
    if len(tiles) != 1 + columns * rows:
        raise BackboneError(
            f"a picture of {image_size} has {columns} x {rows} tiles and a thumbnail, was given: {len(tiles)} in all"
        )
    if merge_type == "flat":
        return pooled.flatten(0, 1)
    side = math.isqrt(m)
    grid = pooled[1:].reshape(rows, columns, side, side, -1).transpose(1, 2).reshape(rows * side, columns * side, -1)
    if merge_type == "spatial_unpad":
        grid = unpad(grid, image_size)
        grid = torch.cat([grid, newline.to(grid).expand(len(grid), 1, -1)], dim=1)
    return torch.cat([pooled[0], grid.flatten(0, 1)])
