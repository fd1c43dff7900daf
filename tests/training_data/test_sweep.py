"""The sweep: every example at every m, once, whatever kills it."""

import copy
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tokenizers import normalizers

from encoders.errors import BudgetError, DataError
from encoders.features import VERSION, feature_names
from training_data import opening, store
from training_data import sweep as sweeping
from training_data.example import Example
from training_data.measurement import tokens_read
from training_data.outcomes import Outcomes
from training_data.replicates import reordered
from training_data.rows import Reading
from training_data.scores import score
from training_data.sources import SceneExamples, fingerprint, open_data, reopened
from training_data.sweep import refresh_features, sweep


@pytest.fixture
def examples(pictures, tmp_path):
    """Ten questions about four pictures, two of them given as files."""
    paths = []
    for k, picture in enumerate(pictures[:2]):
        paths.append(tmp_path / f"{k}.png")
        picture.save(paths[-1])
    sources = [*paths, *pictures[2:]]
    asked = [("what number is written", ("7", "seven")), ("hm", ("yes",)), ("what colour is the circle", ("red",))]
    return [
        Example(f"q{k}", sources[k % 4], asked[k % 3][0], asked[k % 3][1], f"p{k % 4}", f"d{k % 2}", meta={"k": k})
        for k in range(10)
    ]


def test_every_row_equals_asking_alone(tiny, examples, tmp_path):
    outcomes = Outcomes.load(sweep(tiny, examples, tmp_path / "o.sqlite", batch_size=4))
    assert outcomes.m.tolist() == list(tiny.ladder) and outcomes.backbone == ("tiny-mqt", tiny.fingerprint)
    for row, example in enumerate(examples):
        encoded = tiny.encode([example.picture()])
        golds = [tiny.score_ladder(encoded, [example.question], [gold])[0] for gold in example.answers]
        for arm, m in enumerate(tiny.ladder):
            [alone] = tiny.generate(encoded, [example.question], m)
            assert outcomes.text[row, arm] == alone.text
            assert outcomes.confidence[row, arm] == pytest.approx(alone.logprob, abs=1e-4)
            assert outcomes.score[row, arm] == float(alone.text.lower() in example.answers)
            cost = tiny.cost(alone.visual_tokens, alone.text_tokens, alone.new_tokens)
            assert outcomes.cost[row, arm] == pytest.approx(cost.tflops)
            assert outcomes.gold_logprob[row, arm] == pytest.approx(np.logaddexp.reduce(golds)[arm], abs=1e-4)
    assert outcomes.meta[3] == {"k": 3} and outcomes.group[5] == "p1" and outcomes.dataset[5] == "d1"


def test_features_are_those_of_the_pictures_alone(tiny, examples, tmp_path):
    from encoders.features import visual_features

    outcomes = Outcomes.load(sweep(tiny, examples, tmp_path / "o.sqlite", batch_size=4))
    assert outcomes.features.version == VERSION and outcomes.features.names == feature_names(tiny)
    for row in (0, 3, 9):
        picture = examples[row].picture()
        alone = visual_features(tiny, tiny.encode([picture]), [examples[row].question])
        assert np.allclose(outcomes.features.values[row], alone[0], atol=1e-3)


def test_one_vision_pass_per_picture_of_a_batch(tiny, examples, tmp_path, monkeypatch):
    seen = []
    real = tiny.from_pixels
    monkeypatch.setattr(tiny, "from_pixels", lambda pixels: seen.append(len(pixels)) or real(pixels))
    sweep(tiny, examples, tmp_path / "o.sqlite", batch_size=10)
    assert seen == [4]


def asked_length(example):
    return len(example.question)


def test_rows_of_like_width_stand_in_a_batch():
    lengths = np.random.default_rng(0).integers(1, 60, 70)
    asked = [Example(f"q{k}", f"{k}.png", "x" * size, ("1",), "g", "d") for k, size in enumerate(lengths)]
    blocks = list(sweeping._batches(asked, set(), 4, 0, asked_length))
    assert [len(block) for block in blocks] == [4] * 17 + [2]
    numbers = [number for block in blocks for number, _ in block]
    assert [sorted(part) for part in (numbers[:32], numbers[32:64])] == [[*range(32)], [*range(32, 64)]]

    def padding(order):
        parts = [lengths[list(order[k : k + 4])] for k in range(0, 64, 4)]
        return sum(4 * part.max() - part.sum() for part in parts)

    assert padding(numbers) < padding(range(70)) / 3


