"""Visual features: what pixels, patches, bands of nested tokens and a question's words say, for whoever chooses m.

One function, offline in a sweep and online in an answer; it costs no vision pass of its own. Knows pictures, encoded
pictures and the words asked about them. Knows no score.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from encoders import pixels
from encoders.errors import ImageError, QuestionError
from encoders.prompts import check_question

if TYPE_CHECKING:
    from encoders.encoded import LlavaImages
    from encoders.llava import NestedLlava

VERSION = 3
_PATCHES = (
    *("norm_mean", "norm_std", "norm_max", "effective_rank"),
    *("similarity_mean", "similarity_std", "similarity_entropy", "neighbour_similarity"),
)
_MATCH = (
    *("most", "mean", "spread", "least_entropy", "mean_entropy"),
    *("peak", "covered_mean", "covered_spread"),
)
_EVERY = 2  # of rows and columns of patches are compared with each other: a sixteenth of the work, the same statistics
_SIMILARITY_BINS = 16
_SHARPNESS = 8.0  # of the softmax that says where in the picture a word is at home
_TINY = 1e-12
_TYPICAL = "what number is written"  # the question that costs by question are counted on
GROUPS = ("pixels", "patches", "bands", "pooled", "match")


def feature_names(backbone: NestedLlava, groups: Collection[str] = GROUPS) -> tuple[str, ...]:
    """The columns of `visual_features`; what stands before the first underscore is a column's group."""
    columns: dict[str, Sequence[object]] = {
        "pixels": pixels.NAMES,
        "patches": _PATCHES,
        "bands": backbone.ladder,
        "pooled": range(backbone.patches_shape[1]),
        "match": _MATCH,
    }
    return tuple(f"{group}_{name}" for group in GROUPS if group in groups for name in columns[group])


def visual_features(
    backbone: NestedLlava,
    encoded: LlavaImages,
    questions: Sequence[str],
    statistics: Sequence[np.ndarray] | None = None,
    groups: Collection[str] = GROUPS,
) -> np.ndarray:
    """Features of n questions about n encoded pictures: (n, d) float32, columns as `feature_names` says.

    Args:
        backbone: whose ladder bounds the bands.
        encoded: n pictures after the vision pass.
        questions: n texts.
        statistics: n rows of `encoders.pixels.pixel_statistics`; None to take them from the encoded pictures.
        groups: which of `GROUPS`; what is not asked for is not computed.

    Raises:
        ImageError: no statistics are given and the pictures are not at hand.
    """
    if statistics is None and "pixels" in groups:
        if encoded.pictures is None:
            raise ImageError("features need the pictures' pixels, was: patches alone; encode the pictures, or give m")
        statistics = [pixels.pixel_statistics(picture) for picture in encoded.pictures]
    shown = picture_features(backbone, encoded, statistics or [], groups)
    return np.concatenate([shown, match_features(backbone, encoded, questions)], axis=1) if "match" in groups else shown


@torch.inference_mode()
def picture_features(
    backbone: NestedLlava, encoded: LlavaImages, statistics: Sequence[np.ndarray], groups: Collection[str] = GROUPS
) -> np.ndarray:
    """The columns that no question changes, (n, d) float32: once per picture, however many are asked about it."""
    patches = encoded.patches.float()
    makers: dict[str, Callable[[], Tensor]] = {
        "patches": lambda: _patch_statistics(patches),
        "bands": lambda: _band_energies(backbone, encoded),
        "pooled": lambda: patches.mean(dim=1),
    }
    parts = [make().cpu().numpy() for group, make in makers.items() if group in groups]
    if "pixels" in groups:
        parts.insert(0, np.stack(statistics))
    return np.concatenate([np.empty((len(patches), 0)), *parts], axis=1, dtype=np.float32)


