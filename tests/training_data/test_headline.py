"""Headline figures from answer files, against figures worked out by hand; every trap of the published files."""

import gzip
import json

import pytest

from encoders.errors import DataError
from training_data.headline import headline
from training_data.readers.llava import read_answers
from training_data.readers.mme import COGNITION, PERCEPTION

SUFFIX = "\nAnswer the question using a single word or phrase."


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def near(figures):
    return {key: near(value) if isinstance(value, dict) else pytest.approx(value) for key, value in figures.items()}


# POPE ---------------------------------------------------------------------------------------------------------------

OBJECTS = ["dog", "cat", "umbrella", "car"]
TRUE = ["yes", "yes", "no", "no"]


def pope(folder, spelling="image"):
    """Four questions in each of two categories; labels in another order, one more than asked."""
    for category in ("random", "popular"):
        labels = [
            {"question_id": k + 1, "image": "a.jpg", "text": f"Is there a {thing} in the {spelling}?", "label": label}
            for k, (thing, label) in enumerate(zip(OBJECTS, TRUE, strict=True))
        ]
        extra = {"question_id": 9, "image": "a.jpg", "text": "Is there a bus in the image?", "label": "yes"}
        write(folder / "coco" / f"coco_pope_{category}.json", lines(extra, *reversed(labels)))
    asked = [
        {
            "question_id": 100 * n + k,
            "image": "a.jpg",
            "text": f"Is there a {thing} in the image?{SUFFIX}",
            "category": category,
        }
        for n, category in enumerate(("random", "popular"))
        for k, thing in enumerate(OBJECTS)
    ]
    write(folder / "llava_pope_test.jsonl", lines(*asked))


def pope_answers(path, random=("Yes", "No", "Yes, a car.", "no"), popular=("Yes", "Yes", "No", "There is not")):
    rows = [
        {"question_id": 100 * n + k, "prompt": "?", "text": text}
        for n, texts in enumerate((random, popular))
        for k, text in enumerate(texts)
    ]
    return write(path, lines(*rows))


POPE = {
    "popular": {"accuracy": 100, "precision": 100, "recall": 100, "f1": 100, "yes_rate": 50},
    "random": {"accuracy": 50, "precision": 50, "recall": 50, "f1": 50, "yes_rate": 50},
    "mean": {"accuracy": 75, "f1": 75},
}


@pytest.mark.parametrize("spelling", ["image", "imange"])
def test_pope_joins_by_question_and_not_by_order(tmp_path, spelling):
    pope(tmp_path, spelling)
    assert headline("pope", tmp_path, pope_answers(tmp_path / "answers.jsonl")) == near(POPE)


def test_pope_counts_by_hand(tmp_path):
    """random: yes, yes, yes, no against yes, yes, no, no: TP 2, FP 1, TN 1, FN 0."""
    pope(tmp_path)
    answers = pope_answers(tmp_path / "a.jsonl", random=("Yes", "Yes", "Maybe", "No"), popular=("No",) * 4)
    figures = headline("pope", tmp_path, answers)
    found = {"accuracy": 75, "precision": 200 / 3, "recall": 100, "f1": 80, "yes_rate": 75}
    none = {"accuracy": 50, "precision": 0, "recall": 0, "f1": 0, "yes_rate": 0}
    assert figures == near({"popular": none, "random": found, "mean": {"accuracy": 62.5, "f1": 40}})


def test_pope_gives_the_figures_published_for_llava(tmp_path):
    """LLaVA-1.5-7B, random: TP 1183, FP 31, TN 1379, FN 317; https://github.com/haotian-liu/LLaVA/issues/626"""
    cells = [("yes", "Yes")] * 1183 + [("no", "Yes")] * 31 + [("no", "No")] * 1379 + [("yes", "No")] * 317
    asked = [
        {
            "question_id": k,
            "image": f"{k // 6}.jpg",
            "text": f"Is there a thing{k % 6} in the image?",
            "category": "random",
        }
        for k in range(len(cells))
    ]
    labels = [row | {"label": label} for row, (label, _) in zip(asked, cells, strict=True)]
    extra = {"question_id": 9000, "image": "0.jpg", "text": "Is there a bus in the image?", "label": "no"}
    write(tmp_path / "coco_pope_random.json", lines(*([extra] * 90), *labels))
    write(tmp_path / "llava_pope_test.jsonl", lines(*(row | {"text": row["text"] + SUFFIX} for row in asked)))
    answers = lines(*({"question_id": k, "prompt": "?", "text": text} for k, (_, text) in enumerate(cells)))
    figures = headline("pope", tmp_path, write(tmp_path / "a.jsonl", answers))
    accuracy, f1 = 88.04123711340206, 87.17759764185703
    rest = {"precision": 97.44645799011532, "recall": 78.86666666666666, "yes_rate": 121400 / 2910}
    assert figures == near(
        {"random": {"accuracy": accuracy, "f1": f1} | rest, "mean": {"accuracy": accuracy, "f1": f1}}
    )


