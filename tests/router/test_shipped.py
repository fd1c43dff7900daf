"""The routers that come with the packaged models: found by the weights they were fitted for, and worth their cost."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from encoders.features import VERSION
from encoders.loading import load, packaged
from router import Budget, answer, shelf
from router.shelf import shipped

SIGN = Path(__file__).parent.parent.parent / "examples" / "sign.png"
NAMES = ["nano-mqt", "nano-m3"]


@pytest.mark.parametrize("name", NAMES)
def test_every_packaged_model_has_its_router(name):
    model = packaged()[name]
    router = shipped(load(name))
    assert router.backbone == (name, load(name).fingerprint) and router.features[0] == VERSION
    assert router.m.tolist() == list(model.ladder)
    assert router.facts["rows"] >= 20_000 and router.facts["believed"]
    assert router.operating_price > 0


def test_a_router_saved_anew_is_read_anew_and_takes_the_place_of_the_old(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(Path(shelf.__file__).parent / "shipped" / "nano-m3", folder)
    first = shelf.shelved(folder)
    assert shelf.shelved(folder) is first
    os.utime(folder / "config.json", ns=(1, 1))
    again, there = shelf.shelved(folder), len(shelf._shelf)
    assert again is not first
    os.utime(folder / "config.json", ns=(2, 2))
    assert shelf.shelved(folder) is not again and len(shelf._shelf) == there


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "../shipped", "nobody"])
def test_a_name_that_no_folder_has_has_no_router(name):
    assert shipped(SimpleNamespace(name=name)) is None


@pytest.mark.parametrize("name", NAMES)
def test_without_a_budget_an_answer_is_at_the_operating_point(name):
    given = answer(SIGN, "what number is written", backbone=name)
    assert given.reason.startswith("the operating point")
    assert given.decision.price == shipped(load(name)).operating_price
    assert given.cost.routing_tflops == shipped(load(name)).routing_cost > 0
    assert len(given.explain().splitlines()) <= 5


@pytest.mark.parametrize("name", NAMES)
def test_easy_questions_get_fewer_tokens_than_hard_ones(name):
    easy, hard = (answer(SIGN, q, backbone=name).m for q in ("what colour is the background", "what number is written"))
    assert easy < hard


@pytest.mark.parametrize("name", NAMES)
def test_a_cap_is_kept_and_a_lower_price_never_lowers_the_predicted_score(name):
    router = shipped(load(name))
    assert all(router.route(SIGN, "what number is written", cap).m <= cap for cap in (1, 9, 16, 36, 64, 144))
    price = router.operating_price
    routed = [router.route(SIGN, "what word is written", Budget(price=p)) for p in (4 * price, price, 0)]
    assert (np.diff([one.curve[one.arm] for one in routed]) >= 0).all()
