"""Everything about a NestedLlava but its weights and its tokenizer.

Knows names and numbers. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from encoders.counts import finite_number, positive, whole_number
from encoders.errors import BackboneError, shown

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_PADDING = (122, 116, 104)  # CLIP_MEAN * 255, as LLaVA pads


@dataclass(frozen=True)
class LlavaConfig:
    """Everything but weights and tokenizer.

    Attributes:
        name: what `answer(..., backbone=name)` calls it.
        ladder: the trained m, ascending.
        connector: {"type": "mqt", "num_queries": M, "num_heads": h}, {"type": "m3"}, or
            {"type": "average" | "spatial" | "sequential"} for the training-free baselines.
        vision, language: configurations of CLIPVisionModel and LlamaForCausalLM.
        template: a name in `encoders.prompts`.
        feature_layer: index into the tower's hidden states, negative.
        max_new_tokens: how long an answer may grow where the caller does not say.
    """

    name: str
    ladder: tuple[int, ...]
    connector: dict[str, Any]
    vision: dict[str, Any]
    language: dict[str, Any]
    template: str
    feature_layer: int = -2
    max_new_tokens: int = 16
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    pad_colour: tuple[int, int, int] = CLIP_PADDING

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BackboneError(f"name must be a string, was: {shown(self.name)}")
        if not self.ladder or any(whole_number(m) is None for m in self.ladder):
            raise BackboneError(f"a ladder must hold whole numbers, was: {shown(self.ladder)}")
        if list(self.ladder) != sorted(set(self.ladder)):
            raise BackboneError(f"a ladder must be ascending without repeats, was: {shown(self.ladder)}")
        if whole_number(self.feature_layer) is None or self.feature_layer > -1:
            raise BackboneError(f"feature_layer must be negative (-2 is LLaVA's), was: {shown(self.feature_layer)}")
        positive("max_new_tokens", self.max_new_tokens)
        for name in ("connector", "vision", "language"):
            if not isinstance(getattr(self, name), dict):
                raise BackboneError(f"{name} must be an object, was: {shown(getattr(self, name))}")
        for name, low, high in (("image_mean", -10.0, 10.0), ("image_std", 1e-6, 10.0), ("pad_colour", 0, 255)):
            value = getattr(self, name)
            if len(value) != 3 or not all(low <= finite_number(v) <= high for v in value):
                raise BackboneError(f"{name} must hold three numbers from {low} to {high}, was: {shown(value)}")
            object.__setattr__(self, name, tuple(v.item() if hasattr(v, "item") else v for v in value))  # for JSON
        if any(whole_number(level) is None for level in self.pad_colour):
            raise BackboneError(f"pad_colour must hold whole numbers, was: {shown(self.pad_colour)}; round them")
        object.__setattr__(self, "ladder", tuple(map(whole_number, self.ladder)))

    def canonical(self) -> bytes:
        """The configuration as bytes to be hashed: the same for equal configurations."""
        return json.dumps(vars(self), sort_keys=True).encode()
