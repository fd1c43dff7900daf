"""Counted FLOPs against torch's counter, against the published figures, and the latency profile."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from encoders import cost, profiling
from encoders.cost import LanguageShape, LatencyProfile, VisionShape, answer_cost
from encoders.errors import BackboneError
from encoders.profiling import measure

CLIP_L_336 = VisionShape(image_side=336, patch_side=14, width=1024, mlp_width=4096, layers=24)
VICUNA_7B = LanguageShape(
    width=4096, mlp_width=11008, layers=32, heads=32, kv_heads=32, head_width=128, vocabulary=32000
)


def counted(backbone, encoded_tokens: int, text: str, m: int, new_tokens: int) -> int:
    """FLOPs that torch counts in one real call, eager attention, decoding forced to `new_tokens`."""
    backbone.vision.set_attn_implementation("eager")
    backbone.language.set_attn_implementation("eager")
    end, backbone.tokenizer.eos_token = backbone.tokenizer.eos_token, "<pad>"  # never generated: see below
    try:
        with FlopCounterMode(display=False) as counter:
            encoded = backbone.encode([np.zeros((encoded_tokens, encoded_tokens, 3), np.uint8)])
            [generation] = backbone.generate(encoded, [text], m, max_new_tokens=new_tokens)
    finally:
        backbone.tokenizer.eos_token = end
    assert generation.new_tokens == new_tokens
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["mqt", "m3", "sequential"])
@pytest.mark.parametrize("new_tokens", [1, 5])
def test_counted_flops_equal_torchs_counter(make_tiny, kind, new_tokens):
    backbone = make_tiny(kind)
    text = "what number is written on the sign"
    text_tokens = len(backbone.prefix_ids) + len(backbone.suffix_ids(text))
    if kind == "mqt":
        with torch.no_grad():
            backbone.connector.attention(16)  # constants of the weights, paid once per process
    for m in backbone.ladder[:2] + backbone.ladder[-1:]:
        cost = backbone.cost(m, text_tokens, new_tokens)
        assert cost.tflops * 1e12 == pytest.approx(counted(backbone, 32, text, m, new_tokens), rel=1e-9)


def test_kv_bytes_equal_the_cache(tiny, pictures):
    from encoders.prefix import VisualPrefix

    cache = VisualPrefix(tiny, tiny.encode(pictures[:1]), 9)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache._cache.layers)
    assert tiny.cost(9, len(tiny.prefix_ids), 1).kv_bytes == held


# M3 paper (arXiv 2405.17430), table 9: LLaVA-1.5-7B, 30 text tokens, blocks only (no output head, no tower), TFLOPs.
M3_TABLE_9 = {576: 8.0, 144: 2.2, 36: 0.9, 9: 0.5, 1: 0.4}


@pytest.mark.parametrize(("m", "published"), M3_TABLE_9.items())
def test_prefill_reproduces_table_9_of_the_m3_paper(m, published):
    assert VICUNA_7B.block_flops(m + 30, m + 30) / 1e12 == pytest.approx(published, abs=0.1)


# MQT paper (arXiv 2405.19315), figure 1 right, TFLOPs axis, digitised; about 55 text tokens reproduce it.
MQT_FIGURE_1 = {8: 1.24, 16: 1.34, 36: 1.56, 64: 1.98, 144: 2.83, 256: 4.52}


@pytest.mark.parametrize(("m", "published"), [*MQT_FIGURE_1.items(), (576, 8.75)])
def test_total_reproduces_figure_1_of_the_mqt_paper(m, published):
    width, out_width = 1024, 4096
    connector = 2 * width * (576 * width + m * 576 + m * width + m * out_width)
    if m == 576:  # LLaVA-1.5 itself: the two-layer projector
        connector = 2 * 576 * (width * out_width + out_width**2)
    cost = answer_cost(CLIP_L_336, connector, VICUNA_7B, m, 55, 1, 2)
    assert cost.tflops == pytest.approx(published, abs=0.25 if m in (144, 576) else 0.1)


def test_half_a_mebibyte_of_cache_per_token_at_7b():
    assert VICUNA_7B.kv_bytes(1, 2) == 2**19


def test_a_profile_is_measured_saved_found_and_used(make_tiny):
    backbone = make_tiny("mqt")
    assert backbone.cost(4, 10, 3).ms is None
    profile = measure(backbone, repeats=3)
    profile.save()
    fresh = make_tiny("mqt")
    assert fresh.profile == profile
    assert fresh.cost(4, 10, 3).ms == pytest.approx(profile.ms(4, 10, 3))
    assert make_tiny("m3").profile is None


def test_a_profile_interpolates_between_measured_lengths():
    profile = LatencyProfile("f", "cpu", "float32", (10, 20), (1.0, 3.0), 5.0, 0.5)
    assert profile.ms(5, 10, 1) == pytest.approx(5 + 2)
    assert profile.ms(20, 10, 1) == pytest.approx(5 + 5)  # the last slope goes on
    assert profile.ms(10, 10, 3) == pytest.approx(5 + 3 + 2 * 0.5)


def test_a_damaged_profile_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = LatencyProfile("f" * 64, "cpu", "float32", (10, 20), (1.0, 3.0), 5.0, 0.5).save()
    path.write_text("{")
    with pytest.raises(BackboneError, match="must be whole JSON"):
        LatencyProfile.find("f" * 64, "cpu", "float32")
    with pytest.raises(BackboneError, match="finite numbers"):
        LatencyProfile("f", "cpu", "float32", (10, 20), (1.0, float("nan")), 5.0, 0.5)
    with pytest.raises(BackboneError, match="two or more prompt lengths"):
        LatencyProfile("f", "cpu", "float32", (10,), (1.0,), 5.0, 0.5)


def test_a_cache_that_is_not_ours_to_read_holds_no_profile(monkeypatch):
    """As in a container whose home is another user's."""

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cost.Path, "is_file", refuse)
    assert LatencyProfile.find("f" * 64, "cpu", "float32") is None


def test_a_profile_waits_for_the_device_that_was_asked(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    profiling._median_ms(lambda: None, 3, torch.device("cuda:1"))
    profiling._median_ms(lambda: None, 3, torch.device("cpu"))
    assert waited == [torch.device("cuda:1")] * 3
