"""How right an answer is: each benchmark's own published rule, as a number in [0, 1].

Knows texts and examples. Knows no file, no benchmark folder and no sum over questions (`headline` has those). Where a
benchmark draws a random choice for an answer it cannot parse (ScienceQA's and MMBench's first evaluators), the answer
counts 0 here and is marked as not parsed: the one deliberate difference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from encoders.errors import DataError, shown
from training_data.example import Example

RELAXED_TOLERANCE = 0.05
ANLS_THRESHOLD = 0.5
ANNOTATORS = 4  # with fewer answers, none could ever reach a soft accuracy of 1
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# The evaluators of VQA map a word that lacks an apostrophe to the word that has it. Every form here stands for all its
# spellings with one apostrophe dropped ("couldnt've", "couldn'tve"); their table has one entry that is the other way
# round, kept because the published figures have it.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    form[:k] + form[k + 1 :]: form for form in _CONTRACTIONS.split() for k in range(len(form)) if form[k] == "'"
} | {"somebody'd": "somebodyd"}
_NUMBERS = {"none": "0"} | {
    word: str(k) for k, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS_STRIPPED = 32  # the evaluators pass a flag (re.UNICODE) where `sub` takes its count
_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_MMBENCH_MARKS = str.maketrans({mark: " " for mark in ".()[],:;!*#{}"})
_MMBENCH_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


LIKELIHOOD = "likelihood"


def listed(choices: Iterable[str]) -> list[str]:
    """Choices as a question lists them: "A. cat", "B. dog", one line each."""
    return [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]


class Scored(NamedTuple):
    """How right an answer is, in [0, 1], and whether the benchmark's rule could read it at all."""

    value: float
    parsed: bool = True


def exact(text: str, example: Example) -> Scored:
    """1 where the answer is one of the gold answers: lower case, single-spaced, without a full stop at the end."""
    return Scored(float(_plain(text) in {_plain(gold) for gold in example.answers}))


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".").rstrip()


def gqa(text: str, example: Example) -> Scored:
    """1 where the answer, in lower case and without full stops at its end, is the gold answer to the letter.

    Preparation: https://github.com/haotian-liu/LLaVA/blob/main/scripts/convert_gqa_for_eval.py ; equality: GQA's
    eval.py, https://cs.stanford.edu/people/dorarad/gqa/evaluate.html
    """
    return Scored(float(text.rstrip(".").lower() in example.answers))


def vqa(text: str, example: Example) -> Scored:
    """VQAv2's soft accuracy of an answer as a model wrote it: EvalAI's processor prepares it, as LLaVA's script does.

    https://github.com/haotian-liu/LLaVA/blob/main/scripts/convert_vqav2_for_submission.py
    """
    return served_vqa(evalai_normal(text), example)


def served_vqa(text: str, example: Example) -> Scored:
    """VQA's soft accuracy, by VQAv2's evaluator: the mean over annotators of min(1, agreeing others / 3).

    Answer and gold answers are normalised alike, and only where the gold answers differ (the script since commit
    a013f00; before it the answer always was, and of gold answers the punctuation).
    https://github.com/GT-Vision-Lab/VQA/blob/master/PythonEvaluationTools/vqaEvaluation/vqaEval.py
    """
    gold = [_one_line(answer) for answer in example.answers]
    normal = vqa_normal if len(set(gold)) > 1 else _one_line
    return Scored(_agreement(normal(text), [normal(answer) for answer in gold], example))


def vizwiz(text: str, example: Example) -> Scored:
    """VQA's soft accuracy, by VizWiz' evaluator: the answer is normalised as VQA does, the gold answers are not.

    https://vizwiz.org/tasks-and-datasets/vqa/ ("code", evaluation API)
    """
    return Scored(_agreement(vqa_normal(text), example.answers, example))


def textvqa(text: str, example: Example) -> Scored:
    """VQA's soft accuracy, by TextVQA's evaluator: answer and gold answers all pass EvalAI's processor.

    https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/m4c_evaluator.py (`TextVQAAccuracyEvaluator`)
    """
    return Scored(_agreement(evalai_normal(text), [evalai_normal(answer) for answer in example.answers], example))


