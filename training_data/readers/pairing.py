"""Which question an answer is to.

By id; by category and number, where ids start anew in every file (POPE's labels); by picture and question, where
answers go by their picture (TextVQA, ChartQA, and MME, whose answers name both questions of a picture alike); where the
id is a picture's name, by the number at its end (VizWiz as LLaVA asks it); or, where no answer has an id, by order
(POPE's own answer files). Never across pictures or categories, where an answer names its own:

    {"question_id": "artwork/10002.jpg", "prompt": "Does this artwork exist in ...", "text": "Yes", ...}
    {"question_id": 0, "prompt": "Ok. There is another ...", ...}            is VizWiz_val_00000000.jpg

Knows these keys. Knows no score, and no question that is put in several rounds (MMBench's).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from encoders.errors import DataError
from training_data.example import PICTURE_ENDINGS, Example
from training_data.readers.llava import Given, picture_name
from training_data.readers.mme import asked
from training_data.readers.textvqa import question_line
from training_data.rows import Tally
from training_data.scores import listed

_NAMED = 3  # ids named in a message
_LAST = "picture "  # before the number that a picture's name ends in
_LAST_NUMBER = re.compile(r"\d+$")

Pair = tuple[Example, Given]


def pair(examples: Sequence[Example], answers: Iterable[Given], tally: Tally | None = None) -> list[Pair]:
    """Each answer with its question, in the order of the answers.

    A picture's question asked twice takes its answers in the order of the data.

    Raises:
        DataError: an answer to no question, to one of several, or to one that has been answered; by file and line, and
            counted where `tally` skips bad rows. Answers of which most are their own questions: those were read from
            another column.
    """
    known = {example.id: [example] for example in examples}
    also: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        for name in _names(example):
            also[name].append(example)
    shown = {picture_name(example.group) for example in examples}
    taken: dict[str, Given] = {}

    def joined(given: Given) -> Pair:
        named = f"{given.id} {given.prompt or ''}".strip()
        picture = next((name for name in given.pictures if name in shown), None)
        said = given.row.fields.get("category")

        def fits(example: Example) -> bool:
            alike = said in (None, example.meta.get("category") or said)
            return alike and picture in (None, picture_name(example.group))

        meant = list(filter(fits, known.get(given.id, []))) or _meant(given, picture, known, also, fits)
        if not meant:
            split = examples[0].meta.get("split") if examples else None
            given.row.refuse(
                f"every answer must belong to a question{f' of the split {split!r}' if split else ''}",
                named,
                "leave it out, or name the split it belongs to" if split else "check data folder and split",
            )
        # of questions alike but for a space or a capital, the one that was put word for word
        meant = sorted(meant, key=lambda one: -len(one.question) if one.question in (given.prompt or "") else 0)
        free = next((example for example in meant if example.id not in taken), None)
        if free is None:
            place = taken[meant[-1].id].row.place
            given.row.refuse(f"a question may be answered once (also in {place})", named, "keep one of the answers")
        taken[free.id] = given
        return free, given

    answers = list(answers)
    if answers and not any(given.id for given in answers):
        answers = _in_order(examples, answers)
    pairs = list((tally or Tally()).each(answers, joined))
    echoes = [given for example, given in pairs if asked(given.text) == asked(example.question)]
    if 2 * len(echoes) > len(pairs):
        echoes[0].row.refuse("answers must not be their questions", echoes[0].text, "name their field 'prediction'")
    return pairs


def _in_order(examples: Sequence[Example], answers: Sequence[Given]) -> list[Given]:
    """Answers without ids, each with that of the question in its place, which it must name in its words."""
    if len(answers) != len(examples):
        raise DataError(
            f"{answers[0].row.file}: answers without ids must be as many as the questions, {len(examples):,}, "
            f"was: {len(answers):,}; name the split they answer, or give them a question_id"
        )
    for example, given in zip(examples, answers, strict=True):
        if not _asks(given.prompt, example):
            given.row.refuse(
                f"answers without ids must stand in the order of the questions, here {example.question!r}",
                given.prompt,
                "give them a question_id",
            )
    return [replace(given, id=example.id) for example, given in zip(examples, answers, strict=True)]


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
    names = [f"{picture_name(example.group)} {asked(example.question)}"]
    name = PurePosixPath(example.id)
    if name.suffix.lower() in PICTURE_ENDINGS and (last := _LAST_NUMBER.search(name.stem)):
        names.append(f"{_LAST}{int(last.group())}")
    return [*names, number] if example.id.endswith(f"/{number}") else names


def _meant(
    given: Given,
    picture: str | None,
    known: Mapping[str, list[Example]],
    also: Mapping[str, list[Example]],
    fits: Callable[[Example], bool],
) -> list[Example]:
    """Questions that an answer may be to whose id is not its own; `picture` is the one it names."""
    name = picture or picture_name(given.id)
    prompted = list(filter(fits, also.get(f"{name} {asked(given.prompt or '')}", [])))
    if not prompted and given.prompt:  # TextVQA's own rule, whatever instruction follows the question
        by_line = also.get(f"{name} {asked(question_line(given.prompt))}", [])
        prompted = [example for example in by_line if example.metric == "textvqa"]
    if (category := given.row.fields.get("category")) is not None:
        return list(filter(fits, known.get(f"{category}/{given.id}", []))) or prompted
    numbered = list(filter(fits, also.get(given.id, [])))
    if len(numbered) > 1:
        given.row.refuse(
            "ids start anew in every label file, so answers need a category or POPE's question file",
            given.id,
            "add llava_pope_test.jsonl to the data folder, or give the folder above, where LLaVA keeps it",
        )
    if numbered or prompted:
        return numbered or prompted
    # a number is a guess: it holds where one picture ends in it, and the answer was not asked something else
    ending = also.get(f"{_LAST}{given.id}", [])
    return ending if len(ending) == 1 and _asks(given.prompt, ending[0]) else []
