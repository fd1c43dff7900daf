"""The training loop resumes as if never stopped; the objectives are the recipes they claim to be."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from encoders.errors import BackboneError
from encoders.train import TRAINING_ATTENTION, M3Objective, MqtObjective, Recipe, train


class Line(nn.Module):
    """y = a x + b."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, step, x, y):
        return {"loss": (self.layer(x)[:, 0] - y).square().mean()}


def batch_at(number):
    x = torch.tensor(np.random.default_rng(number).normal(size=(8, 3)), dtype=torch.float32)
    return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5])}


RECIPE = Recipe(40, 0.1, 1.0, warmup_steps=5, precision="no", checkpoint_every=10, log_every=10)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    whole, killed = Line(), Line()
    train(whole, batch_at, RECIPE, tmp_path / "whole")

    def dies_at_27(number):
        if number == 27:
            raise KeyboardInterrupt
        return batch_at(number)

    with pytest.raises(KeyboardInterrupt):
        train(killed, dies_at_27, RECIPE, tmp_path / "killed")
    resumed, seen = Line(), []
    train(resumed, lambda number: seen.append(number) or batch_at(number), RECIPE, tmp_path / "killed")
    assert seen == list(range(20, 40))
    assert torch.allclose(resumed.layer.weight, whole.layer.weight, atol=1e-7)


@pytest.mark.parametrize(
    "left", [("checkpoint", "checkpoint.old"), ("checkpoint.old",), ("checkpoint", "checkpoint.new")]
)
def test_a_kill_between_the_renames_is_survived(tmp_path, left):
    """A kill while names are swapped leaves two folders; the next save died on the one that was in its way."""
    train(Line(), batch_at, replace(RECIPE, steps=20), tmp_path)
    whole = tmp_path / "checkpoint"
    progress = json.loads((whole / "progress.json").read_text())
    (whole / "progress.json").write_text(json.dumps(progress | {"recipe": asdict(RECIPE)}))
    whole.rename(tmp_path / "kept")
    for name in left:
        shutil.copytree(tmp_path / "kept", tmp_path / name)
    seen = []
    train(Line(), lambda number: seen.append(number) or batch_at(number), RECIPE, tmp_path)
    assert seen == list(range(20, 40))
    rows = [json.loads(row)["step"] for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [10, 20, 30, 40]


@pytest.mark.parametrize("last", [3, 19])  # before the first checkpoint, and after it
def test_a_resumed_run_logs_no_step_twice(tmp_path, last):
    def dies(number):
        if number == last:
            raise KeyboardInterrupt
        return batch_at(number)

    recipe = replace(RECIPE, log_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(Line(), dies, recipe, tmp_path)
    train(Line(), batch_at, recipe, tmp_path)
    rows = [json.loads(row)["step"] for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, 41))


def test_training_attention_equals_the_stock_one_and_refuses_to_look_ahead(tiny):
    attend, ids = tiny.language.config._attn_implementation, torch.randint(3, 300, (2, 7))
    mask = torch.full((7, 7), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.no_grad():
        stock = tiny.language(ids).logits
        try:
            tiny.language.set_attn_implementation(TRAINING_ATTENTION)
            assert torch.allclose(tiny.language(ids, attention_mask=mask).logits, stock, atol=1e-4)
            with pytest.raises(BackboneError, match="builds no causal mask"):
                tiny.language(ids)
        finally:
            tiny.language.set_attn_implementation(attend)


def test_training_learns_and_writes_its_metrics(tmp_path):
    line = Line()
    train(line, batch_at, RECIPE, tmp_path)
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] < 0.1 * rows[0]["loss"]


def test_accumulated_parts_equal_one_large_batch(tmp_path):
    parts, large = Line(), Line()
    train(parts, batch_at, Recipe(5, 0.1, 0.1, warmup_steps=1, accumulate=2, precision="no"), tmp_path / "parts")

    def doubled(number):
        first, second = batch_at(2 * number), batch_at(2 * number + 1)
        return {key: torch.cat([first[key], second[key]]) for key in first}

    train(large, doubled, Recipe(5, 0.1, 0.1, warmup_steps=1, precision="no"), tmp_path / "large")
    assert torch.allclose(parts.layer.weight, large.layer.weight, atol=1e-5)


def test_a_torn_checkpoint_is_named(tmp_path):
    train(Line(), batch_at, RECIPE, tmp_path)
    (tmp_path / "checkpoint" / "progress.json").write_text('{"step": 4')
    with pytest.raises(BackboneError, match="a checkpoint must be whole, was: checkpoint in"):
        train(Line(), batch_at, RECIPE, tmp_path)


def test_each_run_has_its_own_precision(tmp_path):
    for precision in ("no", "bf16", "no"):
        train(Line(), batch_at, replace(RECIPE, steps=2, precision=precision), tmp_path / precision)
        assert AcceleratorState().mixed_precision == precision


@pytest.mark.parametrize("changed", [{"steps": -1}, {"accumulate": 0}, {"log_every": 0}, {"steps": 2.5}])
def test_a_recipe_of_odd_numbers_is_refused(changed):
    [name] = changed
    with pytest.raises(BackboneError, match=f"a recipe's {name} must be a whole number of at least"):
        replace(RECIPE, **changed)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    train(Line(), batch_at, Recipe(5, 0.1, 0.1, precision="no", checkpoint_every=5), tmp_path)
    with pytest.raises(BackboneError, match="only under its own recipe"):
        train(Line(), batch_at, Recipe(9, 0.1, 0.1, precision="no", checkpoint_every=5), tmp_path)


def test_no_steps_keep_the_weights_as_a_finished_stage(tmp_path):
    line = Line()
    train(line, batch_at, Recipe(0, 0.1, 0.1, precision="no"), tmp_path)
    progress = json.loads((tmp_path / "checkpoint" / "progress.json").read_text())
    assert progress["step"] == progress["recipe"]["steps"] == 0
    kept = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in line.state_dict().items())


