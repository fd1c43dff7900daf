"""`answer_batch`: many questions under one budget, the plain correct way.

Decides for all that share a budget, groups them by m, answers, and hands answers back in input order. Knows neither
how an m is chosen nor how it is spent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.counts import whole_number
from encoders.errors import BudgetError, DataError, MatryoshkaError
from encoders.prompts import check_question
from router.answering import Answer, answered, check_cap, loaded, rule_for
from router.budget import Budget
from router.decision import Decision, Rule
from router.spending import check_has
from training_data.example import Example

if TYPE_CHECKING:
    from encoders.backbone import NestedBackbone

_PAIR = "a pair's group: it names no picture"
_SHARING = ("text_tokens", "check_length", "decoding", "from_patches", "device")  # asked of a backbone beside the rest
_TRIED = 32  # questions that must all miss a budget before it is the budget's fault and not theirs


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

    Under `Budget(mean=...)` easy questions fund hard ones: all are looked at before the first is answered, and until
    then the patches of their pictures are held in memory, not their pixels. Every other budget is decided question by
    question, as `answer` does.

    Args:
        examples: Examples, or pairs of a picture (as `answer` takes it, but not encoded) and a question. The id of a
            pair is its place in the input, "0" for the first. Among questions that gain alike from a shared mean a hash
            decides who goes first: of data set, id and question, or of a pair's picture and question, so that no order
            of the input changes an answer.
        budget: as `answer` takes it. A mean holds over all the questions: in tokens, never exceeded; in other units,
            with answers of typical length, for how long an answer will be is not known.
        backbone: as `answer` takes it.
        router: as `answer` takes it.
        batch_size: questions that go through the model at once.

    Raises:
        BudgetError: a mean that all together cannot meet; any other budget that none of the first 32 questions meets,
            or none of all. One that alone cannot meet its cap is a bad row.
        BackboneError: the router was fitted for another backbone, or a backbone of your own cannot share a mean.
        DataError: a row is neither an Example nor a pair, or batch_size is no whole number of at least 1.
    """
    if (size := whole_number(batch_size)) is None or size < 1:
        raise DataError(f"batch_size must be a whole number of at least 1, was: {batch_size!r}")
    limit, model = Budget.of(budget), loaded(backbone)
    rule: Any = rule_for(model, router)
    shared = limit is not None and limit.mean is not None
    if shared:
        if not hasattr(rule, "decide_together"):
            raise BudgetError(f"a mean is shared out by a router, was: {limit} without one; fit one, or give a cap")
        check_has(model, _SHARING, "to share a mean", "give every question a cap")
    if isinstance(examples, str | bytes) or not isinstance(examples, Iterable):
        raise DataError(
            f"examples must be Examples or pairs of a picture and a question, was: {type(examples).__name__}; for "
            "one question use answer, for a file `training_data.readers.read_own`"
        )
    rows = _examples(examples)
    batches = (_opened(model, some, shared) for some in iter(lambda: list(islice(rows, size)), []))
    return (_together if shared else _alone)(batches, limit, model, rule)


@dataclass
class _Batch:
    """Rows that go through the model at once: `errors` by row, and those that can be asked, alike in order.

    `names` settle ties under a shared mean: the ids, or of a pair, which has none, what it asks. `ms` is what opening,
    seeing and deciding took, all rows together.
    """

    ids: list[str]
    names: list[str] = field(default_factory=list)
    errors: dict[int, Unanswered] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    encoded: Any = None
    ms: float = 0.0


def _opened(model: Any, examples: Sequence[Example], shared: bool) -> _Batch:
    from encoders.images import open_image

    started, batch, pictures = time.perf_counter(), _Batch([example.id for example in examples]), []
    for row, example in enumerate(examples):
        try:
            question = check_question(example.question)
            if shared:  # what fits at no m will not be answered, and must not fund the others
                least = model.text_tokens(question) + model.ladder[0]
                model.check_length(least + model.decoding(None).max_new_tokens)
            picture = open_image(example.picture())
        except MatryoshkaError as error:
            batch.errors[row] = Unanswered(example.id, str(error))
        else:
            pictures.append(picture)
            batch.rows.append(row)
            batch.questions.append(question)
            if shared:
                batch.names.append(_name(example, picture, question))
    batch.encoded = model.encode(pictures) if pictures else None
    batch.ms = _since(started)
    return batch


def _alone(
    batches: Iterator[_Batch], limit: Budget | None, model: NestedBackbone, rule: Any
) -> Iterator[Answer | Unanswered]:
    """Every question decided for itself; while the budget has been met by none, results are held back."""
    held: list[Answer | Unanswered] = []
    met, refused, first = False, 0, None
    for batch in batches:
        started = time.perf_counter()
        decisions, error = _each(rule, model, batch, limit)
        batch.ms += _since(started)
        met = met or any(isinstance(decision, Decision) for decision in decisions)
        first, refused = first or error, refused + len(decisions)
        if first is not None and not met and refused >= _TRIED:
            raise first
        held += _answers(model, batch, decisions, limit)
        if first is None or met:
            yield from held
            held.clear()
    if first is not None and not met:
        raise first


