"""`answer_batch`: many questions under one budget, the plain correct way.

Decides for all that share a budget, groups them by m, answers, and hands answers back in input order. Knows neither
how an m is chosen nor how it is spent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.errors import BudgetError, DataError, MatryoshkaError
from encoders.prompts import check_question
from router.answering import Answer, answered, check_cap, loaded, rule_for
from router.budget import Budget
from router.decision import Decision, Rule
from training_data.example import Example

if TYPE_CHECKING:
    from encoders.backbone import NestedBackbone


@dataclass(frozen=True)
class Unanswered:
    """A question that could not be answered, and why."""

    id: str
    reason: str


def answer_batch(
    examples: Iterable[Example | tuple[Any, str]],
    budget: int | Budget | None = None,
    *,
    backbone: str | Path | NestedBackbone = "nano-mqt",
    router: str | Path | Rule | None = None,
    batch_size: int = 32,
) -> Iterator[Answer | Unanswered]:
    """Answer many questions, in input order; a bad row comes back as `Unanswered` and costs only itself.

    Under `Budget(mean=...)` easy questions fund hard ones: all are looked at before the first is answered, and their
    patches are held in memory until then. Every other budget is decided question by question, as `answer` does.

    Args:
        examples: Examples, or pairs of a picture (as `answer` takes it, but not encoded) and a question.
        budget: as `answer` takes it; a mean holds over all the questions.
        backbone: as `answer` takes it.
        router: as `answer` takes it.
        batch_size: questions that go through the model at once.

    Raises:
        BudgetError: the budget cannot be met by any question of a batch; one that alone cannot meet its cap is a bad
            row. BackboneError: the router was fitted for another backbone.
        DataError: a row is neither an Example nor a pair, or batch_size is not positive.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, was: {batch_size}")
    limit, model = Budget.of(budget), loaded(backbone)
    rule = rule_for(model, router)
    shared = limit is not None and limit.mean is not None
    if shared and not hasattr(rule, "decide_together"):
        raise BudgetError(f"a mean is shared out by a router, was: {limit} without one; fit one, or give a cap")
    return _answers(_examples(examples), limit, model, rule, batch_size, shared)


def _answers(
    examples: Iterator[Example],
    limit: Budget | None,
    model: NestedBackbone,
    rule: Any,
    batch_size: int,
    shared: bool,
) -> Iterator[Answer | Unanswered]:
    while wave := list(examples if shared else islice(examples, batch_size)):
        results: dict[int, Answer | Unanswered] = {}
        places: list[list[int]] = []
        parts: list[tuple[Any, list[str]]] = []
        for start in range(0, len(wave), batch_size):
            rows, encoded = _encoded(model, wave, range(start, min(start + batch_size, len(wave))), results, shared)
            if rows:
                places.append(rows)
                parts.append((encoded, [wave[row].question for row in rows]))
        if parts:
            ids = [wave[row].id for part in places for row in part]
            decisions = _decisions(rule, model, parts, limit, ids, shared)
            results |= _answered(model, places, parts, decisions, ids, limit)
        yield from (results[row] for row in range(len(wave)))


def _encoded(
    model: Any, wave: Sequence[Example], rows: Iterable[int], results: dict[int, Answer | Unanswered], shared: bool
) -> tuple[list[int], Any]:
    """(the rows whose pictures could be read, these encoded); the others are entered into the results."""
    good, pictures = [], []
    for row in rows:
        try:
            question = check_question(wave[row].question)
            if shared:  # what fits at no m will not be answered, and must not fund the others
                text = len(model.prefix_ids) + len(model.suffix_ids(question))
                model.check_length(text + model.ladder[0] + model.decoding(None).max_new_tokens)
            pictures.append(_opened(wave[row]))
            good.append(row)
        except MatryoshkaError as error:
            results[row] = Unanswered(wave[row].id, str(error))
    return good, model.encode(pictures) if good else None


def _opened(example: Example) -> Any:
    from encoders.images import open_image

    return open_image(example.picture())


def _decisions(
    rule: Any,
    model: NestedBackbone,
    parts: Sequence[tuple[Any, list[str]]],
    limit: Budget | None,
    ids: Sequence[str],
    shared: bool,
) -> list[Decision | BudgetError]:
    if shared:
        return list(rule.decide_together(model, parts, limit, ids))
    return [decision for encoded, questions in parts for decision in _each(rule, model, encoded, questions, limit)]


def _each(
    rule: Any, model: NestedBackbone, encoded: Any, questions: Sequence[str], limit: Budget | None
) -> list[Decision | BudgetError]:
    """A decision per question, or why it alone can have none; the error itself where none has one."""
    try:
        return list(rule.decide(model, encoded, questions, limit))
    except BudgetError:
        found: list[Decision | BudgetError] = []
        for row, question in enumerate(questions):
            try:
                found += rule.decide(model, encoded.select([row]), [question], limit)
            except BudgetError as error:
                found.append(error)
        if not any(isinstance(one, Decision) for one in found):
            raise
        return found


def _answered(
    model: NestedBackbone,
    places: Sequence[list[int]],
    parts: Sequence[tuple[Any, list[str]]],
    decisions: Sequence[Decision | BudgetError],
    ids: Sequence[str],
    limit: Budget | None,
) -> dict[int, Answer | Unanswered]:
    """Answers by row: the questions of a part that have the same m go through the model together."""
    results: dict[int, Answer | Unanswered] = {}
    waiting = iter(zip(decisions, ids, strict=True))
    for rows, (encoded, questions) in zip(places, parts, strict=True):
        own: dict[int, tuple[Decision, str]] = {}
        groups: dict[int, list[int]] = {}
        for k, (decision, name) in enumerate(islice(waiting, len(rows))):
            if isinstance(decision, BudgetError):
                results[rows[k]] = Unanswered(name, str(decision))
                continue
            own[k] = decision, name
            groups.setdefault(decision.m, []).append(k)
        for members in groups.values():
            told = _group(model, encoded, questions, members, own, limit)
            results |= {rows[k]: answer for k, answer in zip(members, told, strict=True)}
    return results


def _group(
    model: NestedBackbone,
    encoded: Any,
    questions: Sequence[str],
    members: list[int],
    own: Mapping[int, tuple[Decision, str]],
    limit: Budget | None,
) -> list[Answer | Unanswered]:
    """Answers of one group; where one of its questions cannot be asked, each is asked alone."""
    started = time.perf_counter()
    chosen, decisions = encoded.select(members), [own[k][0] for k in members]
    try:
        check_cap(model, chosen, decisions, limit)
        generations = model.generate(chosen, [questions[k] for k in members], [decision.m for decision in decisions])
    except MatryoshkaError as error:
        if len(members) == 1:
            return [Unanswered(own[members[0]][1], str(error))]
        return [told for k in members for told in _group(model, encoded, questions, [k], own, limit)]
    ms = (time.perf_counter() - started) * 1000 / len(members)
    return [
        answered(model, generation, own[k][0], True, ms) for k, generation in zip(members, generations, strict=True)
    ]


def _examples(rows: Iterable[Example | tuple[Any, str]]) -> Iterator[Example]:
    for number, row in enumerate(rows):
        if isinstance(row, Example):
            yield row
        elif isinstance(row, tuple) and len(row) == 2:
            yield Example(str(number), row[0], row[1], (), str(number), "")
        else:
            raise DataError(f"a batch holds Examples or (picture, question), was: {type(row).__name__} at {number}")
