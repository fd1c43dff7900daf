"""The public names, and the habits every file keeps."""

import ast
from pathlib import Path

import pytest

import router

ROOT = Path(__file__).parent.parent
FILES = [path for floor in ("encoders", "training_data", "router") for path in sorted((ROOT / floor).rglob("*.py"))]


def test_all_names_what_is_public():
    public = {
        name for name, value in vars(router).items() if not name.startswith("_") and not hasattr(value, "__path__")
    }
    modules = {path.stem for path in (ROOT / "router").glob("*.py")}
    assert sorted(public - modules) == router.__all__


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_says_what_it_is_and_prints_nothing(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print")
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)
        assert not isinstance(node, ast.Assert)
