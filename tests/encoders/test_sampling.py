"""The training-free baselines keep the tokens they say they keep."""

import pytest
import torch

from encoders.errors import BackboneError, BudgetError
from encoders.m3 import pool
from encoders.sampling import SampledProjection, sequential_sample, spatial_sample

GRID = torch.arange(36.0).reshape(1, 36, 1)  # token k holds the number k; rows of six


def test_spatial_sampling_keeps_the_middle_of_each_cell():
    assert spatial_sample(GRID, 9).flatten().tolist() == [7, 9, 11, 19, 21, 23, 31, 33, 35]
    assert spatial_sample(GRID, 4).flatten().tolist() == [7, 10, 25, 28]
    assert spatial_sample(GRID, 36).flatten().tolist() == list(range(36))


def test_sequential_sampling_keeps_the_first():
    assert sequential_sample(GRID, 5).flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("method", "by_hand"), [("average", pool), ("spatial", spatial_sample), ("sequential", sequential_sample)]
)
def test_a_sampled_projector_projects_first(method, by_hand):
    connector = SampledProjection(8, 12, 36, method)
    patches = torch.randn(2, 36, 8)
    assert torch.equal(connector(patches, 9), by_hand(connector.projector(patches), 9))


def test_only_sequential_tokens_are_prefixes():
    assert [SampledProjection(8, 12, 36, method).prefix_nested for method in ("average", "spatial", "sequential")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("m", [0, 37, 5, True])
def test_inexact_m_is_refused(m):
    with pytest.raises(BudgetError, match="m must be one of"):
        spatial_sample(GRID, m)


@pytest.mark.parametrize("m", [0, 37, True])
def test_sequential_m_out_of_range_is_refused(m):
    with pytest.raises(BudgetError, match="from 1 to 36, was"):
        sequential_sample(GRID, m)
    assert not SampledProjection(8, 12, 36, "sequential").allows(m)


def test_unknown_method_is_refused():
    with pytest.raises(BackboneError, match=r"one of \['average', 'sequential', 'spatial'\], was: 'random'"):
        SampledProjection(8, 12, 36, "random")


@pytest.mark.parametrize("method", ["average", "spatial", "sequential"])
def test_a_baseline_is_built_from_published_weights(method):
    """The constructor it inherited knew of no method and failed."""
    source = SampledProjection(8, 12, 36, method).half()
    weights = {f"model.mm_projector.{key}": value for key, value in source.projector.state_dict().items()}
    built = SampledProjection.from_state_dict(weights, patches=36, method=method)
    patches = torch.randn(2, 36, 8).half()
    assert type(built) is SampledProjection and not built.training
    assert torch.equal(built(patches, 9), source(patches, 9))
    assert built.allows(5) == (method == "sequential")
    with pytest.raises(BackboneError, match="a sampling method must be one of"):
        SampledProjection.from_state_dict(weights, method="random")


@pytest.mark.parametrize("tokens", [10, 37, 577])
def test_what_is_no_grid_is_not_sampled_in_space(tokens):
    with pytest.raises(BackboneError, match=f"square grid, was: {tokens} tokens; drop CLS"):
        spatial_sample(torch.zeros(1, tokens, 8), 4)