def test_pope_without_its_question_file_needs_a_category(tmp_path):
    pope(tmp_path / "data")
    (tmp_path / "data" / "llava_pope_test.jsonl").unlink()
    for path in (tmp_path / "data" / "coco").iterdir():  # labels and answers of one count
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    rows = [{"question_id": k + 1, "text": text} for k, text in enumerate(["Yes", "No", "Yes", "no"])]
    with pytest.raises(DataError, match=r"ids start anew in every label file.*add llava_pope_test\.jsonl"):
        headline("pope", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*rows)))
    both = [row | {"category": category} for category in ("random", "popular") for row in rows]
    figures = headline("pope", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*both)))
    assert figures == near({"popular": POPE["random"], "random": POPE["random"], "mean": {"accuracy": 50, "f1": 50}})
    figures = headline("pope", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*rows)), split="random")
    assert figures == near({"random": POPE["random"], "mean": {"accuracy": 50, "f1": 50}})


ODD_ANSWERS = {
    "missing": (lambda rows: rows[:-2], r"must have an answer, was: 2 of 8 without, such as 102, 103; answer them"),
    "unknown": (
        lambda rows: [*rows, rows[0] | {"question_id": 7}],
        r"line 9: every answer must belong to a question, was: '7 \?'; check data folder and split",
    ),
    "twice": (
        lambda rows: [*rows, rows[0]],
        r"line 9: a question may be answered once \(also in line 1\), was: '0 \?'",
    ),
    "no text": (lambda rows: [{"question_id": 0}, *rows[1:]], "must have the field 'prediction' or 'text' or 'answer'"),
}


@pytest.mark.parametrize(("change", "message"), ODD_ANSWERS.values(), ids=ODD_ANSWERS.keys())
def test_answers_that_do_not_fit_are_refused(tmp_path, change, message):
    pope(tmp_path)
    path = pope_answers(tmp_path / "a.jsonl")
    rows = change([json.loads(line) for line in path.read_text().splitlines()])
    with pytest.raises(DataError, match=message):
        headline("pope", tmp_path, write(path, lines(*rows)))


def test_pope_takes_no_answer_of_a_category_that_is_not_read(tmp_path):
    pope(tmp_path)
    (tmp_path / "llava_pope_test.jsonl").unlink()
    rows = [{"question_id": k, "category": "popular", "text": "Yes"} for k in (1, 2, 3, 4)]
    path = write(tmp_path / "a.jsonl", lines(*rows))
    with pytest.raises(DataError, match="line 1: every answer must belong to a question, was: '1'"):
        headline("pope", tmp_path, path, split="random")


