"""The sweep: every example answered at every m of a ladder, once, into an outcomes file that survives any kill.

One vision pass per picture, every m from shared work, one transaction per batch. Knows examples, a backbone and a
store. Chooses no m and draws no conclusion.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from encoders import features
from encoders.backbone import Generation
from encoders.errors import DataError, ImageError, MatryoshkaError
from encoders.images import Preparation, open_image
from encoders.llava import LlavaImages, NestedLlava
from encoders.pixels import pixel_statistics
from training_data import store
from training_data.example import Example, Source
from training_data.replicates import disturbed, replicate_of
from training_data.scores import score
from training_data.store import Store
from training_data.tables import is_table

BATCH = 32
Numbered = tuple[int, Example]


def sweep(
    backbone: NestedLlava,
    examples: Iterable[Example],
    out: str | Path,
    *,
    ladder: Sequence[int] | None = None,
    replicates: int = 1,
    batch_size: int = BATCH,
    max_new_tokens: int | None = None,
    workers: int | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Path:
    """Measure every example at every m and write the outcomes file; run it again after a kill and it goes on.

    Records per (example, m): answer, score, its log-probability, the first token's three largest log-probabilities and
    entropy, the gold answers' log-probability, with choices the margin of the right one, tokens and cost. Per example:
    question, group, dataset, meta and visual features. An example that cannot be measured (an unreadable picture, a
    question too long) is recorded with its reason and costs nothing else.

    Args:
        backbone: the model to measure.
        examples: anything that can be gone through more than once; ids must differ.
        out: the SQLite file; where it exists, it must have been begun with the same backbone, ladder, examples and
            settings.
        ladder: m to measure, ascending; the backbone's own by default.
        replicates: passes over the examples; those behind the first see harmlessly changed pictures.
        batch_size: questions per batch, and per transaction.
        max_new_tokens: length of answers; the backbone's own by default.
        workers: processes that open pictures; by default half of the processors, at least one.
        on_failure: told the id and reason of each example that could not be measured.

    Raises:
        DataError: the file was begun with something else, another process writes to it, or examples break their rules.
    """
    if is_table(Path(out)):
        raise DataError(
            f"a sweep writes SQLite, was: {Path(out).name!r}; name it .sqlite, and save a table from it later"
        )
    rungs = list(backbone.ladder if ladder is None else ladder)
    if sorted(set(rungs)) != rungs or len(rungs) < 2:
        raise DataError(f"a sweep needs two or more rising m, was: {rungs}")
    for name, value in (("replicates", replicates), ("batch_size", batch_size)):
        if value < 1:
            raise DataError(f"{name} must be at least 1, was: {value}")
    for m in rungs:
        backbone.check_m(m)
    digest, count = fingerprint(examples)
    manifest = {
        "arms": [str(m) for m in rungs],
        "m": rungs,
        "unit": "tflops",
        "backbone": [backbone.name, backbone.fingerprint],
        "features": {"version": features.VERSION, "names": list(features.feature_names(backbone))},
        "data": digest,
        "replicates": replicates,
        "max_new_tokens": max_new_tokens or backbone.config.max_new_tokens,
    }
    measure = _Measurement(backbone, rungs, max_new_tokens)
    processes = workers or max(1, (os.cpu_count() or 2) // 2)
    with Store(Path(out), manifest) as file:
        bar = tqdm(total=count * replicates, desc=f"sweep {backbone.name}", unit=" examples", mininterval=1)
        total, measured = file.scores()
        for replicate in range(replicates):
            done = file.done(replicate)
            bar.update(len(done))
            batches = _batches(examples, done, batch_size)
            for batch, opened in _opened(batches, backbone.preparation, replicate, processes):
                result = measure(batch, opened, replicate)
                file.add(result.examples, result.measurements, result.failures)
                for failure in result.failures if on_failure else ():
                    on_failure(failure["id"], failure["reason"])  # type: ignore[misc]
                bar.update(len(batch))
                for row in result.measurements:
                    total[row["arm"]] += row["score"]
                measured += len(result.examples)
                bar.set_postfix_str(
                    " ".join(f"{m}:{s / max(1, measured):.3f}" for m, s in zip(rungs, total, strict=True))
                )
        bar.close()
        file.finish()
    return Path(out)


def fingerprint(examples: Iterable[Example]) -> tuple[str, int]:
    """(sha256 over all that examples say, how many there are). Pictures count by name and folder, not by their pixels.

    Raises:
        DataError: an id comes twice, there is no example, or they can be gone through only once.
    """
    if iter(examples) is examples:
        raise DataError("examples must allow more than one pass, was: a generator; give a list")
    hasher, ids, count = hashlib.sha256(), set(), 0
    for example in examples:
        if example.id in ids:
            raise DataError(f"every example needs an id of its own, was twice: {example.id!r}")
        ids.add(example.id)
        paths = [
            "/".join(Path(source).parts[-2:]) for source in example.images if isinstance(source, str | os.PathLike)
        ]
        said = (example.id, example.question, example.answers, example.group, example.dataset, example.choices)
        hasher.update(json.dumps([*said, example.metric, paths, dict(example.meta)], default=str).encode() + b"\n")
        count += 1
    if not count:
        raise DataError("a sweep needs at least one example, was: none")
    return hasher.hexdigest(), count


def _batches(examples: Iterable[Example], done: set[int], size: int) -> Iterator[list[Numbered]]:
    """Blocks of consecutive examples without those that are done.

    Blocks are cut before the done ones are dropped: batches do not depend on where a run was killed, and neither do the
    last digits of what is computed in them.
    """
    numbered = enumerate(examples)
    while block := list(islice(numbered, size)):
        if left := [(number, example) for number, example in block if number not in done]:
            yield left


# ---- pictures, opened in worker processes


@dataclass(frozen=True)
class Opened:
    """A picture ready for the vision pass with its pixel statistics, or why it could not be opened."""

    pixels: np.ndarray | None
    statistics: np.ndarray | None
    reason: str = ""


def _opened(
    batches: Iterable[list[Numbered]], preparation: Preparation, replicate: int, processes: int
) -> Iterator[tuple[list[Numbered], list[Opened]]]:
    """Each batch with one `Opened` per example; questions about one picture share it, object and all."""
    waiting: deque[tuple[list[Numbered], list[int]]] = deque()

    def tasks() -> Iterator[Any]:
        for batch in batches:
            sources, rows = _distinct([example for _, example in batch])
            waiting.append((batch, rows))
            yield delayed(_open_all)(sources, preparation, replicate)

    pending = tasks()
    with Parallel(n_jobs=processes, return_as="generator") as pool:
        # In windows: workers that outrun the model would otherwise fill the memory with pictures.
        while window := list(islice(pending, 2 * processes)):
            for opened in pool(window):
                batch, rows = waiting.popleft()
                yield batch, [opened[row] for row in rows]


def _distinct(examples: Sequence[Example]) -> tuple[list[tuple[Source, ...]], list[int]]:
    """The different pictures of a batch, and which one each example shows."""
    sources: dict[Any, tuple[Source, ...]] = {}
    keys = [tuple(_identity(source) for source in example.images) for example in examples]
    for key, example in zip(keys, examples, strict=True):
        sources.setdefault(key, example.images)
    row_of = {key: row for row, key in enumerate(sources)}
    return list(sources.values()), [row_of[key] for key in keys]


def _identity(source: Source) -> object:
    """What tells a picture from another: itself, or where it cannot be hashed, its place in memory."""
    return source if isinstance(source, Hashable) else id(source)


def _open_all(sources: Sequence[tuple[Source, ...]], preparation: Preparation, replicate: int) -> list[Opened]:
    return [_open(source, preparation, replicate) for source in sources]


def _open(sources: tuple[Source, ...], preparation: Preparation, replicate: int) -> Opened:
    try:
        if len(sources) != 1:
            raise ImageError(f"this backbone takes one picture per question, was: {len(sources)}")
        source, redrawn = replicate_of(sources[0], replicate)
        picture = open_image(source() if callable(source) else source)
        if replicate and not redrawn:
            picture = disturbed(picture, replicate)
        return Opened(preparation(picture), pixel_statistics(picture))
    except MatryoshkaError as error:
        return Opened(None, None, str(error))


# ---- measuring


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


class _Measurement:
    """Asks a backbone about batches; a batch that does not fit in memory is halved, and later ones with it."""

    def __init__(self, backbone: NestedLlava, rungs: Sequence[int], max_new_tokens: int | None) -> None:
        self._backbone, self._rungs, self._max_new_tokens = backbone, rungs, max_new_tokens
        self._most = 2**30

    def __call__(self, batch: Sequence[Numbered], opened: Sequence[Opened], replicate: int) -> Measured:
        result = Measured([], [], [])
        readable = [row for row, picture in enumerate(opened) if picture.pixels is not None]
        for row, picture in enumerate(opened):
            if picture.pixels is None:
                result.failures.append(_failure(batch[row], replicate, picture.reason))
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
                    measured = self._measurement_row(example, generation) | gold[arm]
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
        distinct, rows, columns = _encode(self._backbone, opened)
        distinct.tokens(self._rungs[-1])  # prepared before the rows are spread
        encoded = distinct.select(rows)
        questions, wanted = [example.question for example in examples], [_candidates(example) for example in examples]
        answers, scores = self._backbone.measure_ladder(encoded, questions, wanted, self._rungs, self._max_new_tokens)
        golds = [
            _gold_columns(example, dict(zip(texts, table, strict=True)), len(self._rungs))
            for example, texts, table in zip(examples, wanted, scores, strict=True)
        ]
        return answers, golds, columns[rows]

    def _measurement_row(self, example: Example, generation: Generation) -> dict[str, Any]:
        scored = score(generation.text, example)
        cost = self._backbone.counted_cost(generation.visual_tokens, generation.text_tokens, generation.new_tokens)
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
        }


def _encode(backbone: NestedLlava, opened: Sequence[Opened]) -> tuple[LlavaImages, list[int], np.ndarray]:
    """(each distinct picture after its one vision pass, which of them each row shows, their visual features)."""
    pictures = list({id(picture): picture for picture in opened}.values())
    row_of = {id(picture): row for row, picture in enumerate(pictures)}
    encoded = backbone.encode_prepared([p.pixels for p in pictures if p.pixels is not None])
    statistics = [p.statistics for p in pictures if p.statistics is not None]
    columns = features.visual_features(backbone, encoded, statistics)
    return encoded, [row_of[id(picture)] for picture in opened], columns


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "alloc" in str(error).lower()


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
    letters = tuple(chr(ord("A") + k) for k in range(len(example.choices)))
    return letters if set(example.answers) <= set(letters) else example.choices


def _gold_columns(example: Example, found: dict[str, np.ndarray], rungs: int) -> list[dict[str, float]]:
    if not example.answers:
        return [{} for _ in range(rungs)]
    gold = np.logaddexp.reduce([found[text] for text in dict.fromkeys(example.answers)], axis=0)
    columns = [{"gold_logprob": min(0.0, float(value))} for value in gold]
    others = [found[text] for text in _alternatives(example) if text not in example.answers]
    if others:
        margins = gold - np.max(others, axis=0)
        columns = [column | {"margin": float(margin)} for column, margin in zip(columns, margins, strict=True)]
    return columns


def refresh_features(
    backbone: NestedLlava, examples: Iterable[Example], path: str | Path, workers: int | None = None
) -> None:
    """Put visual features of the present version into an outcomes file: one vision pass, no answer.

    Raises:
        DataError: the file was not measured with this backbone on these examples.
    """
    path, (digest, count) = Path(path), fingerprint(examples)
    about = store.manifest(path)
    kept = {key: value for key, value in about.items() if key not in ("format", "finished", "features")}
    wanted = kept | {"backbone": [backbone.name, backbone.fingerprint], "data": digest}
    processes = workers or max(1, (os.cpu_count() or 2) // 2)
    rows: list[tuple[int, int, np.ndarray]] = []
    with Store(path, wanted) as file, tqdm(total=count * kept["replicates"], desc="features", unit=" examples") as bar:
        for replicate in range(kept["replicates"]):
            for batch, opened in _opened(_batches(examples, set(), BATCH), backbone.preparation, replicate, processes):
                there = [k for k, picture in enumerate(opened) if picture.pixels is not None]
                if there:
                    _, shown, columns = _encode(backbone, [opened[k] for k in there])
                    rows += [(batch[k][0], replicate, columns[row]) for k, row in zip(there, shown, strict=True)]
                bar.update(len(batch))
        file.replace_features(features.VERSION, features.feature_names(backbone), rows)
