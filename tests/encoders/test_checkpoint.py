"""Model folders: a round trip, and every kind of damage named."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

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


def test_another_head_than_the_embeddings_it_is_tied_to_is_refused(make_tiny, tmp_path):
    from tests.conftest import tiny_config

    backbone = make_tiny("mqt", language=tiny_config("mqt").language | {"tie_word_embeddings": True})
    checkpoint.save(backbone, tmp_path / "m", "# card", dtype=torch.float32)
    embedding = backbone.language.get_input_embeddings().weight.detach()
    edit(tmp_path / "m", lambda tensors: tensors.update({"language.lm_head.weight": embedding.clone()}))
    checkpoint.load(tmp_path / "m")
    edit(tmp_path / "m", lambda tensors: tensors.update({"language.lm_head.weight": embedding + 1}))
    with pytest.raises(BackboneError, match=r"must be tied as config\.json says, was: another language\.lm_head"):
        checkpoint.load(tmp_path / "m")


def test_a_configuration_may_not_take_the_names_from_outputs(folder, tiny, pictures):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for part in ("vision", "language"):
        config[part]["return_dict"] = False
    del config["sha256"]
    path.write_text(json.dumps(config))
    again = checkpoint.load(folder)
    assert len(again.generate(again.encode(pictures[:1]), ["hm"], 4)) == 1


def edit(folder, change):
    """Change weights on purpose, and take the digests out as one is told to."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config.pop("sha256", None)
    (folder / "config.json").write_text(json.dumps(config))


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


def _leap(folder):
    """As many entries as before, one of them far beyond the embeddings."""
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    last = max(values["model"]["vocab"], key=values["model"]["vocab"].get)
    values["model"]["vocab"][last] = 9999
    path.write_text(json.dumps(values))


