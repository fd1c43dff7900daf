"""Rows of data files: opened, checked, and refused by file, line, field and value.

Reads JSON, JSON Lines, CSV, TSV (each also gzipped), Parquet and Excel sheets; tells JSON from JSON Lines by looking,
for real files bear either name. Knows formats and types of fields. Knows no benchmark, no picture and no score.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from encoders.counts import finite_number
from encoders.errors import DataError, shown
from encoders.prompts import is_unicode
from training_data.example import Example

MAX_BYTES = 4 << 30  # of one unpacked file; a gzip of zeros must not fill the memory
TABLES = (".csv", ".tsv", ".parquet", ".xlsx")
_MESSAGES_KEPT = 10
_SHEET_LINES = 1_048_576  # Excel's own limit; a damaged line number must not be counted up to
_CELLS = threading.Lock()  # the longest cell is a setting of the process

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Row:
    """One record of a file: where it stands and what it holds.

    Each getter returns a field in its type or raises a DataError that names file, line, field and value. An empty cell
    of a table and JSON's null count as absent, and so does NaN: pandas writes empty cells so.
    """

    file: str
    place: str  # "line 3" or "row 3", counted from one
    fields: Mapping[str, Any]
    key: str = ""  # under which it stands, where the file is an object of objects
    remedy: str = "mend the row or skip bad rows (skip_bad=True, --skip-bad)"

    def refuse(self, rule: str, received: object, remedy: str = "") -> NoReturn:
        """Raise the DataError of this row: `rule` broken by `received`."""
        raise DataError(f"{self.file}, {self.place}: {rule}, was: {shown(received)}; {remedy or self.remedy}")

    def has(self, name: str) -> bool:
        """Whether the field is there and not empty."""
        return self.fields.get(name) is not None

    def value(self, *names: str) -> Any:
        """The first of these fields that is there."""
        for name in names:
            if self.has(name):
                return self.fields[name]
        wanted = " or ".join(repr(name) for name in names)
        if empty := [name for name in names if name in self.fields]:
            return self.refuse(f"a row must have the field {wanted}", f"{empty[0]!r} empty")
        return self.refuse(f"a row must have the field {wanted}", f"only {', '.join(map(repr, self.fields))}")

    def text(self, *names: str, empty: bool = False) -> str:
        """A field that must hold text, blank only where `empty` allows it."""
        value = self.value(*names)
        if not isinstance(value, str) or not (empty or value.strip()):
            self.refuse(f"the field {self._named(names)!r} must be text{'' if empty else ' and not blank'}", value)
        return self.whole(self._named(names), value)

    def whole(self, name: str, text: str) -> str:
        """`text` of the field `name`, which must be one that can be written down."""
        if not is_unicode(text):
            self.refuse(f"the field {name!r} must be valid Unicode (no lone surrogates)", text)
        return text

    def optional(self, name: str) -> str | None:
        """A text field that may be absent."""
        return self.text(name, empty=True) if self.has(name) else None

    def integer(self, *names: str) -> int:
        """A field that must hold a whole number, or the digits of one; pandas writes 36 as 36.0 beside empty cells."""
        value = self.value(*names)
        if isinstance(value, str):
            whole, _, rest = value.strip().partition(".")
            if whole.removeprefix("-").isdecimal() and not rest.strip("0") and len(value) < 20:
                return int(whole)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(f"the field {self._named(names)!r} must be a whole number", value)
        return value

    def number(self, *names: str) -> float:
        """A field that must hold a finite number, or the text of one."""
        value = self.value(*names)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self.refuse(f"the field {self._named(names)!r} must be a finite number", value)
        return number

    def name(self, *names: str, empty: bool = False) -> str:
        """A text, or a number as text (1.0 stays "1.0"): files of one benchmark differ in which they write."""
        value = self.value(*names)
        if not math.isnan(finite_number(value)):
            return str(value)
        return self.text(*names, empty=empty)

    def texts(self, *names: str) -> tuple[str, ...]:
        """A text or a list of texts, as a tuple of at least one; a number counts as its text."""
        value = self.value(*names)
        given = value if isinstance(value, list) else [value]
        items = [item if math.isnan(finite_number(item)) else str(item) for item in given]
        if not items or not all(isinstance(item, str) for item in items):
            self.refuse(f"the field {self._named(names)!r} must be a text or a list of texts", value)
        return tuple(self.whole(self._named(names), item) for item in items)

    def rows(self, name: str) -> list[Row]:
        """A field that must hold a list of objects, each as a row of its own."""
        value = self.value(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.refuse(f"the field {name!r} must be a list of objects", value)
        return [Row(self.file, f"{self.place}, {name}[{k}]", item) for k, item in enumerate(value)]

    def _named(self, names: tuple[str, ...]) -> str:
        return next(name for name in names if self.has(name))


@dataclass(frozen=True)
class Reading:
    """What a reader found: examples in file order, how many rows were skipped as bad, and the first ten reasons."""

    examples: tuple[Example, ...]
    bad: int = 0
    messages: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


@dataclass
class Tally:
    """Counts bad rows where `skip_bad`, raises the first one where not; sees to it that ids are unique."""

    skip_bad: bool = False
    bad: int = 0
    messages: list[str] = field(default_factory=list)
    _seen: dict[str, str] = field(default_factory=dict)

    def refuse(self, error: DataError) -> None:
        """Raise `error`, or count it."""
        if not self.skip_bad:
            raise error
        self.bad += 1
        if len(self.messages) < _MESSAGES_KEPT:
            self.messages.append(str(error))

    def add(self, reading: Reading) -> None:
        """Count what a reader skipped."""
        self.bad += reading.bad
        self.messages += reading.messages[: _MESSAGES_KEPT - len(self.messages)]

    def each(self, items: Iterable[Given], make: Callable[[Given], Made]) -> Iterator[Made]:
        """What `make` makes of each item, less the bad ones. Of two examples of one id the second is bad."""
        for item in items:
            try:
                made = make(item)
                if isinstance(item, Row) and isinstance(made, Example):
                    self._once(made.id, item)
            except DataError as error:
                self.refuse(error)
            else:
                yield made

    def keyed(self, rows: Iterable[Row], field_name: str) -> dict[str, Row]:
        """The rows by an id they hold, less the bad ones. Of two rows of one id the second is bad."""
        found: dict[str, Row] = {}

        def keep(row: Row) -> None:
            name = row.name(field_name)
            if found.setdefault(name, row) is not row:
                row.refuse(f"the field {field_name!r} must be its row's own (also in {found[name].place})", name)

        for _ in self.each(rows, keep):
            pass
        return found

    def _once(self, name: str, row: Row) -> None:
        if name in self._seen:
            row.refuse(f"an id may be given once (first in {self._seen[name]})", name, "give every row its own id")
        self._seen[name] = f"{row.file}, {row.place}"


def read_rows(path: Path, tally: Tally | None = None, key: str | None = None) -> Iterator[Row]:
    """The rows of a file.

    A JSON file may be an array of objects, JSON Lines, or, with `key`, an object that holds the array there. A table
    (.csv, .tsv, .parquet, the first sheet of an .xlsx) has one row per line below its header.

    Raises:
        DataError: missing, empty, torn, wrongly encoded, not JSON, or with rows that are no objects; pyarrow or
            openpyxl missing. Bad lines of JSON Lines and of tables are counted where `tally` skips bad rows.
    """
    if tally is None:  # nobody can skip a row
        yield from (replace(row, remedy="mend the row") for row in read_rows(path, Tally(), key))
    elif is_sheet(path):
        yield from _sheet_rows(path)
    elif (kind := ending(path)) == ".parquet":
        yield from _parquet_rows(path)
    elif kind in (".csv", ".tsv"):
        yield from _table_rows(path, "," if kind == ".csv" else "\t", tally)
    else:
        yield from _json_rows(path, tally, key)


def read_document(path: Path) -> Row:
    """The one JSON object of a file, as a row.

    Raises:
        DataError: as `read_text`; not JSON, or not one object.
    """
    value = _parse(read_text(path), path)
    if not isinstance(value, dict):
        raise DataError(f"{path.name} must hold one JSON object, was: {shown(value)}; check that it is the right file")
    return Row(path.name, "whole file", value)


def ending(path: Path) -> str:
    """What a file's name says of its format, in lower case: its last suffix, or the one before ".gz"."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def is_sheet(path: Path) -> bool:
    """Whether a file is an Excel workbook by its name."""
    return path.suffix.lower() == ".xlsx"


