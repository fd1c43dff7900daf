"""Every reader opens its benchmark as published; each fixture holds a trap that the real files carry."""

import base64
import gzip
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from encoders.errors import DataError, ImageError
from encoders.images import open_image
from training_data.readers import BENCHMARKS, read, read_own
from training_data.readers.folder import Embedded
from training_data.replicates import reordered
from training_data.scores import METRICS

SUFFIX = "\nAnswer the question using a single word or phrase."


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


def encoded(colour, size=(8, 8)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def pope(folder):
    """More labels than questions, ids that start anew, "imange" in a label, an array under .json."""
    label = {"image": "a.jpg", "label": "yes", "question_id": 1, "text": "Is there an umbrella in the imange?"}
    other = {"image": "a.jpg", "label": "no", "question_id": 2, "text": "Is there a dog in the image?"}
    extra = {"image": "a.jpg", "label": "yes", "question_id": 3, "text": "Is there a dot in the image?"}
    write(folder / "coco" / "coco_pope_random.json", lines(extra, label, other))
    write(folder / "coco" / "coco_pope_popular.json", json.dumps([other], indent=1))
    asked = [
        {"question_id": 0, "image": "a.jpg", "text": "Is there a dog in the image?" + SUFFIX, "category": "random"},
        {
            "question_id": 1,
            "image": "a.jpg",
            "text": "Is there an umbrella in the image?" + SUFFIX,
            "category": "random",
        },
        {"question_id": 2, "image": "a.jpg", "text": "Is there a dog in the image?" + SUFFIX, "category": "popular"},
    ]
    write(folder / "llava_pope_test.jsonl", lines(*asked))


def mme(folder):
    """Two questions per picture, both layouts, two spaces before the request, no header."""
    base = folder / "MME_Benchmark_release_version"
    request = "  Please answer yes or no."
    write(base / "OCR" / "0001.txt", f"Is it red?{request}\tYes\nIs it blue?{request}\tNo\n")
    write(base / "artwork" / "questions_answers_YN" / "7.txt", "Is it art? Please answer yes or no.\tNo\nOld?\tYes")
    picture(base / "OCR" / "0001.png")
    picture(base / "artwork" / "images" / "7.jpg")


def problem(answer=1, image="image.png", **more):
    return {"question": "Which?", "choices": ["x", "y"], "answer": answer, "hint": "", "image": image, **more}


def scienceqa(folder):
    write(folder / "pid_splits.json", {"test": ["4", "9"], "val": ["5"]})
    write(folder / "problems.json", {"4": problem(split="test"), "5": problem(0), "9": problem(0, None, hint="Look.")})
    picture(folder / "images" / "test" / "4" / "image.png")
    picture(folder / "images" / "val" / "5" / "image.png")


def vqav2(folder):
    """Questions plain, annotations gzipped, one annotation more than questions."""
    answers = [{"answer": "down", "answer_id": k} for k in range(10)]
    labels = [{"question_id": k, "answers": answers, "answer_type": "other"} for k in (262148000, 99)]
    asked = [{"image_id": 262148, "question": "Where?", "question_id": 262148000}]
    write(folder / "v2_mscoco_val2014_annotations.json.gz", {"annotations": labels})
    write(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked})
    picture(folder / "val2014" / "COCO_val2014_000000262148.jpg")


def gqa(folder):
    entry = {"question": "Is it overcast?", "answer": "no", "imageId": "n161313", "isBalanced": True}
    write(
        folder / "questions" / "testdev_balanced_questions.json", {"201": entry, "202": entry | {"isBalanced": False}}
    )
    picture(folder / "images" / "n161313.jpg")


def textvqa(folder):
    row = {"question": "what brand?", "image_id": "003a8", "question_id": 34602, "answers": ["dakota"] * 10}
    write(folder / "TextVQA_0.5.1_val.json", {"dataset_name": "textvqa", "data": [row]})
    picture(folder / "train_images" / "003a8.jpg")


def vizwiz(folder):
    answers = [{"answer": "", "answer_confidence": "no"}] + [{"answer": "unanswerable"}] * 9
    write(folder / "val.json", [{"image": "VizWiz_val_0.jpg", "question": "Ok?", "answers": answers, "answerable": 0}])
    picture(folder / "val" / "VizWiz_val_0.jpg")


