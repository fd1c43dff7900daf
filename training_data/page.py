"""A page of a report: one HTML file that needs no network, with figures as PNG files and tables as CSV files beside it.

Knows HTML. Texts come from strangers: cells are escaped, and the page's own policy forbids scripts and anything from
outside.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template

from encoders.errors import DataError

Table = list[list[str]]  # first row: headings

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #111; max-width: 54rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #999 }
.verdict { font-size: 1.5rem; font-weight: bold }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
table { display: block; overflow-x: auto }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid #ddd }
td { white-space: nowrap }
th:first-child, td:first-child { text-align: left } figure { margin: 1rem 0; break-inside: avoid }
figure img { max-width: 100% } .sheet { display: flex; flex-wrap: wrap; gap: 1rem }
.sheet figure { width: 10rem; margin: 0; font-size: .8rem; overflow-wrap: anywhere }
.small { color: #444; font-size: .9rem }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is HTML."""
    return _PAGE.substitute(title=escape(title), body="\n".join(body))


def write_folder(folder: Path, text: str, figures: Mapping[str, bytes], tables: Mapping[str, Table]) -> Path:
    """Write `report.html`, NAME.png and NAME.csv; files of an earlier report are overwritten. Returns the page's path.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in figures.items():
            (folder / f"{name}.png").write_bytes(png)
        for name, table in tables.items():
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(table)
        path = folder / "report.html"
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"a report needs a folder it can write, was: {folder.name!r} ({error.strerror}); name another"
        ) from error
    return path


def image(png: bytes, name: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def html_table(table: Table) -> str:
    """A table; every cell is escaped."""
    head, *body = table
    rows = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    rows += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return "<table>" + "\n".join(rows) + "</table>"
