"""MME: two yes/no questions about every picture, in fourteen subtasks.

The release (https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation) has one folder per
subtask, pictures and texts side by side or in images/ and questions_answers_YN/. One text per picture, without header,
question and answer parted by a tab; some questions have two spaces before their last sentence:

    artwork/questions_answers_YN/10002.txt
    Does this artwork exist in the form of painting? Please answer yes or no.	Yes

LLaVA's answer files name both questions by the picture ("artwork/10002.jpg"), so answers join on picture and question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers.folder import Folder
from training_data.readers.llava import plain_question
from training_data.rows import Row, Tally, read_text

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_REQUEST = "please answer yes or no."


@dataclass(frozen=True)
class Result:
    """One line of a result file: which picture, what was asked, the gold answer and what the model said."""

    picture: str
    gold: str
    text: str
    row: Row


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of every subtask in the folder, or of the one named by `split`; ids are "subtask/picture#1" and "#2"."""
    found = False
    for category in [split] if split else (*PERCEPTION, *COGNITION):
        for path in _texts(folder, category):
            found = True
            yield from folder.tally.each(_lines(path, 2), partial(_example, folder, category, path))
    if not found:
        raise DataError(
            f"{folder.path.name} must hold MME's subtask folders with their question texts, was: none of "
            f"{', '.join([split] if split else PERCEPTION[:3])}, ...; fetch MME_Benchmark_release_version"
        )


def _texts(folder: Folder, category: str) -> list[Path]:
    homes = (f"{category}/questions_answers_YN/*.txt", f"{category}/*.txt")
    return next((texts for home in homes if (texts := folder.find_all(home))), [])


def _lines(path: Path, columns: int) -> Iterator[Row]:
    """The lines of a file without header, as rows that hold their cells; tabs beyond the last column belong to it."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield Row(path.name, f"line {number}", {"cells": line.rstrip("\r").split("\t", columns - 1)})


def _example(folder: Folder, category: str, path: Path, row: Row) -> Example:
    cells = [cell.strip() for cell in row.fields["cells"]]
    if len(cells) != 2 or cells[1].lower() not in ("yes", "no"):
        row.refuse("a line must be a question, a tab, and Yes or No", "\t".join(cells))
    stem = path.stem
    return Example(
        id=f"{category}/{stem}#{row.place.removeprefix('line ')}",
        image=_picture(folder, row, path),
        question=cells[0],
        answers=(cells[1],),
        group=f"{category}/{stem}",
        dataset=category,
        metric="mme",
        meta={"category": category},
    )


def _picture(folder: Folder, row: Row, path: Path) -> Path:
    home = path.parent.parent / "images" if path.parent.name == "questions_answers_YN" else path.parent
    places = [home / f"{path.stem}{kind}" for kind in (".jpg", ".png")]
    found = next((place for place in places if folder.pictures and place.is_file()), places[0])
    return folder.picture(row, str(found.relative_to(folder.path)))


def asked(question: str) -> str:
    """What tells the two questions of a picture apart: without the request for yes or no, without double spaces."""
    return plain_question(question).replace(_REQUEST, "").strip()


def read_results(folder: Path, tally: Tally | None = None) -> dict[str, list[Result]]:
    """The result folder of MME's own tool: "subtask.txt" without header; picture, question, gold and prediction.

    Files of other names are no results; capitals in names do not matter. A prediction may be of any length, with tabs,
    but must not span lines: MME's own calculation.py reads line by line, and stops there too.

    Raises:
        DataError: no file of a known subtask; a line of fewer than four columns; a gold answer but Yes or No.
    """
    tally = tally or Tally()
    there = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    paths = {name: there[f"{name.lower()}.txt"] for name in (*PERCEPTION, *COGNITION) if f"{name.lower()}.txt" in there}
    if not paths:
        raise DataError(
            f"a result folder must hold {PERCEPTION[0]}.txt or the like, was: {folder.name}; check the folder"
        )
    return {name: list(tally.each(_lines(path, 4), _result)) for name, path in paths.items()}


def _result(row: Row) -> Result:
    cells: list[str] = row.fields["cells"]
    if len(cells) != 4 or cells[2].strip().lower() not in ("yes", "no"):
        row.refuse(
            "a result must be one line of four columns parted by tabs, the third Yes or No",
            "\t".join(cells),
            "where the prediction of the line above goes on here, put it on one line",
        )
    return Result(cells[0].strip(), cells[2].strip().lower(), cells[3], row)
