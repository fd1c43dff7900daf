"""What the caller asks for.

| written | means |
|---|---|
| `64`, `Budget(cap=64)` | at most 64 visual tokens for this question, a hard cap |
| `None` | no cap: the backbone's operating point |

Knows numbers. Knows no backbone and chooses no m.
"""

from __future__ import annotations

from dataclasses import dataclass

from encoders.counts import whole_number
from encoders.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """A limit on what one answer may spend.

    Attributes:
        cap: the most visual tokens, a whole number of at least 1.
    """

    cap: int

    def __post_init__(self) -> None:
        cap = whole_number(self.cap)
        if cap is None or cap < 1:
            raise BudgetError(
                f"a budget must be a whole number of visual tokens, at least 1, was: {self.cap!r}; write budget=64, "
                "or None for no cap"
            )
        object.__setattr__(self, "cap", cap)

    @classmethod
    def of(cls, value: object) -> Budget | None:
        """A budget from what callers write: None, an int, or a Budget.

        Raises:
            BudgetError: anything else, bools, floats and strings included.
        """
        if value is None or isinstance(value, cls):
            return value
        return cls(value)  # type: ignore[arg-type]