def test_answers_that_were_asked_something_else_are_counted_not_refused(tmp_path):
    pope(tmp_path)
    path = pope_answers(tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["prompt"] = "Is there a zebra in the image?" + SUFFIX
    figures = headline("pope", tmp_path, write(path, lines(*rows)))
    assert figures.pop("reworded") == 1 and figures == near(POPE)


def test_bad_rows_of_data_and_answers_are_skipped_and_told_beside_the_figures(tmp_path):
    """One label is bad, so its question and answer go; one answer is torn; the rest is counted as ever."""
    pope(tmp_path)
    path = pope_answers(tmp_path / "a.jsonl")
    labels = tmp_path / "coco" / "coco_pope_popular.json"
    labels.write_text(labels.read_text().replace('"label": "no"', '"label": "maybe"', 1))
    text = path.read_text().replace('"text": "Yes, a car."', '"text": true')
    write(path, text)
    with pytest.raises(DataError, match="skip bad rows"):
        headline("pope", tmp_path, path)
    figures = headline("pope", tmp_path, path, skip_bad=True)
    skipped = figures.pop("skipped")
    assert {name: skipped[name] for name in ("questions", "answers")} == {"questions": 2, "answers": 2}
    assert "coco_pope_popular.json" in skipped["first"] and figures.keys() == POPE.keys()
    assert (figures["popular"]["accuracy"], figures["random"]["accuracy"]) == (100, pytest.approx(200 / 3))
    write(path, text.replace('"question_id": 1,', '"question_id": 999,'))  # no torn row: nothing excuses the gap
    with pytest.raises(DataError, match="every question must have an answer, was: 2 of 7 without"):
        headline("pope", tmp_path, path, skip_bad=True)


def test_nothing_but_bad_answers_is_no_figure(tmp_path):
    pope(tmp_path)
    path = write(tmp_path / "a.jsonl", lines(*({"question_id": 100 * n + k} for n in (0, 1) for k in range(4))))
    with pytest.raises(DataError, match="a figure needs at least one answer, was: none"):
        headline("pope", tmp_path, path, skip_bad=True)


# MME ----------------------------------------------------------------------------------------------------------------

MME = {  # OCR: three of four right, both questions of one picture of two
    "perception": 75 + 50,
    "cognition": 100 + 100,
    "categories": {
        "OCR": {"score": 125, "accuracy": 75, "accuracy_plus": 50},
        "code_reasoning": {"score": 200, "accuracy": 100, "accuracy_plus": 100},
    },
}


MME_LEFT_OUT = [name for name in (*PERCEPTION, *COGNITION) if name not in ("OCR", "code_reasoning")]


def test_mme_straight_from_its_result_folder(tmp_path):
    """No header; a prediction may be long, hold tabs, and counts by its first four letters."""
    first, second = "1.jpg\tRed?\tYes\tYes, it is\tred\n1.jpg\tBlue?\tNo\tNo.\n", "2.jpg\tRed?\tYes\tI think yes\n"
    write(tmp_path / "OCR.txt", f"{first}{second}2.jpg\tBlue?\tNo\tno\n")
    write(tmp_path / "code_reasoning.txt", "7.png\tC?\tno\tNope\n7.png\tPython?\tyes\tYES")
    write(tmp_path / "notes.txt", "of no concern")
    figures = headline("mme", None, tmp_path)
    assert figures.pop("missing") == [*MME_LEFT_OUT] and figures == near(MME)
    (tmp_path / "OCR.txt").rename(tmp_path / "ocr.txt")
    assert headline("mme", None, tmp_path)["perception"] == pytest.approx(MME["perception"])


def test_mme_refuses_lines_and_pictures_that_cannot_be(tmp_path):
    write(tmp_path / "OCR.txt", "1.jpg\tRed?\tYes\n")
    with pytest.raises(DataError, match=r"OCR\.txt, line 1: a result must be one line of four columns"):
        headline("mme", None, tmp_path)
    write(tmp_path / "OCR.txt", "1.jpg\tRed?\tYes\tYes\n2.jpg\tRed?\tYes\tYes\n")
    with pytest.raises(DataError, match=r"OCR\.txt, line 1: every picture must have two answers, was: '1 for 1\.jpg'"):
        headline("mme", None, tmp_path)
    (tmp_path / "OCR.txt").unlink()
    with pytest.raises(DataError, match=r"must hold existence\.txt or the like"):
        headline("mme", None, tmp_path)
    with pytest.raises(DataError, match="need its data folder"):
        headline("mme", None, write(tmp_path / "a.jsonl", "{}"))


@pytest.mark.parametrize(
    ("second", "line", "shown"),
    [
        ("1.jpg\tBlue?\tNo\tNo.\nIt is red.\n", 3, r"It is red\."),
        ("1.jpg\tBlue?\tNo\tNo.\n\nIt\tis\tred\n", 4, r"It\\tis\\tred"),
        ("1.jpg\tBlue?\tNo\t\nNo\n", 3, "No"),
    ],
    ids=["goes on", "goes on after an empty line", "starts on the next"],
)
def test_mme_refuses_a_prediction_that_spans_lines_as_its_own_tool_does(tmp_path, second, line, shown):
    write(tmp_path / "OCR.txt", f"1.jpg\tRed?\tYes\tYes\n{second}")
    message = (
        rf"OCR\.txt, line {line}: a result must be one line of four columns.*was: '{shown}'; where the prediction of"
    )
    with pytest.raises(DataError, match=message):
        headline("mme", None, tmp_path)


def mme_release(folder):
    request = "Please answer yes or no."
    write(folder / "OCR" / "1.txt", f"Red?  {request}\tYes\nBlue?  {request}\tNo\n")
    write(folder / "OCR" / "2.txt", f"Red? {request}\tYes\nBlue? {request}\tNo\n")
    write(folder / "code_reasoning" / "questions_answers_YN" / "7.txt", f"C? {request}\tNo\nPython? {request}\tYes\n")
    write(folder / "artwork" / "5.txt", f"Art? {request}\tYes\nOld? {request}\tYes\n")  # not answered: not counted


MME_ANSWERS = [
    ("code_reasoning/7.png", "Python?", "Yes"),  # the two in the other order
    ("code_reasoning/7.png", "C?", "no"),
    ("OCR/1.jpg", "Red?", "Yes"),
    ("OCR/2.jpg", "Red? Please answer yes or no.", "yes"),  # apart from its partner
    ("OCR/1.jpg", "Blue?", "No"),
    ("OCR/2.jpg", "Blue?", "Well"),
]


def test_mme_from_llavas_answers_joins_on_picture_and_question(tmp_path):
    mme_release(tmp_path / "data")
    rows = [{"question_id": name, "prompt": asked + SUFFIX, "text": text} for name, asked, text in MME_ANSWERS]
    figures = headline("mme", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*rows)))
    assert figures.pop("missing") == [*MME_LEFT_OUT] and figures == near(MME)
    with pytest.raises(DataError, match=r"must have an answer, was: 1 of 6 without, such as OCR/2#2"):
        headline("mme", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*rows[:-1])))
    with pytest.raises(
        DataError, match=r"line 7: a question may be answered once \(also in line 3\), was: 'OCR/1\.jpg Red"
    ):
        headline("mme", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*rows, rows[2])))


