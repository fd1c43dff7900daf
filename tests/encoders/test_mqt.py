"""The query transformer against the official implementation, and the law it stands on."""

import numpy as np
import pytest
import torch

from encoders.errors import BackboneError, BudgetError
from encoders.mqt import MatryoshkaQueryTransformer, sincos_table
from tests.conftest import GOLDEN

PREFIX = "model.query_abstractor."


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "mqt_query_transformer.npz"))


@pytest.fixture
def weights(golden):
    return {key: torch.tensor(value) for key, value in golden.items() if key.startswith(PREFIX)}


@pytest.fixture
def module(weights, golden):
    return MatryoshkaQueryTransformer.from_state_dict(weights, int(golden["heads"]))


@torch.no_grad()
@pytest.mark.parametrize("m", [1, 2, 5, 9, 16])
def test_tokens_equal_the_official_implementation(module, golden, m):
    tokens = module(torch.tensor(golden["features"]), m)
    assert np.abs(tokens.numpy() - golden[f"tokens_{m}"]).max() < 2e-6


def test_attention_maps_equal_the_official_implementation(module, golden):
    assert np.abs(module.attention(36).detach().numpy() - golden["attention"]).max() < 2e-6


def test_analytic_position_table_equals_the_official_one(golden):
    assert np.abs(sincos_table(32, 4).numpy() - golden["analytic_pos_embed"]).max() < 2e-6


def test_keys_load_without_their_prefix_too(weights, golden, module):
    bare = {key.removeprefix(PREFIX): value for key, value in weights.items()}
    other = MatryoshkaQueryTransformer.from_state_dict(bare, int(golden["heads"]))
    patches = torch.tensor(golden["features"])
    assert torch.equal(module(patches, 7), other(patches, 7))


def test_weights_of_other_modules_in_a_checkpoint_are_left_alone(weights, golden):
    weights["model.layers.0.weight"] = torch.zeros(1)
    MatryoshkaQueryTransformer.from_state_dict(weights, int(golden["heads"]))


@pytest.mark.parametrize("lost", ["ln_k.bias", "pos_embed", "query", "attn.in_proj_bias"])
def test_a_missing_weight_is_an_error_that_names_it(weights, golden, lost):
    del weights[PREFIX + lost]
    with pytest.raises(BackboneError, match=lost.replace(".", r"\.")):
        MatryoshkaQueryTransformer.from_state_dict(weights, int(golden["heads"]))


def test_a_misshapen_weight_is_an_error_that_names_it(weights, golden):
    weights[PREFIX + "ln_q.bias"] = torch.zeros(3)
    with pytest.raises(BackboneError, match=r"of another shape \['ln_q.bias'\]"):
        MatryoshkaQueryTransformer.from_state_dict(weights, int(golden["heads"]))


@torch.no_grad()
def test_maps_first_built_under_autocast_serve_plain_calls(module, golden):
    patches = torch.tensor(golden["features"])
    with torch.autocast("cpu", torch.bfloat16):
        module(patches, 16)
    assert np.abs(module(patches, 16).numpy() - golden["tokens_16"]).max() < 2e-6


def test_the_position_table_is_loaded_not_recomputed(weights, golden):
    weights[PREFIX + "pos_embed"] = weights[PREFIX + "pos_embed"] + 0.5 * torch.randn(16, 32)
    changed = MatryoshkaQueryTransformer.from_state_dict(weights, int(golden["heads"]))
    tokens = changed(torch.tensor(golden["features"]), 16)
    assert (tokens - torch.tensor(golden["tokens_16"])).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_at_m_are_the_prefix_of_all_tokens(module):
    patches = torch.randn(3, 36, 32)
    every = module(patches, 16)
    for m in range(1, 17):
        assert torch.allclose(module(patches, m), every[:, :m], atol=1e-6)


@pytest.mark.parametrize("m", [0, -1, 17, True, 3.9, "4", None])
def test_m_out_of_range_is_refused_with_the_rule(module, m):
    with pytest.raises(BudgetError, match="a whole number from 1 to 16, was"):
        module(torch.randn(1, 36, 32), m)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_follows_full_precision(module, golden, dtype):
    patches = torch.tensor(golden["features"])
    full, half = module(patches, 16), module.to(dtype)(patches.to(dtype), 16)
    assert half.dtype == dtype
    assert (full - half.float()).abs().max() < 0.03 * full.abs().max()


@torch.no_grad()
def test_a_stale_attention_map_never_answers(module, weights):
    """A cached map that outlives its weights is a wrong answer without an error."""
    patches = torch.randn(1, 36, 32)
    before = module(patches, 16)
    changed = {key.removeprefix(PREFIX): value.clone() for key, value in weights.items()}
    changed["query"] = torch.randn_like(changed["query"])
    module.load_state_dict(changed)
    after = module(patches, 16)
    assert (before - after).abs().max() > 1e-4
    holder = torch.nn.Sequential(module)  # loading through a parent must drop it too
    holder.load_state_dict({f"0.{key.removeprefix(PREFIX)}": value for key, value in weights.items()})
    assert torch.allclose(module(patches, 16), before)


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.train(),
        lambda m: m.eval(),
        lambda m: m.to(torch.float64),
        lambda m: m.load_state_dict(m.state_dict()),
    ],
    ids=["train", "eval", "to", "load_state_dict"],
)
def test_the_cache_is_dropped_whenever_weights_can_have_changed(module, act):
    with torch.no_grad():
        module(torch.randn(1, 36, 32), 4)
    assert module._maps is not None
    act(module)
    assert module._maps is None


def test_attention_does_not_see_the_picture_and_is_computed_once(module):
    with torch.no_grad():
        module(torch.randn(1, 36, 32), 4)
        kept = module._maps[1]
        module(torch.randn(2, 36, 32), 16)
    assert module._maps[1] is kept


def test_gradients_reach_the_queries_in_training_and_after_inference(module):
    with torch.inference_mode():
        module(torch.randn(1, 36, 32), 4)
    module(torch.randn(1, 36, 32), 4).sum().backward()
    assert module.query.grad[:4].abs().sum() > 0
    assert module.query.grad[4:].abs().sum() == 0
    assert module.pos_embed.grad is None


def test_a_local_start_looks_everywhere_first_and_closer_later():
    module = MatryoshkaQueryTransformer(128, 64, 144, 8)
    module.start_local()
    maps = module.eval().attention(144).detach().mean(0)  # (144, 144)
    reach = (1 / maps.square().sum(-1)).tolist()  # places a query attends to, effectively
    assert reach[0] > 60 and reach[8] > reach[36] > reach[143]
    assert len(set(maps[72:].argmax(-1).tolist())) > 60


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((32, 40, 15, 4), "num_queries must be a square"),
        ((32, 40, 16, 5), "num_heads must divide"),
        ((30, 40, 16, 3), "multiple of 4"),
    ],
)
def test_impossible_shapes_are_refused(arguments, rule):
    with pytest.raises(BackboneError, match=rule):
        MatryoshkaQueryTransformer(*arguments)


def test_patches_that_are_no_square_grid_are_refused(module):
    with pytest.raises(BackboneError, match="square grid, was: 35"):
        module(torch.randn(1, 35, 32), 4)
