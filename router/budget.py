"""What the caller asks for.

| written | on a command line | means |
|---|---|---|
| `64`, `Budget(cap=64)` | `64`, `cap 64 tokens` | at most 64 visual tokens for this question, a hard cap |
| `Budget(cap=1.5, unit="tflops")` | `cap 1.5 tflops` | at most 1.5 TFLOPs for this question, whatever they buy |
| `Budget(mean=16)` | `mean 16`, `mean 16 tokens` | 16 visual tokens per question on average: easy ones fund hard ones |
| `Budget(mean=40, unit="ms")` | `mean 40 ms` | 40 predicted milliseconds per question on average |
| `Budget(price=0.002)` | `price 0.002` | pay up to 0.002 of score per unit of cost, in the router's own unit |
| `Budget(price=0.002, unit="tflops")` | `price 0.002 tflops` | pay up to 0.002 of score per TFLOP |
| `Budget(max_loss=0.01)` | `max_loss 0.01` | score at most 0.01 below full on average, with a certificate |
| `Budget(max_broken=0.02)` | `max_broken 0.02` | at most 2 % of answers worse than full's, with a certificate |
| `None` | `none` | no limit: the operating point stored with the router |

Knows numbers and the names of units. Knows no backbone, does not convert units and chooses no m.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from encoders.cost import is_name
from encoders.counts import finite_number, whole_number
from encoders.errors import BudgetError, shown

Kind = Literal["cap", "mean", "price", "max_loss", "max_broken"]

_KINDS: tuple[Kind, ...] = ("cap", "mean", "price", "max_loss", "max_broken")
_WRITTEN = re.compile(rf"({'|'.join(_KINDS)}) +([0-9.eE+-]+)(?: +(.+))?")
_FORMS = (
    "'64', 'cap 1.5 tflops', 'mean 16 tokens', 'mean 40 ms', 'price 0.002', 'price 0.002 tflops', 'max_loss 0.01', "
    "'max_broken 0.02' or 'none'"
)


@dataclass(frozen=True)
class Budget:
    """A limit on what answers may spend; exactly one of the first five is given.

    Attributes:
        cap: the most that one answer may cost; in tokens a whole number of at least 1.
        mean: the most that a batch, or a stream, may cost per question.
        price: what one unit of cost is worth in score; may be 0.
        max_loss: the most mean score that may be lost against full, in (0, 1).
        max_broken: the largest share of answers that may be worse than full's, in (0, 1).
        unit: of a cap or a mean "tokens" (the default), "tflops", "ms" or a table's own; of a price likewise, None
            (the default) for the unit that the router was fitted in. A loss has none.

    Raises:
        BudgetError: none or several are given, a number is out of its range, a unit is not a name or has no place.
    """

    cap: int | float | None = None
    _: KW_ONLY
    mean: float | None = None
    price: float | None = None
    max_loss: float | None = None
    max_broken: float | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise BudgetError(
                f"a budget must give exactly one of {', '.join(_KINDS)}, was: {', '.join(given) or 'none of them'}; "
                "write Budget(mean=16), or None for no limit"
            )
        object.__setattr__(self, "unit", _unit(self.kind, self.unit))
        object.__setattr__(self, self.kind, self._checked())

    def __str__(self) -> str:
        """As written on a command line: `Budget.parse` reads it back to an equal budget."""
        number = shown(self.value).removesuffix(".0")
        return " ".join([self.kind, number] if self.unit is None else [self.kind, number, self.unit])

    @property
    def kind(self) -> Kind:
        """Which of the five is given."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def value(self) -> int | float:
        """The number of the one that is given: an int for a cap in tokens, a float for all else."""
        number: int | float = getattr(self, self.kind)
        return number

    @classmethod
    def of(cls, value: object) -> Budget | None:
        """A budget from what callers write: None, an int, or a Budget.

        Raises:
            BudgetError: anything else, bools, floats and strings included.
        """
        if value is None or isinstance(value, cls):
            return value
        return cls(value)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, text: str) -> Budget | None:
        """A budget from a command line; the forms are in the table above.

        Raises:
            BudgetError: the text has none of the forms, or its number is out of range; the message lists the forms.
        """
        if not isinstance(text, str):
            raise BudgetError(f"a budget to be parsed must be a text, was: {shown(text)}; it is written as {_FORMS}")
        written = text.strip()
        if written == "none":
            return None
        found = _WRITTEN.fullmatch(f"cap {written}" if written[:1].isdecimal() else written)
        if found is None:
            raise BudgetError(f"a budget must be written as {_FORMS}, was: {shown(text)}")
        kind, number, unit = found.groups()
        try:
            given: dict[str, Any] = {kind: int(number) if number.isdecimal() else float(number)}
            return cls(**given, unit=unit)
        except ValueError as error:  # a BudgetError is one, and so is what float says of "1.2.3"
            raise BudgetError(f"{error}; a budget must be written as {_FORMS}, was: {shown(text)}") from None

    def _checked(self) -> int | float:
        """The value as an int or a float, within its range."""
        if self.kind == "cap" and self.unit == "tokens":
            cap = whole_number(self.cap)
            if cap is None or cap < 1:
                raise BudgetError(
                    f"a budget must be a whole number of visual tokens, at least 1, was: {shown(self.cap)}; "
                    "write budget=64, Budget(mean=16), or None for no cap"
                )
            return cap
        number = finite_number(self.value)
        if self.kind in ("max_loss", "max_broken"):
            if not 0 < number < 1:
                raise BudgetError(
                    f"a budget's {self.kind} must lie between 0 and 1, was: {shown(self.value)}; write "
                    f"Budget({self.kind}=0.01) for one point in a hundred"
                )
        elif not (number > 0 or (number == 0 and self.kind == "price")):
            rule = "a finite number, at least 0" if self.kind == "price" else "a positive, finite number"
            raise BudgetError(
                f"a budget's {self.kind} must be {rule}, was: {shown(self.value)}; write "
                f"Budget({self.kind}=1.5, unit=...), or None for no limit"
            )
        return number


def _unit(kind: Kind, unit: object) -> str | None:
    """The unit by its name, with the default filled in."""
    if unit is None:
        return "tokens" if kind in ("cap", "mean") else None
    if kind in ("max_loss", "max_broken"):
        raise BudgetError(f"a {kind} is in score and has no unit, was: unit={shown(unit)}; leave it out")
    if not is_name(unit):
        raise BudgetError(
            "a budget's unit must be a printable name without spaces around it, such as 'tokens', 'tflops', 'ms' or "
            f"the name that a table gives its costs, was: {shown(unit)}"
        )
    return str(unit)
