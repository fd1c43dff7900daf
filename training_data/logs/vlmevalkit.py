"""Prediction files of VLMEvalKit, one per m: raw, or scored by its evaluation.

`<model>_<dataset>.xlsx` (or .tsv, .json: PRED_FORMAT) has the data set's columns, without the picture, and the
prediction; `..._result.xlsx` (choices) adds `hit`, `..._auxmatch.xlsx` (yes or no) adds `score`. One row,
https://github.com/open-compass/VLMEvalKit (vlmeval/inference.py, `infer_data_job`; vlmeval/dataset/image_mcq.py and
image_yorn.py, `evaluate`):

    index  question          A     B       C  D  answer  category  prediction  [hit  log]
    241    Which animal...?  cat   dog           B       animals   B. dog      1     ...

Ids are the indices. The group is `image_path` where there is one, else the circle of rotations (index modulo one
million, as MMBench counts): elsewhere a file does not say which questions share a picture, and a split may part them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from encoders.errors import DataError
from training_data.example import Example
from training_data.logs.grade import grade
from training_data.logs.rule import answers_of, by_rule, choices_of
from training_data.logs.samples import Sample, join
from training_data.outcomes import Outcomes
from training_data.readers.mmbench import CHOICES, CIRCLE
from training_data.rows import Row, read_rows
from training_data.scores import METRICS

_SCORES = ("hit", "score")
_SAME = ("question", "hint", *CHOICES, "answer", "answers")
_KINDS = (".csv", ".json", ".tsv", ".xlsx")
_FAILED = "Failed to obtain answer"  # written where the model raised an error


def read(files: Mapping[int, Path], metric: str | None = None, dataset: str | None = None) -> Outcomes:
    """Outcomes of the same data set at several m.

    Args:
        files: the prediction file of each m.
        metric: a column that holds scores (by default `hit` or `score`), or one of `training_data.scores.METRICS` by
            which predictions are scored here; needed where no file of a score is there.
        dataset: its name; by default what the files' names end in alike.

    Raises:
        DataError: files missing or damaged; a question, its choices or its answer that differ across m, or that one of
            the files lacks; a failed prediction; no score. By index, file, line and column.
    """
    dataset = dataset or _shared_name([path.stem for path in files.values()])
    return join({m: [_sample(dataset, row, metric) for row in _rows(path)] for m, path in files.items()})


def _shared_name(stems: list[str]) -> str:
    """What all names end in, from a "_" on: "POPE" of "m3-16_POPE" and "m3-64_POPE"."""
    columns = zip(*(reversed(stem.split("_")) for stem in stems), strict=False)
    shared = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, columns)]
    return "_".join(reversed(shared)) or "vlmevalkit"


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix.lower() not in _KINDS:
        raise DataError(f"a prediction table must be .xlsx, .tsv, .csv or .json, was: {path.name!r}; save it as one")
    return read_rows(path)


def _sample(dataset: str, row: Row, metric: str | None) -> Sample:
    name = row.name("index")
    text = _cell(row, "prediction")
    if _FAILED in text:
        row.refuse("a prediction must be an answer", text, "run VLMEvalKit again: it asks what failed once more")
    same = {field: _cell(row, field) for field in _SAME if row.has(field)}
    choices = choices_of(row.fields)
    lines = [
        same.get("hint"),
        _cell(row, "question"),
        *(f"{letter}. {words}" for letter, words in choices.items()),
    ]
    group = _cell(row, "image_path") if row.has("image_path") else _circle(dataset, name)
    example = Example(
        id=name,
        image=(),
        question="\n".join(line for line in lines if line),
        answers=_answers(row),
        group=group,
        dataset=dataset,
        choices=tuple(choices.values()) or None,
        metric=metric or "",
    )
    value, parsed = _score(row, text, example)
    return Sample(
        id=name,
        group=group,
        dataset=dataset,
        question=example.question,
        text=text,
        score=value,
        where=f"{row.file}, {row.place}",
        same=same,
        parsed=parsed,
    )


def _score(row: Row, text: str, example: Example) -> tuple[float, bool | None]:
    """The score by a rule, and whether that could read the answer; or as the file has it."""
    if example.metric in METRICS:
        return by_rule(row, text, example)
    found = grade(row, [example.metric] if example.metric else _SCORES, example.metric or None)
    if found is None:
        row.refuse(
            "a prediction needs a score, in a column 'hit' or 'score'",
            f"only {', '.join(row.fields)}",
            f"give the scored file, or a metric: {', '.join(METRICS)}",
        )
    return found, None


def _cell(row: Row, column: str) -> str:
    """A cell as text, which may be empty; its column must be there."""
    if column not in row.fields:
        row.refuse(
            f"a prediction file must have the column {column!r}", f"only {', '.join(row.fields)}", "check the file"
        )
    value: Any = row.fields[column]
    return "" if value is None else row.whole(column, str(value))


def _answers(row: Row) -> tuple[str, ...]:
    """The gold answers: one, or the list that VLMEvalKit writes as Python would."""
    cell = row.fields.get("answer") if row.has("answer") else row.fields.get("answers")
    return () if cell is None else answers_of(cell)


def _circle(dataset: str, index: str) -> str:
    return f"{dataset}/{int(index) % CIRCLE if index.isdecimal() else index}"
