"""Spend visual tokens by need: ask a nested vision-language model within a budget."""

from encoders.errors import BackboneError, BudgetError, DataError, ImageError, MatryoshkaError, QuestionError
from router.answering import Answer, answer
from router.batching import Unanswered, answer_batch
from router.budget import Budget
from router.certificate import Certificate
from router.decision import Decision
from router.evaluation_record import Evaluation
from router.routing import Router

__all__ = [
    "Answer",
    "BackboneError",
    "Budget",
    "BudgetError",
    "Certificate",
    "DataError",
    "Decision",
    "Evaluation",
    "ImageError",
    "MatryoshkaError",
    "QuestionError",
    "Router",
    "Unanswered",
    "answer",
    "answer_batch",
]
