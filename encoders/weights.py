"""Which weights these are: at a glance, to notice a change, and exactly, by hash.

Knows tensors. Knows no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn


def version(tensors: Iterable[Tensor]) -> tuple[object, ...]:
    """A value that stays equal while no tensor is replaced or changed in place; microseconds, whatever their size.

    A tensor made in inference mode counts no changes: with one among them, no two versions are equal. What torch does
    not count is not seen: writing through `.data`, and fused optimisers.
    """
    return tuple((t.data_ptr(), object() if t.is_inference() else t._version, t.dtype) for t in tensors)


def held(module: nn.Module) -> Iterator[Tensor]:
    """Every parameter and buffer, from the modules' own tables: with every answer, `state_dict` takes twice as long."""
    for part in module.modules():
        for tensor in chain(part._parameters.values(), part._buffers.values()):
            if tensor is not None:
                yield tensor


def digest(configuration: bytes, tensors: Mapping[str, Tensor]) -> str:
    """sha256 over a configuration and weights by name, whatever device and dtype they are in, as float32."""
    found = hashlib.sha256(configuration)
    for key, tensor in sorted(tensors.items()):
        found.update(key.encode())
        found.update(tensor.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return found.hexdigest()