def test_mme_leaves_out_a_picture_that_lost_a_question(tmp_path):
    mme_release(tmp_path / "data")
    text = (tmp_path / "data" / "OCR" / "1.txt").read_text()
    write(tmp_path / "data" / "OCR" / "1.txt", text.replace("\tNo", "\tPerhaps"))
    rows = [{"question_id": name, "prompt": asked + SUFFIX, "text": text} for name, asked, text in MME_ANSWERS]
    figures = headline("mme", tmp_path / "data", write(tmp_path / "a.jsonl", lines(*rows)), skip_bad=True)
    assert figures["categories"]["OCR"] == near({"score": 50, "accuracy": 50, "accuracy_plus": 0})
    assert (figures["skipped"]["questions"], figures["skipped"]["answers"]) == (1, 1)
    write(
        tmp_path / "own" / "OCR.txt",
        "1.jpg\tRed?\tYes\tYes\n1.jpg\tBlue?\tNo\n2.jpg\tRed?\tYes\tYes\n2.jpg\tB?\tNo\tno\n",
    )
    figures = headline("mme", None, tmp_path / "own", skip_bad=True)
    assert figures["perception"] == 200 and figures["skipped"]["answers"] == 1


# ScienceQA ----------------------------------------------------------------------------------------------------------


def scienceqa(folder):
    """Four questions of the test split, two with a picture; the right choices are 0, 1, 2, 0."""
    problems = {
        str(k): {"question": "?", "choices": ["x", "y", "z"], "answer": answer, "image": image, "hint": ""}
        for k, (answer, image) in enumerate([(0, "image.png"), (1, None), (2, "image.png"), (0, None), (1, None)])
    }
    write(folder / "problems.json", problems)
    write(folder / "pid_splits.json", {"test": ["0", "1", "2", "3"], "val": ["4"]})


def test_scienceqa_from_llavas_answers(tmp_path):
    scienceqa(tmp_path)
    texts = ["A", "B. y", "The answer is D.", "perhaps"]
    rows = [{"question_id": str(k), "prompt": "?", "text": text} for k, text in enumerate(texts)]
    figures = headline("scienceqa", tmp_path, write(tmp_path / "a.jsonl", lines(*rows)))
    assert figures == near({"accuracy": 50, "image_accuracy": 50, "unparsed": 2})


def test_scienceqa_counts_missing_answers_as_wrong_and_says_so(tmp_path):
    """LLaVA's evaluator: the missing count in accuracy, but not among the questions with a picture."""
    scienceqa(tmp_path)
    rows = [{"question_id": k, "prompt": "?", "text": text} for k, text in enumerate("AB")]
    figures = headline("scienceqa", tmp_path, write(tmp_path / "answers.json", lines(*rows)))
    assert figures == near({"accuracy": 50, "image_accuracy": 100, "missing": 2})


def test_scienceqa_takes_one_line_for_an_answer_not_for_a_document(tmp_path):
    scienceqa(tmp_path)
    path = write(tmp_path / "a.jsonl", lines({"question_id": "0", "prompt": "?", "text": "A"}))
    assert headline("scienceqa", tmp_path, path) == near({"accuracy": 25, "image_accuracy": 100, "missing": 3})


def test_scienceqa_from_its_results_json(tmp_path):
    scienceqa(tmp_path)
    results = {"acc": 75.0, "results": {"0": 0, "1": "1", "2": 2, "3": -1}, "outputs": {"0": "A"}}
    for indent in (None, 2):
        path = write(tmp_path / "results.json", json.dumps(results, indent=indent))
        assert headline("scienceqa", tmp_path, path) == near({"accuracy": 75, "image_accuracy": 100, "unparsed": 1})
    odd = [
        ({"0": 0}, "must have an answer, was: 3 of 4"),
        ({"4": 0}, "must belong to a question of the split 'test', was: '4'"),
    ]
    for chosen, message in [*odd, ({"0": 5}, "must be -1 or a number below 5, was: 5"), ({"0": "A"}, "whole number")]:
        with pytest.raises(DataError, match=message):
            headline("scienceqa", tmp_path, write(tmp_path / "results.json", {"results": chosen}))
    for chosen in ([1], "x"):
        with pytest.raises(DataError, match="'results' must be an object of problem ids and choices, was: "):
            headline("scienceqa", tmp_path, write(tmp_path / "results.json", {"results": chosen}))


def test_scienceqa_from_a_parquet_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"question_id": ["0", "1", "2", "3"], "text": ["A", "B", "C", "A"]})
    scienceqa(tmp_path)
    parquet.write_table(table, tmp_path / "a.parquet")
    path = write(tmp_path / "a.jsonl", lines(*table.to_pylist()))
    assert headline("scienceqa", tmp_path, tmp_path / "a.parquet") == headline("scienceqa", tmp_path, path)