def is_document(path: Path) -> bool:
    """Whether a file is one JSON object, not an array, JSON Lines or a table."""
    if ending(path) in TABLES:
        return False
    text = read_text(path).strip()
    return text[0] == "{" and ("\n" not in text or not _first_line_is_whole(text))


def read_entries(path: Path, tally: Tally) -> Iterator[Row]:
    """The rows, each with its key, of a JSON file that is an object of objects, such as ScienceQA's problems.json."""
    entries = read_document(path).fields.items()
    yield from tally.each(entries, lambda entry: _row(path, f"entry {entry[0]!r}", entry[1], entry[0]))


def read_text(path: Path) -> str:
    """The text of a file, gunzipped where it is a gzip, without a byte order mark.

    Raises:
        DataError: missing, empty, larger than 4 GiB, a torn gzip, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"a gzip file must be whole, was: {path.name}, torn ({error}); fetch it again") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"a data file must be readable, was: {path.name} ({reason}); check the path") from error
    except MemoryError as error:
        raise DataError(f"a data file must fit into memory, was: {path.name}; split it") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"a data file may have at most {MAX_BYTES:,} bytes, was: {path.name}, larger; split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"a data file must be UTF-8, was: {path.name} with {content[error.start : error.start + 1]!r} at byte "
            f"{error.start:,}; save it as UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"a data file must not be empty, was: {path.name}; fetch or write it again")
    return text


def _parse(text: str, path: Path, first_line: int = 1) -> Any:
    try:
        return json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except _Twice as error:
        raise DataError(
            f"{path.name}, from line {first_line} on: a JSON object gives each key once, was twice: {error}; drop one"
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path.name}, line {first_line + error.lineno - 1}: must be valid JSON ({error.msg}, column {error.colno})"
            f", was: {shown(text[max(0, error.pos - 20) : error.pos + 20])}; mend the line or fetch the file again"
        ) from error
    except RecursionError as error:
        raise DataError(
            f"{path.name}, line {first_line}: JSON may not be nested this deeply, was: {shown(text[:20])}; flatten it"
        ) from error
    except MemoryError as error:
        raise DataError(f"a data file must fit into memory, was: {path.name}; split it") from error
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"{path.name}, line {first_line}: numbers must be finite ({error}); mend them") from error


class _Twice(ValueError):
    """A key that an object gives twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are given once: of two, Python's reader drops the first in silence."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(shown(twice))
    return made


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)  # infinities are refused by the field that holds them


