"""Outcomes: checked when built, frozen, split by picture, the same after every way of saving."""

import math
from pathlib import Path

import numpy as np
import pytest

from encoders.errors import DataError
from training_data import tables
from training_data.lock import FileLock
from training_data.outcomes import Features, Outcomes


def columns(n=60, **changed):
    rng = np.random.default_rng(0)
    return {
        "id": [f"q{k}" for k in range(n)],
        "group": [f"picture {k // 2}" for k in range(n)],
        "dataset": ["one" if k % 3 else "two" for k in range(n)],
        "question": [f'what is, "it" {k}' for k in range(n)],
        "replicate": np.zeros(n, dtype=int),
        "arms": ("1", "4", "16"),
        "m": [1, 4, 16],
        "score": rng.integers(0, 2, (n, 3)) * 0.5,
        "cost": np.tile([1.0, 2.5, 7.0], (n, 1)),
    } | changed


def full(n=60):
    rng = np.random.default_rng(1)
    return Outcomes(
        **columns(n),
        gold_logprob=-rng.random((n, 3)),
        confidence=-rng.random((n, 3)),
        **{name: -rng.random((n, 3)) for name in ("top1", "top2", "top3", "entropy")},
        text=np.array([[f"a{k}", "ünd,so", ""] for k in range(n)], dtype=object),
        features=Features(3, ("x", "y"), rng.normal(size=(n, 2))),
        meta=[{"k": k} for k in range(n)],
        backbone=("nano", "abc"),
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": np.full((60, 3), 1.5)}, r"scores must lie in \[0, 1\], was: 1.5 for id 'q0', arm '1'"),
        ({"score": np.full((60, 3), np.nan)}, "score must hold no NaN"),
        ({"score": np.zeros((60, 2))}, r"score must be \(examples, arms\)"),
        ({"cost": np.zeros((60, 3))}, "costs must be positive"),
        ({"cost": np.full((60, 3), np.inf)}, "costs must be positive"),
        ({"group": ["g"] * 59}, "group must have one entry per example"),
        ({"id": ["same"] * 60}, "was twice: 'same', replicate 0"),
        ({"id": []}, "at least one example"),
        ({"replicate": np.full(60, -1)}, "replicate must be"),
        ({"replicate": np.zeros(60)}, "replicate must be"),
        ({"arms": ("1", "1", "4")}, "arms of different names"),
        ({"arms": ("1",)}, "two or more arms"),
        ({"m": [4, 1, 16]}, "rising whole numbers"),
        ({"m": [1.0, 4.0, 16.0]}, "rising whole numbers"),
        ({"gold_logprob": np.full((60, 3), np.nan)}, "gold_logprob must hold no NaN"),
        ({"score": [[0.1, 0.2], [0.1]]}, "score must be a table of numbers"),
        ({"score": [["good"] * 3] * 60}, "score must be a table of numbers"),
        ({"cost": None}, r"cost must be \(examples, arms\)"),
        ({"meta": [1] * 60}, "meta must hold mappings, was: int"),
        ({"meta": [{}]}, "meta must have one entry per example"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(changed, message):
    with pytest.raises(DataError, match=message):
        Outcomes(**columns(**changed))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(59, bool), r"one entry per example \(60\), was: \(59,\)"),
        ([60], "whole numbers below 60, or a mask"),
        ([-61], "whole numbers below 60, or a mask"),
        ([0.7], "whole numbers below 60, or a mask"),
        ([], "at least one example"),
    ],
)
def test_rows_that_are_not_there_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        full().select(rows)
    assert full().select([-1]).id.tolist() == ["q59"]


def test_features_must_be_finite_and_named():
    with pytest.raises(DataError, match="column 'y'"):
        Features(1, ("x", "y"), np.array([[1.0, np.nan]]))
    with pytest.raises(DataError, match="one column per name"):
        Features(1, ("x",), np.zeros((2, 2)))
    with pytest.raises(DataError, match="features must have 60 rows"):
        Outcomes(**columns(), features=Features(1, ("x",), np.zeros((2, 1))))


def test_outcomes_are_frozen_and_keep_no_hold_on_the_callers_arrays():
    score = np.zeros((60, 3))
    outcomes = Outcomes(**columns(score=score))
    score[:] = 1
    assert outcomes.score.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        outcomes.score[0, 0] = 1


