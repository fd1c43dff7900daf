"""Answers that passes left open, decoded together: a step takes little longer for ten rows than for one.

Knows rows of caches and decoding. Knows no question and no m.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from encoders.cache import Rows, select, stacked
from encoders.decoding import Decoded, Decoding, resume


class Unfinished:
    """Waits until more than `enough` rows are there, and decodes them then, or when it is told to `finish`."""

    def __init__(self, language: nn.Module, how: Decoding, enough: int) -> None:
        self._language, self._how, self._enough = language, how, enough
        self._clear()

    def _clear(self) -> None:
        self._rows: list[Rows] = []
        self._masks: list[Tensor] = []
        self._places: list[int] = []
        self._answers: list[Decoded] = []

    def add(
        self,
        cache: DynamicCache,
        rows: Sequence[int],
        masks: Sequence[Tensor],
        places: Sequence[int],
        answers: Sequence[Decoded],
    ) -> None:
        """Take over answers, which grow in place, now or later.

        Args:
            cache: what was read before their last tokens; copied, so that it may change.
            rows: in the cache, one for each answer.
            masks: of each (length of the cache,) of 0 and 1: the places that count.
            places: of each, the position of its last token.
            answers: each with at least one token.
        """
        self._rows.append(select(cache, rows))
        self._masks += masks
        self._places += places
        self._answers += answers
        if len(self._answers) > self._enough:
            self.finish()

    @torch.inference_mode()
    def finish(self) -> None:
        """Decode every answer that waits to its end."""
        if not self._answers:
            return
        mask, answers, places = pad_sequence(self._masks, batch_first=True), self._answers, self._places
        cache = stacked(self._rows)
        self._clear()
        device = cache.layers[0].keys.device
        tokens = torch.tensor([answer.token_ids[-1] for answer in answers], device=device)
        place, choose = torch.tensor(places, device=device), self._how.chooser(device)
        resume(self._language, cache, tokens, mask.to(device), place, self._how, answers, choose)
