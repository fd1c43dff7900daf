"""Every score by its benchmark's own rule: cases worked by hand from the published definitions."""

import random

import pytest

from encoders.errors import DataError
from training_data.example import Example
from training_data.scores import METRICS, YES_OR_NO, edit_distance, evalai_normal, score, served_vqa, vqa_normal


def example(metric, *answers, choices=None):
    return Example("q", "p.png", "?", answers, "p", "d", choices, metric)


def value(metric, text, *answers, choices=None):
    return score(text, example(metric, *answers, choices=choices)).value


NORMAL = [
    ("The  Cat", "cat"),
    ("two dogs", "2 dogs"),
    ("None", "0"),
    ("dont", "don't"),
    ("couldnt've", "couldn't've"),
    ("somebody'd", "somebodyd"),
    ("shes", "shes"),  # "she's" has no short spelling in VQA's table
    ("3.5 m.", "3.5 m"),  # a full stop stays only before a digit
    (".5", ".5"),
    ("left-hand", "left hand"),  # within a word a mark becomes a space
    ("left- hand", "left hand"),  # beside a space it vanishes
    ("1,000 (m)", "1000 m"),
    ("a/b-c 1,5", "abc 15"),  # a comma between digits makes every mark vanish
    ("a\nb", "b"),
    ("." * 33, "."),  # the evaluators strip 32 full stops at most
]


@pytest.mark.parametrize(("text", "normal"), NORMAL)
def test_vqa_normal_form(text, normal):
    assert vqa_normal(text) == normal


@pytest.mark.parametrize(
    ("text", "vqa_form", "evalai_form"),
    [
        ("Bob's car", "bob's car", "bob 's car"),
        ("red,blue", "red blue", "redblue"),
        ("what?", "what", "what"),
        ("1,000", "1000", "1000"),
    ],
)
def test_evalai_drops_commas_and_parts_the_possessive_first(text, vqa_form, evalai_form):
    assert (vqa_normal(text), evalai_normal(text)) == (vqa_form, evalai_form)


@pytest.mark.parametrize(("agree", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
@pytest.mark.parametrize("metric", ["vqa", "textvqa", "vizwiz"])
def test_soft_accuracy_leaves_one_of_ten_out(metric, agree, expected):
    """With 2 of 10: eight subsets hold both (2/3), two hold one (1/3): (8 * 2/3 + 2 * 1/3) / 10 = 0.6."""
    gold = ["cat"] * agree + [f"other{k}" for k in range(10 - agree)]
    assert value(metric, "The cat.", *gold) == pytest.approx(expected)


def test_the_three_soft_accuracies_differ_in_what_they_do_to_gold_answers():
    apart = ["the cat"] * 9 + ["dog"]
    assert value("textvqa", "cat", *apart) == 1  # all gold answers are normalised
    assert value("vqa", "cat", *apart) == 1  # so they are where they differ
    assert value("vqa", "cat", *["cat."] * 10) == 0  # and not where they agree
    assert value("vizwiz", "cat", *["cat."] * 9, "dog") == 0  # gold answers are taken as they are
    assert value("textvqa", "Bob's", *["bob 's"] * 10) == 1


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        ("none", ["none"] * 8 + ["nothing"] * 2, 1),  # question 411188011 of val2014; "none" was only made 0 in answers
        ("none", ["none"] * 10, 1),
        ("one on left", ["one on left"] * 6 + ["left"] * 4, 1),
        ("Yes.", ["yes"] * 10, 0),  # sent to a server as it is; where all agree nothing is normalised
        ("Yes.", ["yes"] * 9 + ["no"], 1),
        (" two\n", ["two"] * 10, 1),
    ],
)
def test_vqav2s_evaluator_treats_answers_and_gold_answers_alike(said, gold, expected):
    """Worked by hand through vqaEval.py of commit a013f00."""
    assert served_vqa(said, example("vqa", *gold)).value == expected
    assert value("vqa", "Yes.", *["yes"] * 10) == 1  # as a model wrote it, EvalAI's processor comes first


def test_soft_accuracy_needs_annotators():
    with pytest.raises(DataError, match="needs at least 4 answers, was: 1 for 'q'"):
        value("vqa", "cat", "cat")


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("hello", ["hello"], 1),
        ("  HELLO   World ", ["hello world"], 1),
        ("hella", ["hello"], 0.8),
        ("abcd", ["abxy"], 0.5),  # exactly on the threshold counts
        ("abc", ["axy"], 0),  # a third alike does not
        ("ab", ["zzzz", "abc"], 2 / 3),  # the nearest of several
        ("", [""], 1),
        ("", ["a"], 0),
    ],
)
def test_anls_by_hand(text, answers, expected):
    assert value("anls", text, *answers) == pytest.approx(expected)


def test_anls_measures_lengths_before_spaces_are_joined():
    """DocVQA's evaluator divides the distance of the tidy texts by the length of the untidy ones."""
    assert value("anls", "ab   cd", "ab cx") == pytest.approx(1 - 1 / 7)


