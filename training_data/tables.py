"""Outcomes as a plain table, one row per (id, arm): CSV or Parquet, read from TSV, gzip and JSON Lines too.

    id, question, m, score              m in visual tokens; or `arm`, a name, for models and other choices
    [replicate, group, dataset, cost, unit, text, confidence, gold_logprob, image]

A score lies in [0, 1], or is a truth value. `group` is the picture (by default `image`, else the id with its question).
Without `cost`, m is the cost. `unit` is what costs are counted in, one name for the whole table: "cost" by default,
"tokens" where m is the cost. Every id needs every arm, and says the same of its question, group and data set in every
row. Columns of other names are left alone. Knows columns. Knows no Outcomes and no SQLite.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.cost import is_name
from encoders.errors import DataError
from training_data.rows import Row, read_rows

if TYPE_CHECKING:
    import pandas

_TEXTS = ("group", "dataset", "question")
_OPTIONAL = ("gold_logprob", "confidence", "text")
_WRITTEN = (".csv", ".parquet")
_READ = (*_WRITTEN, ".tsv", ".csv.gz", ".tsv.gz", ".jsonl")

_REMEDY = "mend the table"

Key = tuple[str, int]  # id and replicate


def is_table(path: Path) -> bool:
    """Whether a file's ending says that it is a table."""
    return path.name.lower().endswith(_READ)


def read(path: Path) -> dict[str, Any]:
    """The columns of `training_data.outcomes.Outcomes`; ids in the order of their first rows, cheapest arm first.

    Raises:
        DataError: by file, line, column and value; a pair that is missing or given twice by its id and arm.
    """
    cells: dict[tuple[Key, str], _Cell] = {}
    arms: dict[str, int | None] = {}
    lines: dict[Key, Row] = {}
    for row in read_rows(path):
        arm, m = _arm(row)
        key = row.name("id"), row.integer("replicate") if row.has("replicate") else 0
        if key[1] < 0:
            row.refuse("replicate must be a whole number from 0 on", key[1], _REMEDY)
        if arms.setdefault(arm, m) != m:
            row.refuse(f"an arm has one m, for {arm!r} it was {arms[arm]}", m, _REMEDY)
        if (key, arm) in cells:
            row.refuse("each id has one row per arm", f"twice: id {key[0]!r}, arm {arm!r}", _REMEDY)
        cells[key, arm] = _Cell.of(row, m)
        first = lines.setdefault(key, row)
        for column in ("question", "group", "image", "dataset", "unit"):
            if row.fields.get(column) != first.fields.get(column):
                said = f"{row.fields.get(column)!r} after {first.fields.get(column)!r}"
                row.refuse(f"an id has one {column}, id {key[0]!r} had two", said, _REMEDY)
    if not cells:
        raise DataError(f"a table must hold at least one row, was: none in {path.name}; fill it")
    if all("question" not in row.fields for row in lines.values()):
        named = ", ".join(map(str, next(iter(lines.values())).fields))
        raise DataError(f"{path.name}: a table needs a column `question`, was: {named}; name it so, or leave it empty")
    return _columns(path.name, cells, arms, lines)


@dataclass(frozen=True)
class _Cell:
    """What one row says of its id and arm; `priced` where it names a cost itself."""

    score: float
    cost: float
    priced: bool
    text: str | None
    confidence: float | None
    gold_logprob: float | None

    @classmethod
    def of(cls, row: Row, m: int | None) -> _Cell:
        score, cost = _score(row), row.number("cost") if row.has("cost") else None
        if not 0 <= score <= 1:
            row.refuse("score must lie in [0, 1]", score, _REMEDY)
        if cost is None and m is None:
            row.refuse("an arm that is no m needs a cost", None, "add a column `cost`")
        if cost is not None and cost <= 0:
            row.refuse("cost must be positive", cost, _REMEDY)
        confidence, gold = (row.number(name) if row.has(name) else None for name in ("confidence", "gold_logprob"))
        text = None
        if "text" in row.fields:  # an empty answer is an answer, and so is 0
            text = row.whole("text", str(row.fields["text"])) if row.has("text") else ""
        return cls(score, float(m or 0) if cost is None else cost, cost is not None, text, confidence, gold)


def _score(row: Row) -> float:
    """A number, or a truth value as JSON and pandas write it: right or wrong."""
    value = row.fields.get("score")
    said = {"true": 1.0, "false": 0.0}.get(str(value).strip().lower())
    return row.number("score") if said is None else said


def _arm(row: Row) -> tuple[str, int | None]:
    """The arm's name, and its m where it has one."""
    if row.has("arm") and not is_name(name := row.name("arm")):
        row.refuse("an arm's name must be printable, without spaces around it", name, _REMEDY)
    if not row.has("m"):
        return row.name("arm", "m"), None
    m = row.integer("m")
    if m < 1:
        row.refuse("m must be a whole number of at least 1", m, _REMEDY)
    return row.name("arm") if row.has("arm") else str(m), m


