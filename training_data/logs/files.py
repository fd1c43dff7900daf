"""Files as evaluators write them: JSON in which NaN stands for an empty cell, tables, and Excel sheets.

Everything else about files is `training_data.rows`. Knows no log's fields.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoders.errors import DataError
from training_data.rows import Row, read_rows, read_text, shown


def read_document(path: Path) -> Row:
    """The one JSON object of a file, as a row; NaN counts as absent.

    Raises:
        DataError: missing, empty, torn, not JSON, or not one object.
    """
    value = _json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path.name} must hold one JSON object, was: {shown(value)}; check that it is the right file")
    return Row(path.name, "whole file", value)


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table: .xlsx (needs openpyxl), .json (an array of objects, NaN for empty cells), .tsv, .csv.

    Raises:
        DataError: another kind of file; missing, empty, torn, or with rows that do not fit; an .xlsx without openpyxl.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".json", ".tsv", ".xlsx"):
        raise DataError(f"a prediction table must be .xlsx, .tsv, .csv or .json, was: {path.name!r}; save it as one")
    if kind == ".xlsx":
        return _sheet_rows(path)
    return _json_rows(path) if kind == ".json" else read_rows(path)


def _json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} must be valid JSON, was: {error}; write it again") from error


def _json_rows(path: Path) -> Iterator[Row]:
    value = _json(path)
    if not isinstance(value, list) or not value:
        raise DataError(
            f"{path.name} must hold a JSON array of objects, was: {shown(value)}; check that it is the file"
        )
    for number, fields in enumerate(value, 1):
        row = Row(path.name, f"row {number}", fields if isinstance(fields, dict) else {})
        if not isinstance(fields, dict):
            row.refuse("a row must be a JSON object", fields, "write the file again")
        yield row


def _sheet_rows(path: Path) -> Iterator[Row]:
    """The rows of a workbook's first sheet below its header; empty lines are no rows."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"reading {path.name} needs openpyxl, was: not installed; run `pip install openpyxl`, or save it as .tsv"
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        lines = list(book.worksheets[0].iter_rows(values_only=True))
        book.close()
    except OSError as error:
        raise DataError(f"a data file must be readable, was: {path.name} ({error.strerror}); check the path") from error
    except (KeyError, ValueError, SyntaxError, zipfile.BadZipFile) as error:
        raise DataError(f"an Excel file must be whole, was: {path.name}, torn ({error}); write it again") from error
    header = lines[0] if lines else ()
    names = [str(name) for name in header if name is not None]
    if len(set(names)) < len(names) or not names:
        raise DataError(f"{path.name}, line 1: columns must have names, each its own, was: {names}; mend the header")
    for number, cells in enumerate(lines[1:], 2):
        if any(cell is not None for cell in cells):
            fields = {str(name): cell for name, cell in zip(header, cells, strict=False) if name is not None}
            yield Row(path.name, f"line {number}", fields)