def chartqa(folder):
    write(folder / "test" / "test_human.json", [{"imgname": "1.png", "query": "How many?", "label": "14"}])
    write(folder / "test" / "test_augmented.json", [{"imgname": "1.png", "query": "Least?", "label": 3}])
    picture(folder / "test" / "png" / "1.png")


def docvqa(folder):
    row = {"questionId": 49153, "question": "Value?", "image": "documents/p_81.png", "answers": ["0.28"]}
    for name in ("val_v1.0.json", "val_v1.0_withQT.json"):  # both are handed out; the later one is taken
        write(folder / name, {"data": [row]})
    picture(folder / "documents" / "p_81.png")


def mmbench(folder):
    """A rotation whose picture is a reference, a hint, and pandas' "nan" for a choice that is not there."""
    header = "index\tquestion\thint\tA\tB\tC\tanswer\timage\n"
    first = f"241\tWhich?\tnan\tRepel\tAttract\tnan\tB\t{encoded('red')}\n"
    write(folder / "mmbench_dev.tsv", f"{header}{first}1000241\tWhich?\tTwo poles.\tAttract\tRepel\t\tA\t241\n")


def llava(folder):
    row = {"question_id": 0, "image": "001.jpg", "text": "What is shown?", "category": "conv"}
    write(folder / "questions.jsonl", lines(row))
    picture(folder / "images" / "001.jpg")


FIXTURES = {f.__name__: f for f in (chartqa, docvqa, gqa, llava, mmbench, mme, pope, scienceqa, textvqa, vizwiz, vqav2)}


