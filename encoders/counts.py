"""What counts as a count: the one place that tells whole numbers from what only looks like them.

Knows Python's and NumPy's numbers. Imports nothing.
"""

from __future__ import annotations

import operator

from encoders.errors import BackboneError, shown


def whole_number(value: object) -> int | None:
    """`value` as an int where it is one (NumPy's included); None for bool, float, str and everything else."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def positive(name: str, value: object) -> int:
    """`value` as a whole number of at least 1.

    Raises:
        BackboneError: it is none.
    """
    number = whole_number(value)
    if number is None or number < 1:
        raise BackboneError(f"{name} must be a whole number of at least 1, was: {shown(value)}")
    return number
