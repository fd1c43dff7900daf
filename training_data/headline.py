"""A benchmark's own headline figures, from answer files that exist: no model, no picture.

Sums up, over answers joined to gold answers, as each published evaluator does. Knows readers and scores. Figures are in
percent, MME's in its points. Where the published evaluator goes on without an answer, so does this, and says how many
are missing; elsewhere a missing, an unknown or a double answer is an error with its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers import read
from training_data.readers.llava import Given, read_answers
from training_data.readers.mme import COGNITION, PERCEPTION, Result, read_results
from training_data.readers.pairing import Pair, none_left, pair, reworded
from training_data.readers.pope import CATEGORIES
from training_data.rows import Reading, Row, Tally, is_document, read_document
from training_data.scores import LETTERS, Scored, evalai_normal, mme_says, said_yes, score, served_vqa

Figures = dict[str, Any]
_CHOICES = LETTERS[:5]  # ScienceQA has five at most


def headline(
    benchmark: str, data: Path | None, answers: Path, *, split: str | None = None, skip_bad: bool = False
) -> Figures:
    """The headline figures of a benchmark under fixed keys.

    `pope`: {adversarial, popular, random: {accuracy, precision, recall, f1, yes_rate}, mean: {accuracy, f1}};
    `mme`: {perception, cognition, categories: {name: {score, accuracy, accuracy_plus}}};
    `scienceqa`: {accuracy, image_accuracy}; `docvqa`: {anls, n, unparsed};
    `chartqa`, `gqa`, `mmbench`, `textvqa`, `vizwiz`, `vqav2`: {accuracy, n, unparsed}. n counts what the figure is a
    mean of: questions, and for `mmbench` circles of them. Where answers may be missing and are, "missing" counts them;
    "reworded" those, where there are any, whose own prompt does not hold the question that they were joined to; and
    "skipped" is {questions, answers, first: the first reason} where `skip_bad` passed over some.

    Args:
        benchmark: one of the above.
        data: the benchmark's folder; pictures need not be there. None only with MME's own result folder.
        answers: the model's answers: LLaVA's JSON Lines, a server's JSON, VLMEvalKit's table (.xlsx, .tsv), ScienceQA's
            results, MME's result folder.
        split: as in `readers.read`.
        skip_bad: pass over bad rows of data and answers, and over answers to no question that is left.

    Raises:
        DataError: files that are missing or damaged, answers that do not fit the questions.
    """
    if benchmark not in _FIGURES:
        raise DataError(f"headline figures are known for {', '.join(_FIGURES)}, was: {benchmark!r}")
    file = _AnswerFile(answers, Tally(skip_bad))
    if benchmark == "mme" and answers.is_dir():
        return _mme_figures(read_results(answers, file.tally), skip_bad) | file.remarks(Reading(()))
    if benchmark == "mme" and not answers.exists():
        raise DataError(f"answers must be a file or a result folder, was: {answers.name!r}, which is not there")
    if data is None:
        raise DataError(
            f"the figures of {benchmark} need its data folder beside the answers, was: none; give it as data"
        )
    gold = read(benchmark, data, split=split, skip_bad=skip_bad, pictures=False, text_only=True)
    return _FIGURES[benchmark](gold.examples, file) | file.remarks(gold)


def score_given(given: Given, example: Example) -> Scored:
    """Score an answer, prepared as LLaVA's scripts prepare it for a server where it is not prepared yet.

    VizWiz' answers pass EvalAI's processor as VQAv2's do; what servers and GQA's own eval.py are given is compared as
    it is.
    """
    if example.dataset == "gqa" and not given.raw:
        return Scored(float(given.text in example.answers))
    if example.dataset == "vqav2" and not given.raw:
        return served_vqa(given.text, example)
    return score(evalai_normal(given.text) if example.dataset == "vizwiz" and given.raw else given.text, example)


@dataclass
class _AnswerFile:
    """The answers while they are joined to their questions; keeps what is to be said beside the figures."""

    path: Path
    tally: Tally
    torn: int = 0  # rows that could not be read: so many questions may be left
    pairs: list[Pair] = field(default_factory=list)

    def read(self) -> list[Given]:
        given = read_answers(self.path, self.tally)
        self.torn = self.tally.bad
        return given

    def joined(self, examples: Sequence[Example], answers: Iterable[Given] | None = None) -> list[Pair]:
        """Each answer with its question, at least one."""
        self.pairs = pair(examples, self.read() if answers is None else answers, self.tally)
        _check_some(self.pairs)
        return self.pairs

    def complete(self, examples: Sequence[Example], answers: Iterable[Given] | None = None) -> list[Pair]:
        """Each answer with its question; no question is left."""
        pairs = self.joined(examples, answers)
        self.none_left(examples, {example.id for example, _ in pairs})
        return pairs

    def none_left(self, examples: Sequence[Example], answered: Collection[str]) -> None:
        none_left(examples, answered, self.path.name, self.torn)

    def remarks(self, gold: Reading) -> Figures:
        """Entries beside the figures, where there is something to say."""
        changed, messages = reworded(self.pairs), [*gold.messages, *self.tally.messages]
        skipped = {"questions": gold.bad, "answers": self.tally.bad, "first": next(iter(messages), "")}
        return ({"reworded": changed} if changed else {}) | ({"skipped": skipped} if messages else {})


def _mean(scored: Sequence[Scored], name: str = "accuracy", missing: int = 0) -> Figures:
    """The mean of the values in percent, how many they are, and how many the rule could not read."""
    _check_some(scored)
    figure = 100 * sum(one.value for one in scored) / len(scored)
    counts = {"n": len(scored), "unparsed": sum(not one.parsed for one in scored)}
    return {name: figure, **counts} | ({"missing": missing} if missing else {})


def _check_some(answers: Sequence[object]) -> None:
    if not answers:
        raise DataError("a figure needs at least one answer, was: none; check the answer file")


# Benchmarks ---------------------------------------------------------------------------------------------------------


def _simple(name: str) -> Callable[[Sequence[Example], _AnswerFile], Figures]:
    """Every question answered, the mean of the scores: GQA's, ChartQA's and DocVQA's evaluators."""

    def figures(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
        return _mean([score(given.text, example) for example, given in answers.complete(examples)], name)

    return figures


def _gqa(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """GQA: LLaVA's answers are prepared first, predictions for GQA's own eval.py are compared as they are.

    As there, predictions for other questions than the balanced ones of the split are left out; "unknown" counts them.
    """
    given = answers.read()
    known = {example.id for example in examples}
    balanced = [one for one in given if one.id in known]
    figures = _mean([score_given(one, of) for of, one in answers.complete(examples, balanced)])
    return figures | ({"unknown": len(given) - len(balanced)} if len(given) > len(balanced) else {})


def _soft(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """VQAv2 and VizWiz: LLaVA's answers pass EvalAI's processor before they are sent, as its scripts do."""
    return _mean([score_given(given, one) for one, given in answers.complete(examples)])


def _textvqa(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """TextVQA: the mean over the answers there are, joined on question id, or on picture and question in the prompt.

    Questions asked twice about a picture are each held against the last one's gold answers, as published
    (https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_textvqa.py).
    """
    pairs = answers.joined(examples)
    last = {(example.group, example.question.lower()): example for example in examples}
    scored = [
        score(given.text, one if given.id == one.id else last[one.group, one.question.lower()]) for one, given in pairs
    ]
    return _mean(scored, missing=len(examples) - len(pairs))


def _scienceqa(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """ScienceQA: over all questions of the split, missing ones wrong; image_accuracy over the answered with a picture.

    https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_science_qa.py ; a results JSON must be complete, as
    in https://github.com/lupantech/ScienceQA/blob/main/tools/evaluate_acc.py
    """
    chosen = _choices(answers.path)
    pairs = answers.joined(examples) if chosen is None else answers.complete(examples, chosen)
    scored = [score(given.text, example) for example, given in pairs]
    seen = [one for one, (example, _) in zip(scored, pairs, strict=True) if example.image != ()]
    total = _mean(scored, missing=len(examples) - len(pairs))
    figures: Figures = {
        "accuracy": total["accuracy"] * len(pairs) / len(examples),
        "image_accuracy": _mean(seen)["accuracy"] if seen else None,
    }
    return figures | {name: total[name] for name in ("unparsed", "missing") if total.get(name)}


def _choices(path: Path) -> list[Given] | None:
    """The answers of ScienceQA's results JSON, {"results": {problem id: choice number, -1 where unread}}, as letters.

    None where the file is of another kind: `read_answers` then says what is wrong with it.
    """
    if not is_document(path):
        return None
    document = read_document(path)
    if document.has("question_id"):
        return None  # JSON Lines of one line
    if not isinstance(found := document.value("results"), dict):
        document.refuse("the field 'results' must be an object of problem ids and choices", found)
    results = Row(document.file, "results", found)
    return [Given(name, None, _letter(results, name), results) for name in results.fields]


def _letter(results: Row, name: str) -> str:
    number = results.integer(name)
    if not -1 <= number < len(_CHOICES):
        results.refuse(f"the choice for {name!r} must be -1 or a number below {len(_CHOICES)}", number)
    return _CHOICES[number] if number >= 0 else ""


def _pope(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """POPE: counted per category, yes being the class to find; the mean is over the categories there are.

    https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_pope.py ; a ratio without a single case is 0.
    """
    verdicts: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for example, given in answers.complete(examples):
        verdicts[example.meta["category"]].append((said_yes(given.text), example.answers[0] == "yes"))
    figures: Figures = {name: _detection(verdicts[name]) for name in CATEGORIES if name in verdicts}
    mean = {key: sum(one[key] for one in figures.values()) / len(figures) for key in ("accuracy", "f1")}
    return {**figures, "mean": mean}


def _detection(verdicts: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """Figures in percent from (said yes, is yes) pairs."""
    hits = sum(said and true for said, true in verdicts)
    said, true = (sum(column) for column in zip(*verdicts, strict=True))
    right = sum(one == other for one, other in verdicts)
    precision, recall = (100 * hits / total if total else 0.0 for total in (said, true))
    return {
        "accuracy": 100 * right / len(verdicts),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if hits else 0.0,
        "yes_rate": 100 * said / len(verdicts),
    }


def _mme(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """MME from LLaVA's answers, joined on picture and question: both questions of a picture have one id there."""
    results: dict[str, list[Result]] = defaultdict(list)
    pairs = answers.joined(examples)
    for example, given in pairs:
        results[example.dataset].append(Result(example.group, example.answers[0].lower(), given.text, given.row))
    answered = {example.id for example, _ in pairs}
    answers.none_left([example for example in examples if example.dataset in results], answered)
    return _mme_figures(results, answers.tally.skip_bad)


def _mme_figures(results: Mapping[str, Sequence[Result]], skip_bad: bool) -> Figures:
    """MME's points: per subtask accuracy and accuracy_plus (both questions of a picture right), added in percent.

    https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation (eval_tool, calculation.py).
    Subtasks without results add nothing to the sums; "missing" names them where others of their half are there.
    Pictures that lost a question to a bad row are left out.
    """
    if skip_bad:
        results = {name: whole for name, found in results.items() if (whole := _of_whole_pictures(found))}
    _check_some(list(results))
    categories = {name: _subtask(found) for name, found in results.items()}
    perception, cognition = (
        sum(categories[name]["score"] for name in names if name in categories) for names in (PERCEPTION, COGNITION)
    )
    halves = [names for names in (PERCEPTION, COGNITION) if any(name in categories for name in names)]
    missing = [name for names in halves for name in names if name not in categories]
    figures: Figures = {"perception": perception, "cognition": cognition, "categories": categories}
    return figures | ({"missing": missing} if missing else {})


def _of_whole_pictures(results: Sequence[Result]) -> list[Result]:
    counts = Counter(result.picture for result in results)
    return [result for result in results if counts[result.picture] % 2 == 0]


def _subtask(results: Sequence[Result]) -> dict[str, float]:
    pictures: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        pictures[result.picture].append(mme_says(result.text) == result.gold)
    both = []
    for name, right in pictures.items():
        if len(right) % 2:
            results[0].row.refuse("every picture must have two answers", f"{len(right)} for {name}", "mend the file")
        both += [all(right[k : k + 2]) for k in range(0, len(right), 2)]
    accuracy = 100 * sum(map(sum, pictures.values())) / len(results)
    plus = 100 * sum(both) / len(both)
    return {"score": accuracy + plus, "accuracy": accuracy, "accuracy_plus": plus}


def _mmbench(examples: Sequence[Example], answers: _AnswerFile) -> Figures:
    """MMBench: a question is right where all its rotations are; every row must be answered.

    Rotations are rows of the TSV (LLaVA's default) or rounds of LLaVA's answers ("round_id", "options", "option_char");
    an answer may also be a letter, {"241": "B", ...}.
    https://github.com/open-compass/VLMEvalKit/blob/main/vlmeval/dataset/utils/multiple_choice.py (circular)
    """
    known = {example.id: example for example in examples}
    circles: dict[int, list[Scored]] = defaultdict(list)
    seen: set[tuple[str, int]] = set()

    def joined(given: Given) -> Pair:
        turn = given.id, given.row.integer("round_id") if given.row.has("round_id") else 0
        if given.id not in known or turn in seen:
            rule = "a question may be answered once a round" if turn in seen else "every answer must belong to a row"
            given.row.refuse(rule, given.id, "check data folder and split")
        turned = _rotated(known[given.id], given.row)
        seen.add(turn)
        circles[turned.meta["circle"]].append(score(given.text, turned))
        return known[given.id], given

    answers.pairs = list(answers.tally.each(_lettered(answers), joined))
    turns = Counter(name for name, _ in seen)
    rotating = len(seen) > len(turns)  # every row was asked once per choice
    whole = {name for name in turns if turns[name] == (len(known[name].choices or ()) if rotating else 1)}
    answers.none_left(examples, whole)
    for example in examples:
        if example.id not in whole:  # its answer was a bad row
            circles.pop(example.meta["circle"], None)
    figures = _mean([Scored(float(all(one.value for one in found))) for found in circles.values()])
    return figures | {"unparsed": sum(not one.parsed for found in circles.values() for one in found)}


def _lettered(answers: _AnswerFile) -> list[Given]:
    if answers.path.suffix == ".json" and is_document(answers.path):
        letters = read_document(answers.path)
        if not letters.has("question_id"):
            return [Given(name, None, letters.text(name), letters) for name in letters.fields]
    return answers.read()


def _rotated(example: Example, row: Row) -> Example:
    """The example with its choices as this round put them; as it is where the right one was none of them.

    LLaVA offers no choice from the first one on that is called "None": then no letter of those it offered is right.
    """
    if not row.has("option_char"):
        return example
    options, letters = row.texts("options"), row.texts("option_char")
    first = (example.choices or ())[: len(options)]
    if options == first and letters == tuple(LETTERS[: len(first)]):
        return example
    if len(options) != len(letters) or example.answers[0] not in letters:
        row.refuse("options and option_char must be rotations of the question's choices", letters)
    return replace(example, choices=options, answers=(LETTERS[letters.index(example.answers[0])],))


_FIGURES: dict[str, Callable[[Sequence[Example], _AnswerFile], Figures]] = {
    "chartqa": _simple("accuracy"),
    "docvqa": _simple("anls"),
    "gqa": _gqa,
    "mmbench": _mmbench,
    "mme": _mme,
    "pope": _pope,
    "scienceqa": _scienceqa,
    "textvqa": _textvqa,
    "vizwiz": _soft,
    "vqav2": _soft,
}