def test_a_parquet_table_of_other_bytes_than_utf8_is_named(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    raw = pyarrow.array([b"\xff\xfe"], pyarrow.binary()).cast(pyarrow.string(), safe=False)
    parquet.write_table(pyarrow.table({"question_id": ["1"], "text": raw}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a Parquet file must be whole, was: a\.parquet"):
        read_answers(tmp_path / "a.parquet")


def test_scienceqa_from_a_sheet(tmp_path):
    scienceqa(tmp_path)
    book = pytest.importorskip("openpyxl").Workbook()
    for line in (["index", "prediction"], [0, "A"], [1, "B"], [2, "A"], [3, "A"]):
        book.active.append(line)
    book.save(tmp_path / "a.xlsx")
    assert headline("scienceqa", tmp_path, tmp_path / "a.xlsx") == near({"accuracy": 75, "image_accuracy": 50})


def test_scienceqa_answers_to_another_split_are_refused_with_the_name_of_this_one(tmp_path):
    scienceqa(tmp_path)
    rows = [{"question_id": str(k), "text": "A"} for k in range(5)]
    path = write(tmp_path / "a.jsonl", lines(*rows))
    message = (
        r"a\.jsonl, line 5: every answer must belong to a question of the split 'test', was: '4'; leave it out, or"
    )
    with pytest.raises(DataError, match=message):
        headline("scienceqa", tmp_path, path)
    with pytest.raises(DataError, match="line 1: every answer must belong to a question of the split 'val', was: '0'"):
        headline("scienceqa", tmp_path, path, split="val")
    turns = [{"from": "human", "value": "Which?\nA. x B. y"}, {"from": "gpt", "value": "The answer is A."}]
    write(tmp_path / "llava" / "llava_test_CQM-A.json", [{"id": "0", "conversations": turns}])
    with pytest.raises(DataError, match="line 2: every answer must belong to a question of the split 'test', was: '1'"):
        headline("scienceqa", tmp_path / "llava", path)


# Soft accuracy ------------------------------------------------------------------------------------------------------


def test_textvqa_joins_on_picture_and_question_in_the_prompt(tmp_path):
    gold = [["dakota"] * 2 + ["nikon"] * 8, ["5"] * 10, ["left"] * 10]
    asked = [("p", "What brand?"), ("p", "how many?"), ("q", "what brand?")]
    rows = [
        {"image_id": image, "question": question, "question_id": 30 + k, "answers": gold[k]}
        for k, (image, question) in enumerate(asked)
    ]
    write(tmp_path / "TextVQA_0.5.1_val.json", {"data": rows})
    answers = [
        {
            "question_id": "p",
            "prompt": "what brand?\nReference OCR token: DAKOTA, question" + SUFFIX,
            "text": "Dakota.",
        },
        {"question_id": "p", "prompt": "Reference OCR token: 5\nHow many?" + SUFFIX, "text": "five"},
        {"question_id": "q", "prompt": "What brand?" + SUFFIX, "text": "right"},
    ]
    path = write(tmp_path / "a.jsonl", lines(*answers))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 160 / 3, "n": 3, "unparsed": 0})
    path = write(tmp_path / "a.jsonl", lines(*answers[:2]))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 80, "n": 2, "unparsed": 0, "missing": 1})
    by_id = [
        {"question_id": 30, "text": "nikon"},
        {"question_id": 31, "text": "5"},
        {"question_id": 32, "text": "left"},
    ]
    path = write(tmp_path / "a.jsonl", lines(*by_id))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 100, "n": 3, "unparsed": 0})
    for more, message in [
        (answers[0], r"answered once \(also in line 1\), was: 'p what brand"),
        ({"question_id": "r", "text": "x"}, "belong"),
    ]:
        with pytest.raises(DataError, match=message):
            headline("textvqa", tmp_path, write(tmp_path / "a.jsonl", lines(*answers, more)))


@pytest.mark.parametrize(
    "prompt",
    [
        "What brand?\nGive a very brief answer.",
        "what brand?\nReference OCR token: DAKOTA\nGive a very brief answer.",
        "Reference OCR token: DAKOTA\nWhat brand?\nGive a very brief answer.",
    ],
)
def test_textvqa_takes_whatever_instruction_follows_the_question(tmp_path, prompt):
    row = {"image_id": "p", "question": "What brand?", "question_id": 30, "answers": ["nikon"] * 10}
    write(tmp_path / "TextVQA_0.5.1_val.json", {"data": [row]})
    path = write(tmp_path / "a.jsonl", lines({"question_id": "p", "prompt": prompt, "text": "nikon"}))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 100, "n": 1, "unparsed": 0})


def test_textvqa_questions_that_differ_in_a_space_have_their_own_gold_answers(tmp_path):
    """The published key is the question in lower case, spaces and all."""
    rows = [
        {"image_id": "p", "question": question, "question_id": 30 + k, "answers": [gold] * 10}
        for k, (question, gold) in enumerate((("what brand?", "nike"), ("what brand? ", "puma")))
    ]
    write(tmp_path / "TextVQA_0.5.1_val.json", {"data": rows})
    answers = [{"question_id": "p", "prompt": row["question"] + SUFFIX, "text": row["answers"][0]} for row in rows]
    path = write(tmp_path / "a.jsonl", lines(*answers))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 100, "n": 2, "unparsed": 0})


