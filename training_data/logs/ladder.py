"""Which log is of which m, as a command line says it: "16=logs/m16".

Knows the notation. Opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encoders.errors import DataError


def parse_ladder(texts: Sequence[str]) -> dict[int, Path]:
    """{16: Path("a.jsonl"), 64: Path("b.jsonl")} from ["16=a.jsonl", "64=b.jsonl"], in rising m.

    Raises:
        DataError: a text of another form, an m that is no whole number of at least 1, or one m twice.
    """
    ladder: dict[int, Path] = {}
    for text in texts:
        said, mark, path = (part.strip() for part in text.partition("="))
        if not mark or not path:
            raise DataError(f"a log is given with its m, as 16=PATH, was: {text!r}; put the m and '=' before the path")
        if not (said.isdecimal() and int(said) >= 1):
            raise DataError(f"m must be a whole number of at least 1, was: {said!r} in {text!r}; correct it")
        add_log(ladder, int(said), Path(path))
    return dict(sorted(ladder.items()))


def add_log(ladder: dict[int, Path], m: int, path: Path) -> None:
    """Put down the log of m.

    Raises:
        DataError: m has one already.
    """
    if m in ladder:
        raise DataError(f"each m has one log, was twice: {m}, for {ladder[m]} and {path}; drop one")
    ladder[m] = path


def parse_logs(texts: Sequence[str]) -> dict[int, Path] | list[Path]:
    """Logs with their m given by hand, or, where none is given so, the paths alone: the logs must say it themselves.

    Raises:
        DataError: as `parse_ladder`; an m given for some logs and not for others.
    """
    by_hand = ["=" in text and "/" not in text.partition("=")[0] for text in texts]
    return parse_ladder(texts) if any(by_hand) else [Path(text) for text in texts]