def _each(
    rule: Any, model: NestedBackbone, batch: _Batch, limit: Budget | None
) -> tuple[list[Decision | BudgetError], BudgetError | None]:
    """(a decision per question, or why it alone can have none; the error of all together)."""
    if not batch.rows:
        return [], None
    try:
        return list(rule.decide(model, batch.encoded, batch.questions, limit)), None
    except BudgetError as together:
        found: list[Decision | BudgetError] = []
        for row, question in enumerate(batch.questions):
            try:
                found += rule.decide(model, batch.encoded.select([row]), [question], limit)
            except BudgetError as error:
                found.append(error)
        return found, together


def _together(batches: Iterator[_Batch], limit: Budget | None, model: Any, rule: Any) -> Iterator[Answer | Unanswered]:
    """All questions decided at once, then answered batch by batch."""
    started, parts = time.perf_counter(), _Parts(batches, model)
    decisions = iter(rule.decide_together(model, parts, limit, parts.names) if any(parts) else ())
    deciding = _since(started) - sum(batch.ms for batch in parts.batches)
    for batch in parts.batches:
        batch.ms += deciding * len(batch.rows) / max(1, len(parts.names))
        if batch.rows:
            batch.encoded = _patches_alone(model, batch.encoded, model.device)
        yield from _answers(model, batch, list(islice(decisions, len(batch.rows))), limit)
        batch.encoded = None


class _Parts:
    """(encoded, questions) of each batch that shares a mean, opened when somebody first comes to it.

    Who decides looks at a part before taking the next: by then its pixels may go, and its patches wait beside the
    accelerator. `names` grows along, so that it is whole once all parts were gone through.
    """

    def __init__(self, batches: Iterator[_Batch], model: Any) -> None:
        self.batches: list[_Batch] = []
        self.names: list[str] = []
        self._coming, self._model = batches, model

    def __iter__(self) -> Iterator[tuple[Any, list[str]]]:
        place = 0
        while place < len(self.batches) or self._another():
            batch = self.batches[place]
            place += 1
            if batch.rows:
                yield batch.encoded, batch.questions
                batch.encoded = _patches_alone(self._model, batch.encoded, "cpu")

    def _another(self) -> bool:
        batch = next(self._coming, None)
        if batch is None:
            return False
        self.batches.append(batch)
        self.names += batch.names
        return True


def _name(example: Example, picture: Any, question: str) -> str:
    """What settles ties, wherever in the input it stands: ids start anew in every data set, and a pair has none."""
    if example.group != _PAIR:
        return "\0".join((example.dataset, example.id, question))
    return blake2b(picture.tobytes() + question.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _patches_alone(model: Any, encoded: Any, device: Any) -> Any:
    return model.from_patches(encoded.patches.to(device))


def _answers(
    model: NestedBackbone, batch: _Batch, decisions: Sequence[Decision | BudgetError], limit: Budget | None
) -> list[Answer | Unanswered]:
    """Answers by row: the questions of a batch that have the same m go through the model together."""
    results: dict[int, Answer | Unanswered] = {**batch.errors}
    groups: dict[int, dict[int, Decision]] = {}
    for place, decision in enumerate(decisions):
        if isinstance(decision, BudgetError):
            results[batch.rows[place]] = Unanswered(batch.ids[batch.rows[place]], str(decision))
        else:
            groups.setdefault(decision.m, {})[place] = decision
    for group in groups.values():
        results |= zip((batch.rows[place] for place in group), _group(model, batch, group, limit), strict=True)
    return [results[row] for row in range(len(batch.ids))]


def _group(
    model: NestedBackbone, batch: _Batch, group: dict[int, Decision], limit: Budget | None
) -> list[Answer | Unanswered]:
    """Answers of questions by their places in a batch; where one of them cannot be asked, each is asked alone."""
    started = time.perf_counter()
    chosen, decisions = batch.encoded.select(list(group)), list(group.values())
    try:
        check_cap(model, chosen, decisions, limit)
        questions = [batch.questions[place] for place in group]
        generations = model.generate(chosen, questions, [decision.m for decision in decisions])
    except MatryoshkaError as error:
        if len(group) == 1:
            return [Unanswered(batch.ids[batch.rows[place]], str(error)) for place in group]
        alone = ({place: decision} for place, decision in group.items())
        return [told for one in alone for told in _group(model, batch, one, limit)]
    ms = _since(started) / len(group) + batch.ms / len(batch.rows)
    return [
        answered(model, generation, decision, True, ms)
        for generation, decision in zip(generations, decisions, strict=True)
    ]


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _examples(rows: Iterable[Example | tuple[Any, str]]) -> Iterator[Example]:
    for number, row in enumerate(rows):
        if isinstance(row, Example):
            yield row
        elif isinstance(row, tuple) and len(row) == 2:
            yield Example(str(number), row[0], row[1], (), _PAIR, "")
        else:
            raise DataError(f"a batch holds Examples or (picture, question), was: {type(row).__name__} at {number}")
