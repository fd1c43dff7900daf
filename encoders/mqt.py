"""Matryoshka Query Transformer: patches in, the first m of M nested visual tokens out.

Exactly the published module (Hu et al., "Matryoshka Query Transformer for Large Vision-Language Models",
arXiv 2405.19315; `Resampler` in its released code): one cross-attention layer whose keys are the normed position table
alone, so the picture enters through the values only and the attention maps are constants of the weights. Queries never
see each other, hence tokens(m) are the first m of tokens(M). Knows patches and m. Chooses no m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.connector import Connector
from encoders.counts import positive, whole_number
from encoders.errors import BackboneError, BudgetError, shown
from encoders.weights import version

_PREFIX = "model.query_abstractor."
_SHARPNESS = 2.4  # of start_local: the last query gives its own place most of its attention
_NORM_EPS = 1e-6  # the published module's own; CLIP beside it uses 1e-5


def sincos_table(width: int, grid: int) -> Tensor:
    """The 2-D sine-cosine position table, (grid * grid, width) float32, rows in raster order.

    The first half of the channels encodes the column, the second half the row; each half holds sines, then cosines, at
    temperature 10000 (released code, `get_2d_sincos_pos_embed`).
    """
    if width % 4:
        raise BackboneError(f"the width of a 2-D sine-cosine table must be a multiple of 4, was: {width}")
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies  # (grid, width / 4)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    columns, rows = axis[None].expand(grid, -1, -1), axis[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], dim=-1).reshape(grid * grid, width).float()


def _coarse_to_fine(grid: int) -> Tensor:
    """Every place of a grid once, so ordered that each head of the order covers it evenly (farthest place first)."""
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).float()
    order = [(grid // 2) * grid + grid // 2]
    distance = torch.cdist(places, places[order]).squeeze(1)
    for _ in range(grid * grid - 1):
        order.append(int(distance.argmax()))
        distance = torch.minimum(distance, torch.cdist(places, places[order[-1:]]).squeeze(1))
    return torch.tensor(order)


@dataclass(frozen=True)
class _Maps:
    """Attention maps (heads, M, patches) and what they were computed from.

    `sources` share the storage of the weights, so that no other weight can come to lie where one of them lay.
    """

    patches: int
    computed: Tensor
    version: tuple[object, ...]
    sources: tuple[Tensor, ...]


class MatryoshkaQueryTransformer(Connector):
    """The nested connector of MQT-LLaVA.

    Args:
        width: channels of the vision tower's patches.
        out_width: channels of the language model.
        num_queries: M, the number of nested tokens; a square number.
        num_heads: attention heads; they divide `width`.
    """

    prefix_nested, prepares_all = True, False

    def __init__(self, width: int, out_width: int, num_queries: int, num_heads: int) -> None:
        super().__init__()
        grid = math.isqrt(num_queries)
        if grid * grid != num_queries:
            raise BackboneError(
                f"num_queries must be a square number (the position table is a grid), was: {num_queries}"
            )
        if width % positive("num_heads", num_heads):
            raise BackboneError(f"num_heads must divide the width {width}, was: {num_heads}")
        self.num_queries, self.num_heads = num_queries, num_heads
        self.pos_embed = nn.Parameter(sincos_table(width, grid), requires_grad=False)
        self.query = nn.Parameter(torch.empty(num_queries, width))
        self.attn = nn.MultiheadAttention(width, num_heads)  # holds the packed weights; the attention is below
        self.ln_q = nn.LayerNorm(width, eps=_NORM_EPS)
        self.ln_k = nn.LayerNorm(width, eps=_NORM_EPS)
        self.ln_v = nn.LayerNorm(width, eps=_NORM_EPS)
        self.proj = nn.Parameter(torch.randn(width, out_width) * out_width**-0.5)
        nn.init.trunc_normal_(self.query, std=0.02)
        nn.init.trunc_normal_(self.attn.out_proj.weight, std=0.02)
        self._maps: _Maps | None = None

    @torch.no_grad()
    def start_local(self) -> None:
        """Start queries as local pools, coarse to fine, for training from scratch without a pretrained language model.

        The published start attends almost evenly to all places; a small language model then learns the background and
        nothing else (docs/log.md). Here every head compares places by their highest position frequencies, query i looks
        at the i-th place of a coarse-to-fine order, and the earlier it comes the wider it looks. The mathematics is the
        published one; only where training starts differs.
        """
        count, width, head = self.num_queries, self.query.shape[1], self.query.shape[1] // self.num_heads
        quarter, pairs = width // 4, head // 4
        picked = [base + k for base in (0, quarter, 2 * quarter, 3 * quarter) for k in range(pairs)]
        select = torch.zeros(head, width)
        select[torch.arange(4 * pairs), torch.tensor(picked)] = _SHARPNESS
        for part in (0, width):  # rows of the packed projection: queries, then keys
            self.attn.in_proj_weight[part : part + width] = select.repeat(self.num_heads, 1)
        order = _coarse_to_fine(math.isqrt(count))
        share = (torch.arange(count) / count).sqrt()[:, None]  # of its sharpness that a query keeps
        idle = torch.zeros(width)
        idle[quarter - 1], idle[2 * quarter + quarter - 1] = 1.0, -1.0  # lowest frequencies: the same everywhere
        blunt = idle * (width / 2) ** 0.5 * (1 / share.clamp(min=0.05) ** 2 - 1).clamp(min=0).sqrt()
        self.query.copy_(self.pos_embed[order] - self.pos_embed + blunt + 0.02 * torch.randn_like(self.query))
        nn.init.xavier_uniform_(self.attn.out_proj.weight)
        self._maps = None

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> MatryoshkaQueryTransformer:
        """Build from published weights, keys with or without the `model.query_abstractor.` prefix.

        The position table is loaded, never recomputed: the published one was trained. The module takes the dtype of
        the `query` tensor.

        Raises:
            BackboneError: a tensor is missing, unexpected or of another shape; every one is listed.
        """
        prefixed = any(key.startswith(_PREFIX) for key in state_dict)
        start = len(_PREFIX) if prefixed else 0
        tensors = {key[start:]: value for key, value in state_dict.items() if not prefixed or key.startswith(_PREFIX)}
        if "query" not in tensors or "proj" not in tensors:
            raise BackboneError(
                f"a query transformer needs the tensors 'query' and 'proj', was given: {sorted(tensors) or 'none'}"
            )
        if flat := [f"{key} {tuple(tensors[key].shape)}" for key in ("query", "proj") if tensors[key].ndim != 2]:
            raise BackboneError(f"'query' and 'proj' of a query transformer must be matrices, was: {flat}")
        num_queries, width = tensors["query"].shape
        module = cls(width, tensors["proj"].shape[1], num_queries, num_heads).to(tensors["query"].dtype)
        own = module.state_dict()
        if misshapen := [key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape]:
            raise BackboneError(
                f"query transformer weights do not fit each other: of another shape {sorted(misshapen)}"
            )
        missing, unexpected = module.load_state_dict(tensors, strict=False)
        if missing or unexpected:
            raise BackboneError(f"query transformer weights do not fit: missing {missing}, unexpected {unexpected}")
        return module.eval()

    def allows(self, m: int) -> bool:
        """Every whole number from 1 to M."""
        count = whole_number(m)
        return count is not None and 1 <= count <= self.num_queries

    @property
    def rule(self) -> str:
        """What `allows` asks, in words for error messages."""
        return f"a whole number from 1 to {self.num_queries}"

    def attention(self, patches: int, m: int | None = None) -> Tensor:
        """The maps from the first m queries to `patches` places: (heads, m, patches), rows summing to one.

        They do not depend on the picture. In evaluation they are computed once and kept until the weights change
        (`encoders.weights.version`); train(), eval(), load_state_dict and .to() drop them, and so does a gradient pass.
        Whoever writes through `.data`, which torch does not count, calls eval() afterwards.
        """
        m = self.num_queries if m is None else m
        sources = self._sources()
        if self.training or (torch.is_grad_enabled() and any(source.requires_grad for source in sources)):
            self._maps = None  # gradients announce a step, and not every optimiser's is counted by torch
            return self._attend(patches, m)
        maps, current = self._maps, version(sources)
        if maps is None or maps.patches != patches or maps.version != current:
            # Neither an inference tensor nor one of another dtype could serve every later call.
            plain = torch.autocast(self.query.device.type, enabled=False)
            with torch.inference_mode(False), torch.no_grad(), plain:
                kept = tuple(source.detach() for source in sources)
                maps = self._maps = _Maps(patches, self._attend(patches, self.num_queries), current, kept)
        return maps.computed[:, :m]

    def _sources(self) -> tuple[Tensor, ...]:
        """All that the maps are computed from."""
        norms = self.ln_q.weight, self.ln_q.bias, self.ln_k.weight, self.ln_k.bias
        return self.query, self.pos_embed, *norms, self.attn.in_proj_weight, self.attn.in_proj_bias

    def _attend(self, patches: int, m: int) -> Tensor:
        weight_q, weight_k, _ = self.attn.in_proj_weight.chunk(3)
        bias_q, bias_k, _ = self.attn.in_proj_bias.chunk(3)
        queries = self.ln_q(self.query[:m] + self.pos_embed[:m])
        keys = self.ln_k(self._resized_table(patches))
        queries = functional.linear(queries, weight_q, bias_q).unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        keys = functional.linear(keys, weight_k, bias_k).unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        return (queries * queries.shape[-1] ** -0.5 @ keys.transpose(1, 2)).softmax(dim=-1)  # (heads, m, patches)

    def _resized_table(self, patches: int) -> Tensor:
        grid, target = math.isqrt(self.num_queries), math.isqrt(patches)
        if target * target != patches:
            raise BackboneError(f"patches must form a square grid, was: {patches}")
        if grid == target:
            return self.pos_embed
        table = self.pos_embed.float().T.reshape(1, -1, grid, grid)
        table = functional.interpolate(table, size=(target, target), mode="bicubic", align_corners=False)
        return table.flatten(2)[0].T.to(self.pos_embed.dtype)

    def forward(self, patches: Tensor, m: int) -> Tensor:
        """The first m nested tokens: patches (B, N, width) -> (B, m, out_width), in the module's dtype.

        Raises:
            BudgetError: m is not a whole number from 1 to M.
        """
        if not self.allows(m):
            raise BudgetError(f"m must be {self.rule}, was: {shown(m)}")
        maps = self.attention(patches.shape[1], m)
        weight_v, bias_v = self.attn.in_proj_weight.chunk(3)[2], self.attn.in_proj_bias.chunk(3)[2]
        values = functional.linear(self.ln_v(patches), weight_v, bias_v)  # (B, N, width)
        values = values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, width / heads)
        mixed = (maps @ values).transpose(1, 2).flatten(2)  # (B, m, width)
        return self.attn.out_proj(mixed) @ self.proj

    def prepare(self, patches: Tensor, m: int) -> Tensor:
        """What serves every m' <= m of these patches: the tokens themselves."""
        return self(patches, m)

    def at(self, prepared: Tensor, m: int) -> Tensor:
        """Tokens at m from what `prepare` made for m or more: (B, m, out_width)."""
        return prepared[:, :m]

    def flops(self, patches: int, m: int) -> int:
        """Multiply-adds times two of `prepare(patches, m)` with the maps cached, per picture."""
        width, out_width = self.proj.shape
        return 2 * width * (patches * width + m * patches + m * width + m * out_width)

    def train(self, mode: bool = True) -> MatryoshkaQueryTransformer:
        self._maps = None
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> MatryoshkaQueryTransformer:
        self._maps = None
        super()._apply(fn, recurse)
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._maps = None
        super()._load_from_state_dict(*arguments, **options)