def test_textvqa_questions_asked_twice_are_each_held_against_the_last(tmp_path):
    rows = [
        {"image_id": "p", "question": "what?", "question_id": k, "answers": [gold] * 10} for k, gold in enumerate("ab")
    ]
    write(tmp_path / "TextVQA_0.5.1_val.json", {"data": rows})
    answer = {"question_id": "p", "prompt": "what?" + SUFFIX, "text": "b"}
    path = write(tmp_path / "a.jsonl", lines(answer, answer))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 100, "n": 2, "unparsed": 0})
    path = write(tmp_path / "a.jsonl", lines(*({"question_id": k, "text": text} for k, text in enumerate("ab"))))
    assert headline("textvqa", tmp_path, path) == near({"accuracy": 100, "n": 2, "unparsed": 0})  # by id: each its own


def vqav2(folder):
    gold = [["two"] * 10, ["bob 's"] * 10]
    labels = [{"question_id": k, "answers": [{"answer": one} for one in gold[k]]} for k in range(2)]
    asked = [{"question_id": k, "image_id": 1, "question": "?"} for k in range(2)]
    write(folder / "v2_mscoco_val2014_annotations.json", {"annotations": labels})
    write(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked})


def test_vqav2_prepares_llavas_answers_and_takes_a_servers_as_they_are(tmp_path):
    """EvalAI's processor parts "bob's" and says 2 for two; the evaluator does neither where all gold answers agree."""
    vqav2(tmp_path)
    llava = write(
        tmp_path / "merge.jsonl", lines(*({"question_id": k, "text": t} for k, t in enumerate(["two", "Bob's"])))
    )
    assert headline("vqav2", tmp_path, llava) == near({"accuracy": 50, "n": 2, "unparsed": 0})
    sent = write(tmp_path / "sent.json", [{"question_id": 0, "answer": "two"}, {"question_id": 1, "answer": "bob's"}])
    assert headline("vqav2", tmp_path, sent) == near({"accuracy": 50, "n": 2, "unparsed": 0})
    with pytest.raises(DataError, match="must have an answer, was: 1 of 2 without, such as 1"):
        headline("vqav2", tmp_path, write(tmp_path / "sent.json", [{"question_id": 0, "answer": "two"}]))


def test_vizwiz_joins_on_the_picture(tmp_path):
    gold = [{"answer": "unanswerable"}] * 7 + [{"answer": "can"}] * 3
    write(tmp_path / "val.json", [{"image": "v.jpg", "question": "?", "answers": gold}])
    answers = write(tmp_path / "answers.json", [{"image": "v.jpg", "answer": "can"}])
    assert headline("vizwiz", tmp_path, answers) == near({"accuracy": 90, "n": 1, "unparsed": 0})


def test_vizwiz_from_llavas_answers_joins_on_the_number_of_the_picture(tmp_path):
    """LLaVA's llava_test.jsonl says {"question_id": 0, "image": "VizWiz_test_00000000.jpg"}, its answers only 0."""
    gold = [{"answer": "unanswerable"}] * 7 + [{"answer": "can"}] * 3
    rows = [{"image": f"VizWiz_val_{k:08d}.jpg", "question": f"What is {k}?", "answers": gold} for k in (3, 12)]
    write(tmp_path / "val.json", rows)
    wanted = "\nWhen the provided information is insufficient, respond with 'Unanswerable'." + SUFFIX
    answers = [{"question_id": k, "prompt": f"What is {k}?{wanted}", "text": "Can."} for k in (12, 3)]
    figures = headline("vizwiz", tmp_path, write(tmp_path / "a.jsonl", lines(*answers)))
    assert figures == near({"accuracy": 90, "n": 2, "unparsed": 0})
    with pytest.raises(DataError, match=r"line 1: every answer must belong to a question, was: .12 What is 3"):
        moved = answers[0] | {"prompt": answers[1]["prompt"]}
        headline("vizwiz", tmp_path, write(tmp_path / "a.jsonl", lines(moved, answers[1])))


# One answer per question --------------------------------------------------------------------------------------------


def test_gqa_from_llavas_answers_and_from_predictions(tmp_path):
    entries = {str(k): {"question": "?", "answer": "yes", "imageId": "n1", "isBalanced": k < 2} for k in range(3)}
    write(tmp_path / "testdev_balanced_questions.json", entries)
    llava = [{"question_id": str(k), "prompt": "?", "text": text} for k, text in enumerate(["Yes.", "no"])]
    figures = headline("gqa", tmp_path, write(tmp_path / "merge.jsonl", lines(*llava)))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 0})
    told = [{"questionId": str(k), "prediction": text} for k, text in enumerate(["Yes.", "yes", "yes"])]
    figures = headline("gqa", tmp_path, write(tmp_path / "told.json", told))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 0, "unknown": 1})
    with pytest.raises(DataError, match="must have an answer, was: 1 of 2"):
        headline("gqa", tmp_path, write(tmp_path / "told.json", told[1:]))


