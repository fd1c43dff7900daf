r"""LLaVA's question files and answer files, and the answer files of the other benchmarks.

One row of a question file (JSON Lines), https://github.com/haotian-liu/LLaVA/blob/main/docs/Evaluation.md:

    {"question_id": 0, "image": "001.jpg", "text": "What is shown?\nAnswer the question ...", "category": "conv"}

One row of an answer file: {"question_id": 0, "prompt": "What is shown?\nAnswer ...", "text": "A cat.", ...}.
VQA's servers take {"question_id", "answer"}, DocVQA's {"questionId", "answer"}, VizWiz's {"image", "answer"} and GQA's
{"questionId", "prediction"}, as a JSON array; ChartQA's answers are {"imgname", "query", "prediction"}, POPE's own
{"question", "answer"} in the order of its questions; all of them are read here. Knows no gold answer but what a
question file carries itself under "answer" or "label".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training_data.example import PICTURE_ENDINGS, Example
from training_data.readers.folder import Folder
from training_data.rows import TABLES, Row, Tally, ending, read_rows

_IDS = ("question_id", "questionId", "id", "index", "image", "imgname")
_PICTURES = ("image_path", "image", "imgname")
_PROMPTS = ("prompt", "question", "query")
_ANSWERS = ("prediction", "text", "answer")  # VLMEvalKit's tables have the gold answer beside the prediction
_INSTRUCTION = re.compile(r"^\s*(<image>|Answer with .*|Answer the question using .*|Reference OCR token:.*)\s*$")
_OCR_PROMPT = re.compile(r"^OCR tokens: .*?Question: (.*?) Short answer:", re.DOTALL)


@dataclass(frozen=True)
class Given:
    """One answer of a model: to which question, how the question was put (where the file says so), and the text."""

    id: str
    prompt: str | None
    text: str
    row: Row

    @property
    def pictures(self) -> list[str]:
        """Names of the picture that the row shows, as far as it names one."""
        said = [self.row.fields.get(name) for name in _PICTURES]
        return [picture_name(name) for name in said if isinstance(name, str)]

    @property
    def raw(self) -> bool:
        """Whether the text is as the model wrote it (LLaVA's files), not yet prepared for a server."""
        return self.row.has("text") and not self.row.has("prediction")


def read(folder: Folder, split: str | None) -> Iterator[Example]:
    """Examples of the one question file (`*.jsonl`) in a folder; `split` is the start of its name."""
    path = folder.find(f"{split or ''}*.jsonl")
    yield from folder.tally.each(read_rows(path, folder.tally), lambda row: _example(folder, row))


def _example(folder: Folder, row: Row) -> Example:
    name = row.text("image")
    gold = row.texts("answer", "label", "answers") if any(map(row.has, ("answer", "label", "answers"))) else ()
    return Example(
        id=row.name("question_id"),
        image=folder.picture(row, name, "images"),
        question=row.text("text"),
        answers=gold,
        group=name,
        dataset=row.optional("category") or "llava",
    )


def read_answers(path: Path, tally: Tally | None = None) -> list[Given]:
    """Every answer of a file, in its order.

    Raises:
        DataError: as `read_rows`; an answer without an id or whose answer is neither text nor a number.
    """
    tally = tally or Tally()
    return list(tally.each(read_rows(path, tally), _given))


def _given(row: Row) -> Given:
    column = next((name for name in _ANSWERS if name in row.fields), None)
    # an empty cell of a table is an empty answer, never the next column's text: that may be the gold answer
    tabled = ending(Path(row.file)) in TABLES
    empty = column is not None and tabled and not row.has(column)
    text = "" if empty else row.name(*(_ANSWERS if column is None else (column,)), empty=True)
    prompt = row.name(*_PROMPTS, empty=True) if any(map(row.has, _PROMPTS)) else None
    nameless = prompt and not any(name in row.fields for name in _IDS)  # POPE's own answers stand in its order
    return Given("" if nameless else row.name(*_IDS), prompt, text, row)


def picture_name(name: str) -> str:
    """A picture's name without ending and without the folders between subtask and file."""
    path = PurePosixPath(name)
    stem = path.stem if path.suffix.lower() in PICTURE_ENDINGS else path.name
    return "/".join([*path.parts[:-1][:1], stem])


def plain_question(prompt: str) -> str:
    """The question in a prompt: without instructions, picture mark and OCR hints, in lower case, single-spaced.

    Undoes what LLaVA's question files append, as its evaluators do
    (https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_textvqa.py, `prompt_processor`).
    """
    if match := _OCR_PROMPT.match(prompt):
        prompt = match.group(1)
    lines = [line for line in prompt.split("\n") if not _INSTRUCTION.match(line)]
    return " ".join(" ".join(lines).lower().split())
