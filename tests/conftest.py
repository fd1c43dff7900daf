"""Shared objects: tiny backbones with seeded random weights, of every kind of connector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from encoders.config import LlavaConfig
from encoders.llava import NestedLlava

GOLDEN = Path(__file__).parent / "golden"
CONNECTORS = {
    "mqt": ({"type": "mqt", "num_queries": 16, "num_heads": 4}, (1, 2, 5, 9, 16)),
    "m3": ({"type": "m3"}, (1, 4, 16)),
    "sequential": ({"type": "sequential"}, (1, 3, 16)),
    "spatial": ({"type": "spatial"}, (1, 4, 16)),
    "average": ({"type": "average"}, (1, 4, 16)),
}


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Latency profiles of the person who runs the tests stay out of them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 300 entries."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["what number is written", "what colour is the circle", "USER ASSISTANT"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def tiny_config(kind: str) -> LlavaConfig:
    """A backbone of two tower layers that run, two language layers, grouped key-value heads."""
    connector, ladder = CONNECTORS[kind]
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    language = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 300,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,  # random weights that say different things at different m
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlavaConfig(f"tiny-{kind}", ladder, connector, vision, language, template="vicuna_v1", max_new_tokens=6)


@pytest.fixture(scope="session")
def make_tiny(tokenizer):
    """Build a tiny backbone of a connector kind; options replace fields of its configuration."""

    def build(kind: str = "mqt", **options) -> NestedLlava:
        torch.manual_seed(1)
        backbone = NestedLlava(replace(tiny_config(kind), **options), tokenizer)
        for parameter in backbone.connector.parameters():
            if parameter.ndim == 2:
                parameter.data.mul_(4)
        return backbone

    return build


@pytest.fixture(scope="session")
def tiny(make_tiny) -> NestedLlava:
    """The tiny MQT backbone."""
    return make_tiny("mqt")


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Four seeded noise pictures of different shapes."""
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for h, w in ((32, 32), (40, 24), (9, 50), (64, 64))
    ]


QUESTIONS = ("what number is written", "hm", "what colour is the circle on the left?", "<image></s> is text")


@pytest.fixture
def questions() -> list[str]:
    """Four questions of different lengths."""
    return list(QUESTIONS)
