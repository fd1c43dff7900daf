"""What an answer costs: floating-point operations and cache bytes counted from shapes, milliseconds from a profile.

Counts multiply-adds times two of every matrix product, attention as the full square (what an eager kernel computes),
equal to torch's FlopCounterMode. Knows shapes and numbers. Loads no model and no torch.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from encoders.errors import BackboneError

_TERA = 1e12


def is_name(name: object) -> bool:
    """Whether a unit or an arm may be called so: printable, without spaces around it, so that a budget can say it."""
    return isinstance(name, str) and bool(name) and name == name.strip() and name.isprintable()


@dataclass(frozen=True)
class Cost:
    """One answer's total and its parts.

    Attributes:
        vision_tflops, connector_tflops, prefill_tflops, decode_tflops: the parts, in 10^12 floating-point operations.
        kv_bytes: size of the key-value cache at the end.
        ms: milliseconds; None where no profile was measured (`matryoshka-router profile`).
        routing_tflops: what choosing m took; the backbone knows nothing of it, whoever routed fills it in.
    """

    vision_tflops: float
    connector_tflops: float
    prefill_tflops: float
    decode_tflops: float
    kv_bytes: int
    ms: float | None = None
    routing_tflops: float = 0.0

    @property
    def tflops(self) -> float:
        """All parts together: never visual tokens alone."""
        language = self.prefill_tflops + self.decode_tflops
        return self.vision_tflops + self.connector_tflops + language + self.routing_tflops


@dataclass(frozen=True)
class VisionShape:
    """A CLIP tower's sizes; `layers` counts the layers that run (those behind the selected features do not)."""

    image_side: int
    patch_side: int
    width: int
    mlp_width: int
    layers: int

    @property
    def patches(self) -> int:
        """Patches a picture is cut into."""
        return (self.image_side // self.patch_side) ** 2

    def flops(self) -> int:
        """One picture: patch convolution, then per layer four width x width products, the MLP and attention."""
        tokens = self.patches + 1  # CLS
        convolution = 2 * self.patches * 3 * self.patch_side**2 * self.width
        linear = 2 * tokens * (4 * self.width**2 + 2 * self.width * self.mlp_width)
        return convolution + self.layers * (linear + 4 * tokens**2 * self.width)


@dataclass(frozen=True)
class LanguageShape:
    """A LLaMA's sizes."""

    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    def block_flops(self, tokens: int, seen: int) -> int:
        """All layers over `tokens` new tokens that attend to `seen` in all; no output head."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        linear = 2 * tokens * self.width * (2 * queries + 2 * keys + 3 * self.mlp_width)
        return self.layers * (linear + 4 * tokens * seen * queries)

    def prefill_flops(self, tokens: int) -> int:
        """The prompt, with logits for its last place only."""
        return self.block_flops(tokens, tokens) + 2 * self.width * self.vocabulary

    def decode_flops(self, prompt: int, new_tokens: int) -> int:
        """The steps behind the first token, which the prefill gives: new_tokens - 1 of them."""
        steps = range(1, new_tokens)
        return sum(self.block_flops(1, prompt + step) + 2 * self.width * self.vocabulary for step in steps)

    def kv_bytes(self, tokens: int, element_bytes: int) -> int:
        """Keys and values of `tokens` places in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_width * tokens * element_bytes


def answer_cost(
    vision: VisionShape,
    connector_flops: int,
    language: LanguageShape,
    visual_tokens: int,
    text_tokens: int,
    new_tokens: int,
    element_bytes: int,
) -> Cost:
    """The cost of one answer computed alone, with nothing shared."""
    prompt = visual_tokens + text_tokens
    return Cost(
        vision_tflops=vision.flops() / _TERA,
        connector_tflops=connector_flops / _TERA,
        prefill_tflops=language.prefill_flops(prompt) / _TERA,
        decode_tflops=language.decode_flops(prompt, new_tokens) / _TERA,
        kv_bytes=language.kv_bytes(prompt + max(0, new_tokens - 1), element_bytes),
    )


@dataclass(frozen=True)
class LatencyProfile:
    """Milliseconds measured on one machine for one backbone, device and dtype, one question at a time.

    Attributes:
        prompt_tokens: ascending prompt lengths that were measured.
        prefill_ms: median time of the language model's prefill at each of them.
        backbone: hash of the backbone's configuration.
        encode_ms: median time of vision tower and connector at full m, from prepared pixels.
        step_ms: median time of one decoding step.
    """

    backbone: str
    device: str
    dtype: str
    prompt_tokens: tuple[int, ...]
    prefill_ms: tuple[float, ...]
    encode_ms: float
    step_ms: float

    def __post_init__(self) -> None:
        if len(self.prompt_tokens) < 2 or len(self.prompt_tokens) != len(self.prefill_ms):
            raise BackboneError(
                "a latency profile needs two or more prompt lengths with one time each, "
                f"was: {len(self.prompt_tokens)} lengths and {len(self.prefill_ms)} times"
            )
        numbers = (*self.prompt_tokens, *self.prefill_ms, self.encode_ms, self.step_ms)
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            raise BackboneError(f"a latency profile must hold finite numbers, was: {numbers}")

    def ms(self, visual_tokens: int, text_tokens: int, new_tokens: int) -> float:
        """Predicted milliseconds of one answer.

        Prefill is interpolated between the measured lengths; beyond the longest the last slope goes on.
        """
        tokens = visual_tokens + text_tokens
        prefill = float(np.interp(tokens, self.prompt_tokens, self.prefill_ms))
        if tokens > self.prompt_tokens[-1]:
            (x0, x1), (y0, y1) = self.prompt_tokens[-2:], self.prefill_ms[-2:]
            prefill += (tokens - x1) * max(0.0, (y1 - y0) / (x1 - x0))
        return self.encode_ms + prefill + self.step_ms * max(0, new_tokens - 1)

    def save(self) -> Path:
        """Write the profile where `find` looks for it; returns the path."""
        path = _profile_path(self.backbone, self.device, self.dtype)
        fresh = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            raise BackboneError(
                f"the cache folder must be writable, was: {path.parent.name!r} ({error.strerror}); set XDG_CACHE_HOME"
            ) from error
        return path

    @classmethod
    def find(cls, backbone: str, device: str, dtype: str) -> LatencyProfile | None:
        """The saved profile of this backbone, device and dtype; None where none was measured.

        Raises:
            BackboneError: the file is there and damaged.
        """
        path = _profile_path(backbone, device, dtype)
        try:
            if not path.is_file():
                return None
        except PermissionError:  # another user's cache: nothing that this one has measured
            return None
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            fields["prompt_tokens"], fields["prefill_ms"] = tuple(fields["prompt_tokens"]), tuple(fields["prefill_ms"])
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackboneError(
                f"a latency profile must be whole JSON, was: {path.name} ({error}); run the profile command again"
            ) from error


def _profile_path(backbone: str, device: str, dtype: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "matryoshka-router" / "profiles" / f"{backbone[:16]}-{device}-{dtype}.json"