@pytest.fixture
def folder(tmp_path):
    """A data folder within a larger one, so that paths could lead out of it."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_reader_opens_its_fixture(folder, name):
    FIXTURES[name](folder)
    picture(folder / "val2014" / "a.jpg")
    reading = read(name, folder)
    assert reading.examples and reading.bad == 0 and reading.messages == ()
    for example in reading.examples:
        assert open_image(example.picture()).size == ((8, 8) if name == "mmbench" else (4, 4))
        assert example.question and example.group and example.metric in METRICS
        assert example.answers or name == "llava"
    assert len({example.id for example in reading.examples}) == len(reading.examples)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_no_picture_need_be_there_to_score_answers(folder, name):
    FIXTURES[name](folder)
    asked = [example.question for example in read(name, folder, pictures=False).examples]
    for path in [*folder.rglob("*.png"), *folder.rglob("*.jpg")]:
        path.unlink()
    assert [example.question for example in read(name, folder, pictures=False).examples] == asked
    if name != "mmbench":  # whose pictures travel in the table
        with pytest.raises(DataError, match=r"picture must lie in data, was: .*; check the path, fetch"):
            read(name, folder)


def test_pope_joins_on_picture_and_question_whatever_the_order(folder):
    pope(folder)
    found = {example.id: example for example in read("pope", folder, pictures=False).examples}
    assert {name: example.answers for name, example in found.items()} == {"0": ("no",), "1": ("yes",), "2": ("no",)}
    assert found["1"].meta["category"] == "random" and found["1"].question.endswith(SUFFIX)


def test_pope_takes_a_typo_for_a_typo_only_where_it_is_one(folder):
    """ "dog" and "dot" are two objects; a question whose label is not there is bad, not answered by a neighbour."""
    pope(folder)
    label = {"image": "a.jpg", "label": "yes", "question_id": 1, "text": "Is there a dot in the image?"}
    write(folder / "coco" / "coco_pope_popular.json", lines(label))
    with pytest.raises(DataError, match=r"line 3: every question of 'popular' must have a label.*Is there a dog"):
        read("pope", folder, pictures=False)
    reading = read("pope", folder, pictures=False, skip_bad=True)
    assert (len(reading.examples), reading.bad) == (2, 1)


def test_pope_gives_a_question_asked_twice_its_labels_in_turn(folder):
    text = "Is there a dog in the image?"
    labels = [
        {"image": "a.jpg", "label": label, "question_id": k, "text": text} for k, label in enumerate(("yes", "no"))
    ]
    write(folder / "coco_pope_random.json", lines(*labels))
    asked = [{"question_id": k, "image": "a.jpg", "text": text, "category": "random"} for k in (5, 6)]
    write(folder / "llava_pope_test.jsonl", lines(*asked))
    assert [one.answers for one in read("pope", folder, pictures=False).examples] == [("yes",), ("no",)]


def test_pope_reads_label_files_alone(folder):
    pope(folder)
    (folder / "llava_pope_test.jsonl").unlink()
    ids = [example.id for example in read("pope", folder, pictures=False).examples]
    assert ids == ["popular/2", "random/3", "random/1", "random/2"]
    assert [example.id for example in read("pope", folder, split="popular", pictures=False).examples] == ["popular/2"]


def test_mme_has_two_questions_per_picture_in_either_layout(folder):
    mme(folder)
    found = read("mme", folder).examples
    assert [(one.id, one.group, one.answers) for one in found] == [
        ("artwork/7#1", "artwork/7", ("No",)),
        ("artwork/7#2", "artwork/7", ("Yes",)),
        ("OCR/0001#1", "OCR/0001", ("Yes",)),
        ("OCR/0001#2", "OCR/0001", ("No",)),
    ]


def test_scienceqa_keeps_questions_without_a_picture_where_asked(folder):
    scienceqa(folder)
    [seen] = read("scienceqa", folder).examples
    assert (seen.id, seen.answers, seen.choices, seen.question) == ("4", ("B",), ("x", "y"), "Which?\nA. x\nB. y")
    _, unseen = read("scienceqa", folder, text_only=True).examples
    assert unseen.image == () and unseen.pictures() == () and unseen.question == "Look.\nWhich?\nA. x\nB. y"
    with pytest.raises(DataError, match="example '9' must have one picture to be asked for it, was: 0"):
        unseen.picture()
    assert read("scienceqa", folder, split="val").examples[0].answers == ("A",)


def test_scienceqa_in_llavas_form_lacks_the_image_key(folder):
    turns = [{"from": "human", "value": "<image>\nWhich?\nA. x\nB. y"}, {"from": "gpt", "value": "The answer is B."}]
    rows = [{"id": "4", "image": "4/image.png", "conversations": turns}, {"id": "9", "conversations": turns}]
    write(folder / "llava_test_CQM-A.json", json.dumps(rows, indent=2))
    picture(folder / "images" / "test" / "4" / "image.png")
    picture(folder / "images" / "val" / "4" / "image.png")  # the same name in another split
    seen, unseen = read("scienceqa", folder, text_only=True).examples
    assert seen.image == folder / "images" / "test" / "4" / "image.png" and unseen.image == ()
    assert (seen.question, seen.answers, len(seen.choices)) == ("Which?\nA. x\nB. y", ("B",), 2)


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("The answer is B. BECAUSE: A food web is a web.", "B"),
        ("A food web models how matter moves. The answer is B.", "B"),
        ("LECTURE: A pole is an end.\nSOLUTION: Poles.\n###\nANSWER: B.", "B"),
        ("A food web models how matter moves.", None),
        ("The answer is north.", None),
    ],
)
def test_scienceqa_in_llavas_form_names_the_letter_wherever_its_scripts_put_it(folder, said, gold):
    """scripts/convert_sqa_to_llava_base_prompt.py: answer, lecture and explanation in any order."""
    turns = [{"from": "human", "value": "Which?\nA. x\nB. y"}, {"from": "gpt", "value": said}]
    write(folder / "llava_test_QCM-LEA.json", json.dumps([{"id": "4", "conversations": turns}]))
    if gold is None:
        with pytest.raises(DataError, match="must name the right letter"):
            read("scienceqa", folder, text_only=True)
    else:
        assert read("scienceqa", folder, text_only=True).examples[0].answers == (gold,)


def test_mmbench_follows_references_and_groups_by_picture(folder):
    mmbench(folder)
    first, second = read("mmbench", folder).examples
    assert first.group == second.group and first.picture().getpixel((0, 0)) == (255, 0, 0)
    assert (first.question, first.choices) == ("Which?\nA. Repel\nB. Attract", ("Repel", "Attract"))
    assert second.question.startswith("Two poles.\nWhich?")
    assert first.meta["circle"] == second.meta["circle"] == 241


def test_mmbench_pictures_are_decoded_in_memory_and_only_when_asked(folder):
    mmbench(folder)
    bad = (folder / "mmbench_dev.tsv").read_text().replace(encoded("red"), "no+base64!" * 20)
    write(folder / "mmbench_dev.tsv", bad)
    first, _ = read("mmbench", folder).examples
    with pytest.raises(DataError, match="line 2: a picture must be base64"):
        first.picture()
    write(folder / "mmbench_dev.tsv", bad.replace("no+base64!" * 20, base64.b64encode(b"no picture " * 20).decode()))
    with pytest.raises(ImageError, match="a picture file must be in a format"):
        read("mmbench", folder).examples[0].picture()
    assert [path.name for path in folder.iterdir()] == ["mmbench_dev.tsv"]


def test_pope_refuses_a_category_without_labels(folder):
    pope(folder)
    (folder / "coco" / "coco_pope_popular.json").unlink()
    with pytest.raises(DataError, match="line 3: every question of 'popular' must have a label"):
        read("pope", folder, pictures=False)
    assert len(read("pope", folder, split="random", pictures=False).examples) == 2


def test_two_annotations_of_one_question_are_refused_or_counted(folder):
    vqav2(folder)
    path = folder / "v2_mscoco_val2014_annotations.json.gz"
    labels = json.loads(gzip.decompress(path.read_bytes()))["annotations"]
    write(path, {"annotations": [labels[0], *labels]})
    with pytest.raises(DataError, match=r"row 2: the field 'question_id' must be its row's own \(also in row 1\)"):
        read("vqav2", folder)
    assert read("vqav2", folder, skip_bad=True).bad == 1


def test_gqa_takes_the_balanced_questions(folder):
    gqa(folder)
    assert [example.id for example in read("gqa", folder).examples] == ["201"]


def own_row(**changes):
    return {"image": "a.jpg", "question": "How many?", "answer": "2"} | changes


def test_own_questions_need_three_fields_and_take_eight(folder):
    picture(folder / "a.jpg")
    picture(folder / "b.jpg")
    full = own_row(answers=["a", "A"], id=7, choices=["x", "y"], metric="gqa", group="pair", dataset="ages")
    path = write(folder / "mine.jsonl", lines(own_row(), full | {"image": ["a.jpg", "b.jpg"]}))
    plain, rich = read_own(path).examples
    assert (plain.id, plain.group, plain.dataset, plain.metric) == ("1", "a.jpg", "mine", "exact")
    assert plain.answers == ("2",) and plain.choices is None and plain.image == folder / "a.jpg"
    assert (rich.id, rich.group, rich.dataset, rich.metric) == ("7", "pair", "ages", "gqa")
    assert rich.answers == ("a", "A") and rich.choices == ("x", "y")
    assert rich.pictures() == (folder / "a.jpg", folder / "b.jpg")


def test_own_tables_part_answers_and_choices_by_bars(folder):
    picture(folder / "a.jpg")
    table = "image,question,answers,choices,metric\na.jpg,Which?,B,red|black,letter\na.jpg,How?,2|two,,\n"
    first, second = read_own(write(folder / "mine.csv", table)).examples
    assert (first.choices, first.answers, first.metric) == (("red", "black"), ("B",), "letter")
    assert (second.choices, second.answers, second.id) == (None, ("2", "two"), "3")
    assert read_own(write(folder / "mine.tsv", table.replace(",", "\t"))).examples[0].choices == ("red", "black")


def test_a_parquet_table_parts_texts_and_leaves_lists(folder):
    pandas = pytest.importorskip("pandas")
    picture(folder / "a.jpg")
    rows = [
        {"image": "a.jpg", "question": "Which?", "answer": ["B"], "choices": ["red|ish", "black"]},
        {"image": "a.jpg", "question": "Which?", "answer": "B", "choices": "red|black|white"},
    ]
    for row, choices in zip(rows, (("red|ish", "black"), ("red", "black", "white")), strict=True):
        pandas.DataFrame([row]).to_parquet(folder / "mine.parquet")
        [example] = read_own(folder / "mine.parquet").examples
        assert (example.choices, example.answers) == (choices, ("B",)) and "B. black" in example.question


@pytest.mark.parametrize("metric", ["yes_no", "mme"])
@pytest.mark.parametrize("answers", [["Yes."], ["true"], ["1"], ["yes", "no"]])
def test_what_is_judged_as_yes_or_no_has_such_an_answer(folder, metric, answers):
    """Anything but yes was taken for no, and a model that said yes was wrong."""
    picture(folder / "a.jpg")
    path = write(
        folder / "mine.jsonl", lines({"image": "a.jpg", "question": "Is it?", "answers": answers, "metric": metric})
    )
    with pytest.raises(DataError, match=f"line 1: the answer to metric '{metric}' must be yes or no, once"):
        read_own(path)


def test_a_single_choice_is_a_list_that_was_not_parted(folder):
    picture(folder / "a.jpg")
    path = write(folder / "mine.jsonl", lines(own_row(choices="red|black|white")))
    with pytest.raises(DataError, match=r"'choices' must hold two or more, was: .*write a list"):
        read_own(path)


def own_question(folder, **changes):
    picture(folder / "a.jpg")
    [example] = read_own(write(folder / "mine.jsonl", lines(own_row(**changes)))).examples
    return example


LISTED = "Which?\nA. red\nB. black"


@pytest.mark.parametrize("metric", ["exact", "letter", "mmbench"])
def test_choices_are_listed_where_answers_are_their_letters(folder, metric):
    """They were asked without: nobody can answer B who is not told what B is."""
    example = own_question(folder, question="Which?", answer="B", choices=["red", "black"], metric=metric)
    assert (example.question, example.answers, example.choices) == (LISTED, ("B",), ("red", "black"))
    moved = [reordered(example, number) for number in range(1, 9)]
    assert {one.answers[0] for one in moved} == {"A", "B"}
    assert all(f"{one.answers[0]}. black" in one.question for one in moved)


@pytest.mark.parametrize(
    "question",
    [
        LISTED + "\nAnswer with the letter.",
        "Which?\n(A) red\n(B) black",
        "Which? A) Red  B) black",
        "Which? a: red, b: black",
        "Which? [A] red [B] black",
    ],
)
def test_choices_that_a_question_lists_are_not_listed_again(folder, question):
    assert own_question(folder, question=question, answer="B", choices=["red", "black"]).question == question


def test_words_that_begin_as_choices_do_are_no_list_of_them(folder):
    example = own_question(folder, question="A: reddish, B: blackish?", answer="B", choices=["red", "black"])
    assert example.question.endswith("\nA. red\nB. black")


def test_choices_without_an_answer_must_say_how_they_are_asked(folder):
    """A router was fitted on questions asked one way or the other, and a row to be answered does not show which."""
    picture(folder / "a.jpg")
    row = own_row(question="Which?", choices=["red", "black"])
    del row["answer"]

    def asked(**changes):
        [example] = read_own(write(folder / "mine.jsonl", lines({**row, **changes})), gold=False).examples
        return example.question

    with pytest.raises(DataError, match="no answer, the field 'metric' must say how to ask, was: 'none'; write letter"):
        asked()
    assert asked(metric="letter") == LISTED and asked(metric="exact") == "Which?"


@pytest.mark.parametrize("choices", [["A. red", "B. black"], ["(A) red", "(B) black"], ["A) red", "B: black"]])
def test_choices_with_letters_of_their_own_are_listed_once(folder, choices):
    example = own_question(folder, question="Which?", answer="B", choices=choices)
    assert (example.question, example.choices) == (LISTED, ("red", "black"))
    assert own_question(folder, question=LISTED, answer="B", choices=choices).question == LISTED


@pytest.mark.parametrize(
    ("answer", "choices"), [("black", ["red", "black"]), ("A", ["A", "E"]), ("2", None)], ids=["text", "is one", "none"]
)
def test_questions_whose_answers_are_spelled_out_are_asked_as_they_are(folder, answer, choices):
    assert own_question(folder, question="Red or black?", answer=answer, choices=choices).question == "Red or black?"


def test_a_question_and_a_data_set_may_be_numbers(folder):
    example = own_question(folder, question=12, dataset=3)
    assert (example.question, example.dataset) == ("12", "3")


BAD_ROWS = {
    "missing field": ({"answer": None}, "line 1: a row must have the field 'answers' or 'answer'"),
    "truth for text": ({"question": True}, "'question' must be text and not blank, was: True"),
    "object for answer": ({"answer": {"a": 2}}, "'answer' must be a text or a list of texts, was: {'a': 2}"),
    "blank answer": ({"answer": " "}, "'answer' must not hold blank texts"),
    "unknown metric": ({"metric": "bleu"}, "'metric' must name a metric, was: 'bleu'; use one of anls"),
    "letter without choice": (
        {"metric": "letter", "answer": "C", "choices": ["x", "y"]},
        "must be the letter of a choice",
    ),
    "a folder for a picture": ({"image": "."}, "a picture's path must name a file, was: '.'"),
    "a way back for a picture": ({"image": "x/.."}, "a picture's path must name a file"),
    "a name that no disk holds": ({"image": "x" * 300}, "its picture must be a file"),
    "one annotator": ({"metric": "vqa", "answer": "1"}, "metric 'vqa' needs 4 answers or more, one of each annotator"),
    "missing picture": ({"image": "b.jpg"}, r"mine\.jsonl, line 1: its picture must be a file, was: 'b\.jpg'"),
}
WAYS_OUT = ["../out.jpg", "x/../../out.jpg", "/etc/passwd", "x\\..\\..\\out.jpg", "C:\\out.jpg"]


@pytest.mark.parametrize("name", WAYS_OUT)
def test_a_benchmark_names_no_picture_outside_its_folder(folder, name):
    picture(folder.parent / "out.jpg")
    write(folder / "questions.jsonl", lines({"question_id": 1, "image": name, "text": "?", "answer": "yes"}))
    with pytest.raises(DataError, match="must stay within data"):
        read("llava", folder)


@pytest.mark.parametrize("name", ["../out.jpg", "ABSOLUTE"])
def test_your_own_file_names_any_of_your_pictures(folder, name):
    there = folder.parent / "out.jpg"
    picture(there)
    path = write(folder / "mine.jsonl", lines(own_row(image=str(there) if name == "ABSOLUTE" else name)))
    [example] = read_own(path).examples
    assert Path(example.image).samefile(there)


def test_your_own_file_is_not_given_a_picture_of_that_name_from_elsewhere(folder):
    picture(folder / "old" / "1.png")
    path = write(folder / "mine.jsonl", lines(own_row(image="1.png")))
    with pytest.raises(DataError, match=r"its picture must be a file, was: '1\.png'"):
        read_own(path)


@pytest.mark.parametrize("home", ["spdocvqa_images", "spdocvqa_images/documents", "documents", ""])
def test_pages_of_docvqa_lie_with_or_without_their_folder(folder, home):
    FIXTURES["docvqa"](folder)
    (folder / "documents" / "p_81.png").unlink()
    picture(folder / home / "p_81.png")
    [example] = read("docvqa", folder).examples
    assert Path(example.image).is_file()


def test_rotations_of_a_question_share_their_picture(folder):
    FIXTURES["mmbench"](folder)
    one, other = read("mmbench", folder).examples
    assert one.image == other.image and hash(one.image) == hash(other.image)


def test_a_picture_that_is_no_base64_is_a_data_error(folder):
    with pytest.raises(DataError, match="line 7: a picture must be base64"):
        Embedded("iVBORw0\u00e9", "line 7")()


def test_the_last_suffix_says_what_a_file_is_in_any_case(folder):
    picture(folder / "a.jpg")
    row = own_row(image="a.jpg", answer="red|blue")
    for name in ("q.csv.jsonl", "Q.JSONL", "q.ndjson"):
        [example] = read_own(write(folder / name, lines(row))).examples
        assert example.answers == ("red|blue",)


def test_links_to_folders_are_followed_once_and_a_macs_leavings_passed_over(folder):
    elsewhere = folder.parent / "elsewhere"
    textvqa(elsewhere)
    (elsewhere / "loop").symlink_to(elsewhere)
    (elsewhere / "._TextVQA_0.5.1_val.json").write_bytes(b"\x00\x05")
    (folder / "data").symlink_to(elsewhere)
    assert read("textvqa", folder, pictures=False).examples


def test_a_split_is_one_word(folder):
    with pytest.raises(DataError, match="a split is one word"):
        read("gqa", folder, split="/x")


@pytest.mark.parametrize(("change", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_refused_by_file_line_field_and_value_or_counted(folder, change, message):
    picture(folder / "a.jpg")
    picture(folder.parent / "out.jpg")
    path = write(folder / "mine.jsonl", lines(own_row(**change), own_row()))
    with pytest.raises(DataError, match=message):
        read_own(path)
    reading = read_own(path, skip_bad=True)
    assert (len(reading.examples), reading.bad) == (1, 1)
    with pytest.raises(DataError, match=message):
        raise DataError(reading.messages[0])


def test_a_reading_of_bad_rows_only_is_an_error(folder):
    path = write(folder / "mine.jsonl", lines(own_row()))
    with pytest.raises(DataError, match=r"at least one example, was: 1 bad rows, the first: mine\.jsonl, line 1"):
        read_own(path, skip_bad=True)


def test_files_missing_or_ambiguous_are_named(folder):
    with pytest.raises(DataError, match=r"a benchmark must be one of chartqa, .*was: 'vqa'"):
        read("vqa", folder)
    with pytest.raises(DataError, match=r"is read from its folder, was: .*nowhere"):
        read("gqa", folder / "nowhere")
    with pytest.raises(DataError, match=r"a file 'TextVQA_0\.5\.1_val\.json' or .* must lie in data, was: none"):
        read("textvqa", folder)
    for home in ("one", "two"):
        textvqa(folder / home)
    with pytest.raises(DataError, match=r"was: one/TextVQA_0\.5\.1_val\.json, two/TextVQA_0\.5\.1_val\.json; name the"):
        read("textvqa", folder)
    with pytest.raises(DataError, match="must hold MME's subtask folders"):
        read("mme", folder)


def test_a_picture_with_two_homes_is_ambiguous(folder):
    for home in ("one", "two"):
        picture(folder / home / "a.jpg")
    with pytest.raises(DataError, match="a picture must have one home in data, found 2: one, two"):
        write(folder / "questions.jsonl", lines({"question_id": 0, "image": "a.jpg", "text": "What is shown?"}))
        read("llava", folder)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("pope", "coco/coco_pope_random.json", '"yes"', '"maybe"', "line 1: the field 'label' must be 'yes' or 'no'"),
        (
            "mme",
            "MME_Benchmark_release_version/OCR/0001.txt",
            "\tNo",
            " No",
            r"0001\.txt, line 2: a line must be a question",
        ),
        (
            "scienceqa",
            "problems.json",
            '"answer": 1',
            '"answer": 2',
            "entry '4': .*must number one of 2 choices from 0, was: 2",
        ),
        ("scienceqa", "pid_splits.json", '"9"', '"10"', "every id of 'test' must be in problems.json, was: '10'"),
        ("vqav2", "v2_OpenEnded_mscoco_val2014_questions.json", "262148000", "5", "must have an annotation, was: '5'"),
        ("mmbench", "mmbench_dev.tsv", "\t241\n", "\t242\n", "line 3: the field 'image' must be base64 or the index"),
        (
            "mmbench",
            "mmbench_dev.tsv",
            "\tnan\tB\t",
            "\tnan\tC\t",
            "must be one of the letters of its 2 choices, was: 'C'",
        ),
        ("textvqa", "TextVQA_0.5.1_val.json", '"what brand?"', "7", "row 1: the field 'question' must be text"),
    ],
)
def test_labels_that_cannot_be_are_refused(folder, name, file, old, new, message):
    FIXTURES[name](folder)
    text = (folder / file).read_text()
    assert old in text
    write(folder / file, text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read(name, folder, split="test" if name == "scienceqa" else None, pictures=name == "mmbench")
