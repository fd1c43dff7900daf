"""The cache that is written in place holds what transformers' own holds, whatever is done to it between passes."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, MistralConfig
from transformers.cache_utils import DynamicSlidingWindowLayer

from encoders.cache import InPlaceLayer, new_cache, select, stacked

CONFIG = LlamaConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2)


def appended(caches, places, rows=3):
    """The same keys and values, put behind what each cache holds."""
    for layer in range(2):
        keys, values = torch.randn(rows, 2, places, 4), torch.randn(rows, 2, places, 4)
        for cache in caches:
            cache.update(keys, values, layer)


def same(ours, stock):
    assert ours.get_seq_length() == stock.get_seq_length()
    for mine, its in zip(ours.layers, stock.layers, strict=True):
        assert torch.equal(mine.keys, its.keys)
        assert torch.equal(mine.values, its.values)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    ours, stock = new_cache(CONFIG), DynamicCache(config=CONFIG)
    appended((ours, stock), 16)
    return ours, stock


def test_what_follows_stands_behind_what_is_there_and_nothing_is_copied(pair):
    appended(pair, 10)  # the room is made here
    before = [layer.keys.data_ptr() for layer in pair[0].layers]
    for _ in range(3):
        appended(pair, 1)
        same(*pair)
    assert [layer.keys.data_ptr() for layer in pair[0].layers] == before


def test_what_was_cropped_is_written_over(pair):
    for fewer in (5, 3):
        for cache in pair:
            cache.crop(-fewer)
        same(*pair)
        appended(pair, 7)
        same(*pair)


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.batch_select_indices(torch.tensor([2, 0])),
        lambda cache: cache.batch_select_indices(torch.tensor([0, 1])),
        lambda cache: cache.batch_repeat_interleave(2),
        lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0])),
        lambda cache: cache.reset(),
    ],
    ids=["chosen", "first", "repeated", "reordered", "reset"],
)
def test_rows_may_change_between_passes(pair, change):
    for cache in pair:
        change(cache)
    rows = len(pair[1].layers[0].keys) if pair[1].get_seq_length() else 3
    for places in (1, 4, 1):  # the first would fit into the room that was made before
        appended(pair, places, rows)
        same(*pair)


def test_chosen_rows_are_a_copy(pair):
    ours, stock = pair
    few = stacked([select(ours, [2, 0])])
    stock.batch_select_indices(torch.tensor([2, 0]))
    held = [layer.keys.clone() for layer in ours.layers]
    same(few, stock)
    appended((few, stock), 1, rows=2)
    same(few, stock)
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(ours.layers, held, strict=True))


def test_rows_of_caches_of_any_length_are_stacked_with_zeros_behind_the_shorter(pair):
    ours, _ = pair
    long = select(ours, [1])
    ours.crop(-6)
    short = select(ours, [2, 0])
    expected = [[part.clone() for part in layer] for layer in (*long, *short)]
    whole = stacked([long, short])
    assert long == short == []  # emptied as they were read: one layer at a time is held twice
    assert whole.get_seq_length() == 16
    for layer, rows in zip(whole.layers, zip(expected[:2], expected[2:], strict=True), strict=True):
        for held, first, others in zip((layer.keys, layer.values), *rows, strict=True):
            assert torch.equal(held[:1], first) and torch.equal(held[1:, :, :10], others)
            assert not held[1:, :, 10:].any()


def test_sliding_windows_stay_as_they_are():
    cache = new_cache(MistralConfig(num_hidden_layers=2, sliding_window=4))
    assert [type(layer) for layer in cache.layers] == [DynamicSlidingWindowLayer] * 2
    assert [type(layer) for layer in new_cache(CONFIG).layers] == [InPlaceLayer] * 2
