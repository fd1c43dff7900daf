"""Verdicts on outcomes whose truth is known because they were drawn from it."""

from dataclasses import replace

import numpy as np
import pytest

from encoders.errors import DataError
from training_data.diagnosis import diagnose, spelled
from training_data.outcomes import Outcomes

LADDER = np.array([1, 4, 16, 64])


def outcomes(chance, replicates=1, per_picture=1, seed=0):
    """Right or wrong by each example's chance at each arm (n, 4); cost is m."""
    chance = np.repeat(np.asarray(chance, float), replicates, axis=0)
    n = len(chance)
    example = np.arange(n) // replicates
    return Outcomes(
        id=example.astype(str),
        group=(example // per_picture).astype(str),
        dataset=np.full(n, "drawn"),
        question=np.full(n, "how many"),
        replicate=np.arange(n) % replicates,
        arms=tuple(map(str, LADDER)),
        m=LADDER,
        score=(np.random.default_rng(seed).random(chance.shape) < chance).astype(float),
        cost=np.tile(LADDER.astype(float), (n, 1)),
    )


def needs(first, n=300):
    """Chances of 300 examples, evenly first solved at each arm of `first` (4: never), certain from there on."""
    return np.array([np.arange(4) >= first[row % len(first)] for row in range(n)], float)


def told(chance, **options):
    return diagnose(outcomes(chance, **options), resamples=200)


def test_few_pictures_carry_no_verdict():
    """One picture agrees with itself in every resample."""
    few, many = (" ".join(told(needs([0, 1, 2, 3], n)).advice) for n in (40, 120))
    assert "Only 40 pictures were measured, too few for any verdict" in few and "too few" not in many


def test_real_need_that_tokens_serve_is_steep():
    found = told(needs([0, 1, 2, 3]))
    assert (found.verdict, found.support, found.luck.value) == ("steep", 1, 0)
    assert (found.cheapest, found.best, found.dearest, found.dominated) == ("1", "64", "64", ())
    assert found.kept.value == pytest.approx(0.25) and found.kept.low < 0.25 < found.kept.high
    assert "Fit a router" in found.advice[0]


def test_arms_that_agree_are_flat():
    found = told(needs([0, 0, 0, 4]))
    assert (found.verdict, found.never_solved, found.dominated) == ("flat", 0.25, ("4", "16", "64"))
    assert found.advice[0] == "Answer everything with 1: there is nothing to route."
    assert "solved by no arm" in found.advice[1]


def test_what_no_arm_solves_is_flat():
    found = told(np.zeros((20, 4)))
    assert (found.verdict, found.kept.value, found.luck.value) == ("flat", 1, 0)


@pytest.mark.parametrize("replicates", [1, 4])
def test_coin_flips_are_mostly_luck(replicates):
    found = told(np.full((300, 4), 0.5), replicates=replicates)
    assert found.verdict == "mostly luck" and found.luck.value > 0.7
    assert found.headroom.low > 0.3  # an oracle that nobody can reach
    assert found.luck_from == ("flips" if replicates == 1 else "replicates")
    assert any("sweep with replicates" in line for line in found.advice) == (replicates == 1)


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_coin_flips_are_mostly_luck_where_costs_vary_between_replicates_too(noise):
    """An oracle's first arm then costs more than the cheapest, luck was NaN, and NaN no luck: the verdict was steep."""
    rows = outcomes(np.full((300, 4), 0.5), replicates=4)
    cost = np.array([100, 101, 150, 200]) * np.exp(noise * np.random.default_rng(3).normal(size=rows.cost.shape))
    found = diagnose(replace(rows, cost=cost), resamples=100)
    assert found.verdict == "mostly luck" and found.luck.value > 0.7 and not np.isnan(found.luck.low)


def test_no_last_bit_makes_a_dearer_arm_the_best():
    rows = outcomes(np.ones((3, 4)))
    less, _, more = sorted(([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]), key=np.mean)
    assert np.mean(more) - np.mean(less) == pytest.approx(0, abs=1e-15) and np.mean(more) > np.mean(less)
    found = diagnose(replace(rows, score=np.array([less, more, less, more]).T), resamples=20)
    assert found.best == "1" and found.dominated == ("4", "16", "64")


def test_a_dearest_arm_below_the_best_is_non_monotone():
    chance = needs([0, 1, 2])
    chance[:30, 3] = 0
    found = told(chance)
    assert (found.verdict, found.best, found.dominated) == ("non-monotone", "16", ("64",))
    assert found.drop.value == pytest.approx(0.1) and found.drop.low > 0.05
    assert "Take 16 as full" in found.advice[0]


def test_a_level_ladder_of_opposite_needs_is_told_from_luck_by_replicates():
    chance = np.tile([[1.0, 1, 0, 0], [0, 0, 1, 1]], (100, 1))
    assert told(chance).verdict == "mostly luck"
    found = told(chance, replicates=3)
    assert (found.verdict, found.luck.value) == ("non-monotone", 0)


def test_steep_with_noise_is_still_steep_and_replicates_say_how_much_is_luck():
    found = told(0.1 + 0.8 * needs([0, 1, 2, 3]), replicates=4)
    assert found.verdict == "steep" and 0.05 < found.luck.low <= found.luck.value <= found.luck.high < 0.5


def test_too_few_pictures_are_said_to_be_too_few():
    chance = np.tile([[0.0, 1, 1, 1]] + [[1.0, 1, 1, 1]] * 59, (1, 1))  # the verdict hangs on one picture
    found = told(chance)
    assert found.verdict == "steep" and 0.4 < found.support < 0.8
    assert "measure more" in found.advice[-1]


def test_questions_about_one_picture_do_not_count_as_many():
    alone, together = told(needs([0, 3])), told(np.repeat(needs([0, 3], 30), 10, axis=0), per_picture=10)
    assert together.kept.high - together.kept.low > 2 * (alone.kept.high - alone.kept.low)
    assert (together.examples, together.pictures) == (300, 30)


def test_an_example_that_lacks_a_replicate_is_left_out_of_luck():
    rows = outcomes(np.full((100, 4), 0.5), replicates=3)
    found = diagnose(rows.select(np.arange(len(rows)) != 4), resamples=100)
    assert (found.examples, found.luck_from) == (100, "replicates")


def test_what_was_not_measured_or_not_read_is_told_and_only_then():
    rows = outcomes(needs([0, 1, 2, 3]))
    plain = str(diagnose(rows, resamples=50))
    assert "not measured" not in plain and "could not be read" not in plain
    assert str(diagnose(replace(rows, parsed=np.ones_like(rows.score)), resamples=50)) == plain
    parsed = np.ones_like(rows.score)
    parsed[:3, 1], parsed[:1, 3] = 0, 0
    found = diagnose(replace(rows, parsed=parsed), resamples=50, failed=12)
    assert (found.unparsed, found.failed) == ((0, 3, 0, 1), 12)
    text = str(found)
    assert "answers that could not be read, they count as wrong: 3 at 4, 1 at 64." in text
    assert "12 examples were not measured and are in no number here" in text


@pytest.mark.parametrize(
    ("points", "enough", "words"), [(1, "64", None), (26, "16", "within 26 points of 64"), (0, "64", None)]
)
def test_how_far_below_the_best_is_enough_is_the_users_own(points, enough, words):
    found = diagnose(outcomes(needs([0, 1, 2, 3])), resamples=50, points=points)
    assert found.arms[found.enough.arm] == enough and found.verdict == "steep"
    assert (words or "answer everything with 64.") in found.advice[0]
    assert (spelled(1), spelled(0.5), spelled(2)) == ("a point", "0.5 points", "2 points")
    with pytest.raises(DataError, match="points lost must be a finite number, 0 or more, was: -1"):
        diagnose(outcomes(needs([0, 1, 2, 3])), resamples=50, points=-1)


def test_the_text_carries_the_verdict_its_numbers_and_the_advice():
    found = told(needs([0, 1, 2, 3]))
    text = str(found)
    assert text.startswith("steep (100% of resamples agree)")
    assert all(line in text for line in found.advice) and "0.250 [" in text