def _trip(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["continuing_subword_prefix"] = "zz"
    path.write_text(json.dumps(values))


def _store(dtype):
    return lambda folder: edit(folder, lambda tensors: tensors.update({KEY: tensors[KEY].to(dtype)}))


KEY = "connector.query"


def _infect(folder):
    edit(folder, lambda tensors: tensors["connector.query"].fill_(float("nan")))


DAMAGE = {
    "weights that are no numbers": (
        _infect,
        r"must be finite in torch.float32, was: NaN or infinity in \['connector.query'\]",
    ),
    "a config without end": (lambda f: (f / "config.json").write_text("[" * 200_000), "must be JSON"),
    "more tokens than embeddings": (_grow, "must be below vocab_size = 300, was: 300"),
    "a token without an embedding": (_leap, "must be below vocab_size = 300, was: 9999"),
    "weights of 8 bits": (_store(torch.float8_e4m3fn), r"stored as one of .*F32.*, was: \['connector.query F8_E4M3'\]"),
    "weights of whole numbers": (_store(torch.int32), r"was: \['connector.query I32'\]"),
    "weights of yes and no": (_store(torch.bool), r"was: \['connector.query BOOL'\]"),
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
    "a tokenizer that panics": (_trip, "must be a tokenizer, was damaged"),
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


def _turn(name, value):
    def change(folder):
        values = json.loads((folder / "config.json").read_text())
        values["language"][name] = value
        (folder / "config.json").write_text(json.dumps(values))

    return change


def _zero(folder):
    """Half of a tensor, as a bad block of a disk leaves it: every shape and kind of number stays."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4000:-2000] = bytes(2000)
    path.write_bytes(content)


def _say_otherwise(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["normalizer"] = {"type": "Lowercase"}
    path.write_text(json.dumps(values))


SILENT = {
    "zeroed weights": (_zero, "model.safetensors"),
    "other norms": (_turn("rms_norm_eps", -1.0), "config.json"),
    "another tokenizer": (_say_otherwise, "tokenizer.json"),
}


@pytest.mark.parametrize("case", SILENT, ids=str)
def test_damage_that_fits_is_refused_and_not_answered_with(folder, case):
    change, name = SILENT[case]
    before = (folder / name).read_bytes()
    change(folder)
    assert (folder / name).read_bytes() != before
    with pytest.raises(BackboneError, match=rf"must be as they were saved, was: changed \['{name}'\]; .*'sha256'"):
        checkpoint.load(folder)


@pytest.mark.parametrize("told", [5, ["a"], "x"])
def test_digests_that_are_none_are_named(folder, told):
    values = json.loads((folder / "config.json").read_text()) | {"sha256": told}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(BackboneError, match=r"config\.json in 'model' lacks a field or holds a wrong type"):
        checkpoint.load(folder)


def test_a_folder_that_notes_no_digests_is_read(folder, tiny):
    values = json.loads((folder / "config.json").read_text())
    del values["sha256"]
    (folder / "config.json").write_text(json.dumps(values))
    assert checkpoint.load(folder).fingerprint == tiny.fingerprint


def test_loading_disturbs_nobody_else(folder):
    """Weights were built on no device by a patch of torch for the whole process; two loads at once left it behind."""
    stop, odd = threading.Event(), []

    def build():
        while not stop.is_set():
            odd.append(torch.nn.Linear(2, 2).weight.device.type != "cpu")

    with ThreadPoolExecutor(4) as pool:
        builder = pool.submit(build)
        models = [one.result() for one in [pool.submit(checkpoint.load, folder) for _ in range(6)]]
        stop.set()
        builder.result()
    assert odd and not any(odd) and len({model.fingerprint for model in models}) == 1
    tensors = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    assert not any(tensor.is_meta for tensor in tensors)


def test_loading_draws_no_random_number(folder):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    checkpoint.load(folder)
    assert torch.rand(1) == expected


def test_a_missing_field_is_named(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["ladder"]
    path.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="ladder"):
        checkpoint.load(folder)


def test_models_load_once_per_process_from_any_thread(folder):
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: loading.load(folder), range(8)))
    assert all(model is loaded[0] for model in loaded)


@pytest.mark.parametrize("load", [loading.load, checkpoint.load])
def test_a_model_first_loaded_in_inference_mode_is_a_whole_one(folder, tiny, load):
    """Its weights counted no changes, and the copy that a process keeps stayed broken for good."""
    with torch.inference_mode():
        model = load(folder)
        assert model.fingerprint == tiny.fingerprint
    assert not any(tensor.is_inference() for tensor in model.state_dict().values())
    assert model.fingerprint == tiny.fingerprint


def test_each_dtype_is_loaded_once(folder):
    half = loading.load(folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and loading.load(folder).dtype == torch.float32
    assert loading.load(folder, dtype="bfloat16") is half


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        ({"dtype": "int8"}, r"a dtype must be one of \['float32', 'bfloat16', .*\], was: 'int8'"),
        ({"device": "abacus"}, "a device must be one that torch can compute on here, was: 'abacus'"),
        ({"device": "meta"}, "a device must be one that torch can compute on here, was: 'meta'"),
    ],
)
def test_devices_and_dtypes_that_are_none_are_refused(folder, where, rule):
    with pytest.raises(BackboneError, match=rule) as told:
        loading.load(folder, **where)
    assert "\n" not in str(told.value)


def test_a_model_is_not_loaded_in_whole_numbers(folder):
    with pytest.raises(BackboneError, match=r"a dtype must be one of .* was: torch.int32"):
        checkpoint.load(folder, dtype=torch.int32)


def test_saving_without_a_card_keeps_the_one_that_is_there(tmp_path):
    """Saving over a model of the library once left it an empty card."""
    folder = tmp_path / "model"
    shutil.copytree(loading.locate("nano-m3"), folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    model = checkpoint.load(folder)
    model.save_pretrained(folder, dtype=torch.float16)
    assert (folder / "README.md").read_text(encoding="utf-8") == card != ""
    assert checkpoint.load(folder).fingerprint == model.fingerprint


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_model_without_a_card_gets_a_plain_one_that_is_true(tiny, tmp_path, dtype):
    tiny.save_pretrained(tmp_path / "m", dtype=dtype)
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# tiny-mqt\n") and "1, 2, 5, 9, 16" in card
    assert f"connector {sum(p.numel() for p in tiny.connector.parameters()):,}" in card
    assert checkpoint.load(tmp_path / "m").fingerprint in card  # of what is stored, not of what was rounded


@pytest.mark.parametrize("name", ["nano-gpt", "", "../nano-mqt", "/no/such/folder", "nul\0", "x" * 5000])
def test_unknown_backbones_are_refused_with_the_known_ones(name):
    with pytest.raises(BackboneError, match="a backbone must be one of"):
        loading.load(name)


def test_a_tokenizer_without_a_pad_and_with_a_full_vocabulary_comes_back_as_it_was(make_tiny, tmp_path, pictures):
    """Vicuna's has no pad: adding one made an id beyond its embedding table, and the folder unreadable."""
    backbone = make_tiny("mqt")
    said = json.loads(backbone.tokenizer.backend_tokenizer.to_str())
    said["added_tokens"] = [token for token in said["added_tokens"] if token["content"] != "<pad>"]
    said["model"]["vocab"]["unused"] = said["model"]["vocab"].pop("<pad>")
    own = Tokenizer.from_str(json.dumps(said))
    backbone.tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<s>", eos_token="</s>")
    backbone.save_pretrained(tmp_path)
    again = checkpoint.load(tmp_path)
    assert again.tokenizer.get_vocab() == backbone.tokenizer.get_vocab() and again.prefix_ids == backbone.prefix_ids
    assert again.generate(again.encode(pictures[:1]), ["hm"], 4) == backbone.generate(
        backbone.encode(pictures[:1]), ["hm"], 4
    )


def test_specials_of_other_names_are_refused_before_anything_is_written(make_tiny, tmp_path):
    backbone = make_tiny("mqt")
    own = backbone.tokenizer.backend_tokenizer
    backbone.tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<pad>", eos_token="</s>")
    with pytest.raises(BackboneError, match=r"must begin a text with <s> and end it .*, was: \('<pad>', '</s>'\)"):
        backbone.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_tokenizer_file_without_the_specials_is_refused(folder):
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    said["added_tokens"] = [token for token in said["added_tokens"] if token["content"] != "</s>"]
    said["model"]["vocab"]["unused"] = said["model"]["vocab"].pop("</s>")
    path.write_text(json.dumps(said))
    with pytest.raises(BackboneError, match=r"must know \['<s>', '</s>'\], was: without \['</s>'\]"):
        checkpoint.load(folder)


def test_loaded_weights_are_not_those_of_the_file(folder):
    """Views of the file would change, or crash the process, when it is written again."""
    backbone = checkpoint.load(folder)  # in the dtype they are stored in: nothing else would copy them
    before = backbone.fingerprint
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size - path.stat().st_size // 2))
    backbone._hashed = None
    assert backbone.fingerprint == before


def test_weights_that_a_smaller_dtype_cannot_hold_are_refused(folder):
    edit(folder, lambda tensors: tensors[KEY].fill_(1e5))
    checkpoint.load(folder)
    with pytest.raises(BackboneError, match=r"must be finite in torch.float16, was: NaN or infinity"):
        checkpoint.load(folder, dtype=torch.float16)


def test_a_configuration_of_more_layers_than_there_are_tensors_is_not_built(folder):
    """Layers cost time and memory before they have weights: 12,000 took 20 seconds and 900 MB."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["language"]["num_hidden_layers"] = 10**7
    path.write_text(json.dumps(values))
    with pytest.raises(BackboneError, match="tensors for 10,000,000 layers"):
        checkpoint.load(folder)
