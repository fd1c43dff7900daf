"""Work shared across m: one vision pass for all, and for prefix-nested tokens one key-value prefill too.

Nested tokens stand before the question and attention is causal, so the cache of [prompt, v1..vm] is the same for every
larger budget: it is cropped towards fewer tokens, extended towards more, and an answer at one m drafts the answer at
the next. Given answers are scored in the pass that reads the question, and draft it too. Token for token equal to
independent runs. Knows caches and m. Chooses no m.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from encoders.backbone import Generation
from encoders.cache import InPlaceLayer, new_cache
from encoders.decoding import Decoded, Decoding, begun
from encoders.errors import BudgetError, QuestionError
from encoders.reading import Reading, Segments
from encoders.unfinished import Unfinished

if TYPE_CHECKING:
    from encoders.encoded import LlavaImages
    from encoders.llava import NestedLlava

_TOLERANCE, _HALF_TOLERANCE = 1e-4, 2e-2  # of the self-check, in float32 and in 16 bits


class VisualPrefix:
    """A cache that holds [text before the picture, the first m visual tokens] of a batch; ask any number of questions.

    `extend` and `crop` change m: by sharing where that is exact (`shares`), by a fresh prefill where it is not. Where
    attention is not causal nothing can be held: every question is then run alone, with its picture.
    """

    @torch.inference_mode()
    def __init__(self, backbone: NestedLlava, encoded: LlavaImages, m: int) -> None:
        backbone.check_pictures(encoded)
        self._backbone, self._encoded = backbone, encoded
        self.m = backbone.check_m(m)
        self._cache = self._fresh(self.m)

    @property
    def length(self) -> int:
        """Places in the cache."""
        return int(self._cache.get_seq_length())

    @cached_property
    def _causal(self) -> bool:
        """Asked once: to compare weights at every rung would cost more than a crop."""
        return causal(self._backbone)

    def _fresh(self, m: int) -> DynamicCache:
        return _prefill(self._backbone, self._encoded.tokens(m)) if self._causal else DynamicCache()

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """What is read meanwhile is forgotten again, also where an error or an interrupt ends it halfway."""
        length = self.length
        try:
            yield
        finally:
            self._cut(length)

    def _cut(self, length: int) -> None:
        for layer in self._cache.layers:  # one by one: an interrupted pass has not reached all of them
            if (more := layer.get_seq_length() - length) > 0:
                layer.crop(-more)

    @torch.inference_mode()
    def crop(self, m: int) -> None:
        """Forget the visual tokens behind the first m.

        Raises:
            BudgetError: m is larger than what the cache holds.
        """
        if (fewer := self._backbone.check_m(m)) > self.m:
            raise BudgetError(f"a cache is cropped to at most its own m = {self.m}, was: {m}; use extend")
        self._change(fewer)

    @torch.inference_mode()
    def extend(self, m: int) -> None:
        """Add the visual tokens up to m; those already there are not computed again.

        Raises:
            BudgetError: m is smaller than what the cache holds.
        """
        if (more := self._backbone.check_m(m)) < self.m:
            raise BudgetError(f"a cache is extended to at least its own m = {self.m}, was: {m}; use crop")
        self._change(more)

    def _change(self, m: int) -> None:
        if m == self.m:
            return
        if not (self._causal and self._backbone.connector.prefix_nested):
            self._cache = self._fresh(m)
        elif m < self.m:
            self._cut(self.length - (self.m - m))
        else:
            length, more = self.length, self._encoded.tokens(m)[:, self.m :]
            try:
                self._backbone.language.model(inputs_embeds=more, past_key_values=self._cache, use_cache=True)
            except BaseException:
                self._cut(length)
                raise
        self.m = m

    def ask(
        self, questions: Sequence[str], max_new_tokens: int | None = None, drafts: Sequence[Sequence[int]] | None = None
    ) -> list[Generation]:
        """Answer one question per picture, greedily; the cache is left as it was.

        Drafted token ids are checked in the same pass as the question: where the model would have said the same, they
        cost no step of their own; where not, decoding goes on from the first difference.
        """
        return self.measure(questions, [()] * len(questions), max_new_tokens, drafts)[0]

    def measure(
        self,
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        max_new_tokens: int | None = None,
        drafts: Sequence[Sequence[int]] | None = None,
    ) -> tuple[list[Generation], list[np.ndarray]]:
        """`ask`, and the log-probability of any number of given answers to each question from the same pass.

        Returns:
            The generations, and per question a (number of its answers,) float64 of natural log-probabilities, end token
            included.
        """
        self._check_count("question", questions)
        self._check_count("list of answers", answers)
        if drafts is not None:
            self._check_count("draft", drafts)
        how = self._backbone.decoding(max_new_tokens)
        if not self._causal:
            return _alone(self._backbone, self._encoded, questions, answers, self.m, max_new_tokens)
        asked = _Asked(self._backbone, questions, answers)
        unfinished = Unfinished(self._backbone.language, how, enough=len(questions))  # none waits
        decoded, _, scores = self._begin(asked, how, drafts, unfinished)
        unfinished.finish()
        return asked.generations(decoded, self.m), scores

    @torch.inference_mode()
    def _begin(
        self, asked: _Asked, how: Decoding, drafts: Sequence[Sequence[int]] | None, unfinished: Unfinished
    ) -> tuple[list[Decoded], list[Sequence[int]], list[np.ndarray]]:
        """One pass: (answers, of which some may wait in `unfinished`; drafts for another m; log-probabilities)."""
        segments = asked.targets
        if drafts is not None:
            cut = [list(draft)[: how.max_new_tokens] for draft in drafts]
            new = [draft and draft not in row for row, draft in zip(segments, cut, strict=True)]
            segments = [[*row, draft] if own else row for row, draft, own in zip(segments, cut, new, strict=True)]
        with self._untouched():
            reading, logprobs = self._read(asked.suffixes, segments, how.max_new_tokens)
            answers, guesses = self._check(reading, logprobs, how, unfinished)
        return answers, guesses, reading.scores(logprobs, [len(row) for row in asked.targets])

    def _check_count(self, what: str, rows: Sequence[object]) -> None:
        if len(rows) != len(self._encoded):
            raise QuestionError(f"a cache of {len(self._encoded)} pictures takes one {what} each, was: {len(rows)}")

    def _read(
        self, suffixes: Sequence[Sequence[int]], segments: Sequence[Segments], new_tokens: int
    ) -> tuple[Reading, Tensor]:
        """Append questions with their segments to the cache; log-probabilities from each last question token on."""
        backbone, language = self._backbone, self._backbone.language
        longest = [max([new_tokens, *map(len, row)]) for row in segments]
        backbone.check_length(self.length + max(len(s) + more for s, more in zip(suffixes, longest, strict=True)))
        reading = Reading(self.length, suffixes, segments, backbone.device)
        hidden = language.model(
            inputs_embeds=backbone.embed(reading.ids),
            attention_mask=reading.mask(backbone.dtype),
            position_ids=reading.positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        logprobs: Tensor = language.lm_head(reading.told(hidden)).float().log_softmax(-1)
        return reading, logprobs

    def _check(
        self, reading: Reading, logprobs: Tensor, how: Decoding, unfinished: Unfinished
    ) -> tuple[list[Decoded], list[Sequence[int]]]:
        """Follow in each row the segment that the model itself would have said furthest; what is open waits.

        Returns:
            The answers, and what each may be at another m: itself; where it waits, as if it went on like that segment.
        """
        best = logprobs.max(dim=-1)
        choices, values = best.indices.tolist(), best.values.tolist()
        followed = [reading.followed(row, own) for row, own in enumerate(choices)]
        answers = begun(logprobs[:, 0])
        for row, (segment, count) in enumerate(followed):
            for place in reading.path(row, segment)[: count + 1]:
                answers[row].add(choices[row][place], values[row][place])
                if how.ended(answers[row]):
                    break
        if rows := [row for row, answer in enumerate(answers) if not how.ended(answer)]:
            read = [len(answers[row].token_ids) - 1 for row in rows]
            masks = [reading.seen(row, followed[row][0], count) for row, count in zip(rows, read, strict=True)]
            places = [reading.starts[row] + count for row, count in zip(rows, read, strict=True)]
            unfinished.add(self._cache, rows, masks, places, [answers[row] for row in rows])
        guesses: list[Sequence[int]] = [answer.token_ids for answer in answers]
        for row, (segment, _) in enumerate(followed):
            if segment is not None and not how.ended(answers[row]):
                guesses[row] = [*guesses[row], *reading.segments[row][segment][len(guesses[row]) :]]
        return answers, guesses

    def score(self, questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Log-probability of each given answer and its end token, (n,) float64; the cache is left as it was."""
        self._check_count("question", questions)
        self._check_count("answer", answers)
        if not self._causal:
            return self._backbone.score(self._encoded, questions, answers, self.m)
        return self._score(_Asked(self._backbone, questions, [[answer] for answer in answers]))

    @torch.inference_mode()
    def _score(self, asked: _Asked) -> np.ndarray:
        with self._untouched():
            reading, logprobs = self._read(asked.suffixes, asked.targets, 0)
        return np.concatenate(reading.scores(logprobs, [1] * len(asked.targets)))


