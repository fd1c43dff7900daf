"""The packaged models: small, honest, and right about pictures that this repository did not draw."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from encoders.loading import load, packaged
from router import answer
from training_data.nano_card import right_at_every_m
from training_data.scenes import examples, recipe_hash

NAMES = ("nano-mqt", "nano-m3")


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_model_keeps_within_its_size(name):
    folder = packaged()[name].folder
    assert sum(parameter.numel() for parameter in load(name).parameters()) <= 5_000_000
    assert (folder / "model.safetensors").stat().st_size <= 10_000_000
    assert len(load(name).tokenizer) <= 2_000


@pytest.mark.parametrize("name", NAMES)
def test_the_card_repeats_when_measured_again(name):
    """The first 200 held-out scenes of style a, within four standard errors of the card's figure."""
    backbone, measured = load(name), packaged()[name].measured["styles"]["a"]
    questions = [example for example in examples(200, "a", "test") if example.meta["answerable"]]
    right = right_at_every_m(backbone, questions, backbone.ladder).mean(0)
    for k, m in enumerate(backbone.ladder):
        published = measured["accuracy"][str(m)]
        assert abs(right[k] - published) < 4 * np.sqrt(published * (1 - published) / len(questions))


@pytest.mark.parametrize("name", NAMES)
def test_the_ladder_is_steep_and_the_blind_answerer_poor(name):
    measured = packaged()[name].measured
    ladder = packaged()[name].ladder
    assert measured["accuracy"][str(ladder[-1])] - measured["accuracy"][str(ladder[0])] >= 0.2
    assert measured["blind"] < measured["accuracy"][str(ladder[0])] - 0.1


def test_the_card_is_of_the_scenes_that_ship():
    for name in NAMES:
        assert recipe_hash()[:16] in (packaged()[name].folder / "README.md").read_text(encoding="utf-8")


SHAPES = {
    "circle": lambda draw: draw.ellipse([70, 60, 190, 180], fill=INK),
    "square": lambda draw: draw.rectangle([80, 70, 180, 170], fill=INK),
    "triangle": lambda draw: draw.polygon([(128, 60), (70, 170), (186, 170)], fill=INK),
}
INK = "red"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ground", ["blue", "white", "green"])
def test_hand_drawn_shapes_are_known(name, shape, ground):
    picture = Image.new("RGB", (256, 256), ground)
    SHAPES[shape](ImageDraw.Draw(picture))
    full = {"m": 144, "backbone": name}
    assert answer(picture, "what shape is in the picture", **full).text == shape
    assert answer(picture, f"what colour is the {shape}?", **full).text == "red"
    assert answer(picture, "What color is the background?", **full).text == ground


# Not every number is read (the README says so): nano-mqt reads 31 as 311, 76 as 70 and 4711 as 471.
READ = ["7", "5", "10", "11", "42", "80", "86", "99", "100", "111", "305", "471", "500", "777", "988", "123"]
READ += ["1024", "1234", "1984", "2024"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", READ)
def test_large_numbers_on_white_are_read(name, number):
    picture = Image.new("RGB", (224, 224), "white")
    ImageDraw.Draw(picture).text((112, 112), number, fill="black", font=ImageFont.load_default(90), anchor="mm")
    assert answer(picture, "what number is written", m=144, backbone=name).text == number


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ink", ["brown", "gray", "orange", "pink"])
def test_colours_are_called_what_pillow_calls_them(name, ink):
    picture = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(picture).ellipse([50, 50, 150, 150], fill=ink)
    assert answer(picture, "what colour is the circle", m=144, backbone=name).text == ink


@pytest.mark.parametrize("name", NAMES)
def test_a_signs_post_is_no_digit(name):
    """The README's picture: "629" on a post, which models that had never seen one read as "169"."""
    sign = Path(__file__).resolve().parent.parent / "examples" / "sign.png"
    assert answer(sign, "what number is written", m=144, backbone=name).text == "629"


def test_measurements_are_plain_json():
    for name in NAMES:
        assert json.loads((packaged()[name].folder / "measured.json").read_text()) == packaged()[name].measured
