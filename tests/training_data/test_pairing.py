"""Every answer finds its question by one of four keys, or is refused by file and line."""

import random

import pytest

from encoders.errors import DataError
from training_data.example import Example
from training_data.readers.llava import Given
from training_data.readers.pairing import none_left, pair, reworded
from training_data.rows import Row, Tally


def example(name, group="p", question="?", **meta):
    return Example(name, (), question, ("yes",), group, "d", meta=meta)


def given(name, prompt=None, line=1, **fields):
    return Given(name, prompt, "text", Row("a.jsonl", f"line {line}", fields))


def found(examples, answers):
    return [example.id for example, _ in pair(examples, answers)]


LABELS = [example(f"{part}/{k}", category=part, question_id=str(k)) for part in ("random", "popular") for k in (1, 2)]
PICTURES = [
    example("artwork/7.b#1", "artwork/7.b", "Is it art?  Please answer yes or no."),
    example("artwork/7.b#2", "artwork/7.b", "Is it old?  Please answer yes or no."),
    example("30", "7.b", "Is it old?"),
]
BLIND = [example(name, name, "Ok. What is it?") for name in ("VizWiz_val_00000007.jpg", "VizWiz_val_00000012.jpg")]
CHARTS = [example(f"human/{k}", "41.png", words) for k, words in enumerate(("How many foods?", "Which is least?"))]

LABELS_SHOWN = [
    example(f"{part}/{k}", f"images/{k}.jpg", "Is it red?", category=part, question_id=str(k))
    for part in ("random", "popular")
    for k in (1, 2)
]
TWINS = [example("lower", "p", "Is it 'hi'?"), example("upper", "p", "Is it 'Hi'?")]


@pytest.mark.parametrize(
    ("examples", "answer", "meant"),
    [
        (LABELS, given("popular/2"), "popular/2"),
        (LABELS, given("2", category="popular"), "popular/2"),
        (LABELS[:2], given("2"), "random/2"),
        (PICTURES, given("artwork/images/7.b.jpg", "Is it old? Please answer yes or no.\nAnswer with one word."), None),
        (PICTURES, given("artwork/7.b", "Is it old?"), "artwork/7.b#2"),
        (PICTURES, given("7.b", "Is it OLD?"), "30"),
        (PICTURES, given("7.b.png", "Is it old?", category="text"), "30"),
        (PICTURES, given("30", "Is it art?"), "30"),
        (CHARTS, given("41.png", "which is least?"), "human/1"),
        (CHARTS, given("41.png", "Which is least? "), "human/1"),
        (LABELS_SHOWN[:2], given("random/1", "Is it red?", image="images/2.jpg"), "random/2"),
        (LABELS_SHOWN, given("0", "Is it red?", image_path="images/1.jpg", category="popular"), "popular/1"),
        (TWINS, given("p", "Is it 'Hi'?\nAnswer with a word."), "upper"),
        (TWINS, given("p", "Is it 'hi'?\nAnswer with a word."), "lower"),
        (BLIND, given("VizWiz_val_00000012.jpg"), "VizWiz_val_00000012.jpg"),
        (BLIND, given("12"), "VizWiz_val_00000012.jpg"),
        (BLIND, given("12", "Ok. What is it?\nWhen unsure, say so.\nAnswer with a word."), "VizWiz_val_00000012.jpg"),
    ],
    ids=[
        *("id", "category", "number", "folders", "picture", "words", "a category of their own", "id before words"),
        *("chart", "chart and space", "picture before id", "picture and category before number", "capital", "small"),
        *("picture's name", "picture's number", "picture's number and words"),
    ],
)
def test_an_answer_finds_its_question_in_any_order_of_the_data(examples, answer, meant):
    for seed in range(3):
        mixed = random.Random(seed).sample(examples, len(examples))
        assert found(mixed, [answer]) == [meant or "artwork/7.b#2"]


@pytest.mark.parametrize(
    ("examples", "answers", "message"),
    [
        (LABELS, [given("3")], "a.jsonl, line 1: every answer must belong to a question, was: '3'; check data folder"),
        (LABELS, [given("1")], "ids start anew in every label file, so answers need a category .*was: '1'"),
        (LABELS[:2], [given("1", category="popular")], "every answer must belong to a question, was: '1'"),
        (PICTURES, [given("8", "Is it old?")], r"every answer must belong to a question, was: '8 Is it old\?'"),
        (
            LABELS,
            [given("random/1", line=4), given("1", line=9, category="random")],
            r"line 9: a question may be answered once \(also in line 4\), was: '1'; keep one of the answers",
        ),
        (
            [example("4", split="minitest")],
            [given("5")],
            "belong to a question of the split 'minitest', was: '5'; leave it out, or name the split it belongs to",
        ),
        (BLIND, [given("12", "Is it day?")], r"every answer must belong to a question, was: '12 Is it day\?'"),
        ([*BLIND, example("other_12.jpg")], [given("12")], "every answer must belong to a question, was: '12'"),
    ],
    ids=[
        *("none", "several", "another category", "another picture", "twice", "another split"),
        *("number of other words", "number of two pictures"),
    ],
)
def test_an_answer_that_finds_none_is_refused_by_file_and_line(examples, answers, message):
    with pytest.raises(DataError, match=message):
        found(examples, answers)


