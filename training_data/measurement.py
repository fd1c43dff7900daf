"""What a backbone says to a batch of examples at every m of a ladder: the rows of an outcomes file.

Knows a backbone, examples and columns. Knows no file, and no batch but the one at hand.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders import features
from encoders.backbone import Generation
from encoders.encoded import LlavaImages
from encoders.errors import DataError, MatryoshkaError
from encoders.llava import NestedLlava
from training_data.example import Example
from training_data.opening import Numbered, Opened
from training_data.scores import LETTERS, LIKELIHOOD, Scored, check_scorable, score


@dataclass(frozen=True)
class Measured:
    """The rows that a batch adds to the store."""

    examples: list[dict[str, Any]]
    measurements: list[dict[str, Any]]
    failures: list[dict[str, Any]]

    def extend(self, more: Measured) -> None:
        """Add another part's rows."""
        self.examples.extend(more.examples)
        self.measurements.extend(more.measurements)
        self.failures.extend(more.failures)


class Measurement:
    """Asks a backbone about batches; a batch that does not fit in memory is halved, and later ones with it."""

    def __init__(self, backbone: NestedLlava, rungs: Sequence[int], max_new_tokens: int | None) -> None:
        self._backbone, self._rungs, self._max_new_tokens = backbone, rungs, max_new_tokens
        self._cost = functools.cache(backbone.counted_cost)  # few lengths come again and again
        self._most = 2**30

    def __call__(self, batch: Sequence[Numbered], opened: Sequence[Opened], replicate: int) -> Measured:
        result, readable = Measured([], [], []), []
        for row, picture in enumerate(opened):
            if reason := picture.reason if picture.pixels is None else _unscorable(batch[row][1]):
                result.failures.append(_failure(batch[row], replicate, reason))
            else:
                readable.append(row)
        start = 0
        while start < len(readable):
            rows = readable[start : start + self._most]
            part = [batch[row] for row in rows], [opened[row] for row in rows]
            try:
                result.extend(self._measure(*part, replicate))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if len(rows) > 1:
                    self._most = len(rows) // 2
                    continue
                result.failures.append(_failure(batch[rows[0]], replicate, f"out of memory: {error}"))
            start += len(rows)
        return result

    def _measure(self, batch: Sequence[Numbered], opened: Sequence[Opened], replicate: int) -> Measured:
        """A batch's rows; where one of its examples cannot be asked or scored, each is measured alone."""
        result = Measured([], [], [])
        try:
            answers, golds, columns = self._ask([example for _, example in batch], opened)
            for (number, example), generations, gold, values in zip(batch, answers, golds, columns, strict=True):
                key = {"number": number, "replicate": replicate}
                result.examples.append(key | _example_row(example, values))
                for arm, generation in enumerate(generations):
                    measured = self._measurement_row(example, generation, gold[arm])
                    result.measurements.append(key | {"arm": arm} | measured)
        except MatryoshkaError as error:
            if len(batch) == 1:
                return Measured([], [], [_failure(batch[0], replicate, str(error))])
            result = Measured([], [], [])
            for row in range(len(batch)):
                result.extend(self._measure(batch[row : row + 1], opened[row : row + 1], replicate))
        return result

    def _ask(
        self, examples: Sequence[Example], opened: Sequence[Opened]
    ) -> tuple[list[list[Generation]], list[list[dict[str, float]]], np.ndarray]:
        questions, wanted = [example.question for example in examples], [_candidates(example) for example in examples]
        encoded, columns = encode(self._backbone, opened, questions)
        answers, scores = self._backbone.measure_ladder(encoded, questions, wanted, self._rungs, self._max_new_tokens)
        golds = [
            self._gold_columns(example, dict(zip(texts, table, strict=True)))
            for example, texts, table in zip(examples, wanted, scores, strict=True)
        ]
        return answers, golds, columns

    def _gold_columns(self, example: Example, found: dict[str, np.ndarray]) -> list[dict[str, float]]:
        """Per rung: log-probability of any gold answer, of the right choice over the best other, likelihood a token."""
        golds = list(dict.fromkeys(example.answers))
        gold = np.logaddexp.reduce([found[text] for text in golds], axis=0)
        columns = [{"gold_logprob": min(0.0, float(value))} for value in gold]
        others = [found[text] for text in _alternatives(example) if text not in example.answers]
        if others:
            margins = gold - np.max(others, axis=0)
            columns = [column | {"margin": float(margin)} for column, margin in zip(columns, margins, strict=True)]
        if example.metric == LIKELIHOOD:
            per_token = np.max([found[text] / len(self._backbone.answer_ids(text)) for text in golds], axis=0)
            likely = [{LIKELIHOOD: math.exp(min(0.0, float(value)))} for value in per_token]
            columns = [column | more for column, more in zip(columns, likely, strict=True)]
        return columns

    def _measurement_row(self, example: Example, generation: Generation, gold: dict[str, float]) -> dict[str, Any]:
        likely = gold.pop(LIKELIHOOD, 0.0)
        scored = Scored(likely) if example.metric == LIKELIHOOD else score(generation.text, example)
        cost = self._cost(generation.visual_tokens, generation.text_tokens, generation.new_tokens)
        top = [*generation.top_logprobs, None, None, None]
        return {
            "text": generation.text,
            "score": scored.value,
            "parsed": int(scored.parsed),
            "confidence": generation.logprob,
            **dict(zip(("top1", "top2", "top3"), top, strict=False)),
            "entropy": generation.entropy,
            "new_tokens": generation.new_tokens,
            "visual_tokens": generation.visual_tokens,
            "text_tokens": generation.text_tokens,
            "cost": cost.tflops,
            "kv_bytes": cost.kv_bytes,
            **gold,
        }


