import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

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


def test_an_unknown_head_and_a_single_group_are_refused():
    rows, scores, _ = world(20)
    with pytest.raises(ValueError, match="head must be"):
        ComplexityPredictor("best").fit(rows, scores)
    with pytest.raises(ValueError, match="two groups"):
        ComplexityPredictor().fit(rows, scores, groups=np.zeros(20))
