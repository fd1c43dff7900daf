"""Visual features: what pixels, patches and bands of nested tokens say about a picture, for whoever chooses m.

One function, offline in a sweep and online in an answer; it costs no vision pass of its own. Knows pictures and
encoded pictures. Knows no question and no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from encoders import pixels

if TYPE_CHECKING:
    from encoders.llava import LlavaImages, NestedLlava

VERSION = 1
_PATCH_NAMES = (
    *("patch_norm_mean", "patch_norm_std", "patch_norm_max", "effective_rank"),
    *("similarity_mean", "similarity_std", "similarity_entropy", "neighbour_similarity"),
)
_SIMILARITY_BINS = 16
_TINY = 1e-12


def feature_names(backbone: NestedLlava) -> tuple[str, ...]:
    """The columns of `visual_features`: pixels, patches, then one band of tokens per rung of the ladder."""
    bands = tuple(f"band_{m}" for m in backbone.ladder)
    return (*(f"pixels_{name}" for name in pixels.NAMES), *_PATCH_NAMES, *bands)


@torch.inference_mode()
def visual_features(backbone: NestedLlava, encoded: LlavaImages, statistics: Sequence[np.ndarray]) -> np.ndarray:
    """Features of n encoded pictures: (n, d) float32, columns as `feature_names` says.

    Args:
        backbone: whose ladder bounds the bands.
        encoded: n pictures after the vision pass.
        statistics: n rows of `encoders.pixels.pixel_statistics`.
    """
    patches = _patch_statistics(encoded.patches.float())
    bands = _band_energies(backbone, encoded)
    return np.concatenate([np.stack(statistics), patches.cpu().numpy(), bands.cpu().numpy()], axis=1, dtype=np.float32)


def _patch_statistics(patches: Tensor) -> Tensor:
    """Norms, effective rank tr(G)^2 / ||G||_F^2 of the centred Gram matrix, and cosine similarities: (n, 8)."""
    norms = patches.norm(dim=-1)
    centred = patches - patches.mean(dim=1, keepdim=True)
    gram = centred @ centred.transpose(1, 2)
    trace = gram.diagonal(dim1=1, dim2=2).sum(-1)
    rank = trace**2 / gram.square().sum(dim=(1, 2)).clamp(min=_TINY)
    unit = functional.normalize(centred, dim=-1)
    cosine = unit @ unit.transpose(1, 2)
    side = round(patches.shape[1] ** 0.5)
    grid = unit.unflatten(1, (side, side))
    beside = (grid[:, :, 1:] * grid[:, :, :-1]).sum(-1).mean(dim=(1, 2))
    below = (grid[:, 1:] * grid[:, :-1]).sum(-1).mean(dim=(1, 2))
    places = torch.triu_indices(patches.shape[1], patches.shape[1], offset=1, device=patches.device)
    pairs = cosine[:, places[0], places[1]]
    return torch.stack(
        [
            *(norms.mean(-1), norms.std(-1), norms.amax(-1), rank),
            *(pairs.mean(-1), pairs.std(-1), _entropy(pairs), (beside + below) / 2),
        ],
        dim=1,
    )


def _entropy(cosines: Tensor) -> Tensor:
    """Bits of the histogram of similarities over [-1, 1]: (n,)."""
    bins = ((cosines + 1) / 2 * _SIMILARITY_BINS).long().clamp(0, _SIMILARITY_BINS - 1)
    own = bins + _SIMILARITY_BINS * torch.arange(len(bins), device=bins.device)[:, None]
    share = torch.bincount(own.flatten(), minlength=own[:, 0].numel() * _SIMILARITY_BINS).float()
    share = share.unflatten(0, (len(bins), _SIMILARITY_BINS)) / bins.shape[1]
    return -(share * share.clamp(min=_TINY).log2()).sum(-1)


def _band_energies(backbone: NestedLlava, encoded: LlavaImages) -> Tensor:
    """Logarithm of the energy that each rung adds to the one before it: (n, rungs).

    Where tokens are prefix-nested, the energy at m is the sum of squares of the first m tokens. Where they are averages
    of a grid, averaging is a projection, and the mean square at m is the share of the picture that m averages keep:
    what a rung adds is the detail lost between neighbouring scales.
    """
    ladder = backbone.ladder
    encoded.tokens(ladder[-1])  # prepared once; every smaller m is read off it
    squares = [encoded.tokens(m).float().square().sum(-1) for m in ladder]
    if backbone.connector.prefix_nested:
        energy = torch.stack([square.sum(-1) for square in squares], dim=1)
    else:
        energy = torch.stack([square.mean(-1) for square in squares], dim=1)
    added = torch.diff(energy, dim=1, prepend=torch.zeros_like(energy[:, :1]))
    return added.clamp(min=_TINY).log()
