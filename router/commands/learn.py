"""Commands that learn to spend: `fit`, `evaluate`, `study`, `route`, `explain`, `batch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from encoders.errors import DataError
from encoders.loading import load
from encoders.prompts import check_question
from router.answering import Answer
from router.batching import Unanswered, answer_batch
from router.budget import Budget
from router.commands.app import AsJson, Backbone, Device, Dtype, OutcomesFile, Own, Picture, app, reports
from training_data.example import Example

if TYPE_CHECKING:
    from router.study import Study

RouterFolder = Annotated[Path, typer.Argument(help="a router folder")]
Head = Annotated[str, typer.Option(help="gain or ordinal")]
Limit = Annotated[str, typer.Option("--budget", help="such as 64, 'mean 16', 'max_loss 0.01' or none")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Report = Annotated[Path | None, typer.Option("--out", help="a folder for the report, with figures and tables")]
_HELD = 72  # seed of the pictures a study holds out where no test file is given: another than a fit's own
Resamples = Annotated[int, typer.Option(min=2, help="of the test pictures, for every interval")]


@app.command()
@reports
def fit(
    outcomes: OutcomesFile,
    out: Annotated[Path, typer.Option(help="the router's folder")],
    head: Head = "gain",
    seed: Seed = 0,
) -> None:
    """Fit a router on measured OUTCOMES."""
    from router.routing import Router
    from router.saving import check_place
    from training_data.outcomes import Outcomes

    check_place(out)  # before minutes of fitting, not after
    router = Router.fit(Outcomes.load(outcomes), head=cast(Any, head), seed=seed)
    router.save(out)
    typer.echo((out / "README.md").read_text(encoding="utf-8"))


@app.command()
@reports
def evaluate(
    router: RouterFolder,
    outcomes: OutcomesFile,
    at: Annotated[str, typer.Option(help="costs at which to read the curve, parted by commas")] = "",
    out: Report = None,
    resamples: Resamples = 2000,
    as_json: AsJson = False,
) -> None:
    """Score a ROUTER on OUTCOMES of pictures it has not seen."""
    from router.routing import Router

    _check_figures(out)
    found = Router.load(router).evaluate(outcomes, at=_costs(at), resamples=resamples)
    typer.echo(json.dumps(found.to_json()) if as_json else str(found))
    if out is not None:
        from router.study import Study

        _report(Study(found, ()), out)


def _check_figures(out: Path | None) -> None:
    """Without matplotlib a report fails before the work and not after."""
    if out is not None:
        from training_data.figures import new_figure

        new_figure()


def _report(found: Study, out: Path) -> None:
    from router.study_page import write

    typer.echo(f"report: {write(found, out)}", err=True)


def _costs(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise DataError(f"--at takes numbers parted by commas, was: {text!r}; for example 100,200") from error


@app.command()
@reports
def study(
    train: OutcomesFile,
    test: Annotated[
        Path | None, typer.Argument(help="outcomes of other pictures; 3 in 10 of TRAIN's by default")
    ] = None,
    out: Report = None,
    parts: Annotated[str, typer.Option(help="which competitors, parted by commas; all by default")] = "",
    resamples: Resamples = 2000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit on TRAIN, test on TEST, beside every null, ablation and the privileged router."""
    from router.study import PARTS
    from router.study import study as run
    from training_data.outcomes import Outcomes

    _check_figures(out)
    chosen = [part.strip() for part in parts.split(",") if part.strip()] or PARTS
    own = Outcomes.load(train)
    own, unseen = own.split((0.7, 0.3), seed=_HELD) if test is None else (own, Outcomes.load(test))
    found = run(own, unseen, parts=chosen, resamples=resamples, seed=seed)
    typer.echo(json.dumps(found.to_json()) if as_json else str(found))
    if out is not None:
        _report(found, out)


