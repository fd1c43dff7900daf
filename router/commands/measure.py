"""Commands that measure: `sweep`, `features`, `score`, `import`, `analyse`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from encoders.errors import DataError
from router.commands.app import AsJson, Backbone, Device, Dtype, OutcomesFile, app, reports

if TYPE_CHECKING:
    from training_data.example import Example
    from training_data.outcomes import Outcomes

Data = Annotated[str, typer.Option(help="a file of questions, a benchmark's folder, or scenes:STYLE:SPLIT:PICTURES")]
Benchmark = Annotated[str | None, typer.Option(help="which benchmark the folder holds")]
Split = Annotated[str | None, typer.Option(help="which part of the benchmark")]
Out = Annotated[Path, typer.Option(help="the outcomes file")]
Workers = Annotated[int | None, typer.Option(min=1, help="processes that open pictures; by default half the cores")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="count bad rows instead of stopping at the first")]


@app.command()
@reports
def sweep(
    data: Data,
    out: Out,
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    benchmark: Benchmark = None,
    split: Split = None,
    ladder: Annotated[
        str | None, typer.Option(help="m to measure, such as 16,64,256; the model's own by default")
    ] = None,
    replicates: Annotated[int, typer.Option(min=1, help="passes; behind the first, pictures change harmlessly")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="questions per batch, twice as many for one picture")] = 32,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="length of answers")] = None,
    workers: Workers = None,
    skip_bad: SkipBad = False,
) -> None:
    """Answer every question at every m, once; run it again after a kill and it goes on."""
    from encoders.loading import load
    from training_data.sources import open_data
    from training_data.sweep import sweep as run

    examples, reading = open_data(data, benchmark, split, skip_bad)
    _tell_skipped(reading)
    failed: list[str] = []

    def on_failure(name: str, reason: str) -> None:
        failed.append(name)
        typer.echo(f"not measured: {name}: {reason}", err=True)

    run(
        load(backbone, device, dtype),
        examples,
        out,
        ladder=None if ladder is None else _numbers(ladder),
        replicates=replicates,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        workers=workers,
        on_failure=on_failure,
        source={"data": data, "benchmark": benchmark, "split": split, "skip_bad": skip_bad},
    )
    typer.echo(f"{out}: measured" + (f", {len(failed)} examples of this run could not be" if failed else ""), err=True)


@app.command()
@reports
def features(
    outcomes: Annotated[Path, typer.Argument(help="an outcomes file")],
    data: Data,
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    benchmark: Benchmark = None,
    split: Split = None,
    skip_bad: SkipBad = False,
    workers: Workers = None,
) -> None:
    """Compute the visual features of an outcomes file anew, with one vision pass."""
    from encoders.loading import load
    from training_data.sources import open_data
    from training_data.sweep import refresh_features

    examples, reading = open_data(data, benchmark, split, skip_bad)
    _tell_skipped(reading)
    refresh_features(load(backbone, device, dtype), examples, outcomes, workers=workers)


@app.command()
@reports
def score(
    benchmark: Annotated[str, typer.Argument(help="pope, mme, scienceqa, vqav2, gqa, textvqa, ...")],
    answers: Annotated[Path, typer.Option(help="an answer file, or MME's result folder")],
    data: Annotated[Path | None, typer.Option(help="the benchmark's folder")] = None,
    split: Split = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Score existing answers by a benchmark's own rules: its headline figures, no model."""
    from training_data.headline import headline

    figures = headline(benchmark, data, answers, split=split, skip_bad=skip_bad)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    for name, value in _flat(figures):
        typer.echo(f"{name:40s} {f'{value:.2f}' if isinstance(value, float) else str(value):>10}")


