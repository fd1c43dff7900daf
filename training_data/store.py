"""The outcomes file: one SQLite database that a sweep fills batch by batch and everything else reads.

    manifest      what was measured: format, backbone, arms, data, features; one JSON value per key
    examples      one row per (number, replicate): what was asked
    measurements  one row per (number, replicate, arm): what came back
    failures      examples that could not be measured, and why

Write-ahead logging and one transaction per batch: a kill at any instant leaves whole batches. Knows rows and columns.
Knows no model and no Outcomes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from encoders.errors import DataError, shown
from training_data.lock import FileLock

FORMAT = 1
_SCHEMA = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE examples (
    number INTEGER NOT NULL, replicate INTEGER NOT NULL, id TEXT NOT NULL, "group" TEXT NOT NULL,
    dataset TEXT NOT NULL, question TEXT NOT NULL, meta TEXT, features BLOB,
    PRIMARY KEY (number, replicate)) STRICT;
CREATE TABLE measurements (
    number INTEGER NOT NULL, replicate INTEGER NOT NULL, arm INTEGER NOT NULL, score REAL NOT NULL, cost REAL NOT NULL,
    text TEXT, parsed INTEGER, confidence REAL, gold_logprob REAL, margin REAL,
    top1 REAL, top2 REAL, top3 REAL, entropy REAL,
    new_tokens INTEGER, visual_tokens INTEGER, text_tokens INTEGER, kv_bytes INTEGER,
    PRIMARY KEY (number, replicate, arm)) STRICT, WITHOUT ROWID;
CREATE TABLE failures (
    number INTEGER NOT NULL, replicate INTEGER NOT NULL, id TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (number, replicate)) STRICT;
"""
_EXAMPLE = ("number", "replicate", "id", "group", "dataset", "question", "meta", "features")
_FAILED = ("number", "replicate", "id", "reason")
_MEASURED = (
    *("number", "replicate", "arm", "score", "cost", "text", "parsed", "confidence", "gold_logprob", "margin"),
    *("top1", "top2", "top3", "entropy", "new_tokens", "visual_tokens", "text_tokens", "kv_bytes"),
)
_OPTIONAL = (
    *("gold_logprob", "confidence", "text", "top1", "top2", "top3", "entropy"),
    *("text_tokens", "new_tokens", "parsed"),
)

_STRAY = """
SELECT count(*) FROM measurements LEFT JOIN examples USING (number, replicate)
WHERE examples.id IS NULL OR arm < 0 OR arm >= ?
"""
_MAGIC = b"SQLite format 3\0"

Row = Mapping[str, Any]


