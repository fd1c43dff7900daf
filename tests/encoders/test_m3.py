"""Pooling and tile packing against the official implementation."""

import json

import numpy as np
import pytest
import torch

from encoders.errors import BackboneError, BudgetError
from encoders.m3 import MatryoshkaPooling, levels, pack_tiles, pool, tile_grid
from tests.conftest import GOLDEN

SCALES = (1, 9, 36, 144, 576)
ARRAYS = dict(np.load(GOLDEN / "m3_pooling.npz"))
META = json.loads(str(ARRAYS["meta_json"]))
PINPOINTS = META["pinpoints"]


@pytest.fixture(scope="module")
def connector():
    weights = {key: torch.tensor(value) for key, value in ARRAYS.items() if key.startswith("mm_projector.")}
    return MatryoshkaPooling.from_state_dict(weights)


@torch.no_grad()
@pytest.mark.parametrize("m", SCALES)
def test_tokens_equal_the_official_implementation(connector, m):
    tokens = connector(torch.tensor(ARRAYS["features"]), m)[0]
    assert np.abs(tokens.numpy() - ARRAYS[f"llava15_tokens_{m}"]).max() < 2e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_means_of_half_precision_are_rounded_once(dtype):
    tokens = torch.randn(1, 576, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = pool(tokens.double(), 36).to(dtype)
    assert pool(tokens, 36).dtype == dtype and (pool(tokens, 36) == exact).float().mean() > 0.999


@torch.no_grad()
@pytest.mark.parametrize("m", SCALES)
@pytest.mark.parametrize("case", META["cases"], ids=lambda case: f"{case['merge_type']}-{case['image_size_wh']}")
def test_packed_tiles_equal_the_official_implementation(connector, case, m):
    tiles = connector.projector(torch.tensor(ARRAYS[f"anyres_{case['index']}_features"]).float())
    newline = torch.tensor(ARRAYS["image_newline"])
    packed = pack_tiles(tiles, m, tuple(case["image_size_wh"]), case["merge_type"], newline, PINPOINTS)
    assert len(packed) == case["token_counts"][str(m)]
    kept = torch.cat([packed[:40], packed[-40:]]) if m >= 144 else packed
    assert np.abs(kept.numpy() - ARRAYS[f"anyres_{case['index']}_tokens_{m}"]).max() < 2e-6


# Counts of the official packer for pictures beyond the golden cases: (width, height), merge type, pinpoints, counts.
MORE_COUNTS = [
    ((480, 640), "spatial_unpad", PINPOINTS, (7, 39, 168, 600, 2352)),
    ((2000, 800), "spatial_unpad", PINPOINTS, (5, 33, 138, 516, 2040)),
    ((1000, 300), "spatial_unpad", PINPOINTS, (5, 39, 150, 514, 2182)),
    ((300, 1000), "spatial_unpad", PINPOINTS, (7, 45, 162, 540, 2232)),
    ((2000, 800), "spatial_unpad", [[672, 672]], (1, 23, 88, 394, 1556)),
    ((640, 480), "spatial", PINPOINTS, (5, 45, 180, 720, 2880)),
    ((1000, 300), "flat", PINPOINTS, (4, 36, 144, 576, 2304)),
]


@pytest.mark.parametrize(("size", "merge", "pinpoints", "counts"), MORE_COUNTS)
def test_token_counts_of_other_picture_shapes(size, merge, pinpoints, counts):
    columns, rows = tile_grid(size, pinpoints)
    tiles = torch.randn(1 + columns * rows, 576, 3)
    found = tuple(len(pack_tiles(tiles, m, size, merge, torch.zeros(3), pinpoints)) for m in SCALES)
    assert found == counts


def test_a_single_tile_keeps_one_newline_when_unpadded():
    newline = torch.ones(3)
    packed = pack_tiles(torch.zeros(1, 576, 3), 9, (300, 300), "spatial_unpad", newline, PINPOINTS)
    assert packed.shape == (10, 3)
    assert torch.equal(packed[-1], newline)


@pytest.mark.parametrize("m", [2, 25, 100, 256, 400, 0, -1, 577, True, 9.0, "9", None])
def test_what_is_no_exact_level_is_refused_with_the_levels(m):
    """The released code pools m = 100 to 144 tokens, 400 to 576 and 2 to 1, in silence."""
    with pytest.raises(BudgetError, match=r"one of \(1, 4, 9, 16, 36, 64, 144, 576\)"):
        pool(torch.randn(1, 576, 4), m)


def test_levels_of_the_published_grid():
    assert levels(576) == (1, 4, 9, 16, 36, 64, 144, 576)


def test_coarser_scales_are_averages_of_finer_ones():
    tokens = torch.randn(2, 576, 5, dtype=torch.float64)
    for fine, coarse in ((576, 144), (144, 36), (36, 9), (9, 1)):
        assert torch.allclose(pool(pool(tokens, fine), coarse), pool(tokens, coarse))


def test_projection_comes_before_pooling(connector):
    patches = torch.randn(1, 576, 8)
    with torch.no_grad():
        early = connector.projector(pool(patches, 36))
        assert (connector(patches, 36) - early).abs().max() > 1e-3


def test_errors_name_rule_and_value(connector):
    with pytest.raises(BackboneError, match=r"missing \['2.bias'\]"):
        MatryoshkaPooling.from_state_dict(
            {"0.weight": torch.zeros(1, 1), "0.bias": torch.zeros(1), "2.weight": torch.zeros(1, 1)}
        )
    weights = {f"{k}.{part}": torch.zeros(1, 1) for k in (0, 2, 4) for part in ("weight", "bias")}
    with pytest.raises(BackboneError, match=r"unexpected \['4.bias', '4.weight'\]"):
        MatryoshkaPooling.from_state_dict(weights)
    with pytest.raises(BackboneError, match="merge_type must be"):
        pack_tiles(torch.zeros(5, 4, 2), 1, (672, 672), "diagonal", torch.zeros(2), PINPOINTS)
    with pytest.raises(BackboneError, match="2 x 2 tiles and a thumbnail, was given: 4"):
        pack_tiles(torch.zeros(4, 576, 2), 1, (672, 672), "flat", torch.zeros(2), PINPOINTS)
    tiles = torch.zeros(5, 576, 2)
    for newline, told in ((None, "was: None"), (torch.zeros(3), r"was: tensor")):
        with pytest.raises(BackboneError, match=rf"newline must be a tensor of shape \(2,\), {told}"):
            pack_tiles(tiles, 1, (672, 672), "spatial_unpad", newline, PINPOINTS)
    with pytest.raises(BackboneError, match="tile_size must be a whole number of at least 1, was: 0"):
        pack_tiles(tiles, 1, (672, 672), "flat", torch.zeros(2), PINPOINTS, tile_size=0)
    with pytest.raises(BackboneError, match=r"at least one pixel each, was: \(nan, 672\)"):
        pack_tiles(tiles, 1, (float("nan"), 672), "flat", torch.zeros(2), PINPOINTS)
    with pytest.raises(BackboneError, match="square grid, was: 35"):
        pool(torch.zeros(1, 35, 2), 1)


MISSHAPEN = {
    "0.weight": [(12,), (7, 8), (12, 8, 1), ()],
    "0.bias": [(7,), (12, 1)],
    "2.weight": [(12, 8), (12,)],
    "2.bias": [(8,)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in MISSHAPEN for shape in MISSHAPEN[name]])
def test_projector_weights_that_do_not_fit_each_other_are_named(name, shape):
    weights = {"0.weight": (12, 8), "0.bias": (12,), "2.weight": (12, 12), "2.bias": (12,)} | {name: shape}
    told = ".*" if name == "0.weight" else rf"\['{name}'\]"  # against which the others are held
    with pytest.raises(BackboneError, match=f"do not fit each other: of another shape {told}"):
        MatryoshkaPooling.from_state_dict({key: torch.zeros(size) for key, size in weights.items()})


def test_a_key_that_ends_with_the_prefix_is_no_weight_of_the_projector():
    weights = {key: torch.tensor(value) for key, value in ARRAYS.items() if key.startswith("mm_projector.")}
    MatryoshkaPooling.from_state_dict(weights | {"model.mm_projector.": torch.zeros(1), "": torch.zeros(1)})