def test_docvqa_and_chartqa(tmp_path):
    row = {"image": "documents/a.png", "question": "?", "answers": ["0.28"]}
    write(tmp_path / "val_v1.0.json", {"data": [row | {"questionId": 5}, row | {"questionId": 6}]})
    answers = [{"questionId": 5, "answer": "0.29"}, {"questionId": 6, "answer": "1"}]
    figures = headline("docvqa", tmp_path, write(tmp_path / "told.json", answers))
    assert figures == near({"anls": 37.5, "n": 2, "unparsed": 0})
    for part in ("human", "augmented"):
        write(tmp_path / "test" / f"test_{part}.json", [{"imgname": "1.png", "query": "?", "label": "100"}])
    answers = [{"question_id": "human/1", "text": "104"}, {"question_id": "augmented/1", "text": "106"}]
    figures = headline("chartqa", tmp_path, write(tmp_path / "a.jsonl", lines(*answers)))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 0})


@pytest.mark.parametrize("field", ["query", "question", "prompt"])
def test_chartqa_from_its_own_answer_files_joins_on_picture_and_words(tmp_path, field):
    asked = [("41699051005347.png", "How many food item?", "14"), ("41699051005347.png", "Which is least?", "Egg")]
    rows = [{"imgname": name, "query": words, "label": label} for name, words, label in asked]
    write(tmp_path / "test" / "test_human.json", rows)
    told = [{"imgname": name, field: words, "prediction": label} for name, words, label in reversed(asked)]
    told[1]["prediction"] = 14  # programs write numbers as numbers
    figures = headline("chartqa", tmp_path, write(tmp_path / "told.json", told))
    assert figures == near({"accuracy": 100, "n": 2, "unparsed": 0})


# MMBench ------------------------------------------------------------------------------------------------------------


def mmbench(folder, rotations=True):
    """Two circles of two rotations each; the right letters are B, A and A, B."""
    rows = ["index\tquestion\thint\tA\tB\tanswer\timage", "1\t?\tnan\tred\tblue\tB\tx", "2\t?\tnan\tbig\ttiny\tA\tx"]
    turned = ["1000001\t?\tnan\tblue\tred\tA\tx", "1000002\t?\tnan\ttiny\tbig\tB\tx"]
    write(folder / "mmbench_dev.tsv", "\n".join(rows + turned * rotations) + "\n")


def test_mmbench_wins_a_question_with_all_its_rotations(tmp_path):
    mmbench(tmp_path)
    texts = {1: "B", 1000001: "A", 2: "A. big", 1000002: "who knows"}
    answers = [{"question_id": index, "text": text} for index, text in texts.items()]
    figures = headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(*answers)))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 1})
    letters = {"1": "B", "1000001": "A", "2": "A", "1000002": "B"}
    figures = headline("mmbench", tmp_path, write(tmp_path / "letters.json", letters))
    assert figures == near({"accuracy": 100, "n": 2, "unparsed": 0})
    with pytest.raises(DataError, match="must have an answer, was: 1 of 4 without, such as 1000002"):
        headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(*answers[:-1])))
    with pytest.raises(DataError, match="answered once a round, was: '1'"):
        headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(*answers, answers[0])))


@pytest.mark.parametrize("split", [None, "dev", "mmbench_dev_20230712"])
def test_mmbench_takes_the_english_file_where_the_chinese_lies_beside_it(tmp_path, split):
    mmbench(tmp_path / "made", rotations=False)
    (tmp_path / "made" / "mmbench_dev.tsv").rename(tmp_path / "mmbench_dev_20230712.tsv")
    write(tmp_path / "mmbench_dev_cn_20231003.tsv", "index\tquestion\n")
    answers = lines({"question_id": 1, "text": "B"}, {"question_id": 2, "text": "A"})
    figures = headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", answers), split=split)
    assert figures == near({"accuracy": 100, "n": 2, "unparsed": 0})


def test_mmbench_may_offer_none_as_a_choice(tmp_path):
    rows = ("1\t?\tOne\tTwo\tnan\tnan\tB\tx", "2\t?\tOne\tTwo\tThree\tNone\tD\tx")
    rows = "\n".join(["index\tquestion\tA\tB\tC\tD\tanswer\timage", *rows, ""])
    write(tmp_path / "mmbench.tsv", rows)
    answers = lines({"question_id": 1, "text": "B"}, {"question_id": 2, "text": "D"})
    figures = headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", answers))
    assert figures == near({"accuracy": 100, "n": 2, "unparsed": 0})


def test_mmbench_is_not_won_where_llava_left_out_the_right_choice(tmp_path):
    """Its loop over the choices ends before the first that is called "None", though it or a later one be right."""
    write(tmp_path / "mmbench.tsv", "index\tquestion\tA\tB\tC\tD\tanswer\timage\n1\t?\tOne\tTwo\tNone\tMany\tD\tx\n")
    offered = {"question_id": 1, "text": "B", "options": ["One", "Two"], "option_char": ["A", "B"]}
    figures = headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(offered)))
    assert figures == near({"accuracy": 0, "n": 1, "unparsed": 0})
    other = offered | {"options": ["Two", "One"]}
    with pytest.raises(DataError, match="must be rotations of the question's choices"):
        headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(other)))


def test_mmbench_reads_vlmevalkits_table_by_its_prediction(tmp_path):
    mmbench(tmp_path, rotations=False)
    table = "index\tquestion\tA\tB\tanswer\tprediction\n1\t?\tred\tblue\tB\tA\n2\t?\tbig\ttiny\tA\tbig\n"
    figures = headline("mmbench", tmp_path / "", write(tmp_path / "out" / "predictions.csv", table.replace("\t", ",")))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 0})


