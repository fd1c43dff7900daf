"""Imports go down only; `import router` is light; and these tests can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {"encoders": 0, "training_data": 1, "router": 2}


def upward_arrows(source: str, floor: str) -> list[str]:
    """Imports in `source` that reach a floor above."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [name for name in names if FLOORS.get(name.split(".")[0], -1) > FLOORS[floor]]
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_no_file_imports_a_floor_above(floor):
    for path in (ROOT / floor).rglob("*.py"):
        assert not upward_arrows(path.read_text(encoding="utf-8"), floor), path.name


def test_an_upward_arrow_would_be_seen():
    assert upward_arrows("def f():\n    from router.budget import Budget\n", "encoders") == ["router.budget"]
    assert upward_arrows("import training_data.scenes as s", "encoders") == ["training_data.scenes"]


def test_no_module_bears_the_name_of_a_public_function():
    import router

    assert not {path.stem for path in (ROOT / "router").glob("*.py")} & set(router.__all__)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("package", ["router", "encoders", "training_data", "router.commands"])
def test_importing_loads_no_torch(package):
    assert not loaded_by(f"import {package}") & {"torch", "transformers", "sklearn", "lightgbm"}


def test_loading_torch_would_be_seen():
    assert "torch" in loaded_by("import encoders.mqt")


@pytest.mark.slow
def test_importing_router_takes_less_than_half_a_second():
    code = "import time; t = time.perf_counter(); import router; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.5
