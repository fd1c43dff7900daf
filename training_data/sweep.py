"""The sweep: every example answered at every m of a ladder, once, into an outcomes file that survives any kill.

One vision pass per picture, every m from shared work, one transaction per batch. Knows examples, a backbone and a
store. Chooses no m and draws no conclusion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from encoders import features
from encoders.counts import whole_number
from encoders.errors import DataError, shown
from encoders.llava import NestedLlava
from training_data import store
from training_data.example import Example
from training_data.measurement import Measurement, encode, tokens_read
from training_data.opening import Numbered, opened_batches, picture_key
from training_data.replicates import reordered
from training_data.sources import fingerprint
from training_data.store import Store
from training_data.tables import is_table

BATCH = 32
_WINDOW = 8  # batches whose examples are ordered by width


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
    source: Mapping[str, Any] | None = None,
) -> Path:
    """Measure every example at every m and write the outcomes file; run it again after a kill and it goes on.

    Records per (example, m): answer, score, its log-probability, the first token's three largest log-probabilities and
    entropy, the gold answers' log-probability, with choices the margin of the right one, tokens and cost. Per example:
    question, group, dataset, meta and visual features. An example that cannot be measured (an unreadable picture, a
    question too long) is recorded with its reason and costs nothing else; run again, the sweep tries it again.

    Args:
        backbone: the model to measure.
        examples: anything that can be gone through more than once; ids must differ.
        out: the SQLite file; where it exists, it must have been begun with the same backbone, ladder, examples and
            settings.
        ladder: m to measure, ascending; the backbone's own by default.
        replicates: passes over the examples; those behind the first see harmlessly changed pictures.
        batch_size: questions per batch, and per transaction; a batch runs on to the end of a picture's questions, up to
            twice as many.
        max_new_tokens: length of answers; the backbone's own by default.
        workers: processes that open pictures; by default half of the processors, at least one.
        on_failure: told the id and reason of each example that could not be measured.
        source: how `sources.open_data` was asked for the examples, kept in the file so that `analyse` finds their
            pictures; may differ from run to run.

    Raises:
        DataError: the file was begun with something else, another process writes to it, examples break their rules, or
            none of them has a gold answer.
    """
    if is_table(Path(out)):
        raise DataError(
            f"a sweep writes SQLite, was: {Path(out).name!r}; name it .sqlite, and save a table from it later"
        )
    rungs = [backbone.check_m(m) for m in (backbone.ladder if ladder is None else ladder)]
    if sorted(set(rungs)) != rungs or len(rungs) < 2:
        raise DataError(f"a sweep needs two or more rising m, was: {rungs}")
    for name, value in (("replicates", replicates), ("batch_size", batch_size), ("workers", workers)):
        if value is not None and ((number := whole_number(value)) is None or number < 1):
            raise DataError(f"{name} must be a whole number of at least 1, was: {shown(value)}")
    digest, count = fingerprint(examples)
    _check_gold(examples, count)
    manifest = {
        "arms": [str(m) for m in rungs],
        "m": rungs,
        "unit": "tflops",
        "backbone": [backbone.name, backbone.fingerprint],
        "dtype": str(backbone.dtype),
        "tokenizer": _tokenizer_digest(backbone),
        "features": _about_features(backbone),
        "data": digest,
        "replicates": replicates,
        "max_new_tokens": backbone.decoding(max_new_tokens).max_new_tokens,
    }
    measure, width = Measurement(backbone, rungs, max_new_tokens), partial(tokens_read, backbone)
    with Store(Path(out), manifest, {} if source is None else {"source": dict(source)}) as file:
        done = [file.done(replicate) for replicate in range(replicates)]
        there, what = sum(map(len, done)), f"sweep {backbone.name}"
        total, measured = file.scores()
        batches = [_batches(examples, done[turn], batch_size, turn, width) for turn in range(replicates)]
        opened_in_turn = (
            (replicate, *opened)
            for replicate, own in enumerate(batches)
            for opened in opened_batches(own, backbone.preparation, replicate, workers)
        )
        with tqdm(total=count * replicates, initial=there, desc=what, unit=" examples", mininterval=1) as bar:
            for replicate, batch, opened in opened_in_turn:
                result = measure(batch, opened, replicate)
                file.add(result.examples, result.measurements, result.failures)
                if on_failure is not None:
                    for failure in result.failures:
                        on_failure(failure["id"], failure["reason"])
                bar.update(len(batch))
                for row in result.measurements:
                    total[row["arm"]] += row["score"]
                measured += len(result.examples)
                shares = (f"{m}:{score / max(1, measured):.3f}" for m, score in zip(rungs, total, strict=True))
                bar.set_postfix_str(" ".join(shares))
        file.finish()
    return Path(out)


def _about_features(backbone: NestedLlava) -> dict[str, Any]:
    """What a manifest says of features: version, columns, and what making them costs."""
    names = list(features.feature_names(backbone))
    return {"version": features.VERSION, "names": names, "tflops": features.tflops(backbone)}


def _tokenizer_digest(backbone: NestedLlava) -> str:
    """sha256 of how the tokenizer reads text; how it pads is a caller's affair and may change meanwhile."""
    said = json.loads(backbone.tokenizer.backend_tokenizer.to_str())
    lasting = {key: value for key, value in said.items() if key not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def _check_gold(examples: Iterable[Example], count: int) -> None:
    if not any(example.answers for example in examples):
        raise DataError(
            f"a sweep scores what it measures, so examples need gold answers, was: none in {count:,} examples; give "
            "them answers (with metric 'likelihood' where nothing is right or wrong), or import a judge's grades with "
            "`matryoshka-router import table`"
        )


def _batches(
    examples: Iterable[Example], done: set[int], size: int, replicate: int, width: Callable[[Example], int]
) -> Iterator[list[Numbered]]:
    """Blocks of examples of like width without those that are done; in replicates, with choices in another order.

    Blocks are cut before the done ones are dropped: batches do not depend on where a run was killed, and neither do the
    last digits of what is computed in them.
    """
    for window in _blocks(_neighbours(examples), _WINDOW * size):
        for block in _blocks(by_width(window, width), size):
            if left := [(number, reordered(example, replicate)) for number, example in block if number not in done]:
                yield left


def by_width(window: Sequence[Numbered], width: Callable[[Example], int]) -> list[Numbered]:
    """Pictures by the tokens that their questions take to read: a batch is as wide as the widest of its rows."""
    pictures = [list(own) for _, own in groupby(window, key=lambda numbered: picture_key(numbered[1]))]
    ordered = sorted(pictures, key=lambda asked: max(width(example) for _, example in asked))
    return [numbered for own in ordered for numbered in own]


def _blocks(numbered: Iterable[Numbered], size: int) -> Iterator[list[Numbered]]:
    """Blocks of `size`, each run on to the end of its last picture's questions, for they share its vision pass.

    Never beyond twice the size: a batch must fit in memory.
    """
    block: list[Numbered] = []
    for number, example in numbered:
        full = len(block) >= size and picture_key(example) != picture_key(block[-1][1])
        if full or len(block) == 2 * size:
            yield block
            block = []
        block.append((number, example))
    if block:
        yield block


def _neighbours(examples: Iterable[Example]) -> Iterator[Numbered]:
    """Examples with their numbers; of a sequence, those about one picture side by side, for they share its pass."""
    if not isinstance(examples, Sequence):
        yield from enumerate(examples)
        return
    first: dict[object, int] = {}
    place = [first.setdefault(picture_key(example), number) for number, example in enumerate(examples)]
    for number in sorted(range(len(examples)), key=lambda number: (place[number], number)):
        yield number, examples[number]


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
    rows: list[tuple[int, int, np.ndarray]] = []
    width = partial(tokens_read, backbone)
    with Store(path, wanted) as file, tqdm(total=count * kept["replicates"], desc="features", unit=" examples") as bar:
        for replicate in range(kept["replicates"]):
            for batch, opened in opened_batches(
                _batches(examples, set(), BATCH, replicate, width), backbone.preparation, replicate, workers
            ):
                there = [k for k, picture in enumerate(opened) if picture.pixels is not None]
                if there:
                    asked = [batch[k][1].question for k in there]
                    _, columns = encode(backbone, [opened[k] for k in there], asked)
                    rows += [(batch[k][0], replicate, row) for k, row in zip(there, columns, strict=True)]
                bar.update(len(batch))
        file.replace_features(_about_features(backbone), rows)
