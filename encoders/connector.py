"""What every nested connector can do: the contract of `encoders.mqt`, `encoders.m3` and `encoders.sampling`.

Knows shapes. Computes nothing.
"""

from __future__ import annotations

from torch import Tensor, nn


class Connector(nn.Module):
    """Patches (B, N, width) in, m nested visual tokens (B, m, out_width) out.

    Attributes:
        prefix_nested: whether the tokens at m are the first m of those at any larger m.
        prepares_all: whether what `prepare` makes for one m serves every other.
    """

    prefix_nested: bool
    prepares_all: bool

    def allows(self, m: int) -> bool:
        """Whether exactly m tokens can be spent."""
        raise NotImplementedError

    @property
    def rule(self) -> str:
        """What `allows` asks, in words for error messages."""
        raise NotImplementedError

    def prepare(self, patches: Tensor, m: int) -> Tensor:
        """Compute once what serves every m' <= m of these patches."""
        raise NotImplementedError

    def at(self, prepared: Tensor, m: int) -> Tensor:
        """Tokens at m from what `prepare` made for m or more: (B, m, out_width)."""
        raise NotImplementedError

    def flops(self, patches: int, m: int) -> int:
        """Multiply-adds times two of `prepare` for m and one picture of `patches` patches."""
        raise NotImplementedError