def _json_rows(path: Path, tally: Tally, key: str | None) -> Iterator[Row]:
    text = read_text(path)
    start = text.lstrip()[0]
    if start != "[" and key is None and (path.suffix == ".jsonl" or _first_line_is_whole(text)):
        lines = (pair for pair in enumerate(text.split("\n"), 1) if pair[1].strip())
        yield from tally.each(lines, lambda pair: _row(path, f"line {pair[0]}", _parse(pair[1], path, pair[0])))
        return
    value = _parse(text, path)
    if key is not None and isinstance(value, dict):
        value = Row(path.name, "whole file", value).value(key)
    if not isinstance(value, list) or not value:
        wanted = "a JSON array of objects or JSON Lines" if key is None else f"a list of objects under {key!r}"
        raise DataError(f"{path.name} must hold {wanted}, was: {shown(value)}; check that it is the right file")
    yield from tally.each(enumerate(value, 1), lambda pair: _row(path, f"row {pair[0]}", pair[1]))


def _first_line_is_whole(text: str) -> bool:
    """Whether this is JSON Lines: the first line is an object by itself, and more follows or nothing does."""
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False


def _row(path: Path, place: str, value: object, key: str = "") -> Row:
    if not isinstance(value, dict):
        Row(path.name, place, {}).refuse("a row must be a JSON object", value)
    return Row(path.name, place, value, key)