@torch.inference_mode()
def match_features(backbone: NestedLlava, encoded: LlavaImages, questions: Sequence[str]) -> np.ndarray:
    """Where a question's words are at home in the picture, (n, 8) float32.

    Cosines of the words' embeddings with the nested tokens at the top of the ladder, in the language model's embedding
    space, both centred: the largest, mean and spread of the words' best cosines; entropies in nats of where each word
    is at home, their least and their mean; how far a best cosine stands out; how well tokens are covered by words.

    Raises:
        QuestionError: a question that could not be asked, or not one for each picture.
    """
    table = backbone.language.get_input_embeddings().weight
    centre = table.mean(dim=0).float()
    asked = [table[backbone.text_ids(check_question(question))].float() - centre for question in questions]
    tokens = encoded.tokens(backbone.ladder[-1]).float()
    if len(asked) != len(tokens):
        raise QuestionError(
            f"each question needs its picture, was: {len(asked)} questions for {len(tokens)} pictures; "
            "use encoded.select"
        )
    words = functional.normalize(pad_sequence(asked, batch_first=True), dim=-1)
    lengths = torch.tensor([len(own) for own in asked], device=words.device)
    there = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
    cosines = words @ functional.normalize(tokens - tokens.mean(dim=1, keepdim=True), dim=-1).transpose(1, 2)
    best, covered = cosines.amax(dim=2), cosines.masked_fill(~there[:, :, None], -torch.inf).amax(dim=1)
    home = torch.softmax(cosines * _SHARPNESS, dim=2)
    entropy = -(home * home.clamp(min=_TINY).log()).sum(dim=2)

    def mean(values: Tensor) -> Tensor:
        return (values * there).sum(dim=1) / lengths

    def most(values: Tensor) -> Tensor:
        return values.masked_fill(~there, -torch.inf).amax(dim=1)

    columns = [
        *(most(best), mean(best), mean((best - mean(best)[:, None]).square()).sqrt()),
        *(-most(-entropy), mean(entropy), most(best - cosines.mean(dim=2))),
        *(covered.mean(dim=1), covered.std(dim=1, unbiased=False)),
    ]
    return torch.stack(columns, dim=1).cpu().numpy()


def _patch_statistics(patches: Tensor) -> Tensor:
    """Norms, effective rank, cosine similarities and how like neighbours are: (n, 8).

    The rank is tr(G)^2 / ||G||_F^2 of the centred Gram matrix G of every second row and column, the similarities are
    those of the same patches.
    """
    norms = patches.norm(dim=-1)
    side = round(patches.shape[1] ** 0.5)
    grid = (patches - patches.mean(dim=1, keepdim=True)).unflatten(1, (side, side))
    few = grid[:, ::_EVERY, ::_EVERY].flatten(1, 2)
    gram = few @ few.transpose(1, 2)
    energy = gram.diagonal(dim1=1, dim2=2)
    rank = energy.sum(-1) ** 2 / gram.square().sum(dim=(1, 2)).clamp(min=_TINY)
    length = energy.clamp(min=_TINY).sqrt()
    cosine = gram / (length[:, :, None] * length[:, None])
    unit = functional.normalize(grid, dim=-1)
    beside = (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1).mean(dim=(1, 2))
    below = (unit[:, 1:] * unit[:, :-1]).sum(-1).mean(dim=(1, 2))
    places = torch.triu_indices(few.shape[1], few.shape[1], offset=1, device=patches.device)
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


def tflops(backbone: NestedLlava) -> dict[str, float]:
    """By group, the matrix products that looking at one question's picture takes beside an answer's own, in 10^12.

    Bands and matches need the connector at the top of the ladder, of which an answer at the smallest m pays its part;
    both are charged the rest, so that their sum is a bound. A probe, a pass at a small m, is counted by token of its
    prompt; its connector every answer pays anyway. Groups that are not named take no matrix product.
    """
    patches = torch.zeros(1, *backbone.patches_shape, dtype=backbone.dtype, device=backbone.device)
    backbone.from_patches(patches).tokens(backbone.ladder[-1])  # what is prepared once per process is nobody's cost

    def counted(made: Callable[[LlavaImages], object]) -> float:
        from torch.utils.flop_counter import FlopCounterMode

        encoded = backbone.from_patches(patches)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            made(encoded)
        return float(counter.get_total_flops()) / 1e12

    least = counted(lambda encoded: encoded.tokens(backbone.ladder[0]))
    return {
        "patches": counted(lambda encoded: _patch_statistics(encoded.patches.float())),
        "bands": counted(lambda encoded: _band_energies(backbone, encoded)) - least,
        "match": counted(lambda encoded: match_features(backbone, encoded, [_TYPICAL])) - least,
        "probe": _prefill_tflops_by_token(backbone),
    }


def _prefill_tflops_by_token(backbone: NestedLlava) -> float:
    """Of a short prompt; what attention adds with its length is a few parts in a thousand."""
    visual, text = backbone.ladder[0], backbone.text_tokens(_TYPICAL)
    return backbone.counted_cost(visual, text, new_tokens=1).prefill_tflops / (visual + text)
