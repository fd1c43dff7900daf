"""What counts as a number: the one place that tells whole and finite numbers from what only looks like them.

Knows Python's and NumPy's numbers. Imports errors alone.
"""

from __future__ import annotations

import math
import operator
from numbers import Real

from encoders.errors import BackboneError, shown


def whole_number(value: object) -> int | None:
    """`value` as an int where it is one (NumPy's included); None for bool, float, str and everything else."""
    try:
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            return None
        return operator.index(value)  # type: ignore[arg-type]
    except Exception:  # TypeError of what is none, and whatever a stranger's own methods raise
        return None


def finite_number(value: object) -> float:
    """`value` as a float where it is a finite number; NaN, which no range admits, for everything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def positive(name: str, value: object, least: int = 1) -> int:
    """`value` as a whole number of at least 1, or another `least`.

    Raises:
        BackboneError: it is none.
    """
    number = whole_number(value)
    if number is None or number < least:
        raise BackboneError(f"{name} must be a whole number of at least {least}, was: {shown(value)}")
    return number
