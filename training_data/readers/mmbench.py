"""MMBench: questions with up to four choices, each asked again with its choices rotated.

One line of mmbench_dev_20230712.tsv, https://github.com/open-compass/MMBench:

    index	question	hint	A	B	C	D	answer	category	image	source	l2-category	comment	split
    241	Which ...?	nan	Repel	Attract			B	physical_property	/9j/4AAQSkZ...	...

The picture is base64, or the index of the row that holds it. Rotations of one question have the same index modulo one
million, its circle; the question is won only with all of them. Pictures stay base64 in memory until they are opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from training_data.example import Example
from training_data.readers.folder import Embedded, Folder
from training_data.rows import Row, read_rows
from training_data.scores import listed

CIRCLE = 1_000_000
CHOICES = "ABCDEFGH"  # the fields that choices stand in
_SHORTEST_PICTURE = 64  # characters; below, a cell is an index


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of the one TSV in the folder whose name holds `split`; rotations are examples of their own."""
    # LLaVA's and M3's instructions lay the English and the Chinese file of a split side by side.
    english = f"mmbench_{split or 'dev'}_20230712.tsv"
    path = folder.find(*((f"{split}.tsv", english, f"*{split}*.tsv") if split else (english, "*.tsv")))
    rows = list(read_rows(path, folder.tally))
    cells = {str(row.fields.get("index")): row.fields.get("image") for row in rows}
    yield from folder.tally.each(rows, lambda row: _example(folder, row, cells))


def _example(folder: Folder, row: Row, cells: dict[str, str | None]) -> Example:
    index = row.integer("index")
    choices = _choices(row)
    if (gold := row.text("answer")) not in CHOICES[: len(choices)]:
        row.refuse(f"the field 'answer' must be one of the letters of its {len(choices)} choices", gold)
    cell = (row.optional("image") or "").strip()
    picture = _picture(row, cells) if folder.pictures else cells.get(cell) or cell  # rotations share a group either way
    lines = [_said(row, "hint"), row.text("question"), *listed(choices.values())]
    return Example(
        id=str(index),
        image=Embedded(picture, f"{row.file}, {row.place}"),
        question="\n".join(line for line in lines if line),
        answers=(gold,),
        group=hashlib.sha256(picture.encode()).hexdigest()[:16],
        dataset="mmbench",
        choices=tuple(choices.values()),
        metric="mmbench",
        meta={"circle": index % CIRCLE, "category": row.fields.get("category")},
    )


def _choices(row: Row) -> dict[str, str]:
    """The choices from A on, up to the first that is empty; pandas wrote "nan" for those, and "None" may be one."""
    choices: dict[str, str] = {}
    for letter in CHOICES:
        text = _said(row, letter)
        if text is None and letter <= row.text("answer") and row.fields.get(letter) == "None":
            text = "None"
        if text is None:
            break
        choices[letter] = text
    return choices


def _said(row: Row, name: str) -> str | None:
    text = row.optional(name)
    return None if text is None or text.strip().lower() in ("", "nan", "none") else text


def _picture(row: Row, cells: dict[str, str | None]) -> str:
    """The base64 of a row's picture, followed where the cell refers to another row."""
    cell = row.text("image")
    for _ in range(2):
        if len(cell) >= _SHORTEST_PICTURE:
            return cell
        cell = cells.get(cell.strip()) or ""
    return row.refuse("the field 'image' must be base64 or the index of a row that holds a picture", row.text("image"))
