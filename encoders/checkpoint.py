"""A model folder a person can read: config.json, model.safetensors, tokenizer.json, README.md.

Loading runs no code from the folder and accepts no pickle. A missing, unexpected or misshapen weight is an error that
lists it. Knows files. Trains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from encoders.config import LlavaConfig
from encoders.errors import BackboneError, shown
from encoders.llava import NestedLlava
from encoders.weights import digest

FORMAT = 1
_CONFIG, _WEIGHTS, _TOKENIZER, _CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
_TUPLES = ("ladder", "image_mean", "image_std", "pad_colour")
_SPECIALS = ("<s>", "</s>")  # LLaMA's own
_PROBE = "What number is written? 7\n"
_TIED, _EMBEDDING = "language.lm_head.weight", "language.model.embed_tokens.weight"
_PARTS = ("vision", "connector", "language")
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_STORED = {"F32", "BF16", "F16", "F64"}  # the same four, as safetensors spells them


def save(
    backbone: NestedLlava, folder: Path | str, card: str | None = None, dtype: torch.dtype = torch.float16
) -> None:
    """Write a model folder.

    Args:
        backbone: the model.
        folder: made where there is none; the files of a model in it are replaced.
        card: the text of README.md. None keeps the one in the folder, or writes a plain one where there is none.
        dtype: floating-point weights are stored as this.

    Raises:
        BackboneError: the tokenizer's begin and end have other names than `load` would give them.
    """
    folder, specials = Path(folder), (backbone.tokenizer.bos_token, backbone.tokenizer.eos_token)
    if specials != _SPECIALS:
        raise BackboneError(
            f"a model folder's tokenizer must begin a text with {_SPECIALS[0]} and end it with {_SPECIALS[1]}, was: "
            f"{specials}; rename them in its tokenizer.json"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous() if value.is_floating_point() else value.cpu()
        for key, value in backbone.state_dict().items()
    }
    if card is None and not (folder / _CARD).exists():
        card = _plain_card(backbone, digest(backbone.config.canonical(), tensors))
    if backbone.language.config.tie_word_embeddings:
        del tensors[_TIED]
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    backbone.tokenizer.backend_tokenizer.save(str(folder / _TOKENIZER))
    told = {"sha256": _digests(folder, backbone.config)}  # last: a save that is killed half-way is told by it
    config = {"format": FORMAT, **asdict(backbone.config), **told}
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    if card is not None:
        (folder / _CARD).write_text(card, encoding="utf-8")


def _plain_card(backbone: NestedLlava, fingerprint: str) -> str:
    """What is known of any model; nothing of what it can do."""
    config = backbone.config
    sizes = {part: sum(p.numel() for p in getattr(backbone, part).parameters()) for part in _PARTS}
    return (
        f"# {config.name}\n\nA nested vision-language model. Nothing was measured for this card.\n\n"
        f"- Visual tokens (m) of its ladder: {', '.join(map(str, config.ladder))}\n"
        f"- Connector: {config.connector['type']}\n"
        f"- Parameters: {', '.join(f'{part} {count:,}' for part, count in sizes.items())}\n"
        f"- Fingerprint of configuration and weights (sha256): {fingerprint}\n"
    )


def dtype_named(name: str) -> torch.dtype:
    """The dtype that weights may be loaded in, by its name.

    Raises:
        BackboneError: there is none of this name.
    """
    if name not in _DTYPES:
        raise BackboneError(f"a dtype must be one of {list(_DTYPES)}, was: {shown(name)}")
    return _DTYPES[name]


@torch.inference_mode(False)  # weights made in inference mode count no changes, and the model would keep them for good
def load(folder: Path | str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> NestedLlava:
    """Read a model folder.

    Raises:
        BackboneError: a file is missing or damaged, the format is another, or a weight is missing, unexpected, of
            another shape or of another kind of number, and the message names every one; or nothing can be computed on
            the device.
    """
    folder = Path(folder)
    _check_place(device, dtype)
    config, told = _read_config(folder)
    tokenizer, stored = read_tokenizer(folder), _stored(folder)
    _check_layers(config, len(stored), folder)
    try:
        with torch.device("meta"):  # shapes only: nothing is drawn, and a lying configuration costs no memory
            backbone = NestedLlava(config, tokenizer)
        _check_shapes(backbone, stored, folder)
    except BackboneError:
        raise
    except Exception as error:  # sizes that make no model fail in many places of torch and transformers
        raise BackboneError(f"{_CONFIG} in {folder.name!r} must describe a model, was: {error}") from error
    tensors = load_file(folder / _WEIGHTS)
    # Copies: what load_file returns are views of a file that may be written again.
    own = {key: value.to(device, dtype, copy=True) for key, value in tensors.items()}
    if broken := sorted(key for key, value in own.items() if not value.isfinite().all()):
        raise BackboneError(f"weights in {folder.name!r} must be finite in {dtype}, was: NaN or infinity in {broken}")
    if _TIED in own and backbone.language.config.tie_word_embeddings and not own[_TIED].equal(own[_EMBEDDING]):
        raise BackboneError(f"weights in {folder.name!r} must be tied as {_CONFIG} says, was: another {_TIED}")
    _check_digests(folder, config, told)
    backbone.load_state_dict(own, strict=False, assign=True)
    backbone.language.tie_weights()
    _fill_tables(backbone)
    return backbone.to(device=device, dtype=dtype).eval()


def _check_place(device: str, dtype: torch.dtype) -> None:
    if dtype not in _DTYPES.values():
        raise BackboneError(f"a dtype must be one of {list(_DTYPES.values())}, was: {shown(dtype)}")
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # an unknown name, a missing driver, a device without memory: each its own error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"a device must be one that torch can compute on here, was: {shown(device)} ({reason[:120]}); use 'cpu'"
        ) from error


def _fill_tables(backbone: NestedLlava) -> None:
    """What no file holds, for it follows from the configuration."""
    language, places = backbone.language.model, backbone.vision.embeddings
    language.rotary_emb = type(language.rotary_emb)(backbone.language.config)
    places.position_ids = torch.arange(places.num_positions)[None]


def _read_config(folder: Path) -> tuple[LlavaConfig, dict[str, Any]]:
    """The configuration, and the digests that `save` noted beside it; folders of before it did have none."""
    values = _read_json(folder / _CONFIG)
    found, told = values.pop("format", None), values.pop("sha256", {})
    if found != FORMAT:
        raise BackboneError(f"a model folder must have format {FORMAT}, was: {shown(found)} in {folder.name!r}")
    known = {item.name for item in fields(LlavaConfig)}
    if unknown := sorted(values.keys() - known):
        raise BackboneError(f"{_CONFIG} in {folder.name!r} must hold {sorted(known)} only, was: also {unknown}")
    try:
        arguments: dict[str, Any] = {key: tuple(value) if key in _TUPLES else value for key, value in values.items()}
        return LlavaConfig(**arguments), dict(told)
    except BackboneError:
        raise
    except (TypeError, ValueError) as error:
        raise BackboneError(f"{_CONFIG} in {folder.name!r} lacks a field or holds a wrong type: {error}") from error


def _digests(folder: Path, config: LlavaConfig) -> dict[str, str]:
    """sha256 of what decides an answer, by file; of the configuration by what it says, not by how it is laid out."""
    told = {_CONFIG: hashlib.sha256(config.canonical()).hexdigest()}
    for name in (_WEIGHTS, _TOKENIZER):
        with (folder / name).open("rb") as file:  # weights of many gigabytes are not held a second time
            told[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return told


def _check_digests(folder: Path, config: LlavaConfig, told: Mapping[str, Any]) -> None:
    """Damage that leaves every shape as it was would answer, and wrongly."""
    if told and (changed := sorted(name for name, own in _digests(folder, config).items() if told.get(name) != own)):
        raise BackboneError(
            f"files of {folder.name!r} must be as they were saved, was: changed {changed}; save the model again, or, "
            f"if that was on purpose, take 'sha256' out of its {_CONFIG}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BackboneError(f"a model folder must hold {path.name}, missing in {path.parent.name!r}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path.name} in {path.parent.name!r} must be JSON, was damaged: {error}") from error
    if not isinstance(values, dict):
        raise BackboneError(f"{path.name} in {path.parent.name!r} must be a JSON object, was: {type(values).__name__}")
    return values


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder; a text begins with `<s>` and ends with `</s>`. Nothing is ever padded by it.

    Raises:
        BackboneError: tokenizer.json is missing or damaged, or does not know these two.
    """
    path = folder / _TOKENIZER
    _read_json(path)  # names a damaged file before the tokenizers library meets it
    try:
        found = Tokenizer.from_file(str(path))
        found.encode(_PROBE)  # some damage shows only here
        lacking = [name for name in _SPECIALS if found.token_to_id(name) is None]
        if not lacking:
            begin, end = _SPECIALS
            return PreTrainedTokenizerFast(
                tokenizer_object=found, bos_token=begin, eos_token=end, clean_up_tokenization_spaces=False
            )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers library raises bare Exception, and panics, which are none
        raise BackboneError(f"{_TOKENIZER} in {folder.name!r} must be a tokenizer, was damaged: {error}") from error
    raise BackboneError(f"{_TOKENIZER} in {folder.name!r} must know {list(_SPECIALS)}, was: without {lacking}")


