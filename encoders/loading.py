"""Backbones by name or folder, each loaded once per process.

Knows names and folders. Imports torch only when something is loaded.
"""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.errors import BackboneError, shown

if TYPE_CHECKING:
    from encoders.llava import NestedLlava

PACKAGED = Path(__file__).resolve().parent / "packaged"

_lock = threading.Lock()
_loaded: dict[tuple[Path, str, str], NestedLlava] = {}


@dataclass(frozen=True)
class PackagedModel:
    """A model that ships with the library: its folder and what was measured of it (see its model card)."""

    name: str
    folder: Path
    ladder: tuple[int, ...]
    measured: dict[str, Any]


def packaged() -> dict[str, PackagedModel]:
    """The packaged models by name."""
    found = {}
    for name in _names():
        folder = PACKAGED / name
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            measured = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
            found[name] = PackagedModel(name, folder, tuple(config["ladder"]), measured)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackboneError(
                f"a packaged model must be whole, was: {name}, damaged ({error}); install the library again"
            ) from error
    return found


@functools.cache
def _names() -> list[str]:
    return sorted(path.parent.name for path in PACKAGED.glob("*/config.json"))


def locate(name: str | Path) -> Path:
    """The folder of a packaged model's name, or of a path.

    Raises:
        BackboneError: neither.
    """
    if name in _names():
        return PACKAGED / name
    if isinstance(name, str | Path) and str(name).strip() and _is_folder(Path(name)):
        return Path(name).resolve()
    raise BackboneError(f"a backbone must be one of {_names()} or the path of a model folder, was: {shown(str(name))}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (ValueError, OSError):  # a path with a NUL, one too long, one not ours to read
        return False


def load(name: str | Path, device: str = "cpu", dtype: str = "float32") -> NestedLlava:
    """A backbone in evaluation mode, loaded once per process, device and dtype; safe to call from several threads.

    Args:
        name: a packaged model's name or a model folder.
        device: where it computes, as torch spells it: "cpu", "cuda", "cuda:1", ...
        dtype: of its weights: "float32", "bfloat16", "float16" or "float64".

    Raises:
        BackboneError: no such model, device or dtype, or the model's folder is damaged.
    """
    key = locate(name), str(device), str(dtype)
    with _lock:
        if key not in _loaded:
            from encoders import checkpoint

            _loaded[key] = checkpoint.load(key[0], key[1], checkpoint.dtype_named(key[2]))
        return _loaded[key]
