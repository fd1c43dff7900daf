"""Work shared across m: one vision pass for all, and for prefix-nested tokens one key-value prefill too.

Nested tokens stand before the question and attention is causal, so the cache of [prompt, v1..vm] is the same for every
larger budget: it is cropped towards fewer tokens, extended towards more, and an answer at one m drafts the answer at
the next. Token for token equal to independent runs. Knows caches and m. Chooses no m.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from encoders.backbone import Generation
from encoders.decoding import Decoded, Decoding, resume
from encoders.errors import BudgetError, QuestionError

if TYPE_CHECKING:
    from encoders.llava import LlavaImages, NestedLlava

_TOLERANCE, _HALF_TOLERANCE = 1e-4, 2e-2  # of the self-check, in float32 and in 16 bits
_PADDING = 0


class VisualPrefix:
    """A cache that holds [text before the picture, the first m visual tokens] of a batch; ask any number of questions.

    `extend` and `crop` change m: by sharing where that is exact (`shares`), by a fresh prefill where it is not.
    """

    @torch.inference_mode()
    def __init__(self, backbone: NestedLlava, encoded: LlavaImages, m: int) -> None:
        backbone.check_pictures(encoded)
        self._backbone, self._encoded = backbone, encoded
        self.m = backbone.check_m(m)
        self._shared: bool | None = None  # asked when m first changes: the self-check itself builds prefixes
        self._fill()

    def _fill(self) -> None:
        backbone = self._backbone
        self._cache = DynamicCache(config=backbone.language.config)
        start = backbone.embed(torch.tensor([backbone.prefix_ids] * len(self._encoded), device=backbone.device))
        self._append(torch.cat([start, self._encoded.tokens(self.m)], dim=1))

    @property
    def length(self) -> int:
        """Places in the cache."""
        return int(self._cache.get_seq_length())

    def _append(self, embeds: Tensor) -> None:
        self._backbone.language.model(inputs_embeds=embeds, past_key_values=self._cache, use_cache=True)

    def _drop(self, places: int) -> None:
        if places:
            self._cache.crop(-places)

    @torch.inference_mode()
    def crop(self, m: int) -> None:
        """Forget the visual tokens behind the first m.

        Raises:
            BudgetError: m is larger than what the cache holds.
        """
        if self._backbone.check_m(m) > self.m:
            raise BudgetError(f"a cache is cropped to at most its own m = {self.m}, was: {m}; use extend")
        self._change(m)

    @torch.inference_mode()
    def extend(self, m: int) -> None:
        """Add the visual tokens up to m; those already there are not computed again.

        Raises:
            BudgetError: m is smaller than what the cache holds.
        """
        if self._backbone.check_m(m) < self.m:
            raise BudgetError(f"a cache is extended to at least its own m = {self.m}, was: {m}; use crop")
        self._change(m)

    def _change(self, m: int) -> None:
        before, self.m = self.m, m
        if m == before:
            return
        if self._shared is None:
            self._shared = shares(self._backbone)
        if not self._shared:
            self._fill()
        elif m < before:
            self._drop(before - m)
        else:
            self._append(self._encoded.tokens(m)[:, before:])

    @torch.inference_mode()
    def ask(
        self, questions: Sequence[str], max_new_tokens: int | None = None, drafts: Sequence[Sequence[int]] | None = None
    ) -> list[Generation]:
        """Answer one question per picture, greedily; the cache is left as it was.

        Drafted token ids are checked in the same pass as the question: where the model would have said the same, they
        cost no step of their own; where not, decoding goes on from the first difference.
        """
        backbone = self._backbone
        self._check_count("question", questions)
        if drafts is not None:
            self._check_count("draft", drafts)
        how = backbone.decoding(max_new_tokens)
        suffixes = [backbone.suffix_ids(question) for question in questions]
        drafts = [list(draft)[: how.max_new_tokens] for draft in drafts] if drafts else [[] for _ in questions]
        backbone.check_length(self.length + max(len(suffix) for suffix in suffixes) + how.max_new_tokens)
        pass_ = _Pass(self.length, suffixes, drafts, backbone.device)
        logprobs = self._logprobs(pass_)
        answers = self._check(pass_, logprobs, how)
        self._drop(pass_.ids.shape[1])
        text_tokens = [len(backbone.prefix_ids) + len(suffix) for suffix in suffixes]
        return [
            backbone.generation(answer, self.m, tokens) for answer, tokens in zip(answers, text_tokens, strict=True)
        ]

    def _check_count(self, what: str, rows: Sequence[object]) -> None:
        if len(rows) != len(self._encoded):
            raise QuestionError(f"a cache of {len(self._encoded)} pictures takes one {what} each, was: {len(rows)}")

    def _logprobs(self, pass_: _Pass) -> Tensor:
        """Append a pass to the cache; log-probabilities from the last question token on, (B, drafted + 1, V)."""
        language = self._backbone.language
        hidden = language.model(
            inputs_embeds=self._backbone.embed(pass_.ids),
            attention_mask=pass_.mask,
            position_ids=pass_.positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        logprobs: Tensor = language.lm_head(hidden[:, pass_.width - 1 :]).float().log_softmax(-1)
        return logprobs

    def _check(self, pass_: _Pass, logprobs: Tensor, how: Decoding) -> list[Decoded]:
        """Accept each draft up to its first difference, then decode what is still open."""
        best = logprobs.max(dim=-1)
        choices, values = best.indices.tolist(), best.values.tolist()
        answers, accepted = [], []
        for row, draft in enumerate(pass_.drafts):
            answer = Decoded()
            answer.start(logprobs[row, 0])
            for column in range(len(draft) + 1):
                answer.add(choices[row][column], values[row][column])
                if how.ended(answer) or column == len(draft) or choices[row][column] != draft[column]:
                    break
            answers.append(answer)
            accepted.append(len(answer.token_ids) - 1)
        rows = [row for row, answer in enumerate(answers) if not how.ended(answer)]
        if rows:
            self._finish(pass_, rows, accepted, answers, how)
        return answers

    def _finish(
        self, pass_: _Pass, rows: list[int], accepted: list[int], answers: list[Decoded], how: Decoding
    ) -> None:
        """Decode the open rows on a copy of their part of the cache; rejected draft places are masked."""
        cache = DynamicCache([(layer.keys[rows], layer.values[rows]) for layer in self._cache.layers])
        device = self._backbone.device
        mask = torch.ones(len(rows), self.length, dtype=torch.long, device=device)
        if pass_.mask is not None:
            mask = pass_.mask[rows]
        start = mask.shape[1] - (pass_.ids.shape[1] - pass_.width)
        for k, row in enumerate(rows):
            mask[k, start + accepted[row] :] = 0
        tokens = torch.tensor([answers[row].token_ids[-1] for row in rows], device=device)
        place = torch.tensor([pass_.starts[row] + accepted[row] for row in rows], device=device)
        choose = how.chooser(device)
        resume(self._backbone.language, cache, tokens, mask, place, how, [answers[row] for row in rows], choose)

    @torch.inference_mode()
    def score(self, questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Log-probability of each given answer and its end token, (n,) float64; the cache is left as it was."""
        backbone = self._backbone
        self._check_count("question", questions)
        self._check_count("answer", answers)
        suffixes = [backbone.suffix_ids(question) for question in questions]
        targets = [backbone.answer_ids(answer) for answer in answers]
        backbone.check_length(self.length + max(len(s) + len(t) for s, t in zip(suffixes, targets, strict=True)))
        pass_ = _Pass(self.length, suffixes, targets, backbone.device)
        logprobs = self._logprobs(pass_)
        self._drop(pass_.ids.shape[1])
        return np.array(
            [float(logprobs[row, range(len(target)), target].double().sum()) for row, target in enumerate(targets)]
        )


