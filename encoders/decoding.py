"""Token-by-token decoding on a key-value cache, greedy or sampled, and the checking of drafted answers.

Knows logits, caches and positions. Knows no pictures and no m.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from encoders.counts import finite_number, positive, whole_number
from encoders.errors import BackboneError, shown

_TOP = 3
_COLDEST, _HOTTEST = 1e-6, 1e6  # colder, logits divided by it overflow to NaN; hotter, nothing changes any more


@dataclass(frozen=True)
class Decoding:
    """How to choose tokens. Temperature 0 is greedy; from 1e-6 to 1e6 tokens are sampled from `seed`."""

    max_new_tokens: int
    end_token: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive("max_new_tokens", self.max_new_tokens)
        temperature, top_p = finite_number(self.temperature), finite_number(self.top_p)
        if not (temperature == 0 or _COLDEST <= temperature <= _HOTTEST):
            raise BackboneError(
                f"temperature must be a finite number, 0 for greedy or from {_COLDEST:g} to {_HOTTEST:g}, "
                f"was: {shown(self.temperature)}"
            )
        if not 0 < top_p <= 1:
            raise BackboneError(f"top_p must be in (0, 1], was: {shown(self.top_p)}")
        seed = whole_number(self.seed)
        if seed is None or not -(2**63) <= seed < 2**64:
            raise BackboneError(f"a seed must be a whole number of at most 64 bits, was: {shown(self.seed)}")
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "temperature", temperature)
        object.__setattr__(self, "top_p", top_p)

    def ended(self, answer: Decoded) -> bool:
        """Whether an answer has met its end token or its limit."""
        ids = answer.token_ids
        return len(ids) >= self.max_new_tokens or (bool(ids) and ids[-1] == self.end_token)

    def chooser(self, device: torch.device) -> Chooser:
        """A fresh chooser of tokens."""
        return Chooser(self, torch.Generator(device).manual_seed(self.seed) if self.temperature else None)


@dataclass
class Chooser:
    """Chooses one token a row; carries the random stream of a sampled decoding."""

    decoding: Decoding
    generator: torch.Generator | None
    warpers: LogitsProcessorList = field(init=False)

    def __post_init__(self) -> None:
        self.warpers = LogitsProcessorList()
        if self.decoding.temperature:
            self.warpers.append(TemperatureLogitsWarper(self.decoding.temperature))
        if self.decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(self.decoding.top_p))

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, V) -> token ids (B,)."""
        if self.generator is None:
            return logits.argmax(dim=-1)
        weights = self.warpers(torch.empty(0), logits.float()).softmax(dim=-1)
        return torch.multinomial(weights, 1, generator=self.generator)[:, 0]


@dataclass
class Decoded:
    """One row's answer while it grows."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: tuple[float, ...] = ()
    entropy: float = 0.0

    def add(self, token: int, logprob: float) -> None:
        """Append one token."""
        self.token_ids.append(token)
        self.logprobs.append(logprob)


def begun(logprobs: Tensor) -> list[Decoded]:
    """Answers without a token yet, and how sure the model is of the first: from log-probabilities (B, V)."""
    top = logprobs.topk(min(_TOP, logprobs.shape[1])).values.tolist()
    entropies = -(logprobs.exp() * logprobs).nansum(dim=1)
    return [Decoded(top_logprobs=tuple(own), entropy=h) for own, h in zip(top, entropies.tolist(), strict=True)]


def decode(
    language: nn.Module, cache: DynamicCache, logits: Tensor, mask: Tensor | None, place: Tensor, how: Decoding
) -> list[Decoded]:
    """Go on from a prefill.

    Args:
        language: a causal language model.
        cache: keys and values of the prompt; it grows.
        logits: (B, V), for the first new token.
        mask: (B, length) of 0 and 1 over the cache; None where every place counts.
        place: (B,) position id of the first new token.
        how: when to stop and how to choose.
    """
    choose = how.chooser(logits.device)
    logprobs = logits.float().log_softmax(-1)
    answers = begun(logprobs)
    tokens = choose(logits)
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    for answer, token, logprob in zip(answers, tokens.tolist(), chosen.tolist(), strict=True):
        answer.add(token, logprob)
    return resume(language, cache, tokens, mask, place, how, answers, choose)


def resume(
    language: nn.Module,
    cache: DynamicCache,
    tokens: Tensor,
    mask: Tensor | None,
    place: Tensor,
    how: Decoding,
    answers: list[Decoded],
    choose: Chooser,
) -> list[Decoded]:
    """As `decode`, from answers whose last tokens (B,), due at position `place`, the cache has not seen yet.

    Rows that have ended are dropped once they are half of all: the others go on without them, on a copy.
    """
    rows = answers
    while going := [row for row, answer in enumerate(rows) if not how.ended(answer)]:
        if 2 * len(going) <= len(rows):
            kept = torch.tensor(going, device=tokens.device)
            cache.batch_select_indices(kept)
            tokens, place, mask = tokens[kept], place[kept], None if mask is None else mask[kept]
            rows = [rows[row] for row in going]
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        out = language(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=place[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits, place = out.logits[:, -1], place + 1
        tokens = choose(logits)
        logprobs = logits.float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        for answer, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            if not how.ended(answer):
                answer.add(token, logprob)
    return answers