def test_a_row_is_as_wide_as_all_that_is_read_of_it(tiny):
    """Question, every candidate, and a draft as long as the longest; what cannot be read is no row at all."""
    example = Example("q", "1.png", "what is there", ("red", "blue"), "g", "d", choices=("red", "blue", "orange"))
    ids = [len(tiny.answer_ids(text)) for text in ("red", "blue", "orange")]
    assert tokens_read(tiny, example) == len(tiny.suffix_ids("what is there")) + sum(ids) + max(ids)
    assert tokens_read(tiny, replace(example, question=" ")) == 0


@pytest.mark.parametrize(("size", "passes"), [(8, 10), (10, 5), (32, 5)])
def test_a_batch_runs_on_to_the_end_of_a_pictures_questions(tiny, pictures, tmp_path, monkeypatch, size, passes):
    """18 questions a picture, as in POPE: cut at a fixed size, batches of 8 took 15 vision passes, and of 10 took 13.

    Twice the size is the most: at 8, no batch holds a picture's 18. Killed in between and resumed, nothing differs.
    """
    shown = [*pictures, Image.new("RGB", (20, 20), "red")]
    asked = [Example(f"q{k}", shown[k // 18], f"what {k % 18}", ("1",), f"p{k // 18}", "d") for k in range(90)]
    blocks = list(sweeping._batches(asked, set(), size, 0, asked_length))
    assert [number for block in blocks for number, _ in block] == list(range(90))
    assert max(map(len, blocks)) <= 2 * size and min(map(len, blocks[:-1])) >= size
    assert sum(len({example.group for _, example in block}) for block in blocks) == passes
    later = list(
        sweeping._batches(asked, {number for block in blocks[:2] for number, _ in block}, size, 0, asked_length)
    )
    assert later == blocks[2:]
    if size != 10:
        return
    seen, real = [], tiny.from_pixels
    monkeypatch.setattr(tiny, "from_pixels", lambda pixels: seen.append(len(pixels)) or real(pixels))
    whole = sweep(tiny, asked, tmp_path / "whole.sqlite", batch_size=size, max_new_tokens=1)
    assert sum(seen) == passes
    with killed_after(1, monkeypatch):
        sweep(tiny, asked, tmp_path / "o.sqlite", batch_size=size, max_new_tokens=1)
    seen.clear()
    resumed = sweep(tiny, asked, tmp_path / "o.sqlite", batch_size=size, max_new_tokens=1)
    assert sum(seen) == passes - 1 and tables(resumed) == tables(whole)


@contextmanager
def killed_after(batches, monkeypatch):
    """The sweep within dies where it would write its next batch."""
    real, written = store.Store.add, []

    def dies(self, *rows):
        if len(written) == batches:
            raise KeyboardInterrupt
        written.append(rows)
        real(self, *rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store.Store, "add", dies)
        yield


def tables(path):
    """All that an outcomes file holds, whatever the order it was written in. No column of it holds a time."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert sorted(names) == ["examples", "failures", "manifest", "measurements"]
        return {name: sorted(database.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


@pytest.mark.parametrize("last", [1, 2])
def test_a_killed_sweep_goes_on_to_the_same_file(tiny, examples, tmp_path, monkeypatch, last):
    whole = sweep(tiny, examples, tmp_path / "whole.sqlite", batch_size=4, replicates=2)
    with killed_after(last, monkeypatch):
        sweep(tiny, examples, tmp_path / "o.sqlite", batch_size=4, replicates=2)
    resumed = sweep(tiny, examples, tmp_path / "o.sqlite", batch_size=4, replicates=2)
    assert tables(resumed) == tables(whole) and Outcomes.load(resumed).digest() == Outcomes.load(whole).digest()


def test_what_changed_since_is_refused(tiny, make_tiny, examples, tmp_path):
    path = sweep(tiny, examples, tmp_path / "o.sqlite")
    with pytest.raises(DataError, match="data was"):
        sweep(tiny, examples[:-1], path)
    with pytest.raises(DataError, match="arms was"):
        sweep(tiny, examples, path, ladder=(1, 2))
    with pytest.raises(DataError, match="max_new_tokens was"):
        sweep(tiny, examples, path, max_new_tokens=2)
    other = make_tiny("mqt")
    other.language.lm_head.weight.data.add_(0.1)
    with pytest.raises(DataError, match="backbone was"):
        sweep(other, examples, path)
    before = Outcomes.load(path).digest()
    sweep(tiny, examples, path)
    assert Outcomes.load(path).digest() == before


def test_another_tokenizer_is_refused(tiny, make_tiny, examples, tmp_path):
    """The same weights read other words: rows of two behaviours would share a file."""
    path = sweep(tiny, examples, tmp_path / "o.sqlite")
    other = make_tiny("mqt")
    other.tokenizer = copy.deepcopy(tiny.tokenizer)
    other.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert other.fingerprint == tiny.fingerprint
    with pytest.raises(DataError, match="tokenizer was"):
        sweep(other, examples, path)


def test_what_failed_is_tried_again_by_the_same_command(tiny, pictures, examples, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG nothing")
    asked = [*examples[:4], Example("torn", torn, "what", ("1",), "t", "d")]
    path, told = sweep(tiny, asked, tmp_path / "o.sqlite"), []
    sweep(tiny, asked, path, on_failure=lambda *failure: told.append(failure))
    assert [name for name, _ in told] == ["torn"] and len(store.failures(path)) == 1 and len(Outcomes.load(path)) == 4
    pictures[0].save(torn)
    sweep(tiny, asked, path)
    assert not store.failures(path)
    whole = Outcomes.load(sweep(tiny, asked, tmp_path / "whole.sqlite"))
    mended = Outcomes.load(path)
    assert mended.id.tolist() == whole.id.tolist() and (mended.score == whole.score).all()


def test_workers_that_outrun_the_model_do_not_fill_the_memory(tiny, examples, monkeypatch):
    """Tasks were drawn as fast as they were done, and every opened picture kept; now two a worker, then a pause."""
    many = [replace(examples[k % 10], id=f"m{k}") for k in range(400)]
    drawn = []
    real = opening._distinct
    monkeypatch.setattr(opening, "_distinct", lambda batch: drawn.append(1) or real(batch))
    found = opening.opened_batches(sweeping._batches(many, set(), 4, 0, asked_length), tiny.preparation, 0, 2)
    for taken in range(1, 9):
        next(found)
        time.sleep(0.05)
        assert len(drawn) <= taken + 4
    found.close()


def test_an_example_that_cannot_be_scored_costs_one_recorded_error(tiny, examples, tmp_path):
    bad = replace(examples[0], id="bad", metric="vqa")  # soft accuracy needs four answers
    path = sweep(tiny, [*examples, bad], tmp_path / "o.sqlite")
    assert len(Outcomes.load(path)) == 10
    [(name, reason)] = store.failures(path)
    assert name == "bad" and "at least 4 answers" in reason


@pytest.mark.parametrize("metric", ["exact", "likelihood"])
def test_questions_without_a_gold_answer_are_refused_before_anything_is_asked(tiny, examples, tmp_path, metric):
    """LLaVA-Bench's question file has none: once every question was answered at every m, and recorded as a failure."""
    bare = [replace(example, answers=(), metric=metric) for example in examples]
    with pytest.raises(DataError, match=r"need gold answers, was: none in 10 examples; .*'likelihood'.* import table"):
        sweep(tiny, bare, tmp_path / "o.sqlite")
    assert not (tmp_path / "o.sqlite").exists()


@pytest.mark.parametrize("metric", ["exact", "likelihood"])
def test_an_example_without_a_gold_answer_among_others_is_never_asked(tiny, examples, tmp_path, monkeypatch, metric):
    bare = replace(examples[0], id="bare", question="what is this", answers=(), metric=metric)
    asked, real = [], tiny.measure_ladder
    monkeypatch.setattr(
        tiny, "measure_ladder", lambda e, questions, *rest: asked.extend(questions) or real(e, questions, *rest)
    )
    path = sweep(tiny, [*examples, bare], tmp_path / "o.sqlite")
    assert len(Outcomes.load(path)) == 10 and sorted(asked) == sorted(example.question for example in examples)
    [(name, reason)] = store.failures(path)
    assert name == "bare" and "'bare' has none; give it answers" in reason


def test_what_the_data_was_called_is_kept_and_may_change(tiny, examples, tmp_path):
    path = sweep(tiny, examples, tmp_path / "o.sqlite", source={"data": "a.jsonl"})
    assert store.manifest(path)["source"] == {"data": "a.jsonl"}
    assert store.manifest(sweep(tiny, examples, path, source={"data": "b.jsonl"}))["source"] == {"data": "b.jsonl"}
    assert store.manifest(sweep(tiny, examples, path))["source"] == {"data": "b.jsonl"}
    refresh_features(tiny, examples, path)
    assert "source" not in store.manifest(sweep(tiny, examples, tmp_path / "plain.sqlite"))


def test_a_sweeps_examples_are_found_again_where_they_are_the_same(pictures, tmp_path, monkeypatch):
    pictures[0].save(tmp_path / "a.png")
    row = {"image": "a.png", "question": "what", "answer": "1"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    monkeypatch.chdir(tmp_path)
    source = {"data": "mine.jsonl", "benchmark": None, "split": None, "skip_bad": False}
    digest = fingerprint(open_data("mine.jsonl")[0])[0]
    [found] = reopened(source, digest)
    assert found.question == "what"
    assert reopened(source, "another") is None and reopened(None, digest) is None
    assert reopened(source | {"data": "gone.jsonl"}, digest) is None
    (tmp_path / "mine.jsonl").write_text(json.dumps(row | {"question": "who"}))
    assert reopened(source, digest) is None


def test_one_example_too_large_for_memory_is_recorded(tiny, examples, tmp_path, monkeypatch):
    real = tiny.measure_ladder

    def small(encoded, questions, *rest):
        if any("circle" in question for question in questions):
            raise RuntimeError("CUDA out of memory")
        return real(encoded, questions, *rest)

    monkeypatch.setattr(tiny, "measure_ladder", small)
    path = sweep(tiny, examples, tmp_path / "o.sqlite")
    assert {name for name, _ in store.failures(path)} == {e.id for e in examples if "circle" in e.question}
    assert len(Outcomes.load(path)) == 7


@pytest.mark.parametrize("name", ["replicates", "batch_size", "workers", "max_new_tokens"])
def test_nothing_is_taken_for_a_default(tiny, examples, tmp_path, name):
    """max_new_tokens = 0 once became the model's own in the manifest, and a failure for every example."""
    with pytest.raises(ValueError, match=f"{name} must be"):
        sweep(tiny, examples, tmp_path / "o.sqlite", **{name: 0})
    assert not (tmp_path / "o.sqlite").exists()


@pytest.mark.parametrize("name", ["replicates", "batch_size", "workers"])
@pytest.mark.parametrize("value", [2.5, "8", True])
def test_what_is_no_whole_number_begins_no_file(tiny, examples, tmp_path, name, value):
    """The manifest would have kept it, and the corrected command been refused."""
    with pytest.raises(DataError, match=f"{name} must be a whole number of at least 1, was: "):
        sweep(tiny, examples, tmp_path / "o.sqlite", **{name: value})
    assert not (tmp_path / "o.sqlite").exists()


def test_a_ladder_of_other_whole_numbers_is_a_ladder(tiny, examples, tmp_path):
    path = sweep(tiny, examples[:2], tmp_path / "o.sqlite", ladder=np.array([1, 4]))
    assert Outcomes.load(path).arms == ("1", "4")
    with pytest.raises(BudgetError, match="m must be a whole number"):
        sweep(tiny, examples[:2], tmp_path / "p.sqlite", ladder=(1, "4"))


def test_questions_about_one_picture_are_measured_side_by_side_wherever_they_stand(pictures):
    asked = [Example(f"q{k}", pictures[k % 3], "what", ("1",), f"p{k % 3}", "d") for k in range(9)]
    batches = list(sweeping._batches(asked, {4}, 3, 0, asked_length))
    assert [[number for number, _ in batch] for batch in batches] == [[0, 3, 6], [1, 7], [2, 5, 8]]
    drawn = (example for example in asked)  # what can be gone through once is taken as it comes
    assert [number for batch in sweeping._batches(drawn, set(), 4, 0, asked_length) for number, _ in batch] == list(
        range(9)
    )


def test_a_sweep_writes_no_table(tiny, examples, tmp_path):
    with pytest.raises(DataError, match="a sweep writes SQLite"):
        sweep(tiny, examples, tmp_path / "o.csv")


def test_what_cannot_be_measured_costs_one_recorded_error(tiny, examples, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG nothing")
    bad = [
        Example("torn", tmp_path / "torn.png", "what", ("1",), "t", "d"),
        Example("long", examples[0].image, "what " * 500, ("1",), "p0", "d"),
        Example("two", (examples[0].image, examples[1].image), "what", ("1",), "p0", "d"),
        Example("blank", examples[0].image, " ", ("1",), "p0", "d"),
    ]
    told = []
    path = sweep(
        tiny, [*examples[:5], *bad, *examples[5:]], tmp_path / "o.sqlite", on_failure=lambda *f: told.append(f)
    )
    assert sorted(Outcomes.load(path).id.tolist()) == sorted(example.id for example in examples)
    reasons = dict(store.failures(path))
    assert reasons == dict(told) and reasons.keys() == {"torn", "long", "two", "blank"}
    assert "torn.png" in reasons["torn"] and "must fit in" in reasons["long"] and "was: 2" in reasons["two"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_raises_anything_costs_one_recorded_error(tiny, pictures, examples, tmp_path, workers):
    pictures[0].save(tmp_path / "whole.png")
    torn = (tmp_path / "whole.png").read_bytes()[:-60]
    bad = [
        Example("absent", partial(Image.open, tmp_path / "absent.png"), "what", ("1",), "t", "d"),
        Example("torn", Image.open(io.BytesIO(torn)), "what", ("1",), "u", "d"),
    ]
    path = sweep(tiny, [*examples[:3], *bad], tmp_path / "o.sqlite", workers=workers)
    reasons = dict(store.failures(path))
    assert reasons.keys() == {"absent", "torn"} and "FileNotFoundError" in reasons["absent"]
    assert len(Outcomes.load(path)) == 3


def test_out_of_memory_halves_the_batch_and_goes_on(tiny, examples, tmp_path, monkeypatch):
    whole = Outcomes.load(sweep(tiny, examples, tmp_path / "whole.sqlite"))
    real, sizes = tiny.measure_ladder, []

    def small(encoded, questions, *rest):
        sizes.append(len(questions))
        if len(questions) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(encoded, questions, *rest)

    monkeypatch.setattr(tiny, "measure_ladder", small)
    halved = Outcomes.load(sweep(tiny, examples, tmp_path / "o.sqlite"))
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert np.array_equal(halved.text, whole.text)


def test_other_runtime_errors_are_not_taken_for_memory(tiny, examples, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(tiny, "measure_ladder", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        sweep(tiny, examples, tmp_path / "o.sqlite")


def test_choices_give_a_margin(tiny, examples, tmp_path):
    letters = Example("l", examples[0].image, "which", ("B",), "p0", "d", choices=("cat", "dog", "cow"))
    words = Example("w", examples[0].image, "which", ("dog",), "p0", "d", choices=("cat", "dog", "cow"))
    path = sweep(tiny, [letters, words], tmp_path / "o.sqlite")
    rows = (
        sqlite3.connect(path).execute("SELECT number, gold_logprob, margin FROM measurements WHERE arm = 0").fetchall()
    )
    encoded = tiny.encode([examples[0].picture()] * 3)
    for (_, gold, margin), texts in zip(sorted(rows), (("A", "B", "C"), ("cat", "dog", "cow")), strict=True):
        scores = tiny.score(encoded, ["which"] * 3, texts, tiny.ladder[0])
        assert gold == pytest.approx(scores[1], abs=1e-4)
        assert margin == pytest.approx(scores[1] - max(scores[0], scores[2]), abs=1e-4)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (
            "questions.jsonl",
            "examples must allow more than one pass, was: str; give a list, or what `training_data.read",
        ),
        (None, "examples must allow more than one pass, was: NoneType"),
        ([("p.png", "what")], "examples must be Examples, was: "),
    ],
)
def test_what_are_no_examples_is_told(tiny, tmp_path, given, rule):
    with pytest.raises(DataError, match=rule):
        sweep(tiny, given, tmp_path / "o.sqlite")
    assert not (tmp_path / "o.sqlite").exists()


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"group": None}, "group of an example must be valid text, was: None at place 1"),
        ({"id": b"x"}, "id of an example must be valid text, was: b'x' at place 1"),
        ({"dataset": "donn\udce9es"}, "dataset of an example must be valid text, was: 'donn.udce9es' at place 1"),
        ({"meta": {1: 2, "b": 3}}, "meta must be what JSON can hold, with texts for keys"),
        ({"meta": {(1, 2): 3}}, "meta must be what JSON can hold, with texts for keys"),
    ],
)
def test_what_no_file_could_hold_is_refused_before_anything_is_asked(tiny, examples, tmp_path, changed, rule):
    given = [examples[0], replace(examples[1], **changed)]
    with pytest.raises(DataError, match=rule):
        sweep(tiny, given, tmp_path / "o.sqlite")
    assert not (tmp_path / "o.sqlite").exists()


def test_what_a_reader_read_is_swept_as_it_is(tiny, examples, tmp_path):
    path = sweep(tiny, Reading(tuple(examples[:2])), tmp_path / "o.sqlite")
    assert len(Outcomes.load(path)) == 2


def test_replicates_see_changed_pictures_of_the_same_questions(tiny, examples, tmp_path):
    outcomes = Outcomes.load(sweep(tiny, examples, tmp_path / "o.sqlite", replicates=2))
    first, second = outcomes.select(outcomes.replicate == 0), outcomes.select(outcomes.replicate == 1)
    assert first.id.tolist() == second.id.tolist()
    assert not np.array_equal(first.features.values, second.features.values)
    assert np.array_equal(first.digest(), Outcomes.load(sweep(tiny, examples, tmp_path / "1.sqlite")).digest())


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (iter([]), "more than one pass"),
        ([], "at least one example"),
        ([Example("a", "x.png", "q", ("1",), "g", "d")] * 2, "was twice: 'a'"),
    ],
)
def test_examples_that_break_a_rule_are_refused(tiny, tmp_path, examples, message):
    with pytest.raises(DataError, match=message):
        sweep(tiny, examples, tmp_path / "o.sqlite")