def vqa_normal(text: str) -> str:
    """VQA's normal form: punctuation out, number words as digits, articles out, apostrophes in."""
    return _digits_and_articles(_strip_punctuation(_one_line(text)))


def evalai_normal(text: str) -> str:
    """EvalAI's normal form: VQA's, after commas and question marks are dropped and "'s" is parted from its word."""
    parted = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return vqa_normal(parted)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _strip_punctuation(text: str) -> str:
    """Marks beside a space vanish, marks within words become spaces; a comma between digits makes all marks vanish."""
    joined = _NUMBER_WITH_COMMA.search(text) is not None
    stripped = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        stripped = stripped.replace(mark, "" if beside_space or joined else " ")
    return _PERIOD.sub("", stripped, count=_PERIODS_STRIPPED)


def _digits_and_articles(text: str) -> str:
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _agreement(answer: str, gold: Sequence[str], example: Example) -> float:
    if len(gold) < ANNOTATORS:
        raise DataError(
            f"soft accuracy leaves one annotator out and needs at least {ANNOTATORS} answers, was: {len(gold)} for "
            f"{example.id!r}; give all ten, or use metric 'exact'"
        )
    same = gold.count(answer)
    return (same * min(1.0, (same - 1) / 3) + (len(gold) - same) * min(1.0, same / 3)) / len(gold)


def anls(text: str, example: Example) -> Scored:
    """One less the edit distance over the longer length, to the nearest gold answer; 0 where that is below 0.5.

    Compared in lower case and single-spaced; the lengths are those of the texts as given. DocVQA's evaluator,
    https://rrc.cvc.uab.es/?ch=17&com=tasks , keeps 0.5 itself; the paper's formula (https://arxiv.org/abs/1905.13648 ,
    section 4) and the package `anls` do not.
    """
    said = " ".join(text.lower().split())
    nearest = max((1 - _distance(said, text, gold) for gold in example.answers), default=0.0)
    return Scored(nearest if nearest >= ANLS_THRESHOLD else 0.0)


def _distance(said: str, text: str, gold: str) -> float:
    longest = max(len(text.upper()), len(gold.upper()))
    return edit_distance(said, " ".join(gold.lower().split())) / longest if longest else 0.0


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and replacements of letters."""
    above = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        here = [row]
        for column, against in enumerate(other, 1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (letter != against)))
        above = here
    return above[-1]


def relaxed(text: str, example: Example) -> Scored:
    """1 where a number is within 5 % of a gold number, or any other text equals the gold text but for case.

    A percentage is a hundredth; a gold 0 is compared as text. ChartQA, https://arxiv.org/abs/2203.10244 , section 5.1;
    https://github.com/google-research/pix2struct/blob/main/pix2struct/metrics.py (`relaxed_correctness`)
    """
    return Scored(float(any(_relaxed(text, gold) for gold in example.answers)))


def _relaxed(text: str, gold: str) -> bool:
    said, target = _number(text), _number(gold)
    if said is not None and target:
        return abs(said - target) / abs(target) <= RELAXED_TOLERANCE
    return text.lower() == gold.lower()


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def letter(text: str, example: Example) -> Scored:
    """1 where the gold letter is the whole answer, begins it as "A. ", or stands once in "The answer is A.".

    Anything else, and a letter beyond the choices, counts 0 as not parsed; ScienceQA drew a random choice.
    https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_science_qa.py
    """
    stands_first = text[:1] in LETTERS[:5] and text[1:3] in ("", ". ") and text
    said = text[0] if stands_first else _sole(re.findall(r"The answer is ([A-Z]).", text))
    return _chosen(said, example, LETTERS[: min(5, len(example.choices or LETTERS))])


def _sole(found: list[str]) -> str:
    return found[0] if len(found) == 1 else ""


def mmbench(text: str, example: Example) -> Scored:
    """1 where the one letter of a choice among the last five words, or else the one choice quoted, is the gold letter.

    Answers of neither kind count 0 as not parsed; MMBench asks a language model and then draws a random choice. A
    question is won only with all its rotations: `headline` counts those.
    https://github.com/open-compass/VLMEvalKit/blob/main/vlmeval/utils/matching_util.py (`can_infer`)
    """
    choices = dict(zip(LETTERS, example.choices or (), strict=False))
    return _chosen(_inferred(text, choices), example, LETTERS[: len(choices)])


def _inferred(text: str, choices: dict[str, str]) -> str:
    if "Failed to obtain answer via API" in text or any(refusal in text for refusal in _MMBENCH_REFUSALS):
        return ""
    words = text.translate(_MMBENCH_MARKS).split()
    named = [choice for choice in choices if choice in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    said = text.lower()
    if len(said) > 2 * sum(map(len, choices.values())):
        return ""
    return _sole([choice for choice, words in choices.items() if words.lower() in said])


def _chosen(said: str, example: Example, letters: str) -> Scored:
    parsed = len(said) == 1 and said in letters
    return Scored(float(parsed and said in example.answers), parsed)


def yes_no(text: str, example: Example) -> Scored:
    """1 where the answer and the gold answer are both yes or both no, an answer being no or else yes.

    It is no where its first sentence, without commas, has "No", "no" or "not" between spaces. POPE as LLaVA reads it,
    https://github.com/haotian-liu/LLaVA/blob/main/llava/eval/eval_pope.py
    """
    return Scored(float(said_yes(text) == (example.answers[0].lower() == "yes")))


def said_yes(text: str) -> bool:
    """How POPE reads a free answer: no, or else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def mme(text: str, example: Example) -> Scored:
    """1 where the answer's first four letters hold "yes" (or else "no") as the gold answer is; neither is not parsed.

    https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation (eval_tool, calculation.py)
    """
    said = mme_says(text)
    return Scored(float(said == example.answers[0].lower()), said != "other")