class _Pass:
    """One forward over [question | draft]: questions padded on the left, drafts on the right, positions as if alone."""

    def __init__(
        self, length: int, suffixes: Sequence[Sequence[int]], drafts: Sequence[Sequence[int]], device: torch.device
    ) -> None:
        self.width = max(len(suffix) for suffix in suffixes)
        self.drafts = drafts
        self.starts = [length + len(suffix) for suffix in suffixes]  # position of each answer's first token
        drafted = max(len(draft) for draft in drafts)
        rows, mask, positions = [], [], []
        for suffix, draft in zip(suffixes, drafts, strict=True):
            left, right = self.width - len(suffix), drafted - len(draft)
            rows.append([_PADDING] * left + list(suffix) + list(draft) + [_PADDING] * right)
            mask.append([1] * length + [0] * left + [1] * (len(suffix) + len(draft)) + [0] * right)
            positions.append([length] * left + [length + k for k in range(len(suffix) + drafted)])
        self.ids = torch.tensor(rows, device=device)
        full = all(0 not in row for row in mask)
        self.mask = None if full else torch.tensor(mask, device=device)
        self.positions = torch.tensor(positions, device=device)


def answer_ladder(
    backbone: NestedLlava,
    encoded: LlavaImages,
    questions: Sequence[str],
    ladder: Sequence[int],
    max_new_tokens: int | None,
) -> list[list[Generation]]:
    """Greedy answers at every m of the ladder: one list per question, in the ladder's order."""
    if not shares(backbone):
        by_m = [backbone.generate(encoded, questions, m, max_new_tokens) for m in ladder]
        return [list(row) for row in zip(*by_m, strict=True)]
    order = sorted(range(len(ladder)), key=lambda k: -ladder[k])
    prefix = VisualPrefix(backbone, encoded, ladder[order[0]])
    found: dict[int, list[Generation]] = {}
    drafts: list[tuple[int, ...]] | None = None
    for k in order:
        prefix.crop(ladder[k])
        found[k] = prefix.ask(questions, max_new_tokens, drafts)
        drafts = [generation.token_ids for generation in found[k]]
    return [[found[k][row] for k in range(len(ladder))] for row in range(len(questions))]


