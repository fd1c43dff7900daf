from dataclasses import replace

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

from encoders.errors import DataError
from router.predictor import ComplexityPredictor, folds_of, reached
from router.readout import Readout

SMALL = {"rounds": 100, "trees": 10}


def world(n=1500, seed=0, noise=1.0):
    """Scores of four arms on rows whose first column says which arm is needed; the last column is noise."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 4)).astype(np.float32)
    need = np.clip((rows[:, 0] * 1.2 + 2).round(), 0, 4)
    chance = 1 / (1 + np.exp(-3 * (np.arange(4) - need[:, None] + 0.5)))
    return rows, (rng.random((n, 4)) < chance).astype(float), chance


def test_it_is_a_scikit_learn_estimator():
    check_estimator(ComplexityPredictor(rounds=5, trees=3, folds=2), on_skip=None)


def test_the_ordinal_head_is_one_too():
    check_estimator(ComplexityPredictor(head="ordinal", rounds=5, trees=3, folds=2), on_skip=None)


@pytest.mark.parametrize("head", ["gain", "ordinal"])
def test_it_learns_what_can_be_learned(head):
    rows, scores, _ = world()
    fresh, _, chance = world(seed=1)
    fitted = ComplexityPredictor(head, **SMALL).fit(rows, scores)
    error = ((fitted.predict(fresh) - chance) ** 2).mean()
    constant = ((scores.mean(axis=0) - chance) ** 2).mean()
    assert error < 0.35 * constant


def test_its_gains_are_as_large_as_it_says():
    rows, scores, _ = world()
    fresh, realised, _ = world(seed=1)
    predicted = np.diff(ComplexityPredictor(**SMALL).fit(rows, scores).predict(fresh), axis=1)
    slope = np.polyfit(predicted.ravel(), np.diff(realised, axis=1).ravel(), 1)[0]
    assert 0.85 < slope < 1.2


def test_shuffled_labels_teach_it_nearly_nothing():
    rows, scores, _ = world()
    shuffled = scores[np.random.default_rng(0).permutation(len(scores))]
    curve = ComplexityPredictor(**SMALL).fit(rows, shuffled).predict(world(seed=1)[0])
    assert np.diff(curve, axis=1).std(axis=0).max() < 0.05


def test_what_it_says_out_of_fold_never_saw_the_rows_group():
    rows, scores, _ = world(300)
    groups = np.arange(300) // 3
    rows[:, 3] = groups  # tells the picture apart: an estimator that parts a picture could cheat
    fitted = ComplexityPredictor(rounds=200, trees=0, leaves=30).fit(rows, scores, groups=groups)
    fold = folds_of(groups, 4)
    assert all(len(set(fold[groups == g])) == 1 for g in range(100))
    inside = ((fitted.readout_.raw(rows) - scores) ** 2).mean()
    assert ((fitted.out_of_fold_ - scores) ** 2).mean() > 1.3 * inside


def test_the_same_seed_gives_the_same_curves():
    rows, scores, _ = world(400)
    first, again = (ComplexityPredictor(seed=3, **SMALL).fit(rows, scores).predict(rows) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_smoother_target_is_learned_from_and_calibrated_against_the_scores():
    rows, scores, chance = world(400)
    fresh, _, truth = world(seed=1)
    rough, smooth = (
        ((ComplexityPredictor(**SMALL).fit(rows, scores, soft=soft).predict(fresh) - truth) ** 2).mean()
        for soft in (None, chance)
    )
    assert smooth < rough


def test_labels_count_rescues_and_never_losses():
    scores = np.array([[0, 1, 0], [0, 0, 0], [0.5, 0.5, 1], [1, 1, 1]])
    assert reached(scores).tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("head", ["gain", "ordinal"])
def test_its_readout_comes_back_from_arrays(head):
    rows, scores, _ = world(300)
    fitted = ComplexityPredictor(head, **SMALL).fit(rows, scores)
    again = Readout.from_arrays(fitted.readout_.arrays())
    assert np.array_equal(again(rows), fitted.predict(rows))


def test_contributions_add_up_to_the_differences_between_rows():
    rows, scores, _ = world(400)
    readout = ComplexityPredictor(**SMALL).fit(rows, scores).readout_
    one, other = (readout.contributions(row).sum(axis=0) for row in rows[:2])
    curves = readout(rows[:2])
    np.testing.assert_allclose(one - other, curves[0] - curves[1], atol=1e-4)


# ---- mixed with readings


def told(n=2000, seed=0, loud=1.0):
    """Rows with expected scores among them: a sum of sixty small effects, of which trees see three columns."""
    rng = np.random.default_rng(seed)
    effects = np.random.default_rng(5).normal(size=(60, 3)) * 0.06
    chance = np.clip(0.5 + rng.normal(size=(n, 60)) @ effects, 0.02, 0.98)
    readings = 0.5 + loud * (chance - 0.5)
    rows = np.concatenate([rng.normal(size=(n, 2)), readings], axis=1).astype(np.float32)
    return rows, (rng.random((n, 3)) < chance).astype(float), chance


def test_readings_that_tell_more_than_trees_can_see_have_their_share():
    rows, scores, _ = told()
    fresh, _, chance = told(seed=1)
    alone, mixed = (ComplexityPredictor(readings=readings).fit(rows, scores) for readings in ((), (2, 3, 4)))
    error = [((np.diff(fitted.predict(fresh)) - np.diff(chance)) ** 2).mean() for fitted in (alone, mixed)]
    assert mixed.readout_.share[0] > 0.6 and error[1] < 0.6 * error[0]


def test_readings_of_noise_have_none():
    rows, scores, _ = world()
    noise = np.random.default_rng(3).normal(size=(len(rows), 4)).astype(np.float32)
    fitted = ComplexityPredictor(readings=(4, 5, 6, 7), **SMALL).fit(np.concatenate([rows, noise], axis=1), scores)
    assert fitted.readout_.share[0] < 0.02


def test_readings_that_say_too_much_are_scaled_down():
    rows, scores, _ = told(loud=3.0)
    fresh, _, chance = told(seed=1, loud=3.0)
    fitted = ComplexityPredictor(readings=(2, 3, 4), trees=5, rounds=2).fit(rows, scores)
    slope = np.polyfit(np.diff(fitted.predict(fresh)).ravel(), np.diff(chance).ravel(), 1)[0]
    assert 0.85 < slope < 1.15


def test_the_ordinal_head_takes_no_share_of_readings():
    rows, scores, _ = told(300)
    assert not ComplexityPredictor("ordinal", readings=(2, 3, 4), **SMALL).fit(rows, scores).readout_.readings.size


def test_contributions_of_readings_add_up_and_their_arrays_come_back():
    rows, scores, _ = told(500)
    readout = ComplexityPredictor(readings=(2, 3, 4), **SMALL).fit(rows, scores).readout_
    one, other = (readout.contributions(row).sum(axis=0) for row in rows[:2])
    curves = readout(rows[:2])
    np.testing.assert_allclose(one - other, curves[0] - curves[1], atol=1e-4)
    assert np.array_equal(Readout.from_arrays(readout.arrays())(rows), readout(rows))
    assert np.array_equal(np.concatenate([readout(row[None]) for row in rows[:50]]), readout(rows[:50]))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"readings": np.array([2, 3])}, "one reading per arm"),
        ({"readings": np.array([2.0, 3, 4])}, "one reading per arm"),
        ({"readings": np.array([2, 3, 5])}, "among the columns 0 to 4"),
        ({"readings": np.array([-1, 3, 4])}, "among the columns 0 to 4"),
        ({"share": np.array([1.1])}, "from 0 to 1"),
        ({"share": np.array([-0.1])}, "from 0 to 1"),
        ({"share": np.array([np.nan])}, "from 0 to 1"),
        ({"share": np.zeros(2)}, "from 0 to 1"),
        ({"readings": np.zeros(0, np.int64)}, "0 where there are none"),
    ],
)
def test_readings_that_contradict_the_rest_are_refused(change, rule):
    rows, scores, _ = told(300)
    readout = ComplexityPredictor(readings=(2, 3, 4), **SMALL).fit(rows, scores).readout_
    with pytest.raises(DataError, match=rule):
        replace(readout, **change)


def test_an_unknown_head_and_a_single_group_are_refused():
    rows, scores, _ = world(20)
    with pytest.raises(ValueError, match="head must be"):
        ComplexityPredictor("best").fit(rows, scores)
    with pytest.raises(ValueError, match="two groups"):
        ComplexityPredictor().fit(rows, scores, groups=np.zeros(20))