class Store:
    """An outcomes file open for writing, by one process at a time.

    Opening an existing file goes on with it: every key of `manifest` must equal what the file was begun with. `notes`
    are kept beside the manifest as they were last given.

    Raises:
        DataError: another process writes to the file, it is no outcomes file, or it was begun with other settings.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._lock = FileLock(path)
        try:
            with _translated(path):
                self._database = sqlite3.connect(path, isolation_level=None)
        except BaseException:
            self._lock.close()
            raise
        try:
            with _translated(path):
                fresh = not self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
                if not fresh:  # before anything is changed: it may be somebody else's file
                    self._check(manifest)
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")  # WAL stays whole; at worst a last batch is lost
                if fresh:
                    self._begin(manifest)
                if notes:
                    self._note(notes)
        except BaseException:
            self._database.close()
            self._lock.close()
            raise

    def _begin(self, manifest: Mapping[str, Any]) -> None:
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            rows = {"format": FORMAT, "finished": False, **manifest}
            self._database.executemany(
                "INSERT INTO manifest VALUES (?, ?)", [(key, json.dumps(value)) for key, value in rows.items()]
            )

    def _note(self, notes: Mapping[str, Any]) -> None:
        """Outside of the manifest's check: what may change from run to run."""
        said = "INSERT INTO manifest VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        with self._transaction():
            self._database.executemany(said, [(key, json.dumps(value)) for key, value in notes.items()])

    def _check(self, manifest: Mapping[str, Any]) -> None:
        begun = _manifest(self._database, self.path)
        for key, value in manifest.items():
            if begun.get(key) != json.loads(json.dumps(value)):
                raise DataError(
                    f"{self.path.name} goes on only with what it was begun with; {key} was: {_short(begun.get(key))}, "
                    f"now: {_short(value)}; write to a new file"
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def done(self, replicate: int) -> set[int]:
        """Numbers of the examples that are measured; failures are not, and may be tried again."""
        with _translated(self.path):
            rows = self._database.execute("SELECT number FROM examples WHERE replicate = ?", (replicate,))
            return {number for (number,) in rows}

    def add(self, examples: Iterable[Row], measurements: Iterable[Row], failures: Iterable[Row] = ()) -> None:
        """Write a batch: all of it, or after a kill none of it. What failed before and fails again is told anew."""
        there, lost = [_values(row, _EXAMPLE) for row in examples], [_values(row, _FAILED) for row in failures]
        with _translated(self.path), self._transaction():
            tried = [row[:2] for row in (*there, *lost)]
            self._database.executemany("DELETE FROM failures WHERE number = ? AND replicate = ?", tried)
            self._database.executemany(_insert("examples", _EXAMPLE), there)
            self._database.executemany(
                _insert("measurements", _MEASURED), [_values(row, _MEASURED) for row in measurements]
            )
            self._database.executemany(_insert("failures", _FAILED), lost)

    def scores(self) -> tuple[list[float], int]:
        """(sum of the scores of every arm, examples measured) so far."""
        with _translated(self.path):
            totals = [0.0] * len(_manifest(self._database, self.path)["arms"])
            for arm, total in self._database.execute("SELECT arm, sum(score) FROM measurements GROUP BY arm"):
                totals[arm] = float(total)
            count = self._database.execute("SELECT count(*) FROM examples").fetchone()[0]
        return totals, int(count)

    def replace_features(self, about: Mapping[str, Any], rows: Iterable[tuple[int, int, np.ndarray]]) -> None:
        """Put features of another version in the place of all there are; rows are (number, replicate, values).

        `about` is the manifest's entry: version, names, tflops.
        """
        with _translated(self.path), self._transaction():
            self._database.execute("UPDATE examples SET features = NULL")
            self._database.executemany(
                "UPDATE examples SET features = ? WHERE number = ? AND replicate = ?",
                [(_blob(values), number, replicate) for number, replicate, values in rows],
            )
            missing = self._database.execute("SELECT count(*) FROM examples WHERE features IS NULL").fetchone()[0]
            if missing:
                raise DataError(f"every example needs its features, was: none for {missing:,}; give all of the data")
            self._set("features", dict(about))

    def finish(self) -> None:
        """Say that nothing is missing."""
        with _translated(self.path), self._transaction():
            self._set("finished", True)

    def _set(self, key: str, value: object) -> None:
        self._database.execute("UPDATE manifest SET value = ? WHERE key = ?", (json.dumps(value), key))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(sqlite3.Error):  # somebody reads it just now: the log stays, and is as good
            self._database.execute("PRAGMA journal_mode = DELETE")  # one file, which can be read from anywhere
        self._database.close()
        self._lock.close()


def manifest(path: Path) -> dict[str, Any]:
    """What a file was begun with, and whether it is finished."""
    with _reading(path) as database:
        return _manifest(database, path)


def failures(path: Path) -> list[tuple[str, str]]:
    """(id, reason) of the examples that could not be measured."""
    with _reading(path) as database:
        rows = database.execute("SELECT id, reason FROM failures ORDER BY replicate, number").fetchall()
    return [(str(name), str(reason)) for name, reason in rows]


def read(path: Path, partial: bool = False) -> dict[str, Any]:
    """The columns of `training_data.outcomes.Outcomes`, rows by replicate and number.

    Raises:
        DataError: no such file, no outcomes file, damaged, or unfinished and `partial` is not asked for.
    """
    with _reading(path) as database:
        database.execute("BEGIN")  # one snapshot: a sweep may be writing its next batch
        about = _manifest(database, path)
        if not about.get("finished") and not partial:
            raise DataError(f"{path.name} must hold a finished sweep, was: unfinished; run the same sweep again")
        if not isinstance(about.get("arms"), list):
            raise DataError(f"{path.name} must name its arms, was: {shown(about.get('arms'))}; it is damaged")
        order = "ORDER BY replicate, number"
        named = ", ".join(f'"{name}"' for name in _EXAMPLE[1:])
        examples = list(zip(*database.execute(f"SELECT {named} FROM examples {order}"), strict=True))
        taken = ", ".join(("score", "cost", *_OPTIONAL))
        measured = list(zip(*database.execute(f"SELECT {taken} FROM measurements {order}, arm"), strict=True))
        stray = database.execute(_STRAY, (len(about["arms"]),)).fetchone()[0]
    if not examples:
        raise DataError(f"{path.name} must hold at least one measured example, was: none")
    try:
        if stray:
            raise ValueError(f"{stray} measurements of no example or arm")
        return _columns(path, about, examples, measured)
    except DataError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{path.name} must hold what a sweep wrote, was: damaged ({error}); measure again") from error


def _columns(path: Path, about: Row, examples: Sequence[Any], measured: Sequence[Any]) -> dict[str, Any]:
    rows, arms = len(examples[0]), len(about["arms"])
    if not measured or len(measured[0]) != rows * arms:
        raise DataError(f"{path.name} must hold {arms} measurements per example, was: another number; it is damaged")
    replicate, ids, group, dataset, question, meta, features = examples
    table = dict(zip(("score", "cost", *_OPTIONAL), measured, strict=True))
    columns: dict[str, Any] = {"arms": tuple(about["arms"]), "unit": about["unit"]}
    columns |= {"id": ids, "group": group, "dataset": dataset, "question": question, "replicate": np.array(replicate)}
    columns["m"] = None if about["m"] is None else np.array(about["m"])
    columns["backbone"] = None if about["backbone"] is None else tuple(about["backbone"])
    columns["meta"] = None if meta[0] is None else [json.loads(entry) for entry in meta]
    for name, values in table.items():
        whole = all(value is not None for value in values)
        kind = object if name == "text" else np.float64
        columns[name] = np.array(values, dtype=kind).reshape(rows, arms) if whole else None
    if about["features"] is not None and all(blob is not None for blob in features):
        names = tuple(about["features"]["names"])
        values = np.frombuffer(b"".join(features), dtype="<f4")
        if len(values) != rows * len(names):
            raise DataError(
                f"{path.name} must hold {len(names)} features per example, was: damaged; run features again"
            )
        tflops = about["features"].get("tflops", {})
        columns["features"] = int(about["features"]["version"]), names, values.reshape(rows, len(names)), tflops
    return columns


def write(path: Path, columns: Row) -> None:
    """Write the columns of an Outcomes as a finished file.

    Raises:
        DataError: the file is there already.
    """
    features = columns["features"]
    about = {
        "arms": list(columns["arms"]),
        "m": None if columns["m"] is None else columns["m"].tolist(),
        "unit": columns["unit"],
        "backbone": columns["backbone"],
        "features": None
        if features is None
        else {"version": features[0], "names": list(features[1]), "tflops": dict(features[3])},
    }
    numbers, part = _numbers(columns["id"].tolist()), path.with_name(path.name + ".part")
    lock = FileLock(path)  # of the file that is to be, so that nobody else is at its part, whose own lock can go
    try:
        if path.exists():
            raise DataError(f"an outcomes file is never overwritten, was there already: {path.name}; give another name")
        part.unlink(missing_ok=True)  # what an import left that was killed
        with Store(part, about) as store:
            store.add(_example_rows(columns, numbers), _measurement_rows(columns, numbers))
            store.finish()
        part.replace(path)
        part.with_name(part.name + ".lock").unlink(missing_ok=True)
    finally:
        lock.close()


def _numbers(ids: Sequence[str]) -> list[int]:
    """The same number for the same id: replicates of an example share it."""
    first: dict[str, int] = {}
    return [first.setdefault(name, len(first)) for name in ids]


def _example_rows(columns: Row, numbers: Sequence[int]) -> Iterator[Row]:
    meta, features = columns["meta"], columns["features"]
    for k, number in enumerate(numbers):
        yield {
            "number": number,
            "replicate": int(columns["replicate"][k]),
            **{name: str(columns[name][k]) for name in ("id", "group", "dataset", "question")},
            "meta": None if meta is None else json.dumps(meta[k], default=str),
            "features": None if features is None else _blob(features[2][k]),
        }


def _measurement_rows(columns: Row, numbers: Sequence[int]) -> Iterator[Row]:
    tables = {name: columns[name] for name in ("score", "cost", *_OPTIONAL) if columns[name] is not None}
    for k, number in enumerate(numbers):
        for arm in range(len(columns["arms"])):
            row = {name: table[k, arm] if name == "text" else float(table[k, arm]) for name, table in tables.items()}
            yield {"number": number, "replicate": int(columns["replicate"][k]), "arm": arm, **row}


def _blob(values: np.ndarray) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def _insert(table: str, names: Sequence[str]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})"


