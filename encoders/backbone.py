"""What a nested backbone is: the contract between the floor that spends m and the floors that measure and choose it.

Knows names and shapes. Holds no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from encoders.counts import whole_number
from encoders.errors import BudgetError, shown

if TYPE_CHECKING:
    import numpy as np

    from encoders.cost import Cost
    from encoders.images import ImageSource


@dataclass(frozen=True)
class Generation:
    """One generated answer with what it took and how sure the model was.

    Attributes:
        text: the answer, stripped.
        token_ids: generated ids, the end token included where it was reached.
        logprobs: natural log-probability of each of them, before temperature.
        top_logprobs: the three largest log-probabilities of the first token, descending.
        entropy: entropy of the first token's distribution, in nats.
        m: visual tokens asked of the connector.
        visual_tokens: visual tokens the language model received.
        text_tokens: prompt tokens beside them.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[float, ...]
    entropy: float
    m: int
    visual_tokens: int
    text_tokens: int

    @property
    def logprob(self) -> float:
        """Log-probability of the whole answer."""
        return sum(self.logprobs)

    @property
    def new_tokens(self) -> int:
        """Generated tokens, the end token included."""
        return len(self.token_ids)


class EncodedImages(Protocol):
    """Pictures after their one vision pass: ask many questions of them, at many m."""

    def __len__(self) -> int: ...

    def select(self, rows: Sequence[int]) -> EncodedImages:
        """The pictures at `rows`, repeats allowed: one row for each question to be asked."""
        ...


@runtime_checkable
class NestedBackbone(Protocol):
    """A vision-language model that answers with any m of its ladder.

    `ladder` holds the trained m, ascending; `allows(m)` may admit more. `fingerprint` is a sha256 over weights and
    configuration.
    """

    @property
    def name(self) -> str: ...

    @property
    def ladder(self) -> tuple[int, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    def allows(self, m: int) -> bool: ...

    def encode(self, images: Sequence[ImageSource]) -> Any: ...

    def visual_tokens(self, encoded: Any, m: int) -> list[int]: ...

    def generate(
        self, encoded: Any, questions: Sequence[str], m: Sequence[int], max_new_tokens: int | None = None
    ) -> list[Generation]: ...

    def score(self, encoded: Any, questions: Sequence[str], answers: Sequence[str], m: Sequence[int]) -> np.ndarray: ...

    def answer_ladder(
        self, encoded: Any, questions: Sequence[str], ladder: Sequence[int] | None = None
    ) -> list[list[Generation]]: ...

    def cost(self, visual_tokens: int, text_tokens: int, new_tokens: int) -> Cost: ...


def check_m(value: object, allows: Any, rule: str, ladder: Sequence[int]) -> int:
    """The one gate for m.

    Raises:
        BudgetError: `value` is not a whole number that the backbone allows; the message carries rule and ladder.
    """
    m = whole_number(value)
    if m is None or not allows(m):
        raise BudgetError(
            f"m must be {rule} (trained: {tuple(ladder)}), was: {shown(value)}; or give a budget instead of m"
        )
    return m
