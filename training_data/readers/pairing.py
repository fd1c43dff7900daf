"""Which question an answer is to.

By id; by category and number, where ids start anew in every file (POPE's labels); by picture and question, where
answers go by their picture (TextVQA, ChartQA, and MME, whose answers name both questions of a picture alike); or, where
the id is a picture's name, by the number at its end (VizWiz as LLaVA asks it):

    {"question_id": "artwork/10002.jpg", "prompt": "Does this artwork exist in ...", "text": "Yes", ...}
    {"question_id": 0, "prompt": "Ok. There is another ...", ...}            is VizWiz_val_00000000.jpg

Knows these keys. Knows no score, and no question that is put in several rounds (MMBench's).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers.folder import PICTURES
from training_data.readers.llava import Given
from training_data.readers.mme import asked
from training_data.readers.textvqa import question_line
from training_data.rows import Tally
from training_data.scores import listed

_NAMED = 3  # ids named in a message
_LAST = "picture "  # before the number that a picture's name ends in
_LAST_NUMBER = re.compile(r"\d+$")

Pair = tuple[Example, Given]


def pair(examples: Sequence[Example], answers: Iterable[Given], tally: Tally | None = None) -> Iterator[Pair]:
    """Each answer with its question, in the order of the answers.

    A picture's question asked twice takes its answers in the order of the data.

    Raises:
        DataError: an answer to no question, to one of several, or to one that has been answered. By file and line;
            counted where `tally` skips bad rows.
    """
    known = {example.id: [example] for example in examples}
    also: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        for name in _names(example):
            also[name].append(example)
    taken: dict[str, Given] = {}

    def joined(given: Given) -> Pair:
        named = f"{given.id} {given.prompt or ''}".strip()
        said = given.row.fields.get("category")
        by_id = [one for one in known.get(given.id, []) if said in (None, one.meta.get("category") or said)]
        meant = by_id or _meant(given, known, also)
        if not meant:
            split = examples[0].meta.get("split") if examples else None
            given.row.refuse(
                f"every answer must belong to a question{f' of the split {split!r}' if split else ''}",
                named,
                "leave it out, or name the split it belongs to" if split else "check data folder and split",
            )
        free = next((example for example in meant if example.id not in taken), None)
        if free is None:
            place = taken[meant[-1].id].row.place
            given.row.refuse(f"a question may be answered once (also in {place})", named, "keep one of the answers")
        taken[free.id] = given
        return free, given

    return (tally or Tally()).each(answers, joined)


def reworded(pairs: Iterable[Pair]) -> int:
    """How many answers say themselves that something else was asked than the question they are joined to."""
    return sum(not _asks(given.prompt, example) for example, given in pairs)


def _asks(prompt: str | None, example: Example) -> bool:
    """Whether a prompt, where there is one, holds every line of the question but its choices, or is a part of it.

    Choices are put in many ways, a hint may stand elsewhere, and VLMEvalKit's tables have it in a column of its own.
    """
    said = asked(prompt or "")
    lines = example.question.replace("\n".join(listed(example.choices or ())), "").split("\n")
    return said in asked(example.question) or all(asked(line) in said for line in lines)


def none_left(examples: Sequence[Example], answered: Collection[str], file: str, spare: int = 0) -> None:
    """See to it that no more than `spare` questions, whose answers were bad rows, are without an answer.

    Raises:
        DataError: more ids that are not among `answered`, in `file`.
    """
    if len(lost := [example.id for example in examples if example.id not in answered]) > spare:
        raise DataError(
            f"{file}: every question must have an answer, was: {len(lost):,} of {len(examples):,} without, such as "
            f"{', '.join(lost[:_NAMED])}; answer them, or check the split"
        )


def _names(example: Example) -> list[str]:
    """What answers may call a question beside its id: picture and words, a number within a category or of a picture."""
    number = str(example.meta.get("question_id"))
    names = [f"{_picture(example.group)} {asked(example.question)}"]
    name = PurePosixPath(example.id)
    if name.suffix.lower() in PICTURES and (last := _LAST_NUMBER.search(name.stem)):
        names.append(f"{_LAST}{int(last.group())}")
    return [*names, number] if example.id.endswith(f"/{number}") else names


def _meant(given: Given, known: Mapping[str, list[Example]], also: Mapping[str, list[Example]]) -> list[Example]:
    prompted = also.get(f"{_picture(given.id)} {asked(given.prompt or '')}", [])
    if not prompted and given.prompt:  # TextVQA's own rule, whatever instruction follows the question
        by_line = also.get(f"{_picture(given.id)} {asked(question_line(given.prompt))}", [])
        prompted = [example for example in by_line if example.metric == "textvqa"]
    if (category := given.row.fields.get("category")) is not None:
        return known.get(f"{category}/{given.id}", prompted)
    numbered = also.get(given.id, [])
    if len(numbered) > 1:
        given.row.refuse(
            "ids start anew in every label file, so answers need a category or POPE's question file",
            given.id,
            "add llava_pope_test.jsonl to the data folder",
        )
    if numbered or prompted:
        return numbered or prompted
    # a number is a guess: it holds where one picture ends in it, and the answer was not asked something else
    ending = also.get(f"{_LAST}{given.id}", [])
    return ending if len(ending) == 1 and _asks(given.prompt, ending[0]) else []


def _picture(name: str) -> str:
    """A picture's name without ending and without the folders between subtask and file."""
    path = PurePosixPath(name)
    stem = path.stem if path.suffix.lower() in PICTURES else path.name
    return "/".join([*path.parts[:-1][:1], stem])