@app.command()
@reports
def route(
    image: Picture,
    question: str,
    budget: Limit = "none",
    router: Own = None,
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Decide the m for QUESTION about IMAGE; no language model is run."""
    decision = _decided(image, question, budget, router, (backbone, device, dtype))
    if as_json:
        told = {"m": decision.m, "arm": decision.arm, "curve": decision.curve, "price": decision.price}
        typer.echo(json.dumps(told | {"unit": decision.unit, "reason": decision.reason}))
    else:
        typer.echo(str(decision.m))
        typer.echo(decision.reason, err=True)


@app.command()
@reports
def explain(
    image: Picture,
    question: str,
    budget: Limit = "none",
    router: Own = None,
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Say why: m, the success curve, the price and the main reasons."""
    typer.echo(_decided(image, question, budget, router, (backbone, device, dtype)).explain())


def _decided(image: Path, question: str, budget: str, router: Path | None, backbone: tuple[str, str, str]) -> Any:
    from router.answering import encoded_by, rule_for

    limit = Budget.parse(budget)
    check_question(question)
    model = load(*backbone)
    rule = rule_for(model, router)
    encoded, _ = encoded_by(model, image)
    return rule.decide(model, encoded, [question], limit)[0]


@app.command()
@reports
def batch(
    questions: Annotated[str, typer.Argument(help="a file of questions, or scenes:STYLE:SPLIT:PICTURES")],
    out: Annotated[Path, typer.Option(help="one JSON line per question, or what is wrong with it")],
    budget: Limit = "none",
    router: Own = None,
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Answer many QUESTIONS under one budget; easy ones fund hard ones."""
    from tqdm import tqdm

    if out.exists():
        raise DataError(f"answers go into a file of their own, was: {out.name!r}, which is there; name another")
    rows = _rows(questions)
    spent: list[int | None] = []
    asked = [row for row in rows if isinstance(row, Example)]
    limit = Budget.parse(budget)
    answers = answer_batch(asked, limit, backbone=load(backbone, device, dtype), router=router)
    try:
        with out.open("x", encoding="utf-8") as file:
            for row in tqdm(rows, desc="answers"):
                spent.append(_written(file, row, next(answers) if isinstance(row, Example) else None))
    except BaseException:  # an interrupt too
        if out.is_file() and not any(spent):
            out.unlink()  # nothing was answered: the mended command may name it again
        raise
    answered = [tokens for tokens in spent if tokens is not None]
    mean = f", {sum(answered) / len(answered):.2f} visual tokens each" if answered else ""
    failed = f", {len(spent) - len(answered):,} errors" if len(answered) < len(spent) else ""
    typer.echo(f"{out}: {len(answered):,} answers{mean}{failed}", err=True)


def _rows(questions: str) -> list[Example | str]:
    """Questions in the order of their file, and in the place of a row that is none what is wrong with it."""
    from training_data.readers import own
    from training_data.readers.folder import Folder
    from training_data.rows import Tally
    from training_data.sources import open_data

    if questions.startswith("scenes:"):
        return list(open_data(questions)[0])
    path = Path(questions)
    rows: list[Example | str] = []

    class InPlace(Tally):
        def refuse(self, error: DataError) -> None:
            rows.append(str(error))

    home = Folder(path.parent, InPlace(), pictures=False, anywhere=True)
    for example in own.read(home, path, gold=False):  # it reads no line before the one above was taken
        rows.append(example)
    if not any(isinstance(row, Example) for row in rows):
        raise DataError(
            f"a file must hold a question to be asked, was: {rows[0] if rows else 'no row'}; check the file"
        )
    return rows


def _written(file: TextIO, row: Example | str, result: Answer | Unanswered | None) -> int | None:
    """Write a line; the visual tokens of an answer, None where there is none."""
    told: dict[str, Any] = {"id": row.id if isinstance(row, Example) else None}
    if isinstance(result, Answer):
        told |= {"answer": result.text, "m": result.m, "visual_tokens": result.visual_tokens}
        told |= {"tflops": result.cost.tflops, "logprob": result.logprob}
    else:
        told["error"] = row if result is None else result.reason
    file.write(json.dumps(told, ensure_ascii=False) + "\n")
    file.flush()  # what was paid for survives a kill
    return result.visual_tokens if isinstance(result, Answer) else None