def mmbench_sheet(path, texts):
    """As LLaVA's convert_mmbench_for_submission.py and VLMEvalKit write it: the data's columns and the prediction."""
    book = pytest.importorskip("openpyxl").Workbook()
    book.active.append(["index", "question", "A", "B", "answer", "category", "prediction"])
    for index, text in texts.items():
        book.active.append([index, "?", "red", "blue", "B", "colour", text])
    book.save(path)
    return path


def test_mmbench_from_a_sheet_is_mmbench_from_the_same_answers(tmp_path):
    """The empty cell is an unread answer, not the gold answer beside it."""
    mmbench(tmp_path)
    texts = {1: "B", 1000001: "A", 2: "A. big", 1000002: None}
    figures = headline("mmbench", tmp_path, mmbench_sheet(tmp_path / "m3_MMBench.xlsx", texts))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 1})
    rows = [{"index": index, "answer": "B", "prediction": text or ""} for index, text in texts.items()]
    assert figures == headline("mmbench", tmp_path, write(tmp_path / "m3_MMBench.json", rows))
    with pytest.raises(DataError, match=r"m3_MMBench\.xlsx: every question must have an answer, was: 1 of 4 without"):
        headline("mmbench", tmp_path, mmbench_sheet(tmp_path / "m3_MMBench.xlsx", {1: "B", 2: "A", 1000001: "A"}))
    with pytest.raises(DataError, match=r"m3_MMBench\.xlsx, line 3: every answer must belong to a row, was: '9'"):
        headline("mmbench", tmp_path, mmbench_sheet(tmp_path / "m3_MMBench.xlsx", {1: "B", 9: "A"}))


def test_a_torn_sheet_of_answers_is_refused_by_name(tmp_path):
    mmbench(tmp_path)
    path = mmbench_sheet(tmp_path / "torn.xlsx", {1: "B"})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"an Excel file must be whole, .*was: torn\.xlsx"):
        headline("mmbench", tmp_path, path)


def test_vlmevalkits_json_may_hold_nan(tmp_path):
    mmbench(tmp_path, rotations=False)
    rows = [{"index": k, "hint": float("nan"), "answer": "B", "prediction": "B"} for k in (1, 2)]
    figures = headline("mmbench", tmp_path, write(tmp_path / "a.json", json.dumps(rows, indent=4)))
    assert figures == near({"accuracy": 50, "n": 2, "unparsed": 0})


def test_mmbench_rounds_turn_the_letters(tmp_path):
    """In the second round of question 1, "A" stands for blue, the right choice B."""
    mmbench(tmp_path, rotations=False)
    answers = [
        {"question_id": index, "round_id": turn, "text": text, "options": options, "option_char": letters}
        for index, turn, text, options, letters in [
            (1, 0, "B", ["red", "blue"], ["A", "B"]),
            (1, 1, "A", ["blue", "red"], ["B", "A"]),
            (2, 0, "A", ["big", "tiny"], ["A", "B"]),
            (2, 1, "B", ["tiny", "big"], ["B", "A"]),
        ]
    ]
    figures = headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(*answers)))
    assert figures == near({"accuracy": 100, "n": 2, "unparsed": 0})
    with pytest.raises(DataError, match="must have an answer, was: 1 of 2 without, such as 2"):
        headline("mmbench", tmp_path, write(tmp_path / "a.jsonl", lines(*answers[:-1])))


def test_mmbench_leaves_out_a_circle_that_lost_an_answer(tmp_path):
    mmbench(tmp_path)
    answers = [{"question_id": index, "text": text} for index, text in {1: "B", 1000001: "A", 2: "A"}.items()]
    path = write(tmp_path / "a.jsonl", lines(*answers, {"question_id": 1000002}))
    figures = headline("mmbench", tmp_path, path, skip_bad=True)
    assert figures.pop("skipped")["answers"] == 1 and figures == near({"accuracy": 100, "n": 1, "unparsed": 0})


def test_an_unknown_benchmark_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"headline figures are known for chartqa, docvqa, .*was: 'llava'"):
        headline("llava", tmp_path, tmp_path / "a.jsonl")


def test_an_empty_prediction_in_a_table_is_no_gold_answer(tmp_path):
    """VLMEvalKit's tables hold the gold answer beside the prediction; an empty cell once fell through to it."""
    table = write(tmp_path / "a.tsv", "index\tanswer\tprediction\n1\tB\t\n2\tC\tC\n")
    assert [given.text for given in read_answers(table)] == ["", "C"]
    packed = tmp_path / "a.tsv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert [given.text for given in read_answers(packed)] == ["", "C"]
    with pytest.raises(DataError, match="'text'"):
        read_answers(write(tmp_path / "a.jsonl", lines({"question_id": 1, "text": None, "answer": "B"})))


def test_a_result_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="must be a file or a result folder, was: 'typo', which is not there"):
        headline("mme", None, tmp_path / "typo")