@pytest.mark.parametrize("ladder", [(4,), (4, 1), (1, 1, 2)])
def test_a_ladder_must_rise(tiny, examples, tmp_path, ladder):
    with pytest.raises(DataError, match="two or more rising m"):
        sweep(tiny, examples, tmp_path / "o.sqlite", ladder=ladder)


def test_features_are_computed_anew_with_one_vision_pass(tiny, examples, tmp_path, monkeypatch):
    path = sweep(tiny, examples, tmp_path / "o.sqlite")
    before = Outcomes.load(path)
    monkeypatch.setattr(sweeping.features, "VERSION", 99)
    monkeypatch.setattr(
        sweeping.features, "picture_features", lambda b, e, s: np.full((len(s), len(feature_names(b)) - 8), 5)
    )
    monkeypatch.setattr(sweeping.features, "match_features", lambda b, e, q: np.full((len(q), 8), 5))
    monkeypatch.setattr(tiny, "measure_ladder", None)
    refresh_features(tiny, examples, path)
    after = Outcomes.load(path)
    assert after.features.version == 99 and (after.features.values == 5).all()
    assert np.array_equal(after.score, before.score)
    with pytest.raises(DataError, match="data was"):
        refresh_features(tiny, examples[:-1], path)


def test_scenes_are_named_in_one_word():
    scenes, skipped = open_data("scenes:b:test:3:2")
    assert skipped is None and scenes == SceneExamples(3, "b", "test", 2)
    assert len(list(scenes)) == 6 and [e.id for e in scenes] == [e.id for e in scenes]