@dataclass
class _Asked:
    """Questions and given answers; their token ids are told once for all m, and only where they are read."""

    backbone: NestedLlava
    questions: Sequence[str]
    answers: Sequence[Sequence[str]]

    @cached_property
    def suffixes(self) -> list[list[int]]:
        return [self.backbone.suffix_ids(question) for question in self.questions]

    @cached_property
    def targets(self) -> list[list[list[int]]]:
        return [[self.backbone.answer_ids(answer) for answer in row] for row in self.answers]

    def generations(self, decoded: Sequence[Decoded], m: int) -> list[Generation]:
        """What was decoded at this m, one answer to each question."""
        texts = [len(self.backbone.prefix_ids) + len(suffix) for suffix in self.suffixes]
        return [self.backbone.generation(answer, m, text) for answer, text in zip(decoded, texts, strict=True)]


def extend(prefix: VisualPrefix, m: int) -> VisualPrefix:
    """The same prefix, grown to m at the price of the visual tokens it lacks.

    For escalation: ask with few tokens, and where the answer is not sure enough, `extend(prefix, 64).ask(questions)`.

    Raises:
        BudgetError: m is smaller than what the prefix holds, or not allowed.
    """
    prefix.extend(m)
    return prefix


def answer_ladder(
    backbone: NestedLlava,
    encoded: LlavaImages,
    questions: Sequence[str],
    ladder: Sequence[int],
    max_new_tokens: int | None,
) -> list[list[Generation]]:
    """Greedy answers at every m of the ladder: one list per question, in the ladder's order."""
    return measure_ladder(backbone, encoded, questions, [()] * len(questions), ladder, max_new_tokens)[0]


