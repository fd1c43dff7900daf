"""Questions and given answers read in one pass behind a cache: what stands where, who sees whom, what is told of whom.

Knows token ids and places. Knows no pictures, no m and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

Segments = Sequence[Sequence[int]]
_PADDING = 0
_QUESTION, _NOBODY = -1, -2  # owners of places, beside the numbers of segments


class Reading:
    """One forward over [question | segment | segment ...] behind a cache, everything at the positions it has alone.

    Segments are given answers and drafts. Each sees the cache, the question and itself, never another segment; of each
    all tokens but the last are read, for nothing is asked behind that one. Rows are padded on the right.
    """

    def __init__(
        self, length: int, suffixes: Sequence[Sequence[int]], segments: Sequence[Segments], device: torch.device
    ) -> None:
        self.length, self.segments = length, segments
        self._texts = [len(suffix) for suffix in suffixes]
        self.starts = [length + text for text in self._texts]  # position of each answer's first token
        drafted = [sum(len(segment) - 1 for segment in row) for row in segments]
        shape = len(suffixes), max(text + more for text, more in zip(self._texts, drafted, strict=True))
        ids, positions = np.full(shape, _PADDING), np.tile(length + np.arange(shape[1]), (shape[0], 1))
        self._owner = np.full(shape, _NOBODY)  # the question, or the number of a segment
        self._offsets: list[list[int]] = []
        for row, suffix in enumerate(suffixes):
            at = len(suffix)
            ids[row, :at], self._owner[row, :at] = suffix, _QUESTION
            self._offsets.append([])
            for k, segment in enumerate(segments[row]):
                self._offsets[row].append(at - len(suffix))
                own = slice(at, at + len(segment) - 1)
                ids[row, own], self._owner[row, own] = segment[:-1], k
                positions[row, own] = self.starts[row] + np.arange(len(segment) - 1)
                at = own.stop
        positions[self._owner == _NOBODY] = length  # dynamic angles follow the furthest place, so padding has none
        self.ids, self.positions = torch.tensor(ids, device=device), torch.tensor(positions, device=device)
        told = np.array(self._texts)[:, None] - 1 + np.arange(max(drafted) + 1)
        self._told = torch.tensor(np.minimum(told, shape[1] - 1), device=device)

    def told(self, hidden: Tensor) -> Tensor:
        """Of (B, S, D) what tells of answers, (B, places, D): from the last token of each question on."""
        return hidden.gather(1, self._told[:, :, None].expand(-1, -1, hidden.shape[2]))

    def path(self, row: int, segment: int | None) -> list[int]:
        """Where, counted from the last question token, each token of a segment is predicted; of none, the first one."""
        if segment is None:
            return [0]
        start = self._offsets[row][segment]
        return [0, *range(start + 1, start + len(self.segments[row][segment]))]

    def followed(self, row: int, choices: Sequence[int]) -> tuple[int | None, int]:
        """The segment that choices, one for each place, go furthest along, and how many of its tokens that is."""
        agreed = [self._agreed(row, k, choices) for k in range(len(self.segments[row]))]
        best = max(range(len(agreed)), key=agreed.__getitem__, default=None)
        return best, 0 if best is None else agreed[best]

    def _agreed(self, row: int, segment: int, choices: Sequence[int]) -> int:
        tokens = self.segments[row][segment]
        same = (choices[place] == token for place, token in zip(self.path(row, segment), tokens, strict=True))
        return sum(takewhile(bool, same))

    def scores(self, logprobs: Tensor, counts: Sequence[int]) -> list[np.ndarray]:
        """Log-probabilities of the first `counts[row]` segments of each row."""
        told = logprobs.cpu().numpy()
        return [
            np.array([told[row, self.path(row, k), self.segments[row][k]].sum(dtype=np.float64) for k in range(count)])
            for row, count in enumerate(counts)
        ]

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """Additive (B, 1, S, length + S); None where plain causal attention is the same."""
        if all(len(row) < 2 for row in self.segments):  # and padding stands behind all that is asked about
            return None
        mine, its = self._owner[:, :, None], self._owner[:, None, :]
        seen = ((its == mine) | (its == _QUESTION)) & (its != _NOBODY)
        seen &= np.tri(self._owner.shape[1], dtype=bool)
        whole = np.concatenate([np.ones((*seen.shape[:2], self.length), dtype=bool), seen], axis=2)
        additive = torch.zeros(whole.shape, dtype=dtype, device="cpu")  # whatever torch's default device is
        additive.masked_fill_(torch.from_numpy(~whole), torch.finfo(dtype).min)
        return additive[:, None].to(self.ids.device)

    def seen(self, row: int, segment: int | None, count: int) -> Tensor:
        """Which places of cache and pass, (length + S,) of 0 and 1, belong to `count` agreed tokens of a segment."""
        own = self._owner[row] == _QUESTION
        if segment is not None:
            start = self._texts[row] + self._offsets[row][segment]
            own[start : start + count] = True
        return torch.from_numpy(np.concatenate([np.ones(self.length, dtype=np.int64), own.astype(np.int64)]))