@pytest.mark.parametrize(
    "text", ["scenes:c:test:3", "scenes:a:tests:3", "scenes:a:test", "scenes:a:test:0", "scenes:a:test:x"]
)
def test_other_words_for_scenes_are_refused(text):
    with pytest.raises(DataError, match="scenes are named"):
        open_data(text)


def test_a_folder_needs_its_benchmark(tmp_path):
    with pytest.raises(DataError, match="give --benchmark"):
        open_data(str(tmp_path))


COMMAND = [sys.executable, "-m", "router.commands", "sweep", "--data", "scenes:a:test:160", "--workers", "1"]


@pytest.mark.slow
def test_the_command_killed_at_five_random_instants_gives_the_uninterrupted_file(tmp_path):
    """SIGKILL; the packaged model on scenes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    subprocess.run([*COMMAND, "--out", tmp_path / "whole.sqlite"], check=True, capture_output=True, env=environment)
    whole_seconds = time.monotonic() - started
    path, dice, kills = tmp_path / "o.sqlite", random.Random(0), 0
    for _ in range(5):
        process = subprocess.Popen(
            [*COMMAND, "--out", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        time.sleep(dice.uniform(0.3, 1.0) * whole_seconds * 0.8)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    subprocess.run([*COMMAND, "--out", path], check=True, capture_output=True, env=environment)
    assert tables(path) == tables(tmp_path / "whole.sqlite")
    assert Outcomes.load(path).digest() == Outcomes.load(tmp_path / "whole.sqlite").digest()


def test_replicates_reorder_the_choices_that_a_question_lists(tiny, examples, tmp_path):
    question = "Which animal?\nA. cat\nB. dog\nC. cow\nAnswer with the letter."
    example = replace(examples[0], question=question, answers=("B",), choices=("cat", "dog", "cow"), metric="letter")
    orders = set()
    for number in range(1, 12):
        moved = reordered(example, number)
        assert sorted(moved.choices) == ["cat", "cow", "dog"] and moved.question.endswith("\nAnswer with the letter.")
        assert moved.choices["ABC".index(moved.answers[0])] == "dog"
        assert f"{moved.answers[0]}. dog" in moved.question
        orders.add(moved.choices)
    assert len(orders) > 3
    assert reordered(example, 0) is example and reordered(examples[1], 3) is examples[1]
    outcomes = Outcomes.load(sweep(tiny, [example], tmp_path / "o.sqlite", replicates=3))
    assert len(set(outcomes.question.tolist())) > 1 and len(set(outcomes.id.tolist())) == 1


def test_a_caption_is_scored_by_the_likelihood_of_its_gold(tiny, examples, tmp_path):
    example = replace(examples[0], answers=("a red dog", "dog"), metric="likelihood")
    outcomes = Outcomes.load(sweep(tiny, [example], tmp_path / "o.sqlite"))
    encoded = tiny.encode([example.picture()])
    per_token = [
        tiny.score_ladder(encoded, [example.question], [gold])[0] / len(tiny.answer_ids(gold))
        for gold in example.answers
    ]
    assert np.allclose(outcomes.score[0], np.exp(np.max(per_token, axis=0)), atol=1e-4)
    with pytest.raises(DataError, match="sweep with it"):
        score("a dog", example)


def test_noise_pictures_differ_from_their_replicates_by_little():
    from training_data.replicates import disturbed

    plain = Image.new("RGB", (40, 30), (100, 150, 200))
    changed = np.asarray(disturbed(plain, 1), dtype=int)
    assert 0 < np.abs(changed - np.asarray(plain, dtype=int)).max() <= 12
    assert np.array_equal(changed, np.asarray(disturbed(plain, 1)))
    assert not np.array_equal(changed, np.asarray(disturbed(plain, 2)))
