"""Commands that spend tokens: `answer`, `models`, `profile`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from encoders.loading import load, packaged
from router.answering import answer as answer_question
from router.budget import Budget
from router.commands.app import AsJson, Backbone, Device, Dtype, Own, Picture, app, reports


@app.command()
@reports
def answer(
    image: Picture,
    question: str,
    budget: Annotated[
        str, typer.Option(help="a cap in visual tokens, such as 64; 'mean 16', 'cap 0.5 ms', ...")
    ] = "none",
    m: Annotated[int | None, typer.Option(help="force this number of visual tokens")] = None,
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    router: Own = None,
    as_json: AsJson = False,
) -> None:
    """Answer QUESTION about IMAGE within a budget."""
    limit, model = Budget.parse(budget), load(backbone, device, dtype)
    result = answer_question(image, question, limit, m=m, backbone=model, router=router)
    spent = {
        "answer": result.text,
        "m": result.m,
        "visual_tokens": result.visual_tokens,
        "tflops": result.cost.tflops,
        "ms": result.cost.ms,
        "logprob": result.logprob,
        "reason": result.reason,
        "backbone": result.backbone,
    }
    if as_json:
        typer.echo(json.dumps(spent))
        return
    typer.echo(result.text)
    typer.echo(
        f"m={result.m} ({result.reason}), {result.visual_tokens} visual tokens, {result.cost.tflops * 1e3:.2f} GFLOP, "
        f"{result.cost.ms:.0f} ms, {result.backbone}",
        err=True,
    )


@app.command()
@reports
def models(as_json: AsJson = False) -> None:
    """List the packaged models with their measured accuracy at every m."""
    found = packaged()
    if as_json:
        rows = {name: {"ladder": model.ladder, "measured": model.measured} for name, model in found.items()}
        typer.echo(json.dumps(rows))
        return
    table = Table(title="packaged models: share right on held-out, answerable scenes, by m")
    table.add_column("model")
    table.add_column("accuracy at m")
    for name, model in found.items():
        accuracy = model.measured.get("accuracy", {})
        table.add_row(name, "  ".join(f"{m}: {accuracy[str(m)]:.2f}" for m in model.ladder if str(m) in accuracy))
    Console().print(table)


@app.command()
@reports
def profile(
    backbone: Backbone = "nano-mqt",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Measure this machine's latency for a backbone and save it; `Cost.ms` predicts from it afterwards.

    A profile holds for one backbone on one device in one dtype.
    """
    from encoders.profiling import measure

    measured = measure(load(backbone, device, dtype))
    path = measured.save()
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "device": measured.device,
                    "dtype": measured.dtype,
                    "encode_ms": measured.encode_ms,
                    "step_ms": measured.step_ms,
                    "prefill_ms": dict(zip(measured.prompt_tokens, measured.prefill_ms, strict=True)),
                }
            )
        )
        return
    table = Table(title=f"{backbone}: milliseconds on this machine ({measured.device}, {measured.dtype})")
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_row("vision pass and connector", f"{measured.encode_ms:.1f}")
    for length, ms in zip(measured.prompt_tokens, measured.prefill_ms, strict=True):
        table.add_row(f"prefill of {length} tokens", f"{ms:.1f}")
    table.add_row("each further token", f"{measured.step_ms:.1f}")
    Console().print(table)
    typer.echo(f"saved as {path.name}", err=True)