def _values(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        if not path.is_file():
            raise DataError(f"an outcomes file must exist, was: {path.name}; `matryoshka-router sweep` makes one")
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:  # a name too long, a file not ours to read
        raise DataError(
            f"an outcomes file must be readable, was: {shown(path.name)} ({error.strerror}); check the path"
        ) from error
    if magic != _MAGIC:
        raise DataError(
            f"outcomes are a file of `sweep` or a table (.csv, .tsv, .jsonl, .parquet), was: {path.name}, which is "
            "neither; name a table by what it is"
        )
    with _translated(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        yield database


def _manifest(database: sqlite3.Connection, path: Path) -> dict[str, Any]:
    try:
        about = {key: json.loads(value) for key, value in database.execute("SELECT key, value FROM manifest")}
    except (sqlite3.OperationalError, ValueError) as error:
        raise DataError(f"{path.name} must be an outcomes file, was: {error}") from error
    if about.get("format") != FORMAT:
        raise DataError(
            f"this version reads outcomes files of format {FORMAT}, was: {about.get('format')!r} in {path.name}; "
            "measure again or install the version that wrote it"
        )
    if missing := {"arms", "m", "unit", "backbone", "features"} - about.keys():
        raise DataError(f"{path.name} must say in its manifest {sorted(missing)}, was: nothing; it is damaged")
    return about


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise DataError(f"{path.name} must be a whole outcomes file in a writable folder, was: {error}") from error


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