def measure_ladder(
    backbone: NestedLlava,
    encoded: LlavaImages,
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    ladder: Sequence[int],
    max_new_tokens: int | None,
) -> tuple[list[list[Generation]], list[np.ndarray]]:
    """Greedy answers, and log-probabilities of given ones, at every m: (n lists of k, n of (answers, k) float64)."""
    if causal(backbone):
        asked, how = _Asked(backbone, questions, answers), backbone.decoding(max_new_tokens)
        # more would leave fewer whole drafts for the next m, fewer fill a step of decoding badly (docs/log.md)
        unfinished = Unfinished(backbone.language, how, enough=len(questions) // 2)
        parts: dict[int, tuple[list[Decoded], list[np.ndarray]]] = {}
        drafts: list[Sequence[int]] | None = None
        for k, prefix in _descending(backbone, encoded, ladder):
            decoded, drafts, scores = prefix._begin(asked, how, drafts, unfinished)
            parts[k] = decoded, scores
        unfinished.finish()
        found = [(asked.generations(parts[k][0], m), parts[k][1]) for k, m in enumerate(ladder)]
    else:
        found = [_alone(backbone, encoded, questions, answers, m, max_new_tokens) for m in ladder]
    rows = range(len(questions))
    scores = [np.stack([own[row] for _, own in found], axis=1) for row in rows]
    return [[said[row] for said, _ in found] for row in rows], scores


def _descending(
    backbone: NestedLlava, encoded: LlavaImages, ladder: Sequence[int]
) -> Iterator[tuple[int, VisualPrefix]]:
    """(place in the ladder, the prefix at that m), from the largest m down."""
    order = sorted(range(len(ladder)), key=lambda k: -ladder[k])
    prefix = VisualPrefix(backbone, encoded, ladder[order[0]])
    for k in order:
        prefix.crop(ladder[k])
        yield k, prefix


def _alone(
    backbone: NestedLlava,
    encoded: LlavaImages,
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    m: int,
    max_new_tokens: int | None,
) -> tuple[list[Generation], list[np.ndarray]]:
    """`VisualPrefix.measure` without a prefix: independent runs."""
    generations = backbone.generate(encoded, questions, m, max_new_tokens)
    pairs = [(row, answer) for row, own in enumerate(answers) for answer in own]
    if not pairs:
        return generations, [np.empty(0) for _ in answers]
    rows = [row for row, _ in pairs]
    asked, said = [questions[row] for row in rows], [answer for _, answer in pairs]
    scores = backbone.score(encoded.select(rows), asked, said, m)
    return generations, [scores[[k for k, owner in enumerate(rows) if owner == row]] for row in range(len(questions))]


def score_ladder(
    backbone: NestedLlava, encoded: LlavaImages, questions: Sequence[str], answers: Sequence[str], ladder: Sequence[int]
) -> np.ndarray:
    """Log-probabilities of given answers at every m: (n, len(ladder)) float64."""
    if not shares(backbone):
        return np.stack([backbone.score(encoded, questions, answers, m) for m in ladder], axis=1)
    scores = np.empty((len(questions), len(ladder)))
    asked = _Asked(backbone, questions, [[answer] for answer in answers])
    for k, prefix in _descending(backbone, encoded, ladder):
        scores[:, k] = prefix._score(asked)
    return scores


def shares(backbone: NestedLlava) -> bool:
    """Whether one prefill serves every m of this backbone: tokens are prefix-nested and attention is causal."""
    return backbone.connector.prefix_nested and causal(backbone)


def causal(backbone: NestedLlava) -> bool:
    """Whether what stands first in a prompt is computed without what follows.

    A self-check, run once for given weights and attention, compares on random patches the cache of few tokens with the
    head of the cache of many: attention that looks ahead among visual tokens fails it, and no cache is then gone on
    from.
    """
    version = backbone.weights_version, _attention(backbone)
    if backbone.sharing is None or backbone.sharing[0] != version:
        backbone.sharing = version, _head_equals_fresh(backbone)
    return backbone.sharing[1]


def _attention(backbone: NestedLlava) -> tuple[object, ...]:
    """What decides who attends to whom, as far as it can be told without running it."""
    model = backbone.language.model
    layers = [(getattr(layer.self_attn, "is_causal", None), layer.self_attn.forward) for layer in model.layers]
    config = model.config
    return config._attn_implementation, getattr(config, "is_causal", None), model.forward, *layers


def _head_equals_fresh(backbone: NestedLlava) -> bool:
    """Relative to the largest key or value: rounding stays far below the tolerance, looking ahead far above."""
    noise = torch.randn(1, *backbone.patches_shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    with torch.autocast(backbone.device.type, enabled=False):  # whoever asks under it is not to settle it for all
        tokens = backbone.from_patches(noise.to(backbone.device, backbone.dtype)).tokens(backbone.ladder[-1])
        if tokens.shape[1] == 1:  # a ladder of m = 1 alone still allows more, and one token looks nowhere
            tokens = torch.cat([tokens, tokens], dim=1)
        few, many = _prefill(backbone, tokens[:, :1]), _prefill(backbone, tokens)
    tolerance, length = _TOLERANCE if backbone.dtype == torch.float32 else _HALF_TOLERANCE, few.get_seq_length()
    pairs = zip(few.layers, many.layers, strict=True)
    # other layers (sliding windows) forget what they do not need, and cannot be cropped
    return all(isinstance(layer, InPlaceLayer) for layer in few.layers) and all(
        float((mine - its[:, :, :length]).abs().max() / its.abs().max()) < tolerance
        for small, large in pairs
        for mine, its in ((small.keys, large.keys), (small.values, large.values))
    )


@torch.inference_mode()
def _prefill(backbone: NestedLlava, tokens: Tensor) -> DynamicCache:
    """A cache of [text before the picture, visual tokens (n, m, D)]."""
    cache = new_cache(backbone.language.config)
    start = backbone.embed(torch.tensor([backbone.prefix_ids] * len(tokens), device=backbone.device))
    backbone.language.model(inputs_embeds=torch.cat([start, tokens], dim=1), past_key_values=cache, use_cache=True)
    return cache