def _table_rows(path: Path, separator: str, tally: Tally) -> Iterator[Row]:
    text = read_text(path)
    with _CELLS:
        before = csv.field_size_limit(min(MAX_BYTES, 2**31 - 1))  # pictures as base64; a C long has 32 bits on Windows
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
        except csv.Error as error:
            raise DataError(
                f"{path.name}, line {reader.line_num}: a table must be whole ({error}); mend quotes or fetch it again"
            ) from error
        finally:
            csv.field_size_limit(before)
    header = [name.strip() for name in lines[0][1]]
    if len(set(header)) < len(header) or "" in header[1:]:  # the first without a name is an index that pandas wrote
        raise DataError(f"{path.name}, line 1: columns must have names, each its own, was: {header}; mend the header")
    yield from tally.each(lines[1:], lambda line: _table_row(path, f"line {line[0]}", header, line[1]))


def _table_row(path: Path, place: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        Row(path.name, place, {}).refuse(f"a line must have {len(header)} cells like its header", f"{len(cells)} cells")
    return Row(path.name, place, {name: cell or None for name, cell in zip(header, cells, strict=True) if name})


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(f"reading {path.name} needs pyarrow, was: not installed; run `pip install pyarrow`") from error
    try:
        records = parquet.read_table(path).to_pylist()
    except (OSError, ValueError, ArrowException) as error:  # text that is not UTF-8 is a ValueError
        raise DataError(f"a Parquet file must be whole, was: {path.name} ({error}); write it again") from error
    for number, record in enumerate(records, 1):
        # pandas writes an empty cell as NaN, which alone of all values differs from itself
        yield Row(path.name, f"row {number}", {name: cell if cell == cell else None for name, cell in record.items()})


def _sheet_rows(path: Path) -> Iterator[Row]:
    """The rows of the first sheet; columns without a name are none. Cells are text, as in every other table."""
    lines = _sheet_lines(path)
    first, header = lines[0] if lines else (1, ())
    names = [name for name in header if name is not None]
    if len(set(names)) < len(names) or not names:
        raise DataError(
            f"{path.name}, line {first}: columns must have names, each its own, was: {names}; mend the header"
        )
    for number, cells in lines[1:]:
        fields = {name: cell for name, cell in zip_longest(header, cells) if name is not None}
        yield Row(path.name, f"line {number}", fields)


def _sheet_lines(path: Path) -> list[tuple[int, list[str | None]]]:
    """The lines of a workbook's first sheet that are not empty, with their numbers."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"reading {path.name} needs openpyxl, was: not installed; run `pip install openpyxl`, or save it as .tsv"
        ) from error
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"a data file must be readable, was: {path.name} ({error.strerror}); check the path") from error
    with file:
        try:
            if (unpacked := sum(part.file_size for part in zipfile.ZipFile(file).infolist())) > MAX_BYTES:
                raise ValueError(f"{unpacked:,} bytes unpacked")
            return list(_filled(openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets[0]))
        except Exception as error:  # damage raises whatever openpyxl, zipfile, zlib or the XML parser happened to meet
            raise DataError(
                f"an Excel file must be whole, of at most {MAX_BYTES:,} bytes and {_SHEET_LINES:,} lines, was: "
                f"{path.name} ({type(error).__name__}: {error}); write it again, or save it as .tsv"
            ) from error


def _filled(sheet: Any) -> Iterator[tuple[int, list[str | None]]]:
    sheet.reset_dimensions()  # writers may give a size that is too small, and lines beyond it would be lost
    for number, values in enumerate(sheet.values, 1):
        if number > _SHEET_LINES:
            raise ValueError(f"lines beyond {_SHEET_LINES:,}")
        if any(map(_cell, values)):
            yield number, [_cell(value) for value in values]


def _cell(value: object) -> str | None:
    return None if value is None or value == "" else str(value)