def _columns(
    name: str, cells: Mapping[tuple[Key, str], _Cell], arms: Mapping[str, int | None], lines: Mapping[Key, Row]
) -> dict[str, Any]:
    for key, row in lines.items():
        if key[1] and (key[0], 0) not in lines:
            row.refuse(
                "replicate 0 is the example itself", f"{key[1]} alone of id {key[0]!r}", "add it, or count from 0"
            )
        if missing := [arm for arm in arms if (key, arm) not in cells]:
            raise DataError(
                f"{name}: every id needs a score for every arm, missing: id {key[0]!r}, arm {missing[0]!r}; add the "
                "row, or leave the id out"
            )
    if len(priced := {cell.priced for cell in cells.values()}) > 1:
        raise DataError(f"{name}: cost must stand in every row or in none, was: in some; fill the column")
    mean_cost = {arm: float(np.mean([cells[key, arm].cost for key in lines])) for arm in arms}
    order = sorted(arms, key=lambda arm: (arms[arm] or 0, mean_cost[arm], arm))
    columns: dict[str, Any] = {
        "id": [key[0] for key in lines],
        "replicate": np.array([key[1] for key in lines]),
        "arms": tuple(order),
        "m": None if None in arms.values() else np.array([arms[arm] for arm in order]),
        "unit": _unit(name, lines, "cost" if True in priced else "tokens"),
        "group": [_group(row) for row in lines.values()],
        "dataset": [row.name("dataset") if row.has("dataset") else "all" for row in lines.values()],
        "question": [_words(row, "question") or "" for row in lines.values()],
    }
    if any(row.has("image") for row in lines.values()):
        columns["meta"] = [{"image": _words(row, "image")} for row in lines.values()]
    for column in ("score", "cost", *_OPTIONAL):
        table = [[getattr(cells[key, arm], column) for arm in order] for key in lines]
        there = {value is not None for row in table for value in row}
        if len(there) > 1:
            raise DataError(f"{name}: {column} must stand in every row or in none, was: in some; fill the column")
        if there == {True}:
            columns[column] = np.array(table, dtype=object if column == "text" else np.float64)
    return columns


def _group(row: Row) -> str:
    """The picture; where none is named the id with its question, for ids that number rows start anew in every file."""
    if row.has("group") or row.has("image"):
        return row.name("group", "image")
    asked = (_words(row, "question") or "").encode("utf-8", "surrogatepass")  # groups are as wide as the widest
    return f"{row.name('id')} {blake2b(asked, digest_size=8).hexdigest() if asked else ''}".strip()


def _words(row: Row, column: str) -> str | None:
    """A cell as text, which may be empty; JSON Lines may hold a number there."""
    return row.name(column, empty=True) if row.has(column) else None


def _unit(name: str, lines: Mapping[Key, Row], default: str) -> str:
    """The one unit of a table."""
    units = sorted({row.name("unit") if row.has("unit") else default for row in lines.values()})
    if len(units) > 1:
        raise DataError(f"{name}: a table's costs are in one unit, was: {' and '.join(units)}; part the table")
    return units[0]


def frame(columns: Mapping[str, Any]) -> pandas.DataFrame:
    """The table as a DataFrame, one row per (id, arm).

    Raises:
        DataError: pandas is not installed.
    """
    return _pandas().DataFrame(list(_rows(columns)))


def write(path: Path, columns: Mapping[str, Any]) -> None:
    """Write a table.

    Raises:
        DataError: the file is there already, it is to be neither CSV nor Parquet, or Parquet without pyarrow.
    """
    if path.suffix.lower() not in _WRITTEN:
        raise DataError(
            f"a table is written as {' or '.join(_WRITTEN)}, was: {path.name}; give it one of these endings"
        )
    if path.exists():
        raise DataError(f"a table is never overwritten, was there already: {path.name}; give another name")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # what was killed half-way must not read as a whole one
    try:
        (_write_parquet if path.suffix.lower() == ".parquet" else _write_csv)(part, _rows(columns))
        part.replace(path)
    except OSError as error:
        raise DataError(
            f"{path.name} needs a folder that exists and can be written, was: {error.strerror or error}; give another "
            "path"
        ) from error
    finally:
        with suppress(OSError):  # what could not be made need not go
            part.unlink()


def _rows(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    tables = {name: columns[name] for name in ("score", "cost", *_OPTIONAL) if columns[name] is not None}
    for k, name in enumerate(columns["id"].tolist()):
        for number, arm in enumerate(columns["arms"]):
            row = {"id": name, "replicate": int(columns["replicate"][k]), "arm": arm}
            if columns["m"] is not None:
                row["m"] = int(columns["m"][number])
            row |= {text: str(columns[text][k]) for text in _TEXTS} | {"unit": columns["unit"]}
            yield row | {cell: table[k, number] for cell, table in tables.items()}


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    head = next(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, head)
        writer.writeheader()
        writer.writerow(head)
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError("writing Parquet needs pyarrow, was: not installed; run `pip install pyarrow`") from error
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise DataError("a DataFrame needs pandas, was: not installed; run `pip install pandas`") from error
    return pandas