def test_only_parameters_that_ask_for_it_are_trained(tmp_path):
    line = Line()
    line.layer.bias.requires_grad_(False)
    before = line.layer.bias.clone()
    train(line, batch_at, RECIPE, tmp_path)
    assert torch.equal(line.layer.bias, before)


def test_the_pace_warms_up_and_falls_to_a_hundredth():
    assert RECIPE.pace(0) == pytest.approx(0.2)
    assert RECIPE.pace(5) == pytest.approx(1)
    assert RECIPE.pace(40) == pytest.approx(0.01)


def test_each_optimiser_moves_its_own_parameters(tmp_path):
    """Muon the hidden matrices, AdamW the embeddings, the output head and every vector."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.hidden, self.head = nn.Embedding(4, 6), nn.Linear(6, 6), nn.Linear(6, 1)

        def forward(self, step, ids):
            return {"loss": self.head(self.hidden(self.embed(ids)).relu()).square().mean()}

    def moved(learning_rate, matrix_rate):
        torch.manual_seed(0)
        net = Net()
        before = {name: value.clone() for name, value in net.named_parameters()}
        recipe = Recipe(2, learning_rate, matrix_rate, warmup_steps=1, weight_decay=0.0, precision="no")
        train(net, lambda _: {"ids": torch.arange(4)}, recipe, tmp_path / f"{learning_rate}-{matrix_rate}")
        return {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}

    assert moved(0.0, 0.1) == {"hidden.weight"}
    assert moved(0.1, 0.0) == {"embed.weight", "hidden.bias", "head.weight", "head.bias"}


def packed(backbone, rows):
    """One row per picture with all its (question, answer) pairs, as `PackedQuestions.loss_at` takes them."""
    texts = [[(backbone.suffix_ids(q), backbone.answer_ids(a)) for q, a in row] for row in rows]
    length = max(sum(len(q) + len(a) - 1 for q, a in row) for row in texts)
    out = {name: torch.zeros(len(rows), length, dtype=torch.long) for name in ("ids", "block", "place", "labels")}
    out["block"] -= 1
    out["labels"] -= 100
    for k, row in enumerate(texts):
        start = 0
        for number, (question, answer) in enumerate(row):
            body = question + answer[:-1]
            stop = start + len(body)
            out["ids"][k, start:stop] = torch.tensor(body)
            out["block"][k, start:stop] = number
            out["place"][k, start:stop] = torch.arange(len(body))
            out["labels"][k, start + len(question) - 1 : stop] = torch.tensor(answer)
            start = stop
    return out


ROWS = [[("what is it", "red"), ("how many", "7 or 8")], [("where", "top left")]]


@torch.no_grad()
def test_many_questions_in_one_sequence_cost_what_they_cost_alone(tiny):
    """Each question must see the picture and itself only: a leak between questions would show here."""
    patches = torch.randn(2, *tiny.patches_shape)
    objective = MqtObjective(tiny.connector, tiny.language, list(tiny.prefix_ids), 16)
    loss, _ = objective.loss_at(tiny.connector(patches, 9), **packed(tiny, ROWS))
    alone, tokens = 0.0, 0
    for k, row in enumerate(ROWS):
        for question, answer in row:
            alone -= tiny.score(tiny.from_patches(patches[k : k + 1]), [question], [answer], 9)[0]
            tokens += len(tiny.answer_ids(answer))
    assert float(loss) == pytest.approx(alone / tokens, abs=1e-4)


def test_mqt_draws_one_m_per_step_from_small_to_all(tiny):
    objective = MqtObjective(tiny.connector, tiny.language, list(tiny.prefix_ids), 16)
    patches = torch.randn(2, *tiny.patches_shape)
    with torch.no_grad():
        drawn = [int(objective(step=k, patches=patches, **packed(tiny, ROWS))["m"]) for k in range(60)]
    assert min(drawn) == 1
    assert 15 <= drawn.count(16) <= 35
    assert len(set(drawn)) > 6


@torch.no_grad()
def test_m3_averages_all_scales(make_tiny):
    backbone = make_tiny("m3")
    objective = M3Objective(backbone.connector, backbone.language, list(backbone.prefix_ids), backbone.ladder)
    patches, batch = torch.randn(2, *backbone.patches_shape), packed(backbone, ROWS)
    losses = [objective.loss_at(backbone.connector(patches, m), **batch)[0] for m in backbone.ladder]
    assert float(objective(step=0, patches=patches, **batch)["loss"]) == pytest.approx(float(np.mean(losses)), abs=1e-5)
