"""Answer files in LLaVA's format, one per m, against a benchmark's own data.

An answer finds its question by id; where its id is none of the reader's, by category and number (POPE's label files),
or by picture and question, as in MME, whose answers name both questions of a picture alike:

    {"question_id": "artwork/10002.jpg", "prompt": "Does this artwork exist in ...", "text": "Yes", ...}

Formats: `training_data.readers.llava`. MMBench is read with one answer per row, not in rounds. Knows the
joining. Knows no sum over questions (`training_data.headline`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from encoders.errors import DataError
from training_data.example import Example
from training_data.headline import score_given
from training_data.logs.samples import PICTURE_ENDINGS, Sample, join
from training_data.outcomes import Outcomes
from training_data.readers import read as read_benchmark
from training_data.readers.llava import Given, read_answers
from training_data.readers.mme import asked


def read(benchmark: str, data: Path, files: Mapping[int, Path], split: str | None = None) -> Outcomes:
    """Outcomes of a benchmark's questions with a picture; the text is the answer as given, ids are the reader's.

    Args:
        benchmark: a key of `training_data.readers.BENCHMARKS` whose data hold gold answers.
        data: its folder; pictures need not be there.
        files: the answer file of each m.
        split: as in `training_data.readers.read`.

    Raises:
        DataError: files missing or damaged; an answer to no question, or to one that has been answered; a question that
            one of the files leaves out, or that was put in other words; no gold answer. By id, file and line.
    """
    examples = read_benchmark(benchmark, data, split=split, pictures=False, text_only=True).examples
    return join({m: list(_samples(examples, path)) for m, path in files.items()})


def _samples(examples: Sequence[Example], path: Path) -> Iterator[Sample]:
    known: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        for name in _names(example):
            known[name].append(example)
    answered: set[str] = set()
    for given in read_answers(path):
        example = _question(given, known, answered)
        answered.add(example.id)
        if example.image != ():
            yield _sample(example, given)
    wanted = [example.id for example in examples if example.image != ()]
    if lost := [name for name in wanted if name not in answered]:
        raise DataError(
            f"{path.name}: every question with a picture needs an answer, missing: {lost[0]!r} ({len(lost):,} of "
            f"{len(wanted):,} are missing); answer them, or name the split"
        )


def _names(example: Example) -> list[str]:
    """What answers may call a question: its id, the number in it, or its picture and words."""
    number = str(example.meta.get("question_id"))
    names = [example.id, f"{_picture(example.group)} {asked(example.question)}"]
    return [*names, number] if example.id.endswith(f"/{number}") else names


def _question(given: Given, known: Mapping[str, list[Example]], answered: set[str]) -> Example:
    prompt = f"{_picture(given.id)} {asked(given.prompt or '')}"
    names = [given.id, f"{given.row.fields.get('category')}/{given.id}", prompt]
    meant = next((known[name] for name in names if name in known and (name != given.id or len(known[name]) == 1)), [])
    left = [example for example in meant if example.id not in answered]
    if not left:
        rule = "a question may be answered once" if meant else "every answer must belong to one question, alone"
        given.row.refuse(rule, f"{given.id} {given.prompt or ''}".strip(), "check answers, data folder and split")
    return left[0]  # one picture's question asked twice: in the order of the data


def _picture(name: str) -> str:
    """A picture's name without ending and without the folders between subtask and file."""
    path = PurePosixPath(name)
    stem = path.stem if path.suffix.lower() in PICTURE_ENDINGS else path.name
    return "/".join([*path.parts[:-1][:1], stem])


def _sample(example: Example, given: Given) -> Sample:
    return Sample(
        id=example.id,
        group=example.group,
        dataset=example.dataset,
        question=example.question,
        text=given.text,
        score=score_given(given, example).value,
        where=f"{given.row.file}, {given.row.place}",
        same={} if given.prompt is None else {"prompt": given.prompt},
        meta=example.meta,
    )
