"""What a certificate promises, counted over calibration sets drawn from a population whose truth is known."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import beta

from encoders.errors import BudgetError, DataError
from router import certificate
from router.certificate import Certificate, broken_below, certify, least_pictures, loss_below

KINDS = {"max_loss": 0.01, "max_broken": 0.02}


def test_no_number_of_pictures_tells_next_to_nothing_from_nothing():
    """Its square is 0 to a computer, and a number of pictures beyond all numbers was an OverflowError."""
    losses = np.array([[0.5], [-0.5]])
    assert certificate._outlook("max_loss", losses, 1e-320, 0.1) == (0, None)
    assert certificate._outlook("max_loss", losses, 0.1, 0.1)[0] > 10


@pytest.fixture(scope="module")
def pool():
    """Pictures with one to three questions, eight arms, 64 prices from all full to nearly all cheapest, and the truth.

    About one pair in twenty is discordant with full at the prices that matter; curves are informative, not perfect.
    """
    rng = np.random.default_rng(0)
    size = rng.integers(1, 4, 20_000)
    picture = np.repeat(np.arange(size.size), size)
    cost = 30.0 + np.array([1, 2, 4, 8, 16, 36, 64, 144])
    need = 2 + 1.2 * rng.normal(size=size.size)[picture] + 1.6 * rng.normal(size=picture.size)
    ease = np.arange(8) - need[:, None]
    luck = rng.logistic(0, 0.35, (picture.size, 1)) + rng.logistic(0, 0.2, ease.shape)
    solved = (ease + luck > 0) & (rng.random((picture.size, 1)) > 0.15)
    score = (solved ^ (rng.random(ease.shape) < 0.02)).astype(float)
    curve = 0.85 / (1 + np.exp(-(ease + rng.normal(size=(picture.size, 1))) / 0.85))
    prices = np.append(0, np.geomspace(1e-5, 0.2, 63))
    choice = np.stack([(curve - price * cost).argmax(axis=1) for price in prices], axis=1)
    full = int(score.mean(axis=0).argmax())
    loss = score[:, [full]] - np.take_along_axis(score, choice, axis=1)
    weight = 1 / size[picture] / size.size
    return SimpleNamespace(
        score=score, cost=cost, choice=choice, prices=prices, full=full, size=size, start=np.cumsum(size) - size,
        max_loss=weight @ loss, max_broken=weight @ (loss > 0), saving=1 - weight @ cost[choice] / cost[full],
    )  # fmt: skip


def drawn(pool, pictures, rng):
    """Rows of pictures drawn with replacement, each draw a picture of its own."""
    found = rng.integers(0, pool.size.size, pictures)
    size = pool.size[found]
    group = np.repeat(np.arange(pictures), size)
    return np.repeat(pool.start[found] - np.cumsum(size) + size, size) + np.arange(group.size), group


def certificates(pool, pictures, count, columns=slice(None), **promise):
    rng = np.random.default_rng(pictures)
    for _ in range(count):
        rows, group = drawn(pool, pictures, rng)
        yield certify(
            pool.score[rows],
            pool.cost,
            pool.choice[rows][:, columns],
            pool.prices[columns],
            pool.full,
            group,
            **promise,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_promise_is_broken_in_no_more_calibration_sets_than_stated(pool, kind):
    truth, limit = getattr(pool, kind), KINDS[kind]
    found = [
        certificate.index is not None and truth[certificate.index] > limit
        for certificate in certificates(pool, 1000, 150, **{kind: limit})
    ]
    assert np.mean(found) <= 0.13


@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_pictures_find_half_of_what_could_be_saved(pool, kind):
    best = pool.saving[getattr(pool, kind) <= KINDS[kind]].max()
    saved = [
        0 if certificate.index is None else pool.saving[certificate.index]
        for certificate in certificates(pool, 5000, 15, **{kind: KINDS[kind]})
    ]
    assert best > 0.5
    assert np.mean(np.array(saved) >= best / 2) >= 0.8


@pytest.mark.parametrize("pictures", [300, 1000])
def test_three_points_are_not_certified_as_one(pool, pictures):
    price = int(np.abs(pool.max_loss - 0.03).argmin())
    found = [one.price for one in certificates(pool, pictures, 60, slice(price, price + 1), max_loss=0.01)]
    assert np.mean([price is not None for price in found]) <= 0.1


LOSSES = {
    "discordant both ways": lambda rng, shape, x: rng.choice([1, -1, 0], shape, p=[0.025 + x, 0.025, 0.95 - x]),
    "rare and whole": lambda rng, shape, x: rng.random(shape) < x,
    "graded": lambda rng, shape, x: rng.uniform(-0.2, 0.2, shape) + x,
    "small gains, rare whole losses": lambda rng, shape, x: np.where(rng.random(shape) < 0.04, 1, (x - 0.04) / 0.96),
}


@pytest.mark.parametrize("limit", [0.01, 0.03])
@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_exactly_at_the_limit_passes_with_a_chance_of_at_most_alpha(kind, limit):
    losses = LOSSES[kind](np.random.default_rng(0), (1000, 3000), limit)
    for alpha in (0.05, 0.1):
        assert loss_below(losses, limit, alpha).mean() <= alpha + 3 * math.sqrt(alpha / 3000)


def test_the_betting_test_wastes_little():
    """The normal approximation, which promises nothing, would pass .81 and .97 of these."""
    rng = np.random.default_rng(0)
    for pictures, power in ((2250, 0.7), (5000, 0.92)):
        assert loss_below(LOSSES["discordant both ways"](rng, (pictures, 400), 0), 0.01, 0.1).mean() >= power


def test_betting_is_on_capital_that_reaches_one_over_alpha():
    """The same bets in the open: capital, multiplied picture by picture, decided before the picture is seen."""
    rng = np.random.default_rng(0)
    for limit, alpha in itertools.product((0.02, 0.1), (0.05, 0.2)):
        losses = rng.choice([1, -1, 0, 0.5], (300, 20), p=[0.03, 0.03, 0.92, 0.02])
        for column, held in zip(losses.T, loss_below(losses, limit, alpha), strict=True):
            capital, squares = 1.0, 1.0
            for seen, loss in enumerate(column):
                if capital >= 1 / alpha:
                    break
                bet = math.sqrt(-2 * math.log(alpha * capital) * (seen + 1) / squares / (300 - seen))
                capital *= 1 + min(bet, 0.9 / (1 - limit)) * (limit - loss)
                squares += loss**2
            assert held == (capital >= 1 / alpha)


@pytest.mark.parametrize("test", [loss_below, broken_below])
def test_a_looser_promise_or_more_risk_of_error_never_loses_a_price(test):
    rng = np.random.default_rng(0)
    losses = rng.choice([1, -1, 0, 0.3], (250, 400), p=[0.03, 0.04, 0.9, 0.03])
    values = losses > 0 if test is broken_below else losses
    limits, alphas = np.linspace(0.005, 0.2, 25), np.linspace(0.01, 0.6, 25)
    for held in (np.array([test(values, x, 0.1) for x in limits]), np.array([test(values, 0.05, a) for a in alphas])):
        assert (held[1:] >= held[:-1]).all()
        assert held[0].sum() < held[-1].sum()


def test_certificates_are_monotone_too(pool):
    rows, group = drawn(pool, 800, np.random.default_rng(0))
    table = pool.score[rows], pool.cost, pool.choice[rows], pool.prices, pool.full, group

    def place(**promise):
        index = certify(*table, **promise).index
        return -1 if index is None else index

    for kind in KINDS:
        by_limit = [place(**{kind: limit}) for limit in (0.002, 0.005, 0.01, 0.02, 0.05, 0.2)]
        by_alpha = [place(**{kind: 0.02}, alpha=alpha) for alpha in (0.001, 0.01, 0.05, 0.1, 0.3)]
        for places in (by_limit, by_alpha):
            assert places == sorted(places)
            assert places[0] < places[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_another_order_give_the_same_certificate_to_the_last_bit(kind):
    rng = np.random.default_rng(3)
    group = rng.integers(0, 600, 1500).astype(str)
    score = rng.beta(9, 1, (1500, 3)).round(3)
    score[:, 0] -= (rng.random(1500) < 0.4) * 0.05
    cost, choice = rng.uniform(1, 9, (1500, 3)).round(3), np.sort(rng.integers(0, 3, (1500, 6)), axis=1)[:, ::-1]
    prices = np.arange(6.0)
    found = certify(score, cost, choice, prices, 2, group, **{kind: 0.6})
    assert found.index is not None
    for _ in range(5):
        rows = rng.permutation(1500)
        assert certify(score[rows], cost[rows], choice[rows], prices, 2, group[rows], **{kind: 0.6}) == found


@pytest.mark.parametrize("lost", [slice(0, 30), slice(970, 1000)], ids=["first", "last"])
def test_the_order_of_the_pictures_names_means_nothing(lost):
    """Three points are lost, all at one end of the file: bets placed in the file's order would pass them as two."""
    score = np.ones((1000, 2))
    score[lost, 0] = 0
    found = certify(score, [1.0, 4], np.zeros((1000, 1), int), [0.5], 1, np.arange(1000), max_loss=0.02)
    assert found.price is None
    assert loss_below(1 - score[:, :1], 0.02, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_price_that_fails_ends_the_sequence(kind):
    """Every other price breaks a tenth of the answers; the cheapest breaks none, and is not reached."""
    pictures, score = 600, np.ones((600, 4))
    score[:60, 1] = 0
    prices = np.arange(4.0)
    for arms, index in (((2, 1, 0, 0), 0), ((2, 0, 1, 0), 1), ((1, 0, 0, 0), None), ((2, 2, 0, 0), 3)):
        choice = np.tile(arms, (pictures, 1))
        found = certify(score, [1.0, 2, 3, 4], choice, prices, 3, np.arange(pictures), **{kind: 0.02})
        assert found.index == index
        assert found.price == (None if index is None else prices[index])


def test_the_binomial_bound_is_that_of_clopper_and_pearson():
    limits = (0.003, 0.01, 0.04, 0.2, 0.7)
    for pictures, alpha in itertools.product((1, 5, 40, 300), (0.05, 0.1)):
        count = np.unique(np.linspace(0, pictures - 1, 30).astype(int))
        broken = np.arange(pictures)[:, None] < count
        bound = beta.ppf(1 - alpha, count + 1, pictures - count)
        for limit in limits:
            assert np.array_equal(broken_below(broken, limit, alpha), bound <= limit)
    assert not broken_below(np.ones((5, 1)), 0.99, 0.1)


def test_none_broken_of_230_is_within_one_in_a_hundred_and_of_229_is_not():
    """1 - .1 ** (1 / 230) is .00996; 1 - .1 ** (1 / 229) is .01000462."""
    assert broken_below(np.zeros((230, 1)), 0.01, 0.1)
    assert not broken_below(np.zeros((229, 1)), 0.01, 0.1)
    assert broken_below(np.zeros((229, 1)), 0.010005, 0.1)


@pytest.mark.parametrize(("test", "kind"), [(loss_below, "max_loss"), (broken_below, "max_broken")])
@pytest.mark.parametrize("limit", [0.01, 0.02, 0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.4])
def test_the_least_number_of_pictures_is_the_least(test, kind, limit, alpha):
    least = least_pictures(kind, limit, alpha)
    for pictures in (*range(max(1, least - 20), least + 4), 2 * least):
        assert test(np.zeros((pictures, 1)), limit, alpha).all() == (pictures >= least)


def test_how_many_pictures_a_promise_takes():
    assert [least_pictures("max_broken", limit) for limit in (0.005, 0.01, 0.02, 0.05)] == [460, 230, 114, 45]
    assert [least_pictures("max_loss", limit) for limit in (0.005, 0.01, 0.02, 0.05)] == [541, 270, 134, 53]


@pytest.mark.parametrize(("kind", "least"), [("max_loss", 270), ("max_broken", 230)])
def test_too_few_pictures_mean_full_and_the_number_that_is_needed(kind, least):
    def found(pictures):
        score = np.ones((pictures, 2))
        return certify(score, [1.0, 4], np.zeros((pictures, 1), int), [0.5], 1, np.arange(pictures), **{kind: 0.01})

    few = found(least - 1)
    assert few == Certificate(kind, 0.01, 0.1, least - 1, None, None, 0.0, 0.0, least, least, 0.5)
    assert few.message.startswith("Full is used, which loses nothing: of no price is it certified that the ")
    assert f"from {least - 1} pictures" in few.message
    assert f"It takes {least} pictures even if no score differs from full's" in few.message
    enough = found(least)
    assert (enough.price, enough.saving) == (0.5, 0.75)
    assert "at this fixed price only, and for pictures exchangeable with these" in enough.message
    assert "with 90 % confidence" in enough.message


def test_gains_of_few_pictures_carry_no_promise():
    score = np.tile([1.0, 0.0], (200, 1))
    found = certify(score, [1.0, 4], np.zeros((200, 1), int), [0.5], 1, np.arange(200), max_loss=0.01)
    assert loss_below(-np.ones((200, 1)), 0.01, 0.1)
    assert found.price is None


@pytest.mark.parametrize(("kind", "alpha"), [("max_loss", 1e-3), ("max_broken", 1e-7)])
def test_around_the_number_needed_the_odds_turn(pool, kind, alpha):
    aim = int(np.flatnonzero(getattr(pool, kind) <= KINDS[kind] / 4).max())
    promise = {kind: KINDS[kind], "alpha": alpha}
    few = next(certificates(pool, 1000, 1, slice(aim, aim + 1), **promise))
    assert (few.price, few.aim) == (None, pool.prices[aim])
    assert 1000 < few.needed < 20_000
    assert f"about {few.needed} would certify price {few.aim:.4g}" in few.message

    def odds(pictures):
        return np.mean(
            [one.price is not None for one in certificates(pool, pictures, 15, slice(aim, aim + 1), **promise)]
        )

    assert odds(few.needed // 3) < 0.5 < odds(few.needed * 2)


def test_the_number_needed_by_hand():
    """Five gains of 200 pictures at the dear price, two losses at the cheap: 2 log 10 x .025 / .01^2, gains as 0."""
    score = np.full((200, 3), 0.0)
    score[:5, 1], score[5:7, 1:] = 1, 1
    choice = np.tile([1, 0], (200, 1))
    found = certify(score, [1.0, 2, 4], choice, [0.5, 0.7], 2, np.arange(200), max_loss=0.01)
    assert (found.least, found.needed, found.aim) == (270, 1152, 0.5)


def test_no_number_is_named_where_more_pictures_may_not_help():
    score = np.tile([0.0, 1.0], (300, 1))
    found = certify(score, [1.0, 4], np.zeros((300, 1), int), [0.5], 1, np.arange(300), max_loss=0.01)
    assert (found.needed, found.aim) == (None, None)
    assert "more pictures may not help" in found.message


@pytest.mark.parametrize("kind", KINDS)
def test_questions_about_one_picture_are_one_picture(kind):
    score = np.ones((3000, 2))
    found = certify(score, [1.0, 4], np.zeros((3000, 1), int), [0.5], 1, np.arange(3000) // 30, **{kind: 0.01})
    assert (found.pictures, found.price) == (100, None)


def test_the_mean_is_over_pictures_and_not_over_questions():
    """One picture of 400 has 600 questions, all lost: a 400th of the pictures, most of the questions."""
    group = np.append(np.arange(400), np.zeros(600, int))
    score = np.ones((1000, 2))
    score[group == 0, 0] = 0
    table = score, [1.0, 4], np.zeros((1000, 1), int), [0.5], 1, group
    assert certify(*table, max_loss=0.02).observed == pytest.approx(1 / 400)
    assert certify(*table, max_broken=0.02).observed == pytest.approx(1 / 400)
    assert certify(*table, max_loss=0.02).saving == pytest.approx(0.75)


def test_savings_are_means_over_pictures():
    """The first half of the pictures has one question and saves three quarters, the other half has five and none."""
    group = np.append(np.arange(300), 300 + np.arange(1500) // 5)
    choice = (group >= 300).astype(int)[:, None]
    found = certify(np.ones((1800, 2)), [1.0, 4], choice, [0.5], 1, group, max_loss=0.02)
    assert found.saving == pytest.approx(0.375)


def test_broken_answers_are_counted_on_one_row_per_picture_drawn_fairly():
    """Of each picture's four answers one is broken, always the last: a fair draw finds a quarter of the pictures."""
    score = np.ones((4000, 2))
    score[3::4, 0] = 0
    found = certify(score, [1.0, 4], np.zeros((4000, 1), int), [0.5], 1, np.arange(4000) // 4, max_broken=0.5)
    assert found.observed == pytest.approx(0.25, abs=0.045)  # three standard errors
    assert found.observed * 1000 == pytest.approx(round(found.observed * 1000))


def test_gains_pay_for_losses_but_not_for_broken_answers():
    score = np.tile([[1.0, 0.0], [0.0, 1.0]], (1000, 1))
    score[200:] = 1
    table = score, [1.0, 4], np.zeros((2000, 1), int), [0.5], 1, np.arange(2000)
    assert certify(*table, max_loss=0.03).price == 0.5
    assert certify(*table, max_broken=0.03).price is None


@pytest.mark.parametrize("promise", [{}, {"max_loss": 0.01, "max_broken": 0.01}])
def test_a_certificate_makes_one_promise(promise):
    with pytest.raises(BudgetError, match=r"one promise, was: max_loss=.*; give one"):
        certify(np.ones((2, 2)), [1.0, 2], np.zeros((2, 1), int), [0.5], 1, np.arange(2), **promise)


@pytest.mark.parametrize("value", [0, 1, -0.1, 2, math.nan, True, "0.1"])
@pytest.mark.parametrize("name", ["max_loss", "max_broken", "alpha"])
def test_limits_and_alpha_lie_between_zero_and_one(name, value):
    promise = {"max_loss": 0.01, "alpha": value} if name == "alpha" else {name: value}
    with pytest.raises(BudgetError, match=rf"{name} must lie between 0 and 1, both excluded, was: "):
        certify(np.ones((2, 2)), [1.0, 2], np.zeros((2, 1), int), [0.5], 1, np.arange(2), **promise)


WRONG = {
    "one column too many": ({"choice": np.zeros((2, 2), int)}, "one row per score"),
    "no prices": ({"choice": np.zeros((2, 0), int), "prices": []}, "one at least"),
    "prices that fall": (
        {"choice": np.zeros((2, 2), int), "prices": [2.0, 1.0]},
        "prices must be finite and ascending",
    ),
    "a price that is not a number": ({"prices": [math.nan]}, "prices must be finite"),
    "an arm too high": ({"choice": np.full((2, 1), 2)}, "whole numbers 0 to 1"),
    "a negative arm": ({"choice": np.full((2, 1), -1)}, "whole numbers 0 to 1"),
    "arms that are not whole": ({"choice": np.zeros((2, 1))}, "whole numbers 0 to 1"),
    "full out of range": ({"full": 2}, "full must be an arm"),
    "full that is not whole": ({"full": 1.0}, "full must be an arm"),
    "a picture too few": ({"group": [0]}, "each of the 2 rows needs one picture"),
    "a score out of range": ({"score": np.full((2, 2), 1.5)}, r"scores must lie in \[0, 1\]"),
}


@pytest.mark.parametrize(("change", "rule"), WRONG.values(), ids=WRONG.keys())
def test_tables_that_break_their_format_are_refused(change, rule):
    table = {"score": np.ones((2, 2)), "cost": [1.0, 2], "choice": np.zeros((2, 1), int), "prices": [0.5], "full": 1}
    with pytest.raises(DataError, match=rule):
        certify(**{**table, "group": [0, 1], **change}, max_loss=0.1)


@pytest.mark.parametrize("test", [loss_below, broken_below])
@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.zeros(3), np.full((2, 2), 1.1), np.full((2, 2), math.nan)])
def test_tests_take_bounded_rows(test, values):
    with pytest.raises(DataError, match=r"rows \(pictures, p\) in \[-1, 1\]"):
        test(values, 0.1, 0.1)


def test_an_answer_is_broken_or_not():
    with pytest.raises(DataError, match="broken \\(1\\) or not \\(0\\)"):
        broken_below(np.full((3, 1), 0.5), 0.1, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_price_that_costs_more_than_full_is_no_certificate(kind):
    score, cost = np.full((3000, 3), 1.0), np.array([1.0, 10.0, 40.0])
    choice = np.full((3000, 2), 2)
    found = certify(score, cost, choice, np.array([0.0, 1.0]), 1, np.arange(3000), **{kind: 0.05})
    assert found.price is None and found.saving == 0 and found.idle
    assert found.message.startswith("Full is used") and "costs no less than full" in found.message
    assert "of no price is it certified" not in found.message and "more pictures" not in found.message
    choice[:, 1] = 0
    found = certify(score, cost, choice, np.array([0.0, 1.0]), 1, np.arange(3000), **{kind: 0.05})
    assert found.index == 1 and found.saving == pytest.approx(0.9)


@pytest.mark.parametrize("kind", ["max_loss", "max_broken"])
@pytest.mark.parametrize("limit", [1e-5, 1e-9, 1e-310])
def test_what_nobody_has_pictures_for_is_told_at_once(kind, limit):
    """Simulating it took a minute at 1e-5 and all memory at 1e-9."""
    assert least_pictures(kind, limit) >= 2 / limit if limit > 1e-300 else least_pictures(kind, limit) > 10**18
