"""Logs of lmms-eval (`--log_samples --output_path D`), one folder per m.

    D/<model>/20241008_173423_results.json
    D/<model>/20241008_173423_samples_pope.jsonl

One line of samples, and what is read of results, https://github.com/EvolvingLMMs-Lab/lmms-eval
(lmms_eval/loggers/evaluation_tracker.py, `save_results_samples`):

    {"doc_id": 0, "target": "yes", "input": "Is there a cup in the image?...", "filtered_resps": ["Yes"],
     "doc_hash": "...", "pope_accuracy": {"question_id": "0", "score": 1.0, ...}, "pope_f1_score": {...}, ...}
    {"config": {"model": "llava", "model_args": "pretrained=...,matryoshka_vis_token_scale=16"}, ...}

lmms-eval as M3 ships it (https://github.com/mu-cai/matryoshka-mm, lmms-eval/lmms_eval/__main__.py) writes one file a
task, D/<date>_<suffix>_<model>_model_args_<hash>/pope.json, beside a results.json without m:

    {"args": {"model_args": "pretrained=...", "matryoshka_vis_token_scale": 9, ...}, "model_configs": {...},
     "logs": [{"doc_id": 0, "target": "yes", "arguments": [["Is there a cup ..."]], "filtered_resps": ["Yes"], ...}]}

MMBench's metric is no score but {"index", "question", "answer", "prediction", "A", "B", ...}, SEED's {"pred", "answer",
"question_id"}: such answers are scored here, by a rule that is named.

Joined on task and doc_id; doc_hash is the same for many a task's rows and no key. Ids are "task/doc_id", the data set
is the task. The group is the picture where the line names it ("image_id" and the like within "doc" or a metric, or a
"question_id" that is a picture's name, as in MME) or the circle of MMBench's rotations, else the id: then questions
about one picture may part in a split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from encoders.errors import DataError
from training_data.example import PICTURE_ENDINGS, Example
from training_data.logs.grade import grade
from training_data.logs.ladder import add_log
from training_data.logs.rule import answers_of, by_rule, choices_of
from training_data.logs.samples import Sample, join
from training_data.outcomes import Outcomes
from training_data.readers.mmbench import CIRCLE
from training_data.rows import Row, read_document, read_rows
from training_data.scores import METRICS, Scored

# Arguments of a model that say how many visual tokens it spends: MQT's, M3's, Gemma's, and plug-ins' own words.
M_KEYS = ("num_visual_tokens", "matryoshka_vis_token_scale", "max_soft_tokens", "m", "budget")

_RESULTS, _WHOLE = "results.json", ".json"
_SAMPLES = re.compile(r"(?P<run>.+?)_samples_(?P<task>.+)\.jsonl")
_ARGUMENT = re.compile(rf"(?:^|,)\s*(?P<key>{'|'.join(M_KEYS)})\s*=\s*(?P<value>[^,]*)")
_FRAME = {  # every other field of a line is a metric
    *("doc_id", "doc", "target", "arguments", "input", "input_media", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash", "token_counts"),
}
_PICTURE_KEYS = ("image_path", "image_name", "image_id", "imageId", "image", "img_path", "img_id", "question_id")


def read(logs: Mapping[int, Path] | Sequence[Path], metric: str | None = None) -> Outcomes:
    """Outcomes of the same tasks at several m; every task in the folders is taken.

    Args:
        logs: a folder, or one samples file, per m; as a mapping from m, or as paths alone where the results file beside
            the samples says it in its model_args, under one of `M_KEYS`.
        metric: the field of a line that holds the score, needed where a task has several that differ; or, where no
            field is called so, one of `training_data.scores.METRICS`: answers are scored here, against the target.

    Raises:
        DataError: files missing or damaged; an m that is not said, or said of two logs; a question whose input or
            target differs across m, or that a log lacks; a score that cannot be read. By task, doc_id, file and line.
    """
    if not isinstance(logs, Mapping):
        logs = _by_m(logs)
    return join({m: _samples(path, metric) for m, path in logs.items()})


def m_of(log: Path) -> int:
    """The m of a log, from the results files beside its samples.

    Raises:
        DataError: no results file, none or several of `M_KEYS` in its model_args, or no whole number there.
    """
    found = {_told_m(path): path for path in _samples_files(log).values()}
    if len(found) > 1:
        said = ", ".join(f"{m} in {path.name}" for m, path in found.items())
        raise DataError(f"a log has one m, was: {said}; give each m its folder")
    return next(iter(found))


def _by_m(paths: Sequence[Path]) -> dict[int, Path]:
    logs: dict[int, Path] = {}
    for path in paths:
        add_log(logs, m_of(path), path)
    return logs


def _samples_files(log: Path) -> dict[str, Path]:
    """The samples file of each task, below a folder or given itself."""
    paths = [log]
    if log.is_dir():
        lines = sorted(log.rglob("*_samples_*.jsonl"))
        whole = (path for path in sorted(log.rglob("*.json")) if "submissions" not in path.relative_to(log).parts)
        paths = lines or [path for path in whole if not path.name.endswith(_RESULTS)]
    files: dict[str, Path] = {}
    for path in paths:
        match = _SAMPLES.fullmatch(path.name)
        if not (match or path.suffix == _WHOLE) or not path.is_file():
            raise DataError(
                f"a log must be a folder or a file DATE_samples_TASK.jsonl or TASK.json, was: {str(path)!r}; check the "
                "path"
            )
        if (task := match["task"] if match else path.stem) in files:
            names = f"{files[task].name} and {path.name}"
            raise DataError(
                f"a task has one samples file per m, was: {names} for {task!r} in {log}; give one run's folder"
            )
        files[task] = path
    if not files:
        raise DataError(
            f"a log must hold DATE_samples_TASK.jsonl or TASK.json, was: none in {str(log)!r}; run with --log_samples"
        )
    return files


def _told_m(samples: Path) -> int:
    match = _SAMPLES.fullmatch(samples.name)
    results = samples.with_name(f"{match['run']}_{_RESULTS}") if match else samples
    remedy = f"give the m by hand, as in 16={samples.parent}"
    if not results.is_file():
        raise DataError(f"the m of a log stands in its results file, was: no {results.name}; {remedy}")
    config = read_document(results).value("config" if match else "args")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    said = _arguments(arguments)
    if not match and isinstance(config, dict):  # M3's is an option of the command itself
        said |= _arguments(config)
    if len(set(said.values())) != 1:
        rule = f"model_args must say m, under one of {', '.join(M_KEYS)}"
        raise DataError(f"{results.name}: {rule}, was: {arguments!r}; {remedy}")
    key, value = next(iter(said.items()))
    if not (value.isdecimal() and int(value) >= 1):
        raise DataError(f"{results.name}: {key} must be a whole number of at least 1, was: {value!r}; {remedy}")
    return int(value)


def _arguments(arguments: Any) -> dict[str, str]:
    """What model_args, "a=1,b=2" or an object, says of m."""
    if isinstance(arguments, dict):
        return {key: str(arguments[key]) for key in M_KEYS if arguments.get(key) is not None}
    return {match["key"]: match["value"].strip() for match in _ARGUMENT.finditer(str(arguments or ""))}


def _samples(log: Path, metric: str | None) -> Iterator[Sample]:
    for task, path in _samples_files(log).items():
        for row in read_rows(path, key="logs" if path.suffix == _WHOLE else None):
            yield _sample(task, row, metric)


def _sample(task: str, row: Row, metric: str | None) -> Sample:
    name = f"{task}/{row.name('doc_id')}"
    asked, text = _asked(row), row.whole("filtered_resps", _said(row.value("filtered_resps", "resps")))
    if metric is not None and metric in METRICS and metric not in row.fields:
        score, parsed = _by_rule(row, asked, text, metric)
    else:
        score, parsed = _graded(row, metric), None
    return Sample(
        id=name,
        group=_picture(row, task) or name,
        dataset=task,
        question=asked,
        text=text,
        score=score,
        where=f"{row.file}, {row.place}",
        same={"input": asked, "target": row.whole("target", _said(row.fields.get("target")))},
        parsed=parsed,
    )


def _asked(row: Row) -> str:
    """What was asked: under "input", or as older versions have it first of the request's arguments."""
    if row.has("input") or not row.has("arguments"):
        return row.whole("input", _said(row.value("input")))
    first = row.value("arguments")
    while isinstance(first, list) and first:
        first = first[0]
    return row.whole("arguments", _said(first))


