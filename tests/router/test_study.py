"""A study ranks what it must: nothing from chance, little from the name, more from the picture, most from facts."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_outcomes

from router import DataError, Router
from router.columns import GROUPS
from router.competitors import Competitors
from router.fitting import fit
from router.predictor import folds_of
from router.study import PARTS, studies, study
from training_data.outcomes import Outcomes

CONSTANT = ("constant arms (hull)", "data set's name")


@pytest.fixture(scope="module")
def tables():
    return make_outcomes(250, seed=2), make_outcomes(200, seed=3)


@pytest.fixture(scope="module")
def own(tables):
    return Router.fit(tables[0])


@pytest.fixture(scope="module")
def whole(own, tables):
    return study(*tables, router=own, resamples=20)


def untimed(evaluation):
    assert evaluation.router_ms > 0
    return replace(evaluation, router_ms=0.0).to_json()


def of(found, part):
    return [row.name for row in found.rows if row.part == part]


def test_every_part_has_its_rows(whole):
    assert {part: of(whole, part) for part in PARTS} == {
        "nulls": [*CONSTANT, "shuffled router (same m)", "question only", "image only", "logistic regression per arm"],
        "heads": ["head gain", "head ordinal"],
        "privileged": ["privileged (knows the facts)"],
        "probe": [],
        "groups": [f"without {group}" for group in ("pixels", "patches", "words", "text")],
        "permuted": ["permuted labels"],
        "left-out": ["never saw d1", "never saw d0", "never saw d2"],
        "labels": ["fitted on 100 pictures", "fitted on 150 pictures"],
    }


def test_labels_of_other_questions_earn_nothing(whole):
    found = whole.row("permuted labels").gap_recovered
    assert found.low <= 0 and found.value < 0.1


def test_constant_arms_and_the_data_set_s_name_stand_in_every_table(whole):
    fixed, name = (whole.row(row) for row in CONSTANT)
    assert fixed.gap_recovered.value == pytest.approx(0, abs=1e-9) and fixed.brier_skill.value < 0
    assert name.gap_recovered.value == pytest.approx(whole.router.gap_recovered_identity.value, abs=0.02)
    assert name.brier_skill.value == pytest.approx(0, abs=1e-9)


def test_heads_are_compared_by_what_no_test_row_decided(whole, own, tables):
    told = {row.name: row.out_of_fold for row in whole.lines()}
    assert told["this router"] == told["head gain"] == own.facts["out_of_fold_gap"]
    assert told["head ordinal"] == Router.fit(tables[0], head="ordinal").facts["out_of_fold_gap"]
    assert math.isnan(told["data set's name"]) and "G out of fold" in str(whole)
    rows = {row["name"]: row["out_of_fold_gap"] for row in whole.to_json()["rows"]}
    assert rows["head ordinal"] == told["head ordinal"] and rows["data set's name"] is None


def test_permuted_labels_are_held_against_what_the_names_truly_say(whole):
    found = whole.row("permuted labels")
    assert found.gap_recovered_identity.value == pytest.approx(whole.router.gap_recovered_identity.value, abs=0.02)


def test_who_knows_the_facts_earns_more_than_who_sees_the_picture(whole):
    assert whole.row("privileged (knows the facts)").gap_recovered.low > whole.router.gap_recovered.high


def test_the_question_alone_is_worth_what_the_data_set_s_name_is(whole):
    """Here a data set is a kind of question, and its words say nothing more."""
    assert abs(whole.row("question only").gap_recovered_over_identity.value) < 0.1
    assert whole.router.gap_recovered_over_identity.low > 0


def test_a_router_whose_curves_belong_to_other_questions_earns_less(whole):
    assert whole.row("shuffled router (same m)").gap_recovered.high < whole.router.gap_recovered.low


def test_what_carries_the_need_is_missed(whole):
    """The picture's need is in pixels_busy; patches_noise is none of it."""
    without = {group: whole.row(f"without {group}").gap_recovered.value for group in ("pixels", "patches")}
    assert without["pixels"] < whole.router.gap_recovered.value - 0.1 < without["patches"]
    assert whole.row("image only").gap_recovered.value < whole.router.gap_recovered.value


def test_the_router_s_own_row_is_its_own_evaluation(whole, own, tables):
    assert untimed(whole.router) == untimed(own.evaluate(tables[1], resamples=20))
    assert whole.row("head gain").gap_recovered == whole.router.gap_recovered