def encode(backbone: NestedLlava, opened: Sequence[Opened], questions: Sequence[str]) -> tuple[LlavaImages, np.ndarray]:
    """(the rows' pictures, each after one vision pass however many rows show it, and the rows' visual features)."""
    pictures = list({id(picture): picture for picture in opened}.values())
    row_of = {id(picture): row for row, picture in enumerate(pictures)}
    encoded = backbone.encode_prepared([p.pixels for p in pictures if p.pixels is not None])
    statistics = [p.statistics for p in pictures if p.statistics is not None]
    encoded.tokens(backbone.ladder[-1])  # prepared before the rows are spread
    shown = features.picture_features(backbone, encoded, statistics)
    rows = [row_of[id(picture)] for picture in opened]
    spread = encoded.select(rows)
    return spread, np.concatenate([shown[rows], features.match_features(backbone, spread, questions)], axis=1)


def tokens_read(backbone: NestedLlava, example: Example) -> int:
    """About how many tokens a pass reads of an example: its question, given answers, a draft as long as the longest.

    0 where they cannot be read: that is told when they are asked.
    """
    try:
        answers = [len(backbone.answer_ids(answer)) for answer in _candidates(example)]
        return len(backbone.suffix_ids(example.question)) + sum(answers) + max(answers, default=0)
    except MatryoshkaError:
        return 0


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "alloc" in str(error).lower()


def _unscorable(example: Example) -> str:
    """Why no answer to an example can be scored, before any is asked for; empty where it can."""
    try:
        check_scorable(example)
    except DataError as error:
        return str(error)
    return ""


def _failure(numbered: Numbered, replicate: int, reason: str) -> dict[str, Any]:
    number, example = numbered
    return {"number": number, "replicate": replicate, "id": example.id, "reason": reason}


def _example_row(example: Example, values: np.ndarray) -> dict[str, Any]:
    said = {name: getattr(example, name) for name in ("id", "group", "dataset", "question")}
    meta = json.dumps(dict(example.meta), default=str, sort_keys=True)
    return {**said, "meta": meta, "features": values.astype("<f4").tobytes()}


def _candidates(example: Example) -> list[str]:
    """Answers whose probability is wanted: the gold ones, and where there are choices, their like."""
    return list(dict.fromkeys([*example.answers, *_alternatives(example)]))


def _alternatives(example: Example) -> tuple[str, ...]:
    """The choices as the gold answer is written: spelled out, or as letters."""
    if not example.choices:
        return ()
    letters = tuple(LETTERS[: len(example.choices)])
    return letters if set(example.answers) <= set(letters) else example.choices
