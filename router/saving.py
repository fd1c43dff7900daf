"""A router as a folder that anyone can read: config.json, arrays as safetensors, the vocabulary as JSON, a card.

Nothing in it is ever run: no pickle, and trees are plain arrays (`router.forest`), so no native parser sees them
either. Every file's sha256 stands in config.json and is checked before the file is parsed; what the arrays hold is
checked again by whoever takes them. Knows files; decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as arrays_as_bytes

from encoders.cost import is_name
from encoders.counts import finite_number
from encoders.errors import DataError, shown
from router.calibration import Calibration
from router.card import card
from router.columns import Columns
from router.question import QuestionScores
from router.readout import Readout
from router.routing import Router

FORMAT = 3
# Format 1 had no readings beside the trees, and one length for all n-grams; up to 2 only a text's start was read.
_READABLE = (1, 2, FORMAT)
_CONFIG = "config.json"
_MAY_LACK = ("operating", "forest.threshold")  # no price that kept full's score; no split at a leaf
_READOUT = "readout.safetensors"
_FILES = (_READOUT, "calibration.safetensors", "question.safetensors", "vocabulary.json", "README.md")
_LARGEST = 2**30  # bytes of one file; a router has a few million


def _names(value: Any, count: int | None = None) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and count in (None, len(value))


def _real(value: Any) -> bool:
    return not math.isnan(finite_number(value))


def _rising(value: Any) -> bool:
    whole = isinstance(value, list) and all(type(m) is int and 0 < m < 2**31 for m in value)
    return whole and value == sorted(set(value))


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "arms": (
        "two or more different names",
        lambda v: _names(v) and 2 <= len(v) == len(set(v)) and all(map(is_name, v)),
    ),
    "m": ("rising whole numbers of at least 1, or null", lambda v: v is None or _rising(v)),
    "unit": ("a name", is_name),
    "backbone": ("a name and a fingerprint, or null", lambda v: v is None or _names(v, 2)),
    "features": (
        "a version and names, or null",
        lambda v: v is None or (isinstance(v, list) and len(v) == 2 and type(v[0]) is int and _names(v[1])),
    ),
    "columns": (
        "names of visual features, and whether words, text and both ends are read",
        lambda v: _names(v["visual"]) and all(isinstance(v[name], bool) for name in ("words", "text", "both_ends")),
    ),
    "datasets": ("different names, sorted", lambda v: _names(v) and v == sorted(set(v))),
    "routing_cost": ("a finite number, at least 0", lambda v: _real(v) and v >= 0),
    "answer_tokens": ("a finite number of at least 1, or null", lambda v: v is None or (_real(v) and v >= 1)),
    "facts": ("an object", lambda v: isinstance(v, dict)),
    "files": (
        f"sha256 by file, of {', '.join(_FILES)}",
        lambda v: set(v) <= set(_FILES) and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in v.values()),
    ),
}


def save(router: Router, folder: Path) -> Path:
    """Write a router folder; killed at any moment, it leaves the router that was there before, or this one.

    New files are laid beside the old under names that bear their sha256. Replacing config.json, which says what is
    read, is the one step from the old router to the new; then the files take their plain names.

    Raises:
        DataError: something stands there already that is no router.
    """
    check_place(folder)
    columns, calibration = router.columns, router.calibration
    files = {
        _READOUT: arrays_as_bytes(_plain(router.readout.arrays())),
        "calibration.safetensors": arrays_as_bytes(_plain(calibration.arrays())),
        "README.md": card(router).encode(errors="replace"),
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
        "columns": {
            "visual": columns.visual,
            "words": columns.words,
            "text": columns.scores is not None,
            "both_ends": columns.both_ends,
        },
        "datasets": calibration.sources.tolist(),
        "routing_cost": float(router.routing_cost),
        "answer_tokens": router.answer_tokens,
        "facts": router.facts,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    written = (json.dumps(config, indent=1) + "\n").encode()
    with _writing(folder):
        _put(folder, files, written)  # what cannot be told is known before anything is written
    return folder


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # no permission, a file among the parents, a name too long or with a NUL
        raise DataError(
            f"a router is saved in a folder that can be written, was: {shown(str(folder))} ({error}); check the path"
        ) from error


def check_place(folder: Path) -> None:
    """Refuse a folder that no router may be saved in.

    Raises:
        DataError: something stands there already that is no router, or nothing can be written there.
    """
    with _writing(folder):
        # config.json alone marks no router: model folders have one too
        known = (folder / _READOUT).is_file() or any(_waiting(folder, _READOUT))
        other = folder.exists() and not known and (not folder.is_dir() or any(folder.iterdir()))
    if other:
        raise DataError(f"a router is saved in a folder of its own, was: {folder.name!r}, which holds something else")


def _put(folder: Path, files: Mapping[str, bytes], config: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fresh = {name: _beside(folder, name, hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    for name, path in fresh.items():
        path.write_bytes(files[name])
    step = _beside(folder, _CONFIG, hashlib.sha256(config).hexdigest())
    step.write_bytes(config)
    step.replace(folder / _CONFIG)
    for name, path in fresh.items():
        path.replace(folder / name)
    for name in set(_FILES) - set(files):  # an earlier router may have read more
        (folder / name).unlink(missing_ok=True)
    for name in (*_FILES, _CONFIG):  # an earlier saving may have been killed
        for path in _waiting(folder, name):
            path.unlink()


def _beside(folder: Path, name: str, digest: str) -> Path:
    """Where a file waits for its plain name, which may still be that of another router's."""
    return folder / f"{name}.{digest}"


def _waiting(folder: Path, name: str) -> Iterator[Path]:
    return folder.glob(f"{name}.{'[0-9a-f]' * 64}")