def test_a_data_set_left_out_is_neither_fitted_on_nor_calibrated_on(whole, tables):
    train, test = tables
    rest, unseen = train.select(train.dataset != "d1"), test.select(test.dataset == "d1")
    found, alone = whole.row("never saw d1"), Router.fit(rest).evaluate(unseen, resamples=20)
    assert found.rows == len(unseen)
    assert found.gap_recovered.value == pytest.approx(alone.gap_recovered.value)


@pytest.mark.slow
def test_arms_keep_their_columns_where_the_rest_ranks_them_otherwise(tables):
    """Without d2, arm 16 is cheaper than arm 4, and the rest's router has them the other way round."""
    cheap, dear = np.array([21.0, 30.0, 29.0, 84.0]), np.array([21.0, 24.0, 36.0, 84.0])
    train, test = (replace(t, m=None, cost=np.where((t.dataset == "d2")[:, None], dear, cheap)) for t in tables)
    rest, unseen = train.select(train.dataset != "d2"), test.select(test.dataset == "d2")
    assert Router.fit(rest).arms == ("1", "16", "4", "64") and Router.fit(train).arms == ("1", "4", "16", "64")
    alone = fit(rest, "gain", GROUPS, None, 0)
    found = study(train, test, parts=["left-out"], resamples=5).row("never saw d2")
    expected = alone.evaluate(unseen, resamples=5)
    assert found.gap_recovered.value == pytest.approx(expected.gap_recovered.value)
    assert found.arms == expected.arms == ("1", "4", "16", "64") and found.arm_cost == expected.arm_cost


@pytest.mark.slow
def test_the_order_of_the_train_table_s_arms_changes_nothing(tables):
    train, test = (replace(table, m=None) for table in tables)
    own, parts = Router.fit(train), ["nulls", "privileged"]
    turned = train.take_arms([3, 1, 0, 2])
    one, other = (study(table, test, router=own, parts=parts, resamples=5) for table in (train, turned))
    assert untimed(one.router) == untimed(other.router)
    assert other.to_json()["rows"] == one.to_json()["rows"]


def test_a_data_set_without_which_too_little_is_left_is_passed_over(tables):
    """The whole study once ended there, after everything else had been fitted."""
    train, test = make_outcomes(110), tables[1]
    lone = replace(train, dataset=np.where(np.arange(len(train)) < 30, "small", "large"))
    tested = replace(test, dataset=np.where(np.arange(len(test)) < 30, "small", "large"))
    assert of(study(lone, tested, parts=["left-out"], resamples=5), "left-out") == []
    one = replace(tested, dataset=np.full(len(test), "small"))
    assert of(study(lone, one, parts=["left-out"], resamples=5), "left-out") == []


def facts(table, **change):
    return replace(table, meta=np.array([known | {k: f(known) for k, f in change.items()} for known in table.meta]))


def test_facts_may_be_numbers_words_missing_or_endless(tables):
    strange = {
        "need": lambda known: None if known["need"] > 4 else math.inf if known["need"] < -2 else known["need"],
        "hue": lambda known: "red" if known["need"] > 1 else None,
        "flag": lambda known: known["need"] > 2,
    }
    train, test = (facts(table, **strange) for table in tables)
    found = study(train, test, parts=["privileged"], resamples=5)
    assert found.rows[0].evaluation.gap_recovered.value > 0.4


def test_a_name_of_every_picture_is_no_fact(tables):
    """Every name was once a column of its own: n x n numbers for a table whose pictures have paths."""
    train, test = (replace(t, meta=np.array([{"image": f"{name}.png"} for name in t.group])) for t in tables)
    assert study(train, test, parts=["privileged"], resamples=5).rows == ()


def test_without_pictures_and_facts_a_study_leaves_their_parts_out():
    train, test = (replace(make_outcomes(100, seed=seed, features=False), meta=None) for seed in (4, 5))
    found = study(train, test, parts=["nulls", "privileged", "groups"], resamples=5)
    assert of(found, "nulls") == [*CONSTANT, "shuffled router (same m)", "question only", "logistic regression per arm"]
    assert of(found, "privileged") == [] and of(found, "groups") == ["without words", "without text"]
    assert study(train, test, parts=["labels"], resamples=5).rows == ()


def test_a_row_is_found_by_its_name_and_others_are_told(whole):
    assert whole.row("head ordinal") is whole.rows[7].evaluation
    with pytest.raises(
        DataError, match=r"rows are constant arms .*, shuffled router .*, permuted labels, .*, was: 'oracle'"
    ):
        whole.row("oracle")


def test_json_has_every_row_and_no_nan(whole):
    told = json.loads(json.dumps(whole.to_json(), allow_nan=False))
    assert [(row["part"], row["name"]) for row in told["rows"]] == [(row.part, row.name) for row in whole.rows]
    assert {"curve", "hull", "oracle", "gap_recovered", "gap_recovered_interval"} <= told["router"].keys()
    assert told["rows"][0].keys() - {"part", "name"} == told["router"].keys()