def test_anls_agrees_with_the_anls_package():
    anls = pytest.importorskip("anls")
    rng = random.Random(0)
    for _ in range(300):
        gold = ["".join(rng.choices("abc ", k=rng.randint(1, 8))).strip() or "a" for _ in range(rng.randint(1, 3))]
        said = "".join(rng.choices("abc", k=rng.randint(1, 8)))
        gold = [" ".join(one.split()) for one in gold]
        ours, theirs = value("anls", said, *gold), anls.anls_score(prediction=said, gold_labels=gold, threshold=0.5)
        # exactly half alike counts for DocVQA's evaluator and for lmms-eval, not for the package
        assert theirs == (0 if ours == 0.5 else pytest.approx(ours)), (said, gold)


@pytest.mark.parametrize(("one", "other", "edits"), [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2)])
def test_edit_distance(one, other, edits):
    assert edit_distance(one, other) == edit_distance(other, one) == edits


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("105", "100", True),
        ("105.1", "100", False),
        ("95", "100", True),
        ("5%", "0.05", True),  # a percentage is a hundredth
        ("5", "5%", False),
        ("0", "0", True),  # 0 is compared as text
        ("0.0", "0", False),
        ("Blue", "blue", True),
        ("blue.", "blue", False),
        ("1,000", "1000", False),
        ("-10.2", "-10", True),
        ("nan", "12", False),
        ("inf", "12", False),
    ],
)
def test_relaxed_accuracy(text, gold, right):
    assert value("relaxed", text, gold) == right


CHOICES = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("text", "expected", "parsed"),
    [
        ("B", 1, True),
        ("A", 0, True),
        ("B. green", 1, True),
        ("The answer is B.", 1, True),
        ("The answer is B. The answer is B.", 0, False),  # twice is not once
        ("B.", 0, False),
        ("B) green", 0, False),
        ("green", 0, False),
        ("D", 0, False),  # beyond its three choices
        ("I. The answer is B.", 1, True),
        ("", 0, False),
    ],
)
def test_scienceqa_letters(text, expected, parsed):
    assert score(text, example("letter", "B", choices=CHOICES)) == (expected, parsed)


@pytest.mark.parametrize(
    ("text", "expected", "parsed"),
    [
        ("B", 1, True),
        ("(B) green", 1, True),
        ("B: it grows in every garden I know", 0, False),  # not among the last five words, nor is one choice quoted
        ("I would choose B", 1, True),
        ("A or B", 0, False),
        ("It is Green!", 1, True),
        ("not green but blue", 0, False),
        ("a red one", 0, True),
        ("green " * 9, 0, False),  # much longer than all choices together
        ("Cannot determine the answer B", 0, False),
    ],
)
def test_mmbench_letters(text, expected, parsed):
    assert score(text, example("mmbench", "B", choices=CHOICES)) == (expected, parsed)


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        ("No", False),
        ("no, there is none", False),
        ("There is not. Yes", False),
        ("Yes. No", True),  # only the first sentence counts
        ("NO", True),  # only these three spellings
        ("No\nthere is none", True),  # words are parted by spaces alone
        ("None", True),
        ("", True),  # everything else is yes
    ],
)
def test_pope_reads_no_or_else_yes(text, yes):
    assert value("yes_no", text, "yes") == yes
    assert value("yes_no", text, "no") == (not yes)


@pytest.mark.parametrize(
    ("text", "gold", "expected", "parsed"),
    [
        ("Yes", "Yes", 1, True),
        ("yes, it does", "No", 0, True),
        ("No way", "No", 1, True),
        ("None", "No", 1, True),  # "no" stands in its first four letters
        ("  no", "No", 1, True),
        ("   no", "No", 0, False),  # here only half of it does
        ("The answer is yes", "Yes", 0, False),
        ("", "No", 0, False),
    ],
)
def test_mme_reads_the_first_four_letters(text, gold, expected, parsed):
    assert score(text, example("mme", gold)) == (expected, parsed)


def test_gqa_and_exact():
    assert value("gqa", "Yes.", "yes") == 1
    assert value("gqa", " yes", "yes") == 0  # only case and a full stop at the end are forgiven
    assert value("exact", " A  Cat. ", "dog", "a cat") == 1
    assert value("exact", "cat", "a cat") == 0


def test_every_metric_stays_within_zero_and_one():
    texts = ["", "yes", "B", "1,000.5%", "the cat's", "x" * 500, "The answer is A.", "\n\t", "日本"]
    for metric in METRICS.keys() - {"likelihood"}:  # which only a sweep can tell
        for text in texts:
            gold = ["yes"] if metric in YES_OR_NO else ["A", "yes", "cat", "5"] * 3
            assert 0 <= value(metric, text, *gold, choices=CHOICES) <= 1


def test_an_unknown_metric_and_an_example_without_answers_are_refused():
    with pytest.raises(DataError, match=r"a metric must be one of anls, exact, .*was: 'bleu' in 'q'"):
        value("bleu", "x", "x")
    with pytest.raises(DataError, match="'q' has none"):
        value("exact", "x")
