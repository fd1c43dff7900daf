"""Model folders: a round trip, and every kind of damage named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders import checkpoint, loading
from encoders.errors import BackboneError


@pytest.fixture
def folder(tiny, tmp_path):
    checkpoint.save(tiny, tmp_path / "model", "# card", dtype=torch.float32)
    return tmp_path / "model"


@pytest.mark.parametrize("kind", ["mqt", "m3", "spatial"])
def test_a_saved_model_answers_as_before(make_tiny, tmp_path, pictures, questions, kind):
    backbone = make_tiny(kind)
    checkpoint.save(backbone, tmp_path / "m", "# card", dtype=torch.float32)
    again = checkpoint.load(tmp_path / "m")
    assert again.fingerprint == backbone.fingerprint
    spent = [backbone.ladder[k] for k in (0, 1, 2, 1)]
    before = backbone.generate(backbone.encode(pictures), questions, spent)
    after = again.generate(again.encode(pictures), questions, spent)
    assert before == after


def test_a_folder_holds_four_readable_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_tied_embeddings_are_stored_once_and_tied_again(make_tiny, tmp_path, pictures):
    from tests.conftest import tiny_config

    backbone = make_tiny("mqt", language=tiny_config("mqt").language | {"tie_word_embeddings": True})
    checkpoint.save(backbone, tmp_path / "m", "# card", dtype=torch.float32)
    again = checkpoint.load(tmp_path / "m")
    assert again.language.lm_head.weight is again.language.get_input_embeddings().weight
    assert again.generate(again.encode(pictures[:1]), ["hm"], 4) == backbone.generate(
        backbone.encode(pictures[:1]), ["hm"], 4
    )


def edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_missing_unexpected_and_misshapen_weights_are_all_listed(folder):
    def change(tensors):
        del tensors["connector.query"]
        tensors["stranger"] = torch.zeros(1)
        tensors["connector.proj"] = torch.zeros(2, 2)

    edit(folder, change)
    with pytest.raises(
        BackboneError, match=r"missing \['connector.query'\], unexpected \['stranger'\].*connector.proj"
    ):
        checkpoint.load(folder)


def _grow(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"]["stranger"] = 300
    path.write_text(json.dumps(values))


def _infect(folder):
    edit(folder, lambda tensors: tensors["connector.query"].fill_(float("nan")))


DAMAGE = {
    "weights that are no numbers": (_infect, r"must be finite, was: NaN or infinity in \['connector.query'\]"),
    "a config without end": (lambda f: (f / "config.json").write_text("[" * 200_000), "must be JSON"),
    "more tokens than embeddings": (_grow, "at most vocab_size = 300 entries"),
    "no config": (lambda f: (f / "config.json").unlink(), "must hold config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "must hold model.safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "must hold tokenizer.json"),
    "torn config": (lambda f: (f / "config.json").write_text('{"format": 1,'), "must be JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "must be a JSON object"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "must be JSON"),
    "torn weights": (lambda f: (f / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}"), "must be whole"),
    "cut weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
        "must be whole",
    ),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "must be whole"),
    "torn tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "must be JSON"),
    "other tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "must be a tokenizer"),
}


@pytest.mark.parametrize("case", DAMAGE, ids=str)
def test_damage_is_named(folder, case):
    change, rule = DAMAGE[case]
    change(folder)
    with pytest.raises(BackboneError, match=rule):
        checkpoint.load(folder)


FIELDS = {
    "another format": ({"format": 99}, "must have format 1, was: 99"),
    "an unknown field": ({"pickle": "x"}, r"also \['pickle'\]"),
    "a wrong type": ({"ladder": 3}, "wrong type|must describe"),
    "an unknown connector": ({"connector": {"type": "magic"}}, "was: 'magic'"),
    "a connector without its sizes": ({"connector": {"type": "mqt"}}, "must describe a model"),
    "an impossible width": ({"vision": {"hidden_size": -5}}, "must describe a model"),
    "a patch larger than the picture": ({"vision": {"patch_size": 0}}, "must describe a model"),
    "another vocabulary": ({"language": {"vocab_size": 7}}, "another shape|must describe"),
    "a width for which no memory is": ({"language": {"hidden_size": 2**20, "num_attention_heads": 4}}, "another shape"),
    "means of words": ({"image_mean": ["a", "b", "c"]}, "three numbers"),
    "two means": ({"image_mean": [0.5, 0.5]}, "three numbers"),
    "no deviation": ({"image_std": [0, 0, 0]}, "three numbers"),
    "half a token": ({"max_new_tokens": 2.5}, "whole number of at least 1, was: 2.5"),
    "no name": ({"name": None}, "name must be a string"),
    "a descending ladder": ({"ladder": [4, 1]}, "ascending"),
}


@pytest.mark.parametrize("case", FIELDS, ids=str)
def test_a_configuration_that_lies_is_refused(folder, case):
    change, rule = FIELDS[case]
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in change.items():
        nested = isinstance(value, dict) and key != "connector"
        config[key] = config[key] | value if nested else value
    path.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=rule):
        checkpoint.load(folder)


def test_a_missing_field_is_named(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["ladder"]
    path.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="ladder"):
        checkpoint.load(folder)


def test_models_load_once_per_process_from_any_thread(folder):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: loading.load(folder), range(8)))
    assert all(model is loaded[0] for model in loaded)


@pytest.mark.parametrize("name", ["nano-gpt", "", "../nano-mqt", "/no/such/folder", "nul\0", "x" * 5000])
def test_unknown_backbones_are_refused_with_the_known_ones(name):
    with pytest.raises(BackboneError, match="a backbone must be one of"):
        loading.load(name)
