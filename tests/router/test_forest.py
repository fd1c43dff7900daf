import lightgbm
import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from encoders.errors import DataError
from router.forest import Forest, _rounded_down, from_lightgbm, from_sklearn


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 6)).astype(np.float32)
    wanted = np.stack([rows[:, 0] * rows[:, 1], np.abs(rows[:, 2]) + rows[:, 3]], axis=1)
    return rows, wanted


@pytest.fixture(scope="module")
def booster(data):
    rows, wanted = data
    options = {"num_leaves": 7, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(options, lightgbm.Dataset(rows, wanted[:, 0].copy()), 20)


@pytest.fixture(scope="module")
def forest(data, booster):
    rows, wanted = data
    extra = ExtraTreesRegressor(15, min_samples_leaf=5, random_state=0).fit(rows, wanted)
    boosted = from_lightgbm(booster, np.array([1.0, 0.0, -2.0]))
    return Forest.joined([boosted, from_sklearn(extra, np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.5]]))])


def test_it_predicts_what_lightgbm_predicts(data, booster):
    rows, _ = data
    found = from_lightgbm(booster, np.array([1.0, -2.0])).predict(rows)
    expected = booster.predict(rows)
    np.testing.assert_allclose(found, np.stack([expected, -2 * expected], axis=1), atol=1e-5)


def test_it_predicts_what_scikit_learn_predicts(data):
    rows, wanted = data
    extra = ExtraTreesRegressor(10, random_state=0).fit(rows, wanted)
    np.testing.assert_allclose(from_sklearn(extra, np.eye(2)).predict(rows), extra.predict(rows), atol=1e-5)


def test_a_value_at_the_threshold_goes_left():
    arrays = Forest.joined([_stump(0.5)])
    assert arrays.predict(np.array([[0.5], [0.50001]], np.float32)).ravel().tolist() == [1.0, 2.0]


def test_joined_forests_add_up(data, forest):
    rows, _ = data
    twice = Forest.joined([forest, forest])
    np.testing.assert_allclose(twice.predict(rows), 2 * forest.predict(rows), atol=1e-6)


def test_a_row_alone_is_the_row_in_a_batch_to_the_last_bit(data, forest, monkeypatch):
    rows, _ = data
    together = forest.predict(rows)
    assert np.array_equal(together[7], forest.predict(rows[7:8])[0])
    monkeypatch.setattr("router.forest._CHUNK", 100)
    assert np.array_equal(together, forest.predict(rows))


def test_contributions_and_the_roots_add_up_to_the_prediction(data, forest):
    rows, _ = data
    start = forest.value[forest.root].sum(axis=0, dtype=np.float64)
    for row in rows[:5]:
        np.testing.assert_allclose(
            start + forest.contributions(row).sum(axis=0), forest.predict(row[None])[0], atol=1e-4
        )


def test_a_column_no_tree_looks_at_contributes_nothing(data):
    rows, wanted = data
    fixed = rows.copy()
    fixed[:, 4] = 1.0
    extra = ExtraTreesRegressor(5, random_state=0).fit(fixed, wanted)
    assert not from_sklearn(extra, np.eye(2)).contributions(fixed[0])[4].any()


def test_it_comes_back_from_its_arrays(data, forest):
    rows, _ = data
    assert np.array_equal(Forest.from_arrays(forest.arrays()).predict(rows), forest.predict(rows))


def test_a_forest_without_trees_predicts_zero():
    assert Forest.empty(3, 2).predict(np.ones((4, 3))).tolist() == [[0.0, 0.0]] * 4


def _stump(threshold):
    return Forest(
        np.zeros(3, np.int32),
        np.array([threshold, np.nan, np.nan], np.float32),
        np.array([2, 1, 2], np.int32),
        np.array([[0.0], [1.0], [2.0]], np.float32),
        np.zeros(1, np.int32),
        1,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("other", np.array([0, 1, 2], np.int32)),  # an inner node with a child that is itself
        ("other", np.array([1, 1, 2], np.int32)),  # the same child twice
        ("other", np.array([2, 0, 2], np.int32)),  # a way back up from a leaf, which would never end
        ("other", np.array([9, 1, 2], np.int32)),
        ("other", np.array([-1, 1, 2], np.int32)),
        ("feature", np.array([3, 0, 0], np.int32)),
        ("feature", np.array([-1, 0, 0], np.int32)),
        ("feature", np.zeros(2, np.int32)),
        ("root", np.array([5], np.int32)),
        ("threshold", np.array([np.nan, np.nan, np.nan], np.float32)),  # a leaf that leads on
        ("threshold", np.array([0.5, np.nan, 0.5], np.float32)),  # a last node that would go on behind the end
        ("value", np.array([[0.0], [np.inf], [2.0]], np.float32)),
        ("value", np.zeros(3, np.float32)),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(name, value):
    with pytest.raises(DataError, match=r"forest|children"):
        Forest.from_arrays(_stump(0.5).arrays() | {name: value})


def test_a_missing_array_and_a_row_of_another_width_are_refused():
    arrays = _stump(0.5).arrays()
    del arrays["other"]
    with pytest.raises(DataError, match="missing: \\['other'\\]"):
        Forest.from_arrays(arrays)
    with pytest.raises(DataError, match="rows of 1 columns"):
        _stump(0.5).predict(np.zeros((2, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_reading_ends_whatever_the_row_holds(value):
    assert _stump(0.5).predict(np.array([[value]])).tolist() == [[1.0 if value < 0.5 else 2.0]]


@pytest.mark.parametrize("threshold", [0.1, -0.1, 1 / 3, 0.5, 1e-40, 16777217.0])
def test_a_float32_falls_on_the_same_side_of_a_threshold_that_is_rounded_down(threshold):
    [near] = _rounded_down(np.array([threshold]))
    assert near.dtype == np.float32 and float(near) <= threshold
    around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    assert [value <= near for value in around] == [float(value) <= threshold for value in around]
