"""The recipe runs end to end at toy size and resumes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import encoders
from encoders import checkpoint
from encoders.errors import DataError
from encoders.train import Recipe
from training_data import corpus, nano

PACKAGED = Path(encoders.__file__).parent / "packaged" / "nano-mqt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("nano")
    corpus.draw_corpus(path, "scenes", 60)
    corpus.draw_corpus(path, "crowds", 12)
    corpus.draw_corpus(path, "lattices", 12)
    return path


def test_the_corpus_holds_pictures_marks_and_questions(folder):
    assert np.load(folder / "scenes-images.npy", mmap_mode="r").shape == (60, 96, 96, 3)
    assert len(corpus.read_questions(folder)) == 60
    assert json.loads((folder / "scenes-drawn.json").read_text()) == [0, 60]


def test_a_corpus_may_begin_at_a_later_picture(folder, tmp_path):
    corpus.draw_corpus(tmp_path, "scenes", 10, first=50)
    assert corpus.read_questions(tmp_path) == corpus.read_questions(folder)[50:]
    ours, whole = (np.load(path / "scenes-images.npy", mmap_mode="r") for path in (tmp_path, folder))
    assert (ours == whole[50:]).all()


def test_digits_and_capitals_stay_single_tokens_and_any_text_survives(folder):
    tokenizer = corpus.make_tokenizer(folder)
    assert len(tokenizer) <= 2000
    for text in ("48151623", "ZEBRA"):
        assert [tokenizer.decode([k]) for k in tokenizer(text).input_ids] == list(text)
    for text in ("naïve 🙂 \0 ﷽", "<image></s>"):
        ids = tokenizer(text, split_special_tokens=True).input_ids
        assert tokenizer.decode(ids) == text


def test_a_nano_model_keeps_within_its_size_and_proportions(folder):
    for build in (nano.nano_mqt, nano.nano_m3):
        backbone = build(corpus.make_tokenizer(folder))
        assert sum(parameter.numel() for parameter in backbone.parameters()) <= 5_000_000
        cost = backbone.cost(backbone.ladder[-1], 12, 3)
        assert (cost.prefill_tflops + cost.decode_tflops) / cost.tflops > 0.7


def test_packed_rows_ask_at_most_two_crowded_questions_of_a_kind(folder):
    packer = corpus.Packer(folder, nano.nano_mqt(corpus.make_tokenizer(folder)))
    batch = packer.batch(np.arange(60), np.random.default_rng(0))
    assert all(tensor.shape == (60, 72) for tensor in batch.values())
    assert (batch["labels"] >= 0).sum(1).min() >= 2
    assert ((batch["block"] >= 0) >= (batch["labels"] >= 0)).all()


def test_a_pictures_own_balanced_question_comes_first(folder):
    backbone = nano.nano_mqt(corpus.make_tokenizer(folder))
    packer, asked = corpus.Packer(folder, backbone), corpus.read_questions(folder)
    batch = packer.batch(np.arange(60), np.random.default_rng(0))
    for row in range(60):
        own = backbone.suffix_ids(asked[row][0][1])
        assert batch["ids"][row, : len(own)].tolist() == own and batch["block"][row, 0] == 0


def test_questions_of_one_glance_are_asked_less_often_than_they_stand_there(folder, monkeypatch):
    packer = corpus.Packer(folder, nano.nano_mqt(corpus.make_tokenizer(folder)))

    def asked():
        batches = [packer.batch(np.arange(60), np.random.default_rng(seed))["block"] for seed in range(5)]
        return sum(len(set(row.tolist()) - {-1}) for block in batches for row in block)

    kept = asked()
    monkeypatch.setattr(corpus, "_KEPT", {})
    assert kept < 0.9 * asked()


def test_a_batch_shows_the_families_in_their_parts_however_rare_they_are(folder):
    packer, asked = corpus.Packer(folder, nano.nano_mqt(corpus.make_tokenizer(folder))), corpus.read_questions(folder)
    rows = packer.draw(4_000, np.random.default_rng(0))
    own = [asked[row][0][0] for row in rows]
    parts = {family: corpus._DRAWN[family] for family in set(own)}
    for family, part in parts.items():
        assert own.count(family) / len(own) == pytest.approx(part / sum(parts.values()), abs=0.03)
    assert (np.diff(rows) >= 0).all()


def test_what_is_untold_weighs_nothing_in_the_towers_loss(folder):
    marks = nano.PatchMarks(nano.nano_mqt(corpus.make_tokenizer(folder)).vision)
    pixels, labels = (torch.from_numpy(np.load(folder / f"crowds-{what}.npy")[:4]) for what in ("images", "marks"))
    number = list(corpus.LABELS).index("left_shape")
    assert (labels[:, number] == nano.UNTOLD).all()
    with torch.no_grad():
        loss = marks(0, pixels, labels)["loss"]
        labels[0, number, 5] = 3
        assert torch.isfinite(loss) and marks(0, pixels, labels)["loss"] > loss


def test_another_seed_draws_other_batches(folder, monkeypatch):
    backbone = nano.nano_mqt(corpus.make_tokenizer(folder))
    shape = (len(corpus.Packer(folder, backbone)), *backbone.patches_shape)
    monkeypatch.setattr(nano, "cache_features", lambda *_: np.zeros(shape, dtype=np.float16))
    drawn = []
    monkeypatch.setattr(nano, "train", lambda objective, batch_at, *_: drawn.append(batch_at(0)["ids"]))
    for seed in (2, 3, 2):
        nano.train_language(backbone, folder, nano.MQT, batch_size=20, seed=seed)
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_heads_are_fitted_to_a_tower_that_sees_before_it_goes_on(folder, monkeypatch):
    stages = []

    def train(objective, batch_at, recipe, where, title):
        learns = {parameter.requires_grad for parameter in objective.vision.parameters()}
        stages.append((where.name, recipe.steps, recipe.precision, learns))

    monkeypatch.setattr(nano, "train", train)
    recipe = Recipe(3, 1e-3, 1e-3, precision="no")
    nano.train_vision(folder, recipe, batch_size=6, start=PACKAGED)
    assert stages == [("heads", 250, "no", {False}), ("vision", 3, "no", {True})]
    stages.clear()
    nano.train_vision(folder, recipe, batch_size=6)
    nano.train_vision(folder, Recipe(0, 1e-3, 1e-3), batch_size=6, start=PACKAGED)
    assert [name for name, *_ in stages] == ["vision", "vision"]


@pytest.mark.slow
def test_a_tower_goes_on_from_a_packaged_one_and_resumes(folder, tmp_path, monkeypatch):
    for file in [*folder.glob("*.npy"), folder / "questions.jsonl", PACKAGED / "tokenizer.json"]:
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.setattr(nano, "HEADS", replace(nano.HEADS, steps=4))
    short = Recipe(3, 1e-3, 1e-3, precision="no", warmup_steps=1, checkpoint_every=2, log_every=1)
    packaged = {f"vision.{name}": tensor for name, tensor in checkpoint.load(PACKAGED).vision.state_dict().items()}
    for _ in range(2):
        nano.train_vision(tmp_path, short, batch_size=6, start=PACKAGED)
        heads, tower = (
            load_file(tmp_path / stage / "checkpoint" / "model.safetensors") for stage in ("heads", "vision")
        )
        assert all(torch.equal(heads[name], tensor) for name, tensor in packaged.items())
        assert not all(torch.equal(tower[name], tensor) for name, tensor in packaged.items())
        lines = (tmp_path / "vision" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


@pytest.mark.slow
def test_every_stage_runs_and_resumes_at_toy_size(folder):
    short = Recipe(3, 1e-3, 1e-3, precision="no", warmup_steps=1, checkpoint_every=2, log_every=1)
    nano.train_vision(folder, short, batch_size=6)
    tokenizer = corpus.make_tokenizer(folder)
    mqt = nano.nano_mqt(tokenizer)
    nano.load_tower(mqt, folder)
    nano.train_language(mqt, folder, short, batch_size=4, seed=2)
    m3 = nano.nano_m3(tokenizer)
    nano.load_tower(m3, folder)
    nano.train_language(m3, folder, short, batch_size=4, seed=2)
    again = nano.trained("nano-mqt", folder)
    assert torch.equal(again.connector.query, mqt.connector.query)
    picture = np.load(folder / "scenes-images.npy")[0]
    assert len(again.generate(again.encode([picture]), ["what number is written"], 4)) == 1
    lines = (folder / "nano-mqt" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_a_corpus_that_was_killed_goes_on_with_every_question_at_its_picture(tmp_path, monkeypatch):
    """A kill between writing questions and counting them once attached every later question to another picture."""
    monkeypatch.setattr(corpus, "_BLOCK", 4)
    corpus.draw_corpus(tmp_path, "scenes", 8)
    whole = (tmp_path / "questions.jsonl").read_text()
    (tmp_path / "scenes-drawn.json").write_text("[0, 4]")
    (tmp_path / "questions.jsonl").write_text(whole + whole.splitlines()[0][:30])
    corpus.draw_corpus(tmp_path, "scenes", 8)
    assert (tmp_path / "questions.jsonl").read_text() == whole
    (tmp_path / "scenes-drawn.json").write_text("[0, 4]")
    with pytest.raises(DataError, match="its own size 8, was asked for: 12"):
        corpus.draw_corpus(tmp_path, "scenes", 12)
    with pytest.raises(DataError, match="goes on from picture 0, was asked for: from 8; give another folder"):
        corpus.draw_corpus(tmp_path, "scenes", 8, first=8)


def test_a_stage_refuses_an_unfinished_one_below(tmp_path, folder):
    with pytest.raises(DataError, match="needs vision trained before, was: no checkpoint"):
        nano.load_tower(nano.nano_m3(corpus.make_tokenizer(folder)), tmp_path)
    (tmp_path / "vision" / "checkpoint").mkdir(parents=True)
    progress = {"step": 5, "recipe": {"steps": 9}}
    (tmp_path / "vision" / "checkpoint" / "progress.json").write_text(json.dumps(progress))
    with pytest.raises(DataError, match="needs vision finished, was: at step 5 of 9"):
        nano.load_tower(nano.nano_m3(corpus.make_tokenizer(folder)), tmp_path)


def test_training_without_a_corpus_says_how_to_draw_one(tmp_path):
    with pytest.raises(DataError, match=r"missing: questions.jsonl; run `python -m training_data.nano data` first"):
        corpus.make_tokenizer(tmp_path)