def _flat(figures: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in figures.items():
        rows += _flat(value, f"{before}{name} ") if isinstance(value, dict) else [(f"{before}{name}", value)]
    return rows


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise DataError(f"a ladder is whole numbers parted by commas, was: {text!r}; for example 16,64,256")
    return [int(part) for part in parts]


def _tell_skipped(reading: Any) -> None:
    if reading is not None and reading.bad:
        typer.echo(f"skipped {reading.bad} bad rows, the first: {reading.messages[0]}", err=True)


imports = typer.Typer(no_args_is_help=True, help="Turn other people's logs and tables into an outcomes file.")
app.add_typer(imports, name="import")
Metric = Annotated[
    str | None,
    typer.Option(
        help="the field that holds the score, where there are several; or a rule to score by: letter, anls, ..."
    ),
]


@imports.command("table")
@reports
def import_table(table: Annotated[Path, typer.Argument(help="a .csv or .parquet table")], out: Out) -> None:
    """One row per id and m (or arm): id, question, m, score, and what else there is."""
    from training_data.outcomes import Outcomes

    _save(Outcomes.load(table), out)


@imports.command("lmms-eval")
@reports
def import_lmms_eval(
    logs: Annotated[list[str], typer.Argument(help="a folder per m, or M=FOLDER where the log does not say its m")],
    out: Out,
    metric: Metric = None,
) -> None:
    """Logs written with --log_samples."""
    from training_data.logs import lmms_eval
    from training_data.logs.ladder import parse_logs

    _save(lmms_eval.read(parse_logs(logs), metric), out)


@imports.command("vlmevalkit")
@reports
def import_vlmevalkit(
    files: Annotated[list[str], typer.Argument(help="M=FILE, a prediction file per m")],
    out: Out,
    metric: Metric = None,
    dataset: Annotated[str | None, typer.Option(help="the data set's name")] = None,
) -> None:
    """Prediction files, .xlsx, .tsv or .json."""
    from training_data.logs import vlmevalkit
    from training_data.logs.ladder import parse_ladder

    _save(vlmevalkit.read(parse_ladder(files), metric, dataset), out)


@imports.command("answers")
@reports
def import_answers(
    benchmark: Annotated[str, typer.Option(help="whose questions were answered")],
    data: Annotated[Path, typer.Option(help="the benchmark's folder")],
    answers: Annotated[list[str], typer.Option(help="M=FILE; give one for every m")],
    out: Out,
    split: Split = None,
    skip_bad: SkipBad = False,
) -> None:
    """Answer files in LLaVA's format, one per m, scored by a benchmark's rules."""
    from training_data.logs import answers as logs
    from training_data.logs.ladder import parse_ladder
    from training_data.rows import Tally

    tally = Tally(skip_bad)
    outcomes = logs.read(benchmark, data, parse_ladder(answers), split, tally)
    _tell_skipped(tally)
    _save(outcomes, out)


def _save(outcomes: Outcomes, out: Path) -> None:
    outcomes.save(out)
    typer.echo(f"{out}: {outcomes}", err=True)


@app.command()
@reports
def analyse(
    outcomes: OutcomesFile,
    out: Annotated[Path, typer.Option(help="the folder of the report")],
    data: Annotated[
        str | None, typer.Option(help="where the pictures are; by default where sweep found them, or beside a table")
    ] = None,
    benchmark: Benchmark = None,
    split: Split = None,
    skip_bad: SkipBad = False,
    partial: Annotated[bool, typer.Option("--partial", help="take what an unfinished sweep has so far")] = False,
    points: Annotated[float, typer.Option(min=0, help="points of score below the best that are still enough")] = 1.0,
) -> None:
    """Say whether there is anything to route, and write the report."""
    from training_data import store
    from training_data.analysis import analyse as run
    from training_data.figures import new_figure
    from training_data.outcomes import Outcomes
    from training_data.report import write
    from training_data.sources import open_data, pictured, pictures_of
    from training_data.tables import is_table

    new_figure()  # without matplotlib it fails before the work and not after
    rows = Outcomes.load(outcomes, partial)
    about, failures = ({}, []) if is_table(outcomes) else (store.manifest(outcomes), store.failures(outcomes))
    analysis = run(rows, points=points, failures=failures)
    typer.echo(str(analysis.diagnosis))
    if data is None:
        examples = _swept(about) or pictured(rows, outcomes.parent)
    elif benchmark is None and Path(data).is_dir() and (named := pictured(rows, Path(data))):
        examples = named  # what an imported table calls its pictures, below a folder
    else:
        examples, reading = open_data(data, benchmark, split, skip_bad)
        _tell_skipped(reading)
    page = write(analysis, out, None if examples is None else pictures_of(examples))
    typer.echo(f"report: {page}", err=True)


def _swept(about: Mapping[str, Any]) -> Iterable[Example] | None:
    """What was measured by the sweep that says this of itself, where it is still at hand."""
    from training_data.sources import reopened

    if (source := about.get("source")) is None:
        return None
    examples = reopened(source, str(about.get("data")))
    if examples is None:
        typer.echo("no pictures: the data that was measured is elsewhere, or has changed; give --data", err=True)
    return examples