def test_a_split_parts_no_picture_and_does_not_depend_on_order_or_company():
    outcomes = full(600)
    parts = outcomes.split((0.5, 0.3, 0.2))
    groups = [set(part.group.tolist()) for part in parts]
    assert sum(len(part) for part in parts) == 600
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len(parts[0]) == pytest.approx(300, abs=60)
    mixed = outcomes.select(np.random.default_rng(0).permutation(600)[:400]).split((0.5, 0.3, 0.2))
    for before, after in zip(parts, mixed, strict=True):
        assert set(after.id.tolist()) <= set(before.id.tolist())
    assert set(outcomes.split((0.5, 0.5), seed=1)[0].id.tolist()) != set(outcomes.split((0.5, 0.5))[0].id.tolist())


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (-0.5, 1.5), (0.0, 1.0)])
def test_shares_must_sum_to_one(shares):
    with pytest.raises(DataError, match="shares must be"):
        full().split(shares)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda o, p: o.split(2), "shares must be two or more positive numbers that sum to 1, was: 2"),
        (lambda o, p: o.split("ab"), "shares must be .*, was: 'ab'"),
        (lambda o, p: o.take_arms(["1", "4"]), "arms must be numbers from 0 to 2, was: "),
        (lambda o, p: o.take_arms([0, 9]), "arms must be numbers from 0 to 2, was: "),
        (lambda o, p: o.take_arms([True, False]), "arms must be numbers from 0 to 2, was: "),
        (lambda o, p: Outcomes.concat(o), "concat takes a list of one or more Outcomes, was: "),
        (lambda o, p: Outcomes.concat([o, 5]), "concat takes a list of one or more Outcomes, was: "),
        (lambda o, p: o.save(None), "outcomes are saved to a path, was: None"),
        (lambda o, p: o.save(p / "o.json"), r"saved as \.sqlite, \.csv or \.parquet, was: o\.json"),
        (
            lambda o, p: o.save(p / "no" / "o.csv"),
            r"o\.csv needs a folder that exists and can be written, was: No such",
        ),
        (lambda o, p: o.save(p / "no" / "o.parquet"), r"o\.parquet needs a folder that exists"),
        (
            lambda o, p: o.save((p / "file").write_text("") or p / "file" / "o.csv"),
            r"o\.csv needs a folder that exists",
        ),
        (lambda o, p: o.save(p / "no" / "o.sqlite"), r"o\.sqlite needs a folder that exists"),
    ],
)
def test_calls_of_odd_types_are_refused_by_rule(tmp_path, call, rule):
    with pytest.raises(DataError, match=rule):
        call(full(), tmp_path)


def test_shares_may_be_an_array():
    parts = full().split(np.array([0.5, 0.5]))
    assert [part.id.tolist() for part in parts] == [part.id.tolist() for part in full().split((0.5, 0.5))]


def test_an_empty_part_is_refused():
    with pytest.raises(DataError, match="every part of a split needs a group"):
        full(2).split((0.5, 0.5))


def test_select_takes_rows_of_everything():
    outcomes = full()
    some = outcomes.select([5, 3])
    assert some.id.tolist() == ["q5", "q3"] and some.meta[0] == {"k": 5} and some.text[1, 0] == "a3"
    assert np.array_equal(some.features.values, outcomes.features.values[[5, 3]])
    assert outcomes.select(outcomes.dataset == "two").dataset.tolist() == ["two"] * 20


def test_concat_undoes_a_split_and_refuses_what_differs():
    outcomes = full()
    first, second = outcomes.select(range(20)), outcomes.select(range(20, 60))
    assert Outcomes.concat([first, second]).digest() == outcomes.digest()
    with pytest.raises(DataError, match="the same arms"):
        Outcomes.concat([first, Outcomes(**columns(arms=("1", "4", "17")))])
    with pytest.raises(DataError, match="the same m"):
        Outcomes.concat([Outcomes(**columns()), Outcomes(**columns(m=None, id=[f"z{k}" for k in range(60)]))])
    with pytest.raises(DataError, match="features of one version"):
        later = Outcomes(**columns(id=[f"z{k}" for k in range(60)]), features=Features(4, ("x",), np.zeros((60, 1))))
        Outcomes.concat([Outcomes(**columns(), features=Features(3, ("x",), np.zeros((60, 1)))), later])


