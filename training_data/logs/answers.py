"""Answer files in LLaVA's format, one per m, against a benchmark's own data.

Formats: `training_data.readers.llava`. Which question an answer is to: `training_data.readers.pairing`. MMBench is read
with one answer per row, not in rounds. Knows what a log needs. Knows no sum over questions (`training_data.headline`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training_data.example import Example
from training_data.headline import score_given
from training_data.logs.samples import Sample, join
from training_data.outcomes import Outcomes
from training_data.readers import read as read_benchmark
from training_data.readers.llava import Given, read_answers
from training_data.readers.pairing import none_left, pair
from training_data.rows import Tally


def read(
    benchmark: str, data: Path, files: Mapping[int, Path], split: str | None = None, tally: Tally | None = None
) -> Outcomes:
    """Outcomes of a benchmark's questions with a picture; the text is the answer as given, ids are the reader's.

    Args:
        benchmark: a key of `training_data.readers.BENCHMARKS` whose data hold gold answers.
        data: its folder; pictures need not be there.
        files: the answer file of each m.
        split: as in `training_data.readers.read`.
        tally: where it skips bad rows, it counts those of the data, those of the files, and answers to no question that
            is left; a question whose answer was bad at one m is left out at every m.

    Raises:
        DataError: files missing or damaged; an answer to no question, or to one that has been answered; a question that
            one of the files leaves out, or that was put in other words; no gold answer. By id, file and line.
    """
    tally = tally or Tally()
    reading = read_benchmark(benchmark, data, split=split, skip_bad=tally.skip_bad, pictures=False, text_only=True)
    tally.add(reading)
    samples = {m: _samples(reading.examples, path, tally) for m, path in files.items()}
    if tally.skip_bad and samples:
        everywhere = set.intersection(*({sample.id for sample in found} for found in samples.values()))
        samples = {m: [sample for sample in found if sample.id in everywhere] for m, found in samples.items()}
    return join(samples)


def _samples(examples: Sequence[Example], path: Path, tally: Tally) -> list[Sample]:
    before = tally.bad
    answers = read_answers(path, tally)
    torn = tally.bad - before  # so many questions may be left
    pairs = pair(examples, answers, tally)
    shown = [example for example in examples if example.image != ()]
    none_left(shown, {example.id for example, _ in pairs}, path.name, torn)
    return [_sample(example, given) for example, given in pairs if example.image != ()]


def _sample(example: Example, given: Given) -> Sample:
    scored = score_given(given, example)
    return Sample(
        id=example.id,
        group=example.group,
        dataset=example.dataset,
        question=example.question,
        text=given.text,
        score=scored.value,
        parsed=scored.parsed,
        where=f"{given.row.file}, {given.row.place}",
        same={} if given.prompt is None else {"prompt": given.prompt},
        meta=example.meta,
    )