def load(folder: Path) -> Router:
    """Read a router folder.

    Raises:
        DataError: it is missing, damaged, or of another format; a file is not the one that config.json names; or it
            cannot be read.
    """
    try:
        return _read(folder)
    except OSError as error:
        raise DataError(f"a router folder must be readable, was: {folder.name!r} ({error.strerror})") from error


def _read(folder: Path) -> Router:
    if not (folder / _CONFIG).is_file():
        raise DataError(
            f"a router is a folder with a {_CONFIG}, was: {folder.name!r}; `matryoshka-router fit` makes one"
        )
    config = _parsed(_bytes(folder / _CONFIG), _CONFIG)
    written = config.get("format") if isinstance(config, dict) else type(config).__name__
    if type(written) is not int or written not in _READABLE:
        readable = f"{', '.join(map(str, _READABLE[:-1]))} or {FORMAT}"
        raise DataError(f"a router folder of format {readable} is read, was: format {written!r}; fit it again")
    config.setdefault("answer_tokens", None)  # of folders that were saved before routers knew it
    if written < FORMAT and isinstance(config.get("columns"), dict):
        config["columns"].setdefault("both_ends", False)
    _check(config)
    try:
        return _built(folder, config)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"a router folder must be as it was saved, was: {folder.name!r} ({error!r})") from error


def _check(config: Mapping[str, Any]) -> None:
    """Refuse a config.json that is not as `save` writes it, whoever wrote it."""
    for name, (rule, holds) in _RULES.items():
        try:
            fine = name in config and holds(config[name])
        except (KeyError, TypeError, AttributeError, OverflowError):
            fine = False
        if not fine:
            found = reprlib.repr(config[name]) if name in config else "nothing"
            raise DataError(f"a router's {_CONFIG} must give {name} as {rule}, was: {found}; save the router again")


def _built(folder: Path, config: Mapping[str, Any]) -> Router:
    files = {name: _verified(folder, name, digest) for name, digest in config["files"].items()}
    scores = None
    if config["columns"]["text"]:
        vocabulary = _parsed(_held(files, "vocabulary.json"), "vocabulary.json")
        words = _arrays(files, "question.safetensors")
        if config["format"] > 1 and "balance" not in words:  # without it the same words would say something else
            raise DataError("question.safetensors must hold a balance, missing: it; save the router again")
        scores = QuestionScores(vocabulary, words)
    arms, m = tuple(config["arms"]), config["m"]
    told = config["columns"]
    columns = Columns(tuple(told["visual"]), told["words"], scores, arms, told["both_ends"])
    stored = _arrays(files, _READOUT)
    readout = Readout.from_arrays(stored)
    _none_left(_READOUT, stored, readout.arrays())
    if readout.forest.columns != len(columns.names):
        raise DataError(f"a router's forest must read its {len(columns.names)} columns, was: {readout.forest.columns}")
    calibration = Calibration.from_arrays(_arrays(files, "calibration.safetensors"), config["datasets"])
    counts = readout.forest.outputs, len(calibration.typical), len(arms if m is None else m)
    if set(counts) != {len(arms)}:
        raise DataError(f"a router's forest, calibration and m must speak of its {len(arms)} arms, was: {counts}")
    features, backbone = config["features"], config["backbone"]
    return Router(
        arms,
        None if m is None else np.array(m, np.int64),
        config["unit"],
        None if backbone is None else (backbone[0], backbone[1]),
        None if features is None else (features[0], tuple(features[1])),
        columns,
        readout,
        calibration,
        float(config["routing_cost"]),
        config["facts"],
        None if config["answer_tokens"] is None else float(config["answer_tokens"]),
    )


def _plain(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Safetensors copies memory as it lies, so arrays must be contiguous; numbers become arrays of one."""
    return {name: np.ascontiguousarray(np.atleast_1d(array)) for name, array in arrays.items()}


def _arrays(files: Mapping[str, bytes], name: str) -> dict[str, np.ndarray]:
    try:
        arrays: dict[str, np.ndarray] = parse_arrays(_held(files, name))
    except (SafetensorError, KeyError) as error:  # a KeyError is a kind of number that NumPy has not
        raise DataError(f"{name} must be whole, was: {error}; save the router again") from error
    for part, array in arrays.items():
        if array.dtype.kind not in "iuf" or (part not in _MAY_LACK and np.isnan(array).any()):
            raise DataError(f"{name} must hold real numbers, was: {array.dtype} or NaN in {part!r}")
    return arrays


def _none_left(name: str, stored: Iterable[str], read: Iterable[str]) -> None:
    """Refuse arrays that nobody reads: one of a pair is missing, and what is left would decide otherwise."""
    if left := sorted(set(stored) - set(read)):
        raise DataError(f"{name} must hold what a router reads, was: {reprlib.repr(left)} besides")


def _parsed(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} must be JSON, was: {error}; save the router again") from error


def _held(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise DataError(f"a router's {_CONFIG} must name {name}, was: without it; save the router again")
    return files[name]


def _verified(folder: Path, name: str, digest: str) -> bytes:
    found = ""
    for path in (folder / name, _beside(folder, name, digest)):  # the second where a saving was killed
        if path.is_file():
            content = _bytes(path)
            if (sha256 := hashlib.sha256(content).hexdigest()) == digest:
                return content
            found = found or sha256
    if not found:
        raise DataError(f"a router folder must hold {name}, missing: it in {folder.name!r}; save it again")
    raise DataError(
        f"{name} must have the sha256 that {_CONFIG} names ({digest[:12]}...), was: {found[:12]}...; it was damaged or "
        "changed after saving"
    )


def _bytes(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise DataError(
            f"a router's files have at most {_LARGEST:,} bytes, was: {path.stat().st_size:,} in {path.name}"
        )
    return path.read_bytes()