def test_a_question_asked_twice_takes_its_answers_in_the_order_of_the_data():
    twice = [example("1", question="How many?"), example("2", question="how  many?")]
    answers = [given("p", "How many?", line) for line in (1, 2, 3)]
    assert found(twice, answers[:2]) == ["1", "2"]
    with pytest.raises(DataError, match="line 3: a question may be answered once"):
        found(twice, answers)


@pytest.mark.parametrize(
    ("question", "prompt", "changed"),
    [
        ("Is it old?", None, False),
        ("Is it old?", "<image>\nIs it  OLD?\nAnswer the question using a single word or phrase.", False),
        ("Is it old?", "Question: is it old? Short answer:", False),
        ("Look.\nWhich?\nA. x\nB. y", "Context: Look.\nWhich?\nOptions: (A) x (B) y", False),
        ("Look.\nWhich?\nA. x\nB. y", "Which?", False),
        ("Is it old?", "Is it new?", True),
        ("Look.\nWhich?\nA. x\nB. y", "Look.\nWho?\nA. x\nB. y", True),
    ],
    ids=["not said", "instruction", "frame", "choices another way", "hint elsewhere", "other words", "other question"],
)
def test_an_answer_joined_by_id_tells_whether_its_question_was_asked(question, prompt, changed):
    one = Example("1", (), question, ("A",), "p", "d", choices=("x", "y"))
    assert reworded(pair([one], [given("1", prompt)])) == changed


def test_answers_that_find_none_are_counted_where_bad_rows_are_skipped():
    tally = Tally(skip_bad=True)
    pairs = list(pair(PICTURES, [given("30"), given("31"), given("30")], tally))
    assert [one.id for one, _ in pairs] == ["30"] and tally.bad == 2 and "'31'" in tally.messages[0]


def test_questions_without_an_answer_are_counted_and_three_are_named():
    examples = [example(str(k)) for k in range(5)]
    none_left(examples, set("01234"), "a.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl: every question .*was: 4 of 5 without, such as 0, 2, 3; answer"):
        none_left(examples, {"1"}, "a.jsonl")
    none_left(examples, {"1"}, "a.jsonl", spare=4)
    with pytest.raises(DataError, match="was: 4 of 5 without"):
        none_left(examples, {"1"}, "a.jsonl", spare=3)


def test_an_answer_of_a_category_is_no_answer_to_anothers_question_of_that_number():
    """Numbers of all categories run on in LLaVA's question file, and start anew in answers that name a category."""
    asked = [example("0", category="random"), example("1", category="popular")]
    with pytest.raises(DataError, match="every answer must belong to a question, was: '0'"):
        found(asked, [given("0", category="popular")])
    assert found(asked, [given("0", category="random"), given("1")]) == ["0", "1"]
    assert found([example("7", category=None)], [given("7", category="colour")]) == ["7"]


def test_answers_without_ids_stand_in_the_order_of_the_questions():
    """POPE's own: {"question": "Is there a cup in the image?", "answer": "yes"}."""
    asked = [example(str(k), f"{k}.jpg", f"Is there a {what}?") for k, what in enumerate(("cup", "dog"))]
    answers = [given("", f"Is there a {what}?", k) for k, what in enumerate(("cup", "dog"), 1)]
    assert found(asked, answers) == ["0", "1"]
    with pytest.raises(
        DataError, match=r"line 2: .* in the order of the questions, here 'Is there a cup\?', was: .*dog"
    ):
        found(asked, answers[::-1])
    with pytest.raises(DataError, match="must be as many as the questions, 2, was: 1; name the split"):
        found(asked, answers[:1])


def test_answers_that_are_their_questions_are_refused_but_a_model_may_repeat_one():
    """Label rows with an answer beside: their "text" is the question, and was scored as the answer."""
    asked = [example(str(k), "1.jpg", f"Is there a {what}?") for k, what in enumerate(("cup", "dog"))]
    rows = [Row("a.jsonl", f"line {k + 1}", {"question_id": k}) for k in range(2)]
    echoes = [Given(one.id, None, one.question, row) for one, row in zip(asked, rows, strict=True)]
    with pytest.raises(
        DataError, match=r"line 1: answers must not be their questions, was: 'Is there a cup\?'; name their field"
    ):
        found(asked, echoes)
    assert found(asked, [echoes[0], Given("1", None, "no", rows[1])]) == ["0", "1"]