def _stored(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and kind of number of every tensor in the weights' header, by name."""
    path = folder / _WEIGHTS
    if not path.is_file():
        raise BackboneError(f"a model folder must hold {_WEIGHTS}, missing in {folder.name!r}")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}
            return {key: (tuple(value.get_shape()), value.get_dtype()) for key, value in slices.items()}
    except Exception as error:  # safetensors does not export all of its errors
        raise BackboneError(f"{_WEIGHTS} in {folder.name!r} must be whole, was damaged: {error}") from error


def _check_layers(config: LlavaConfig, tensors: int, folder: Path) -> None:
    """Every layer has a tensor at least: what asks for more layers is not built, not even without weights."""
    for part in (config.vision, config.language):
        layers = part.get("num_hidden_layers")
        if isinstance(layers, int) and layers > tensors:
            raise BackboneError(
                f"weights in {folder.name!r} must fit {_CONFIG}, was: {tensors} tensors for {layers:,} layers"
            )


def _check_shapes(backbone: NestedLlava, stored: Mapping[str, tuple[tuple[int, ...], str]], folder: Path) -> None:
    """Compare the file's header with what the configuration asks for, before anything is loaded."""
    found = {key: shape for key, (shape, _) in stored.items()}
    own = {key: tuple(tensor.shape) for key, tensor in backbone.state_dict().items()}
    tied = {_TIED} if backbone.language.config.tie_word_embeddings else set()
    missing, unexpected = sorted(own.keys() - found.keys() - tied), sorted(found.keys() - own.keys())
    misshapen = sorted(key for key in own.keys() & found.keys() if own[key] != found[key])
    if missing or unexpected or misshapen:
        raise BackboneError(
            f"weights in {folder.name!r} must fit {_CONFIG}, was: missing {missing}, unexpected {unexpected}, "
            f"of another shape {misshapen}"
        )
    if odd := [f"{key} {kind}" for key, (_, kind) in sorted(stored.items()) if kind not in _STORED]:
        raise BackboneError(
            f"weights in {folder.name!r} must be stored as one of {sorted(_STORED)}, was: {odd}; convert them first"
        )
    entries, limit = backbone.tokenizer.get_vocab(), backbone.language.config.vocab_size
    if (largest := max(entries.values(), default=-1)) >= limit:
        raise BackboneError(
            f"every id in {_TOKENIZER} of {folder.name!r} must be below vocab_size = {limit}, was: {largest}"
        )
