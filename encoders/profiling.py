"""Measures on this machine how long a backbone takes: the numbers behind `Cost.ms`.

Knows clocks and medians. Interprets nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from transformers import DynamicCache

from encoders.cache import new_cache
from encoders.cost import LatencyProfile
from encoders.llava import NestedLlava

_TEXT_TOKENS = 16


def _median_ms(action: Callable[[], object], repeats: int, device: torch.device) -> float:
    action()  # warm up
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)  # of several, the one that was asked
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


@torch.inference_mode()
def measure(backbone: NestedLlava, repeats: int = 15) -> LatencyProfile:
    """Time the vision pass, prefill at every m of the ladder and one decoding step, one question at a time."""
    side, width = backbone.vision.config.image_size, backbone.language.config.hidden_size
    pixels = torch.zeros(1, 3, side, side)
    timed = partial(_median_ms, repeats=repeats, device=backbone.device)
    encode_ms = timed(lambda: backbone.from_pixels(pixels).tokens(backbone.ladder[-1]))
    least, most = len(backbone.prefix_ids) + _TEXT_TOKENS, backbone.language.config.max_position_embeddings
    wanted = {least + m for m in backbone.ladder} | {least + 2 * backbone.ladder[-1]}
    lengths = tuple(sorted(min(length, most - 1) for length in wanted))
    longest = torch.zeros(1, lengths[-1], width, device=backbone.device, dtype=backbone.dtype)

    def prefill(length: int) -> DynamicCache:
        cache = new_cache(backbone.language.config)
        backbone.language(inputs_embeds=longest[:, :length], past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    prefill_ms = tuple(timed(partial(prefill, length)) for length in lengths)
    cache = prefill(lengths[-1])

    def step() -> None:
        backbone.language(inputs_embeds=longest[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(-1)

    step_ms = timed(step)
    return LatencyProfile(*backbone.profile_key, lengths, prefill_ms, encode_ms, step_ms)