@pytest.mark.parametrize("outcomes", [full(), Outcomes(**columns(m=None)), full().select([3, 1, 2])])
def test_sqlite_gives_back_what_was_saved(tmp_path, outcomes):
    assert Outcomes.load(outcomes.save(tmp_path / "o.sqlite")).digest() == outcomes.digest()
    with pytest.raises(DataError, match="never overwritten"):
        outcomes.save(tmp_path / "o.sqlite")


def test_two_that_save_to_one_name_do_not_take_each_others_file(tmp_path):
    lock = FileLock(tmp_path / "o.sqlite")
    (tmp_path / "o.sqlite.part").write_bytes(b"what the other has written so far")
    with pytest.raises(DataError, match=r"one process at a time writes to o\.sqlite"):
        full().save(tmp_path / "o.sqlite")
    assert (tmp_path / "o.sqlite.part").read_bytes() == b"what the other has written so far"
    lock.close()
    full().save(tmp_path / "o.sqlite")
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize("name", ["id", "group", "dataset", "question"])
def test_half_a_character_pair_is_in_no_name(name):
    with pytest.raises(DataError, match=f"{name} must be a text for every example, was: '.ud83d'"):
        Outcomes(**columns(3, **{name: ["a", "b", "\ud83d"]}))


def test_what_json_does_not_know_is_kept_in_meta_as_text(tmp_path):
    outcomes = Outcomes(**columns(1, meta=np.array([{"file": Path("a") / "b.png"}], dtype=object)))
    assert Outcomes.load(outcomes.save(tmp_path / "o.sqlite")).meta[0] == {"file": str(Path("a") / "b.png")}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_that_was_killed_half_way_has_not_its_name(tmp_path, monkeypatch, ending):
    whole = tables._rows

    def killed(of):
        yield next(whole(of))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            full().save(tmp_path / f"o.{ending}")
    assert not (tmp_path / f"o.{ending}").exists()
    assert len(Outcomes.load(full().save(tmp_path / f"o.{ending}"))) == 60
    assert [path.name for path in tmp_path.iterdir()] == [f"o.{ending}"]


def test_replicates_share_their_example(tmp_path):
    twice = columns(4, id=["a", "b", "a", "b"], replicate=np.array([0, 0, 1, 1]))
    outcomes = Outcomes(**twice)
    assert Outcomes.load(outcomes.save(tmp_path / "o.sqlite")).digest() == outcomes.digest()
    assert outcomes.originals().id.tolist() == ["a", "b"]


def test_pandas_is_given_a_row_per_example_and_arm():
    pytest.importorskip("pandas")
    outcomes = full(3)
    frame = outcomes.to_pandas()
    assert frame["id"].tolist() == ["q0"] * 3 + ["q1"] * 3 + ["q2"] * 3 and frame["m"].tolist() == [1, 4, 16] * 3
    assert frame["score"].tolist() == outcomes.score.ravel().tolist()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_gives_back_scores_costs_and_texts(tmp_path, ending):
    outcomes = full()
    again = Outcomes.load(outcomes.save(tmp_path / f"o.{ending}"))
    for name in ("id", "group", "dataset", "question", "score", "cost", "gold_logprob", "confidence", "m"):
        assert np.array_equal(getattr(again, name), getattr(outcomes, name)), name
    assert again.arms == outcomes.arms


@pytest.mark.parametrize("name", ["id", "group", "dataset", "question"])
@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_name_or_question_is_none(name, missing):
    """Rows without a picture became one picture called "None"."""
    columns = {"id": ["1", "2"], "group": ["1", "2"], "dataset": ["a", "a"], "question": ["x", "y"]}
    columns[name][1] = missing
    table, columns["replicate"] = np.ones((2, 2)), np.zeros(2, int)
    with pytest.raises(DataError, match=f"{name} must be a text for every example, was: {missing}"):
        Outcomes(**columns, arms=("a", "b"), score=table, cost=table)


def test_numbers_are_names_and_no_questions():
    table = np.ones((2, 2))
    names = {"id": [1, 2], "group": np.array([7, 8]), "dataset": ["a", "a"], "arms": ("a", "b"), "replicate": [0, 0]}
    found = Outcomes(**names, question=["x", "y"], score=table, cost=table)
    assert found.id.tolist() == ["1", "2"] and found.group.tolist() == ["7", "8"]
    with pytest.raises(DataError, match="question must be a text for every example, was: 5"):
        Outcomes(**names, question=["x", 5], score=table, cost=table)