def _graded(row: Row, metric: str | None) -> float:
    """The score that the line holds."""
    fields = [field for field, value in row.fields.items() if field not in _FRAME and not isinstance(value, str)]
    if (found := grade(row, fields, metric)) is not None:
        return found
    remedy = f"name a metric to score it by here: {', '.join(METRICS)}"
    return row.refuse("a line must hold a metric with a number", f"only {', '.join(fields) or 'none'}", remedy)


def _by_rule(row: Row, asked: str, text: str, metric: str) -> Scored:
    """The answer by a rule, against the target or what the metric's object calls the answer, with the choices there.

    Where that object says what the evaluator read from the answer (SEED's "pred": the first letter), that is scored.
    """
    objects = list(_objects(row))
    text = next((one["pred"] for one in objects if isinstance(one.get("pred"), str)), text)
    told = (row.fields.get("target"), *(one.get("answer") for one in objects))
    gold = next((answer for answer in told if answer is not None and answer not in ("", [])), None)
    if gold is None:
        row.refuse("a line must hold a target to be scored by", row.fields.get("target"), "choose a field with a score")
    choices = next((tuple(found.values()) for one in objects if (found := choices_of(one))), None)
    return by_rule(row, text, Example(row.name("doc_id"), (), asked, answers_of(gold), "", "", choices, metric))


def _objects(row: Row) -> Iterator[dict[str, Any]]:
    """The objects of a line that are metrics, or its document."""
    for field, value in row.fields.items():
        if isinstance(value, dict) and (field not in _FRAME or field == "doc"):
            yield value


def _said(value: Any) -> str:
    """A text, out of the lists of one that evaluators wrap it in; nothing is no text, anything else as JSON."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == []:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _picture(row: Row, task: str) -> str | None:
    """The picture, where the line names it: by its file's name in whatever task, or by an id of this task."""
    for one in _objects(row):
        for key in _PICTURE_KEYS:
            value = one.get(key)
            if isinstance(value, str) and PurePosixPath(value).suffix.lower() in PICTURE_ENDINGS:
                return value
            if key != "question_id" and isinstance(value, str | int) and value != "":
                return f"{task}/{value}"
        if isinstance(index := one.get("index"), int) and choices_of(one):
            return f"{task}/{index % CIRCLE}"
    return None
