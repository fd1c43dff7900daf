"""The command line, as a person would call it."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from encoders import checkpoint
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
        (["--budget", "lots"], "Invalid value"),
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


def test_models_lists_what_is_packaged():
    assert call("models").exit_code == 0
    assert isinstance(json.loads(call("models", "--json").stdout), dict)
