"""A key-value cache written in place: a pass puts its keys and values behind those that are there, and copies none.

transformers' own layers join old and new at every pass, which copies the whole cache for every question asked of it
and every token decoded. Knows layers of a cache. Knows no m, no model and no question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache, DynamicLayer, PretrainedConfig

_SPARE = 8  # room is made for an eighth more than is needed


def new_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for a language model; layers of other kinds (sliding windows) stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [InPlaceLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


Rows = list[tuple[Tensor, Tensor]]  # of some rows of a cache: keys and values of every layer


def select(cache: DynamicCache, rows: Sequence[int]) -> Rows:
    """A copy of some rows of a cache."""
    return [(layer.keys[rows], layer.values[rows]) for layer in cache.layers]


def stacked(parts: Sequence[Rows]) -> DynamicCache:
    """All these rows in one cache, zeros behind those that are shorter than the longest; empties the parts."""
    cache = DynamicCache()
    while parts[0]:
        keys, values = zip(*(part.pop(0) for part in parts), strict=True)  # so that one layer at a time is held twice
        cache.layers.append(InPlaceLayer.stacked(keys, values))
    return cache


class InPlaceLayer(DynamicLayer):
    """A layer whose keys and values, (B, heads, places, width), are the heads of larger tensors; not for autograd."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Hold nothing yet, in the shape, dtype and device of what comes."""
        super().lazy_initialization(key_states, value_states)
        self.keys = self._key_room = key_states[:, :, :0]
        self.values = self._value_room = value_states[:, :, :0]

    @classmethod
    def stacked(cls, keys: Sequence[Tensor], values: Sequence[Tensor]) -> InPlaceLayer:
        """A layer of all these rows; zeros stand behind those that are shorter than the longest."""
        layer = cls()
        layer.lazy_initialization(keys[0], values[0])
        layer._key_room, layer.keys = _stacked(keys)
        layer._value_room, layer.values = _stacked(values)
        return layer

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append what a pass computed; returns all keys and values, to be read before the next pass."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._key_room, self.keys = _appended(self._key_room, self.keys, key_states)
        self._value_room, self.values = _appended(self._value_room, self.values, value_states)
        return self.keys, self.values


def _stacked(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(a room with all rows of the parts, the part of it that is held)."""
    rows, longest = sum(map(len, parts)), max(part.shape[2] for part in parts)
    room = parts[0].new_zeros(rows, parts[0].shape[1], longest + longest // _SPARE, parts[0].shape[3])
    for part, own in zip(parts, room.split([len(part) for part in parts]), strict=True):
        own[:, :, : part.shape[2]] = part
    return room, room[:, :, :longest]


def _appended(room: Tensor, held: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
    """(the room, the part of it that is held now): in the same room where `more` fits into it."""
    start, stop = held.shape[2], held.shape[2] + more.shape[2]
    # Rows may have been chosen, or moved to another device, since the room was made.
    in_room = held.data_ptr() == room.data_ptr() and held.shape[:2] == room.shape[:2]
    if not in_room or stop > room.shape[2]:
        room = more.new_empty(*more.shape[:2], stop + stop // _SPARE, more.shape[3])
        room[:, :, :start] = held
    room[:, :, start:stop] = more
    return room, room[:, :, :stop]