def test_the_text_has_one_line_per_row(whole):
    lines = str(whole).splitlines()
    for name in ("this router", *(row.name for row in whole.rows)):
        assert sum(line.startswith(f"{name}  ") for line in lines) == 1
    assert [line for line in lines if line.startswith("-- ")] == [f"-- {part}" for part in PARTS if part != "probe"]


@pytest.mark.parametrize("parts", [["null"], ["nulls", "oracle"]])
def test_an_unknown_part_is_refused(tables, parts):
    with pytest.raises(DataError, match=f"parts of a study are nulls, .*, was: '{parts[-1]}'"):
        study(*tables, parts=parts)


@pytest.mark.parametrize("parts", [5, "nulls"])
def test_parts_are_a_list(tables, parts):
    with pytest.raises(DataError, match="parts of a study must be a list of names, was: "):
        study(*tables, parts=parts)


def test_tables_that_do_not_fit_together_are_refused(own, tables):
    train, test = tables
    with pytest.raises(DataError, match="without '64'"):
        study(train, test.take_arms([0, 1, 2]), router=own, parts=["nulls"])
    with pytest.raises(DataError, match="without '64'"):
        study(train.take_arms([0, 1, 2]), test, router=own, parts=["nulls"])
    with pytest.raises(DataError, match="counts in 'tflops', was: outcomes in 'tokens'"):
        study(train, replace(test, unit="tokens"), parts=["nulls"])


def test_a_router_studies_itself(own, tables):
    found = own.study(*tables, parts=["permuted"], resamples=5)
    assert of(found, "permuted") == ["permuted labels"]


def test_only_who_looks_at_pictures_pays_for_looking(tables):
    train, test = tables
    own = Router.fit(train, routing_cost=0.001)
    found = study(train, test, router=own, parts=["nulls", "privileged"], resamples=5)
    assert found.router.routing_cost == found.row("image only").routing_cost == 0.001
    assert found.row("logistic regression per arm").routing_cost == 0.001
    assert found.row("question only").routing_cost == found.row("privileged (knows the facts)").routing_cost == 0


def test_a_table_that_was_trained_on_is_told(tables):
    assert study(tables[0], tables[0], parts=[], resamples=5).router.shared_pictures == 250
    assert "WARNING: 250" in str(study(tables[0], tables[0], parts=[], resamples=5))


def test_who_never_saw_a_data_set_has_no_name_for_it(whole, tables):
    """Its identity is one constant arm mixture, the hull: the router is not held against a name it could not know."""
    unseen = tables[1].select(tables[1].dataset == "d1")
    assert whole.row("never saw d1").rows == len(unseen)
    assert whole.row("never saw d1").gap_recovered_identity.value == pytest.approx(0, abs=0.05)


def test_competitors_have_the_router_s_own_head_and_groups(tables):
    train, test = tables
    own = Router.fit(train, head="ordinal", groups=["words", "pixels"])
    made = Competitors(own, own.matched(train), own.matched(test))
    [first, *_] = made.labels()
    again = fit(train.select(folds_of(train.group, 10**9, 0) < 100), "ordinal", ("pixels", "words"), None, 0)
    assert np.array_equal(first.test.curve, again.routed(test).curve)


@pytest.mark.slow
def test_tests_that_are_studied_together_are_scored_as_if_alone(own, tables):
    train, first = tables
    second = make_outcomes(90, seed=9)
    parts = ["nulls", "privileged", "left-out"]
    both = studies(train, {"one": first, "two": second}, router=own, parts=parts, resamples=5)
    for name, test in {"one": first, "two": second}.items():
        alone = study(train, test, router=own, parts=parts, resamples=5)
        for row in alone.rows:
            if "shuffled" not in row.name:
                assert both[name].row(row.name).to_json() == row.evaluation.to_json(), row.name
    with pytest.raises(DataError, match="different pictures"):
        studies(train, {"one": first, "two": first.select([0, 1, 2, 3])}, router=own, parts=[])


def test_replicates_serve_the_oracle_without_luck_and_nothing_else(own, tables):
    test = tables[1]
    again = replace(test, replicate=test.replicate + 1, score=1 - test.score)
    found, alone = (
        study(tables[0], rows, router=own, parts=[], resamples=5) for rows in (Outcomes.concat([test, again]), test)
    )
    assert found.router.rows == len(test) and found.router.oracle_crossfit is not None
    assert found.router.gap_recovered == alone.router.gap_recovered
    assert alone.router.oracle_crossfit is None
