"""The query transformer against the official implementation, and the law it stands on."""

import copy

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


@pytest.mark.parametrize("name", ["query", "proj"])
def test_a_matrix_that_is_none_is_an_error_that_names_it(weights, golden, name):
    weights[PREFIX + name] = torch.zeros(3)
    with pytest.raises(BackboneError, match=rf"must be matrices, was: \['{name} \(3,\)'\]"):
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


def fresh_maps(module):
    """What the weights say now."""
    other = copy.deepcopy(module)
    other._maps = None
    with torch.no_grad():
        return other.attention(36)


CHANGES = {  # ln_k.bias is not among them: what it adds to every key alike, a softmax over keys does not see
    name: lambda module, name=name: module.get_parameter(name).mul_(1.5).add_(torch.randn(()))
    for name in ("query", "pos_embed", "ln_q.weight", "ln_q.bias", "ln_k.weight", "attn.in_proj_weight")
} | {
    "a bias": lambda module: module.attn.in_proj_bias.copy_(torch.randn_like(module.attn.in_proj_bias)),
    "another query": lambda module: setattr(module, "query", torch.nn.Parameter(torch.randn_like(module.query))),
}


@torch.no_grad()
@pytest.mark.parametrize("case", CHANGES, ids=str)
def test_maps_follow_weights_edited_in_evaluation(module, case):
    """Maps once outlived `with torch.no_grad(): weight.copy_(...)`: a wrong answer without an error."""
    before = module.attention(36)
    CHANGES[case](module)
    after = module.attention(36)
    assert torch.allclose(after, fresh_maps(module), atol=1e-6)
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("fused", [False, True])
def test_maps_follow_an_optimiser_in_evaluation(module, fused):
    """Torch counts no changes that a fused optimiser makes."""
    optimizer = torch.optim.AdamW([module.query], lr=0.5, fused=fused)
    with torch.no_grad():
        before = module.attention(36)
    module(torch.randn(1, 36, 32), 16).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert torch.allclose(module.attention(36), fresh_maps(module), atol=1e-6)
        assert (module.attention(36) - before).abs().max() > 1e-3


@torch.no_grad()
def test_a_weight_that_lies_where_another_lay_is_not_taken_for_it(module):
    for _ in range(20):
        module.attention(36)
        for _ in range(2):  # the first frees the memory that the second may be given
            module.query.data = torch.randn(16, 32)
        assert torch.allclose(module.attention(36), fresh_maps(module), atol=1e-6)


def test_kept_maps_never_stand_in_for_a_gradient(module):
    module.attn.requires_grad_(False)
    with torch.no_grad():
        module(torch.randn(1, 36, 32), 4)
    module(torch.randn(1, 36, 32), 4).sum().backward()
    assert module.query.grad[:4].abs().sum() > 0


def test_weights_made_in_inference_mode_are_never_taken_as_unchanged(weights, golden):
    with torch.inference_mode():
        module = MatryoshkaQueryTransformer.from_state_dict(weights, int(golden["heads"]))
        assert np.abs(module.attention(36).numpy() - golden["attention"]).max() < 2e-6
        module.query.add_(torch.randn_like(module.query))
        assert np.abs(module.attention(36).numpy() - golden["attention"]).max() > 1e-3
    with torch.no_grad():
        assert module(torch.tensor(golden["features"]), 4).shape[1] == 4


def test_attention_does_not_see_the_picture_and_is_computed_once(module):
    with torch.no_grad():
        module(torch.randn(1, 36, 32), 4)
        kept = module._maps.computed
        module(torch.randn(2, 36, 32), 16)
    assert module._maps.computed is kept


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
        ((32, 40, 16, 0), "num_heads must be a whole number of at least 1, was: 0"),
        ((32, 40, 16, 4.0), r"num_heads must be a whole number of at least 1, was: 4\.0"),
    ],
)
def test_impossible_shapes_are_refused(arguments, rule):
    with pytest.raises(BackboneError, match=rule):
        MatryoshkaQueryTransformer(*arguments)


def test_patches_that_are_no_square_grid_are_refused(module):
    with pytest.raises(BackboneError, match="square grid, was: 35"):
        module(torch.randn(1, 35, 32), 4)
