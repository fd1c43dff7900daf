"""Spend visual tokens by need: ask a nested vision-language model within a budget."""

from encoders.errors import BackboneError, BudgetError, DataError, ImageError, MatryoshkaError, QuestionError
from router.answering import Answer, answer
from router.budget import Budget

__all__ = [
    "Answer",
    "BackboneError",
    "Budget",
    "BudgetError",
    "DataError",
    "ImageError",
    "MatryoshkaError",
    "QuestionError",
    "answer",
]
