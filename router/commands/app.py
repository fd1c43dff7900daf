"""The application that commands register with, and how their errors are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from encoders.errors import MatryoshkaError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Spend visual tokens by need.", pretty_exceptions_enable=False
)
Backbone = Annotated[str, typer.Option(help="a packaged model's name or a model folder")]
Device = Annotated[str, typer.Option(help="where the backbone computes: cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option(help="what its weights are in: float32, bfloat16, float16, ...")]
Picture = Annotated[Path, typer.Argument(help="a picture file")]
Own = Annotated[Path | None, typer.Option(help="a router folder; the shipped one by default")]
OutcomesFile = Annotated[Path, typer.Argument(help="an outcomes file or a table")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def reports(command: Callable[..., None]) -> Callable[..., None]:
    """One line on stderr and exit code 2 in the place of a traceback."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except MatryoshkaError as error:
            message = str(error)
        except BrokenPipeError:  # whoever read the output has had enough
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # or Python complains again when it flushes at exit
            return
        except OSError as error:  # a path that cannot be read or written, whoever met it
            place = "the output" if error.filename is None else repr(error.filename)
            message = f"a path must be readable or writable as asked, was: {place} ({error.strerror})"
        else:
            return
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(2)

    return run
