"""The README says what was measured, and its code runs."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def readme():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["saves", "accuracy", "sweep", "diagnosis", "router"])
def test_generated_blocks_equal_the_measurements(readme, name):
    assert f"<!-- {name} -->\n{readme.blocks()[name]}\n<!-- /{name} -->" in README


def test_the_first_example_prints_what_the_readme_shows(readme):
    def timeless(text):
        return re.sub(r"\d+ ms", "- ms", text)

    shown = re.search(r"<!-- example -->\n```\n(.*?)```", README, re.DOTALL).group(1)
    assert timeless(readme.run_example()) == timeless(shown)


def test_every_block_of_python_runs(readme, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(code, {})
    assert capsys.readouterr().out


def test_what_is_where_names_what_is_there():
    tree = re.search(r"## What is where\n\n```\n(.*?)```", README, re.DOTALL).group(1)
    for floor in ("encoders", "training_data", "router"):
        section = re.search(rf"{floor}/.*?(?=\n\w+/|\Z)", tree, re.DOTALL).group(0)
        for path in (ROOT / floor).glob("*.py"):
            if not path.name.startswith("__"):
                assert path.stem in section, f"{floor}/{path.name}"


@pytest.mark.parametrize("name", ["nano-mqt", "nano-m3"])
def test_model_cards_show_their_measurements(name):
    from encoders.loading import packaged

    model = packaged()[name]
    card = (model.folder / "README.md").read_text(encoding="utf-8")
    for m, value in model.measured["accuracy"].items():
        assert f"{value:.3f}" in card, m
