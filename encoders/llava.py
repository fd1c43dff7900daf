"""NestedLlava: CLIP tower, nested connector and LLaMA, spliced through `inputs_embeds`.

Composed of stock transformers models, not a subclass of one (a subclass loads random weights in silence). The tower's
features are hidden_states[-2] without CLS, as LLaVA-1.5 takes them; the layers behind them are never built. Spends m
visual tokens; does not choose m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerBase as Tokenizer

from encoders import prefix
from encoders.backbone import Generation, check_m
from encoders.cache import new_cache
from encoders.config import LlavaConfig
from encoders.connector import Connector
from encoders.cost import Cost, LanguageShape, LatencyProfile, VisionShape, answer_cost
from encoders.counts import positive
from encoders.decoding import Decoded, Decoding, decode
from encoders.encoded import LlavaImages
from encoders.errors import BackboneError, BudgetError, ImageError, QuestionError, shown
from encoders.images import ImageSource, Preparation, is_one_picture, open_image
from encoders.m3 import MatryoshkaPooling
from encoders.mqt import MatryoshkaQueryTransformer
from encoders.prompts import check_list, check_question, check_unicode, template
from encoders.sampling import METHODS, SampledProjection
from encoders.splice import SplicedBatch
from encoders.weights import digest, held, version


def _connector(config: LlavaConfig, patches: int, width: int, out_width: int) -> Connector:
    kind = config.connector.get("type")
    if kind == "mqt":
        return MatryoshkaQueryTransformer(
            width, out_width, config.connector["num_queries"], config.connector["num_heads"]
        )
    if kind == "m3":
        return MatryoshkaPooling(width, out_width, patches)
    if kind not in METHODS:
        raise BackboneError(f"connector.type must be one of {sorted([*METHODS, 'm3', 'mqt'])}, was: {shown(kind)}")
    return SampledProjection(width, out_width, patches, kind)


class NestedLlava(nn.Module):
    """A nested backbone (contract: `encoders.backbone.NestedBackbone`); `encoders.loading.load` builds one."""

    def __init__(self, config: LlavaConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        vision, language = CLIPVisionConfig(**config.vision), LlamaConfig(**config.language)
        vision.return_dict = language.return_dict = True  # what is read of their outputs has names
        vision.num_hidden_layers += 1 + config.feature_layer
        if vision.num_hidden_layers < 1:
            raise BackboneError(f"feature_layer must leave the tower a layer, was: {shown(config.feature_layer)}")
        if (language.rope_parameters or {}).get("rope_type") == "longrope":
            raise BackboneError(
                "rope_type must turn a place by the same angle in every batch, was: 'longrope', whose angles follow "
                "the longest row"
            )
        self.config, self.tokenizer, self.template = config, tokenizer, template(config.template)
        self.vision, self.language = CLIPVisionModel(vision), LlamaForCausalLM(language)
        patches = (vision.image_size // vision.patch_size) ** 2
        self.connector = _connector(config, patches, vision.hidden_size, language.hidden_size)
        self.patches_shape = (patches, vision.hidden_size)
        if refused := [m for m in config.ladder if not self.connector.allows(m)]:
            raise BackboneError(f"every m of a ladder must be {self.connector.rule}, was: {shown(refused)}")
        if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
            raise BackboneError(
                "a tokenizer must name the tokens that begin and end a text, was: "
                f"bos {shown(tokenizer.bos_token)}, eos {shown(tokenizer.eos_token)}"
            )
        self.prefix_ids = tuple([tokenizer.bos_token_id, *self.text_ids(self.template.before_image)])
        self.sharing: tuple[object, bool] | None = None  # filled by prefix.causal
        self._hashed: tuple[object, str] | None = None
        self.eval()

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves and casts weights; rotary frequencies stay float32: rounded, they turn far words by wrong angles."""
        super()._apply(fn, recurse)
        model = self.language.model
        model.rotary_emb = type(model.rotary_emb)(self.language.config).to(self.device)
        return self

    # ---- what it is

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.config.name

    @property
    def ladder(self) -> tuple[int, ...]:
        """The trained m, ascending."""
        return self.config.ladder

    @property
    def weights_version(self) -> object:
        """A value that changes whenever weights are replaced or changed in place; cheap to compare."""
        return version(held(self))

    @property
    def fingerprint(self) -> str:
        """sha256 over configuration and weights, computed again when the weights have changed."""
        current = self.weights_version
        if self._hashed is None or self._hashed[0] != current:
            self._hashed = current, digest(self.config.canonical(), self.state_dict())
        return self._hashed[1]

    def save_pretrained(self, folder: str | Path, card: str | None = None, dtype: torch.dtype | None = None) -> None:
        """Write a model folder (`encoders.checkpoint.save`); weights keep their dtype where none is given."""
        from encoders import checkpoint

        checkpoint.save(self, folder, card, self.dtype if dtype is None else dtype)

    @staticmethod
    def load(folder: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> NestedLlava:
        """Read a model folder (`encoders.checkpoint.load`)."""
        from encoders import checkpoint

        return checkpoint.load(folder, device, dtype)

    def allows(self, m: int) -> bool:
        """Whether the connector can spend exactly m."""
        return bool(self.connector.allows(m))

    def check_m(self, m: object) -> int:
        """The one gate for m (see `encoders.backbone.check_m`)."""
        return check_m(m, self.connector.allows, self.connector.rule, self.ladder)

    # ---- pictures

    @torch.inference_mode()
    def encode(self, images: Sequence[ImageSource]) -> LlavaImages:
        """One vision pass over pictures of any source and size.

        Raises:
            ImageError: a picture cannot be read.
        """
        if is_one_picture(images) or not len(images):
            raise ImageError(
                f"encode takes a list of at least one picture, was: {type(images).__name__}; write [picture]"
            )
        pictures = tuple(open_image(image) for image in images)
        encoded = self.encode_prepared([self.preparation(picture) for picture in pictures])
        encoded.pictures = pictures
        return encoded

    @property
    def preparation(self) -> Preparation:
        """What is done to an RGB picture before the vision pass."""
        config = self.config
        return Preparation(self.vision.config.image_size, config.image_mean, config.image_std, config.pad_colour)

    def encode_prepared(self, arrays: Sequence[np.ndarray]) -> LlavaImages:
        """One vision pass over pictures that `preparation` was applied to, in whichever process."""
        return self.from_pixels(torch.from_numpy(np.stack(arrays)))

    @torch.inference_mode()
    def from_pixels(self, pixels: Tensor) -> LlavaImages:
        """One vision pass over prepared pixels (n, 3, side, side)."""
        features = self.vision(pixel_values=pixels.to(self.device, self.dtype)).last_hidden_state[:, 1:]
        return self.from_patches(features)

    def from_patches(self, patches: Tensor) -> LlavaImages:
        """Wrap patches (n, N, width) that were computed before."""
        return LlavaImages(self.connector, patches)

    def visual_tokens(self, encoded: LlavaImages, m: int) -> list[int]:
        """Visual tokens the language model receives for each picture at m."""
        return [self.check_m(m)] * len(encoded)

    # ---- text

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text; what looks like a special token in it stays text."""
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids) if text else []

    def text_tokens(self, question: str) -> int:
        """Tokens of a prompt that are no picture's."""
        return len(self.prefix_ids) + len(self.suffix_ids(question))

    def suffix_ids(self, question: str) -> list[int]:
        """Token ids behind the picture.

        Raises:
            QuestionError: the question is not a string, or has no visible character.
        """
        check_question(question)
        return self.text_ids(self.template.behind_image(question))

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of a given answer with the end token."""
        if not isinstance(answer, str):
            raise QuestionError(f"a given answer must be a string, was: {type(answer).__name__}")
        check_unicode(answer, "answer")
        return [*self.text_ids(answer), self.tokenizer.eos_token_id]

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids."""
        return self.language.get_input_embeddings()(ids)

    def check_length(self, tokens: int) -> None:
        """Raise QuestionError where prompt and answer together exceed the model's context."""
        limit = self.language.config.max_position_embeddings
        if tokens > limit:
            raise QuestionError(
                f"prompt and answer must fit in {limit} tokens for {self.name}, was: {tokens}; shorten the question, "
                "or give a smaller m or max_new_tokens"
            )

    def decoding(self, max_new_tokens: int | None, **options: Any) -> Decoding:
        """How to decode; the configured length where none is given."""
        limit = self.config.max_new_tokens if max_new_tokens is None else max_new_tokens
        return Decoding(limit, self.tokenizer.eos_token_id, **options)

    def generation(self, answer: Decoded, m: int, text_tokens: int) -> Generation:
        """Wrap decoded ids."""
        ids = answer.token_ids
        body = ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids
        text = self.tokenizer.decode(body, skip_special_tokens=True).strip()
        return Generation(
            text, tuple(ids), tuple(answer.logprobs), answer.top_logprobs, answer.entropy, m, m, text_tokens
        )

    # ---- answers

    @torch.inference_mode()
    def generate(
        self,
        encoded: LlavaImages,
        questions: Sequence[str],
        m: int | Sequence[int],
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Generation]:
        """Answer one question per encoded picture, each at its own m.

        Args:
            encoded: n pictures.
            questions: n questions.
            m: one m for all, or n of them.
            max_new_tokens: at most so many; None for the configured length.
            temperature: 0 is greedy; above it tokens are sampled.
            top_p: sample within this nucleus.
            seed: of the sampling; rows of a batch draw from one stream, so a sampled row is another alone.

        Raises:
            BudgetError: an m the connector does not allow.
            QuestionError: an empty question, or one too long for the model.
        """
        how = self.decoding(max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
        spent = self._spread(encoded, questions, m)
        suffixes = [self.suffix_ids(question) for question in questions]
        batch = SplicedBatch(self, encoded, spent, suffixes, [[]] * len(spent))
        self.check_length(batch.longest + how.max_new_tokens)
        cache = new_cache(self.language.config)
        out = self.language(
            inputs_embeds=batch.embeds,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        answers = decode(self.language, cache, out.logits[:, -1], batch.mask, batch.positions[:, -1] + 1, how)
        texts = [len(self.prefix_ids) + len(suffix) for suffix in suffixes]
        return [self.generation(*row) for row in zip(answers, spent, texts, strict=True)]

    @torch.inference_mode()
    def score(
        self, encoded: LlavaImages, questions: Sequence[str], answers: Sequence[str], m: int | Sequence[int]
    ) -> np.ndarray:
        """Natural log-probability of each given answer with its end token: (n,) float64.

        Arguments and errors as in `generate`; `answers` holds n strings.
        """
        spent = self._spread(encoded, questions, m)
        _check_answers(questions, answers)
        targets = [self.answer_ids(answer) for answer in answers]
        batch = SplicedBatch(self, encoded, spent, [self.suffix_ids(question) for question in questions], targets)
        self.check_length(batch.longest)
        hidden = self.language.model(
            inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        total = np.empty(len(targets))
        for row, target in enumerate(targets):  # rows are padded on the left, so answers end together
            places = hidden[row, -len(target) - 1 : -1]
            logprobs = self.language.lm_head(places).float().log_softmax(-1)
            total[row] = float(logprobs[range(len(target)), target].double().sum())
        return total

    def check_pictures(self, encoded: LlavaImages) -> None:
        """Raise BackboneError where pictures were encoded by another backbone."""
        if not isinstance(encoded, LlavaImages) or not encoded.belongs_to(self.connector):
            raise BackboneError(f"pictures must be encoded by the backbone that answers, {self.name}, was: another's")

    def _spread(self, encoded: LlavaImages, questions: Sequence[str], m: int | Sequence[int]) -> list[int]:
        """One checked m per question."""
        self.check_pictures(encoded)
        check_list("questions", questions)
        if len(encoded) != len(questions):
            raise QuestionError(
                f"each question needs its picture, was: {len(questions)} questions for {len(encoded)} pictures; "
                "use encoded.select([0, 0, ...]) to ask one picture several"
            )
        if not len(questions):
            raise QuestionError("ask at least one question, was: none")
        several = m.ndim == 1 if isinstance(m, np.ndarray) else isinstance(m, Sequence) and not isinstance(m, str)
        wanted = list(m) if several else [m] * len(questions)  # type: ignore[arg-type]
        if len(wanted) != len(questions):
            raise QuestionError(f"m must be one number or one per question, was: {len(wanted)} for {len(questions)}")
        return [self.check_m(value) for value in wanted]

    def _rungs(self, ladder: Sequence[int] | None) -> list[int]:
        """A checked ladder, the own one where none is given."""
        if ladder is not None and (not isinstance(ladder, Sequence | np.ndarray) or isinstance(ladder, str | bytes)):
            raise BudgetError(f"a ladder must be a list of m, was: {shown(ladder)}; write [{shown(ladder)}]")
        wanted = [self.check_m(m) for m in (self.ladder if ladder is None else ladder)]
        if not wanted:
            raise BudgetError("a ladder must hold at least one m, was: empty; leave it out for the model's own")
        return wanted

    @torch.inference_mode()
    def answer_ladder(
        self,
        encoded: LlavaImages,
        questions: Sequence[str],
        ladder: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[list[Generation]]:
        """Greedy answers at every m with shared work, equal to independent `generate` calls (encoders/prefix.py)."""
        wanted = self._rungs(ladder)
        self._spread(encoded, questions, wanted[0])
        return prefix.answer_ladder(self, encoded, questions, wanted, max_new_tokens)

    @torch.inference_mode()
    def measure_ladder(
        self,
        encoded: LlavaImages,
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        ladder: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> tuple[list[list[Generation]], list[np.ndarray]]:
        """`answer_ladder`, and log-probabilities of any number of given answers to each question from the same passes.

        Returns:
            The generations, and per question (its answers, k) float64 of natural log-probabilities, end token included.
        """
        wanted = self._rungs(ladder)
        self._spread(encoded, questions, wanted[0])
        _check_answers(questions, answers)
        for row in answers:
            check_list("answers to a question", row)
        return prefix.measure_ladder(self, encoded, questions, answers, wanted, max_new_tokens)

    @torch.inference_mode()
    def score_ladder(
        self,
        encoded: LlavaImages,
        questions: Sequence[str],
        answers: Sequence[str],
        ladder: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Log-probabilities of given answers at every m with shared work: (n, k) float64."""
        wanted = self._rungs(ladder)
        self._spread(encoded, questions, wanted[0])
        _check_answers(questions, answers)
        return prefix.score_ladder(self, encoded, questions, answers, wanted)

    # ---- cost

    @cached_property
    def vision_shape(self) -> VisionShape:
        """Sizes of the tower as it runs."""
        config = self.vision.config
        return VisionShape(
            config.image_size, config.patch_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers
        )

    @cached_property
    def language_shape(self) -> LanguageShape:
        """Sizes of the language model."""
        config = self.language.config
        return LanguageShape(
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.vocab_size,
        )

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        dtype: torch.dtype = self.language.get_input_embeddings().weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.language.get_input_embeddings().weight.device
        return device

    def counted_cost(self, visual_tokens: int, text_tokens: int, new_tokens: int) -> Cost:
        """One answer computed alone, counted from shapes; no time is predicted."""
        for tokens in (visual_tokens, text_tokens, new_tokens):
            positive("a number of tokens", tokens, least=0)
        vision, language = self.vision_shape, self.language_shape
        connector = self.connector.flops(vision.patches, visual_tokens)
        return answer_cost(vision, connector, language, visual_tokens, text_tokens, new_tokens, self.dtype.itemsize)

    def cost(self, visual_tokens: int, text_tokens: int, new_tokens: int) -> Cost:
        """`counted_cost` with ms from this machine's profile where one was measured, else None."""
        counted, profile = self.counted_cost(visual_tokens, text_tokens, new_tokens), self.profile
        return counted if profile is None else replace(counted, ms=profile.ms(visual_tokens, text_tokens, new_tokens))

    @property
    def profile_key(self) -> tuple[str, str, str]:
        """What a latency profile is kept under: a hash of the configuration (speed follows shapes), device, dtype."""
        return self._shapes_digest, self.device.type, str(self.dtype).removeprefix("torch.")

    @cached_property
    def _shapes_digest(self) -> str:
        return digest(self.config.canonical(), {})

    @property
    def profile(self) -> LatencyProfile | None:
        """The latency profile measured for this backbone on this machine, device and dtype, or None."""
        return LatencyProfile.find(*self.profile_key)


def _check_answers(questions: Sequence[str], answers: Sequence[object]) -> None:
    check_list("answers", answers)
    if len(answers) != len(questions):
        raise QuestionError(f"score needs one answer per question, was: {len(answers)} for {len(questions)}")
