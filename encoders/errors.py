"""Every error this library raises on purpose.

    MatryoshkaError
    |-- BudgetError      (ValueError)   a budget or an m that cannot be spent
    |-- ImageError       (ValueError)   a picture that cannot be read
    |-- QuestionError    (ValueError)   a question that cannot be asked
    |-- BackboneError    (ValueError)   a backbone that is unknown, or a model folder that is damaged or incomplete
    `-- DataError        (ValueError)   examples, labels or tables that break their format

Each message states the rule, the value received and the remedy. All are ValueErrors too, so that callers who know
nothing of this library catch them where they catch bad input.
"""

from __future__ import annotations

_LONGEST = 200


class MatryoshkaError(Exception):
    """Base of every error raised on purpose by encoders, training_data and router."""


class BudgetError(MatryoshkaError, ValueError):
    """A budget or an m breaks its rule."""


class ImageError(MatryoshkaError, ValueError):
    """A picture cannot be read."""


class QuestionError(MatryoshkaError, ValueError):
    """A question cannot be asked."""


class BackboneError(MatryoshkaError, ValueError):
    """A backbone is unknown, or its folder is damaged, incomplete or of another kind."""


class DataError(MatryoshkaError, ValueError):
    """Examples, labels or tables break their format."""


def shown(value: object) -> str:
    """What was received, for a message: its repr, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # a stranger's repr may raise anything, and Python writes no integer of 5000 digits
        return f"a value of type {type(value).__name__} that cannot be written out"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
