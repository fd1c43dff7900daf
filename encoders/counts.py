"""What counts as a count: the one place that tells whole numbers from what only looks like them.

Knows Python's and NumPy's numbers. Imports nothing.
"""

from __future__ import annotations

import operator


def whole_number(value: object) -> int | None:
    """`value` as an int where it is one (NumPy's included); None for bool, float, str and everything else."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