def mme_says(text: str) -> str:
    """How MME reads a free answer: "yes", "no" or "other"."""
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def likelihood(text: str, example: Example) -> Scored:
    """For captions and long answers without a right or wrong: the likelihood per token of the best gold answer.

    exp(log-probability / tokens), which only a model can tell: a sweep fills it in.

    Raises:
        DataError: always; an answer alone does not have it.
    """
    raise DataError(
        f"metric {LIKELIHOOD!r} is what the model makes of the gold answer, was: asked of an answer's text, for "
        f"{example.id!r}; sweep with it, or import a judge's grades as a table"
    )


METRICS: dict[str, Callable[[str, Example], Scored]] = {
    "anls": anls,
    "exact": exact,
    "gqa": gqa,
    "letter": letter,
    LIKELIHOOD: likelihood,
    "mmbench": mmbench,
    "mme": mme,
    "relaxed": relaxed,
    "textvqa": textvqa,
    "vizwiz": vizwiz,
    "vqa": vqa,
    "yes_no": yes_no,
}
LETTERED = ("letter", "mmbench")
YES_OR_NO = ("yes_no", "mme")
SOFT = ("textvqa", "vizwiz", "vqa")  # the share of annotators who agree


def score(text: str, example: Example) -> Scored:
    """Score an answer by the example's own metric.

    Raises:
        DataError: as `check_scorable`.
    """
    check_scorable(example)
    return METRICS[example.metric](text, example)


def check_scorable(example: Example) -> None:
    """See to it that an answer to the example could be scored.

    Raises:
        DataError: a metric of no known name, an example without gold answers, or one that must be yes or no and is not.
    """
    if example.metric not in METRICS:
        raise DataError(
            f"a metric must be one of {', '.join(METRICS)}, was: {example.metric!r} in {example.id!r}; correct it"
        )
    if not example.answers:
        raise DataError(f"an answer is scored against gold answers, {example.id!r} has none; give it answers")
    if example.metric in YES_OR_NO and not is_yes_or_no(example.answers):
        raise DataError(
            f"the gold answer to metric {example.metric!r} must be yes or no, once, was: {shown(example.answers)} in "
            f"{example.id!r}; correct it, or choose another metric"
        )


def is_yes_or_no(answers: Sequence[str]) -> bool:
    """Whether gold answers are one, and that yes or no in any case."""
    return len(answers) == 1 and answers[0].lower() in ("yes", "no")
