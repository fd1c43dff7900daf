"""The command line, as a person would call it."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from encoders import checkpoint, loading
from router.commands import app


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(tiny, folder, "# card")
    return str(folder)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    Image.new("RGB", (40, 40), "red").save(path)
    return str(path)


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_answer_prints_the_answer_alone_on_stdout(model, picture):
    result = call("answer", picture, "what is it", "--budget", "5", "--backbone", model)
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert "m=5 (the largest m within 5 visual tokens), 5 visual tokens" in result.stderr


def test_json_is_one_object_with_what_was_spent(model, picture):
    result = call("answer", picture, "what is it", "--m", "7", "--backbone", model, "--json")
    spent = json.loads(result.stdout)
    assert (spent["m"], spent["visual_tokens"], spent["reason"]) == (7, 7, "m was given")
    assert spent["tflops"] > 0 and spent["ms"] > 0


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--budget", "0"], "a budget must be a whole number"),
        (["--budget", "3", "--m", "3"], "m excludes a budget"),
        (["--m", "99"], "m must be a whole number from 1 to 16"),
        (["--budget", "lots"], "a budget must be written as '64', 'cap 1.5 tflops'"),
        (["--m", "lots"], "Invalid value"),
    ],
)
def test_bad_options_end_in_one_line_and_exit_code_2(model, picture, options, rule):
    result = call("answer", picture, "what is it", "--backbone", model, *options)
    assert result.exit_code == 2
    assert rule in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_picture_and_an_unknown_model_are_named(model, picture):
    assert "must name a readable file" in call("answer", "no.png", "what", "--backbone", model).stderr
    assert "a backbone must be one of" in call("answer", picture, "what", "--backbone", "gpt").stderr


def test_profile_measures_and_saves(model):
    result = call("profile", "--backbone", model, "--json")
    assert json.loads(result.stdout)["step_ms"] > 0
    assert "prefill of" in call("profile", "--backbone", model).stdout


def test_profile_measures_in_the_dtype_that_will_answer(model):
    """It knew float32 on the CPU alone, though a profile holds for one device and dtype."""
    measured = json.loads(call("profile", "--backbone", model, "--dtype", "bfloat16", "--json").stdout)
    assert (measured["device"], measured["dtype"]) == ("cpu", "bfloat16")
    found = loading.load(model, dtype="bfloat16").profile
    assert found is not None and found.step_ms == measured["step_ms"]


@pytest.mark.parametrize(
    ("option", "rule"), [("--dtype", "a dtype must be one of"), ("--device", "a device must be one that torch")]
)
def test_profile_refuses_what_is_no_dtype_or_device(model, option, rule):
    result = call("profile", "--backbone", model, option, "abacus")
    assert result.exit_code == 2 and rule in result.stderr and result.stderr.count("\n") == 1


def test_models_lists_what_is_packaged():
    assert call("models").exit_code == 0
    assert isinstance(json.loads(call("models", "--json").stdout), dict)


GOOD = '{"image": "picture.png", "question": "hm", "id": "q"}'
LINES = {  # of a file, with what is wrong with each
    '{"image": "picture.png", "question": "hm"': "line 1: must be valid JSON",
    GOOD: None,
    "7": "line 3: a row must be a JSON object, was: 7",
    "[" * 200_000: "line 4: JSON may not be nested this deeply",
    '{"image": "picture.png"}': "line 5: a row must have the field 'question'",
    f"{GOOD} ": "line 6: an id may be given once",
    '{"image": "gone.png", "question": "hm"}': "an image path must name a readable file",
    '{"image": "picture.png", "question": "what is it"}': None,
    "{}": "line 9: a row must have the field 'image'",
}


def batch(folder, lines, model, *options, name="questions.jsonl"):
    Image.new("RGB", (40, 40), "red").save(folder / "picture.png")
    (folder / name).write_text("\n".join(lines))
    out = folder / "answers.jsonl"
    result = call("batch", str(folder / name), "--out", str(out), "--backbone", model, *options)
    return result, [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else None


def test_a_bad_line_of_a_batch_is_one_error_in_its_place(model, tmp_path):
    """The first line that was no JSON once ended the run before it began."""
    result, told = batch(tmp_path, LINES, model, "--budget", "5")
    assert result.exit_code == 0 and "2 answers, 5.00 visual tokens each, 7 errors" in result.stderr
    assert [row["id"] for row in told] == [None, "q", None, None, None, None, "7", "8", None]
    for row, wrong in zip(told, LINES.values(), strict=True):
        assert row["m"] == 5 if wrong is None else wrong in row["error"]


def test_a_bad_row_of_a_table_is_one_error_too(model, tmp_path):
    lines = ["image,question", "picture.png,hm", "picture.png", "picture.png,hm"]
    result, told = batch(tmp_path, lines, model, name="questions.csv")
    assert result.exit_code == 0 and "line 3: a line must have 2 cells" in told[1]["error"]
    assert [row["id"] for row in told] == ["2", None, "4"]


@pytest.mark.parametrize("budget", ["cap 1e-9 tflops", "5"])
def test_a_batch_without_an_answer_leaves_no_file_in_the_way(model, tmp_path, budget):
    lines = LINES if budget != "5" else [line for line in LINES if "hm" not in line and "what" not in line]
    result, told = batch(tmp_path, lines, model, "--budget", budget)
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("error: ") and told is None


def test_a_reader_that_has_had_enough_is_no_error():
    """`... | head -1` once ended in "a path must be readable or writable as asked, was: None (Broken pipe)"."""
    script = "from router.commands.app import reports\n"
    script += "@reports\ndef run():\n    raise BrokenPipeError(32, 'Broken pipe')\nrun()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