def score_ladder(
    backbone: NestedLlava, encoded: LlavaImages, questions: Sequence[str], answers: Sequence[str], ladder: Sequence[int]
) -> np.ndarray:
    """Log-probabilities of given answers at every m: (n, len(ladder)) float64."""
    if not shares(backbone):
        return np.stack([backbone.score(encoded, questions, answers, m) for m in ladder], axis=1)
    scores = np.empty((len(questions), len(ladder)))
    order = sorted(range(len(ladder)), key=lambda k: -ladder[k])
    prefix = VisualPrefix(backbone, encoded, ladder[order[0]])
    for k in order:
        prefix.crop(ladder[k])
        scores[:, k] = prefix.score(questions, answers)
    return scores


def shares(backbone: NestedLlava) -> bool:
    """Whether one prefill serves every m of this backbone.

    Tokens must be prefix-nested; and a self-check, run once for given weights, compares on random patches the cache of
    few tokens with the head of the cache of many: attention that looks ahead among visual tokens fails it, and work is
    then not shared.
    """
    if not backbone.connector.prefix_nested:
        return False
    version = backbone.weights_version
    if backbone.sharing is None or backbone.sharing[0] != version:
        backbone.sharing = version, _head_equals_fresh(backbone)
    return backbone.sharing[1]


def _head_equals_fresh(backbone: NestedLlava) -> bool:
    """Relative to the largest key or value: rounding stays far below the tolerance, looking ahead far above."""
    noise = torch.randn(1, *backbone.patches_shape, generator=torch.Generator().manual_seed(0))
    encoded = backbone.from_patches(noise.to(backbone.device, backbone.dtype))
    many = max(backbone.ladder[-1], 2) if backbone.allows(2) else 1
    few, all_of_it = VisualPrefix(backbone, encoded, 1), VisualPrefix(backbone, encoded, many)
    tolerance = _TOLERANCE if backbone.dtype == torch.float32 else _HALF_TOLERANCE
    pairs = zip(few._cache.layers, all_of_it._cache.layers, strict=True)
    return all(
        float((mine - its[:, :, : few.length]).abs().max() / its.abs().max()) < tolerance
        for small, large in pairs
        for mine, its in ((small.keys, large.keys), (small.values, large.values))
    )
