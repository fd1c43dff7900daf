"""A router as a folder that anyone can read: config.json, arrays as safetensors, the vocabulary as JSON, a card.

Nothing in it is ever run: no pickle, and trees are plain arrays (`router.forest`), so no native parser sees them
either. Every file's sha256 stands in config.json and is checked before the file is parsed; what the arrays hold is
checked again by whoever takes them. Knows files; decides nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as arrays_as_bytes

from encoders.errors import DataError
from router.calibration import Calibration
from router.card import card
from router.columns import Columns
from router.question import QuestionScores
from router.readout import Readout
from router.routing import Router

FORMAT = 1
_CONFIG = "config.json"
_LARGEST = 2**30  # bytes of one file; a router has a few million


def save(router: Router, folder: Path) -> Path:
    """Write a router folder.

    Raises:
        DataError: something stands there already that is no router.
    """
    if folder.exists() and not (folder / _CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"a router is saved in a folder of its own, was: {folder.name!r}, which holds something else")
    folder.mkdir(parents=True, exist_ok=True)
    columns, calibration = router.columns, router.calibration
    files = {
        "readout.safetensors": arrays_as_bytes(_plain(router.readout.arrays())),
        "calibration.safetensors": arrays_as_bytes(_plain(calibration.arrays())),
        "README.md": card(router).encode(),
    }
    if columns.scores is not None:
        files["question.safetensors"] = arrays_as_bytes(_plain(columns.scores.arrays()))
        files["vocabulary.json"] = json.dumps(columns.scores.vocabulary, ensure_ascii=False).encode()
    config = {
        "format": FORMAT,
        "arms": list(router.arms),
        "m": None if router.m is None else router.m.tolist(),
        "unit": router.unit,
        "backbone": router.backbone,
        "features": router.features,
        "columns": {"visual": columns.visual, "words": columns.words, "text": columns.scores is not None},
        "datasets": np.unique(calibration.dataset).tolist(),
        "routing_cost": router.routing_cost,
        "facts": router.facts,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return folder


def load(folder: Path) -> Router:
    """Read a router folder.

    Raises:
        DataError: it is missing, damaged, changed by hand, or of another format.
    """
    if not (folder / _CONFIG).is_file():
        raise DataError(
            f"a router is a folder with a {_CONFIG}, was: {folder.name!r}; `matryoshka-router fit` makes one"
        )
    try:
        config = json.loads(_bytes(folder / _CONFIG))
    except ValueError as error:
        raise DataError(f"a router's {_CONFIG} must be JSON, was: {error} in {folder.name!r}; save it again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise DataError(f"a router folder of format {FORMAT} is read, was: format {found!r}; fit it again")
    try:
        return _built(folder, config)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a router folder must be as it was saved, was: {folder.name!r} ({error!r})") from error


def _built(folder: Path, config: Mapping[str, Any]) -> Router:
    files = {name: _verified(folder, name, digest) for name, digest in dict(config["files"]).items()}
    scores = None
    if config["columns"]["text"]:
        vocabulary = json.loads(files["vocabulary.json"])
        scores = QuestionScores(vocabulary, _arrays(files, "question.safetensors"))
    arms = tuple(str(arm) for arm in config["arms"])
    columns = Columns(tuple(config["columns"]["visual"]), bool(config["columns"]["words"]), scores, arms)
    readout = Readout.from_arrays(_arrays(files, "readout.safetensors"))
    if readout.forest.columns != len(columns.names) or readout.forest.outputs != len(arms):
        raise DataError(
            f"a router's forest must read its {len(columns.names)} columns and predict its {len(arms)} arms, was: "
            f"{readout.forest.columns} and {readout.forest.outputs}"
        )
    features, backbone = config["features"], config["backbone"]
    return Router(
        arms,
        None if config["m"] is None else np.array(config["m"], np.int64),
        str(config["unit"]),
        None if backbone is None else (str(backbone[0]), str(backbone[1])),
        None if features is None else (int(features[0]), tuple(features[1])),
        columns,
        readout,
        Calibration.from_arrays(_arrays(files, "calibration.safetensors"), config["datasets"]),
        float(config["routing_cost"]),
        dict(config["facts"]),
    )


def _plain(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Safetensors copies memory as it lies, so arrays must be contiguous; numbers become arrays of one."""
    return {name: np.ascontiguousarray(np.atleast_1d(array)) for name, array in arrays.items()}


def _arrays(files: Mapping[str, bytes], name: str) -> dict[str, np.ndarray]:
    if name not in files:
        raise DataError(f"a router folder must hold {name}, missing: it; save it again")
    try:
        return parse_arrays(files[name])
    except SafetensorError as error:
        raise DataError(f"{name} must be whole, was: {error}; save the router again") from error


def _verified(folder: Path, name: str, digest: str) -> bytes:
    if Path(name).name != name:
        raise DataError(f"a router's files lie in its folder, was: {name!r}")
    path = folder / name
    if not path.is_file():
        raise DataError(f"a router folder must hold {name}, missing: it in {folder.name!r}; save it again")
    content = _bytes(path)
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise DataError(
            f"{name} must have the sha256 that {_CONFIG} names ({digest[:12]}...), was: {found[:12]}...; it was "
            "damaged or changed after saving"
        )
    return content


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise DataError(
            f"a router's files have at most {_LARGEST:,} bytes, was: {path.stat().st_size:,} in {path.name}"
        )
    return path.read_bytes()
