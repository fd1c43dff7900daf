"""What a price may promise: tested, one price after the other, on pictures that chose nothing.

| written | promised with confidence 1 - alpha | test |
|---|---|---|
| `max_loss=x` | the mean of (full's score - chosen arm's score) is at most x; gains pay for losses | betting |
| `max_broken=x` | the share of answers on which full scores more is at most x; gains pay for nothing | exact binomial |

Both are means over pictures: draw a picture, then one of its questions. Where pictures have unequally many questions
that is not the mean over questions, whose ratio no bounded test certifies without a known most of questions.

A promise holds for routing at the one certified price, and for pictures drawn as the calibration pictures were
(exchangeable with them). It holds for no cap, no batch total, no feedback price, and not after the pictures change. It
needs curves, prices and full to be fixed before these pictures are looked at, and is one look at them: two promises
hold with their confidence each, not both together. There is no seed, so nobody can draw until a price passes.

Knows arrays of scores, costs and choices. Knows no backbone, router or file.
"""

from __future__ import annotations

import hashlib
import math
import sys
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

import numpy as np

from encoders.counts import finite_number, whole_number
from encoders.errors import BudgetError, DataError
from training_data.curves import table

Kind = Literal["max_loss", "max_broken"]

_COUNTED = 100_000  # pictures; a promise that takes more is told a bound
_STAKE = 0.9  # of the capital, the most that one picture can take: no single loss ends a test
_WORDS = {
    "max_loss": "the mean loss against full",
    "max_broken": "the share of answers that full would have scored higher",
}


@dataclass(frozen=True)
class Certificate:
    """A promise and the evidence for it; without evidence, the full arm and what would be needed.

    Attributes:
        kind: what is limited, see the table above.
        limit: x, in score for a loss, a share of answers for broken ones; in (0, 1).
        alpha: the chance, over draws of calibration pictures, that a price is certified which breaks the promise.
        pictures: how many were tested.
        price: the cheapest certified price; None where full is used.
        index: its place among the tested prices; None where full is used.
        observed: mean loss, or share of broken answers, of those pictures at that price; 0 for full.
        saving: share of full's cost that was saved on those pictures; measured, not promised.
        least: pictures below which nothing is certified: those it takes when no score differs from full's.
        needed: where full is used, at about how many pictures the odds of certifying `aim` are even; None without aim.
        aim: the cheapest price that, like all dearer ones, was seen to use up no more than half the limit.
        idle: whether full is used because what keeps the promise saved nothing on those pictures.
    """

    kind: Kind
    limit: float
    alpha: float
    pictures: int
    price: float | None
    index: int | None
    observed: float
    saving: float
    least: int
    needed: int | None = None
    aim: float | None = None
    idle: bool = False

    @property
    def message(self) -> str:
        """The promise in words with its conditions, or why there is none and how many pictures would be needed."""
        claim = f"{_WORDS[self.kind]} is at most {self.limit}"
        trust = f"with {100 * (1 - self.alpha):.4g} % confidence from {self.pictures} pictures"
        if self.price is not None:
            return (
                f"At price {self.price:.4g} {claim}, {trust} ({self.observed:.4g} was seen, at "
                f"{100 * self.saving:.3g} % less cost). This is a mean over pictures, holds for routing at this fixed "
                "price only, and for pictures exchangeable with these."
            )
        if self.idle:
            return (
                f"Full is used, which loses nothing: there are prices at which {claim}, {trust}, but what they choose "
                "costs no less than full on these pictures, routing aside."
            )
        outlook = (
            "the dearest price was seen to use up more than half the limit, so more pictures may not help"
            if self.needed is None
            else f"if they are like these, about {self.needed} would certify price {self.aim:.4g}"
        )
        return (
            f"Full is used, which loses nothing: of no price is it certified that {claim}, {trust}. "
            f"It takes {self.least} pictures even if no score differs from full's; {outlook}."
        )


def certify(
    score: np.ndarray,
    cost: np.ndarray,
    choice: np.ndarray,
    prices: np.ndarray,
    full: int,
    group: np.ndarray,
    *,
    max_loss: float | None = None,
    max_broken: float | None = None,
    alpha: float = 0.1,
) -> Certificate:
    """The cheapest price that keeps a promise, by fixed-sequence testing from full over the dearest price downwards.

    A price that saves nothing on these pictures is of no use, whatever it keeps: then it is full, too.

    The first price that fails ends the sequence, whatever the cheaper ones look like: so each is tested at the whole
    alpha, and risk may rise and fall along the prices (Angelopoulos et al. 2021, Learn then Test).

    Args:
        score: (n, k) in [0, 1], measured on calibration pictures.
        cost: (n, k) or (k,), positive.
        choice: (n, p) whole numbers, the arm of each row at each price.
        prices: (p,) ascending, so that choices go from dear to cheap; fixed before these scores were seen.
        full: the best constant arm, chosen on training data.
        group: (n,) pictures; those of one picture count as one draw.
        max_loss: promise of a mean loss, in (0, 1).
        max_broken: promise of a share of broken answers, in (0, 1); tested on one row per picture, picked by hash.
        alpha: in (0, 1).

    Raises:
        BudgetError: not exactly one promise, or a limit or alpha outside (0, 1).
        DataError: shapes disagree, a value is out of range, prices do not ascend.
    """
    kind, limit = _promise(max_loss, max_broken)
    alpha = _share("alpha", alpha)
    scores, costs = table(score, cost)
    arms, asked, top = _policies(choice, prices, full, scores.shape)
    losses = scores[:, [top]] - np.take_along_axis(scores, arms, axis=1)
    folded = _Pictures.of(losses, group)
    values = folded.means() if kind == "max_loss" else (folded.ones() > 0).astype(np.float64)
    held = (loss_below if kind == "max_loss" else broken_below)(values, limit, alpha)
    pictures, least = len(values), least_pictures(kind, limit, alpha)
    last = int(np.logical_and.accumulate(held).sum()) - 1 if pictures >= least else -1  # gains alone carry no promise
    if last < 0:
        needed, aim = _outlook(kind, values, limit, alpha)
        if aim is None:
            return Certificate(kind, limit, alpha, pictures, None, None, 0.0, 0.0, least)
        needed = max(needed, least, pictures + 1)
        return Certificate(kind, limit, alpha, pictures, None, None, 0.0, 0.0, least, needed, float(asked[aim]))
    share = 1 / folded.size[folded.member]  # of a row in its picture
    paid = math.fsum(share * costs[np.arange(len(costs)), arms[:, last]])  # fsum: the same in any row order
    saving = 1 - paid / math.fsum(share * costs[:, top])
    if saving <= 0:
        return Certificate(kind, limit, alpha, pictures, None, None, 0.0, 0.0, least, idle=True)
    seen = float(values[:, last].mean())
    return Certificate(kind, limit, alpha, pictures, float(asked[last]), last, seen, saving, least)


def loss_below(losses: np.ndarray, limit: float, alpha: float) -> np.ndarray:
    """Where the mean of independent losses is shown to be at most `limit`: bool (p,), each column at level alpha.

    A capital of 1 is bet, picture after picture, on the loss being below the limit. While the mean is above the limit,
    no bet on what comes next gains on average, so the capital ever reaches 1 / alpha with a chance of at most alpha
    (Waudby-Smith and Ramdas 2020). How much is bet is free, as long as only earlier pictures decide it: here what would
    just reach the target on the pictures that are left (Voracek and Orabona 2025, STaR-Bets), with the second moment
    seen so far. A column that is certified stays so under a larger limit or alpha: at any picture the one that lacks
    less lacks less after it, too.

    Args:
        losses: (pictures, p) in [-1, 1], one row per picture, in an order that has nothing to do with the losses.
        limit: in (0, 1).
        alpha: in (0, 1).

    Raises:
        DataError: no rows, or a loss out of range.
    """
    values = _per_picture(losses)
    missing = np.full(values.shape[1], -math.log(alpha))  # log of what the capital lacks; 0 once the target is reached
    moment = np.ones(values.shape[1])  # one picture that lost everything, before the first
    most = _STAKE / (1 - limit)
    for seen, loss in enumerate(values):
        left = len(values) - seen
        bet = np.minimum(np.sqrt(2 * missing * (seen + 1) / (moment * left)), most)
        missing = np.maximum(missing - np.log1p(bet * (limit - loss)), 0)
        moment += loss * loss
    return missing == 0


def broken_below(broken: np.ndarray, limit: float, alpha: float) -> np.ndarray:
    """Where Clopper and Pearson's upper bound on a share is at most `limit`: bool (p,), each column at level alpha.

    Args:
        broken: (pictures, p) of 0 and 1, one row per picture.
        limit: in (0, 1).
        alpha: in (0, 1).

    Raises:
        DataError: no rows, or a value that is neither 0 nor 1.
    """
    values = _per_picture(broken)
    if not ((values == 0) | (values == 1)).all():
        raise DataError("an answer is broken (1) or not (0), was: a value between; compare with full's score first")
    count = np.arange(1, len(values) + 1)
    ratio = np.log((len(values) - count + 1) / count) + math.log(limit) - math.log1p(-limit)
    mass = len(values) * math.log1p(-limit) + np.append(0, np.cumsum(ratio))  # log P(count broken), 0 ... pictures
    at_most = np.logaddexp.accumulate(mass)
    return at_most[values.sum(axis=0).astype(np.int64)] <= math.log(alpha)


def least_pictures(kind: Kind, limit: float, alpha: float = 0.1) -> int:
    """How many pictures a promise takes when no score differs from full's; with fewer, `certify` uses full.

    Beyond 100,000 as many as it takes at least: what is asked then is more than anybody has.
    """
    gain = -math.log1p(-limit) if kind == "max_broken" else math.log1p(_STAKE * limit / (1 - limit))
    low = math.ceil(min(-math.log(alpha) / gain, sys.maxsize))  # the whole stake every time
    if kind == "max_broken" or low > _COUNTED:
        return low
    return bisect_left(range(2 * low + 8), True, lo=low, key=lambda n: bool(loss_below(np.zeros((n, 1)), limit, alpha)))


def _outlook(kind: Kind, values: np.ndarray, limit: float, alpha: float) -> tuple[int, int | None]:
    """(about how many pictures, for which price): all prices up to it were seen to use up no more than half the limit.

    The pictures at which the best constant bet's mean growth reaches the target: about even odds, estimated from the
    very pictures that failed, and gains that they happened to show are not counted on.
    """
    seen = values.mean(axis=0)
    able = int(np.logical_and.accumulate(seen <= limit / 2).sum())
    if not able:
        return 0, None
    share, moment = np.maximum(seen[:able], 0), (values[:, :able] ** 2).mean(axis=0)
    if kind == "max_loss":
        # of small bets: b (limit - mean) - b^2 moment / 2 is at most (limit - mean)^2 / (2 moment)
        growth = np.divide((limit - share) ** 2, 2 * moment, out=np.full(able, np.inf), where=moment > 0)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.where(share > 0, share * np.log(share / limit), 0)
        growth = growth + (1 - share) * np.log((1 - share) / (1 - limit))
    slowest = float(growth.min())
    needed = -math.log(alpha) / slowest if slowest > 0 else math.inf
    return (math.ceil(needed), able - 1) if math.isfinite(needed) else (0, None)


@dataclass(frozen=True)
class _Pictures:
    """Rows of losses by picture, pictures in the order of their names' hashes, the same for any order of rows.

    Attributes:
        losses: (n, p) sorted by picture, within a picture by their values.
        member: (n,) picture of each row as it was given.
        size, start: (g,) rows of each picture, and the first of them.
        ticket: (g,) uint64, a draw per picture that its name decides.
    """

    losses: np.ndarray
    member: np.ndarray
    size: np.ndarray
    start: np.ndarray
    ticket: np.ndarray

    @classmethod
    def of(cls, losses: np.ndarray, group: np.ndarray) -> _Pictures:
        names = np.asarray(group)
        if names.shape != (len(losses),):
            raise DataError(f"each of the {len(losses)} rows needs one picture, was: shape {names.shape}")
        found, member, size = np.unique(names, return_inverse=True, return_counts=True)
        digests = [hashlib.sha256(f"certificate\0{name}".encode()).digest() for name in found.tolist()]
        draws = np.array([[int.from_bytes(part) for part in (one[:8], one[8:16])] for one in digests], np.uint64)
        order = np.argsort(draws[:, 0], kind="stable")
        rank = np.argsort(order)
        member, size = rank[member], size[order]
        rows = np.lexsort((*losses.T, member))
        return cls(losses[rows], member, size, np.cumsum(size) - size, draws[order, 1])

    def means(self) -> np.ndarray:
        """(g, p) mean over each picture's rows."""
        return np.add.reduceat(self.losses, self.start, axis=0) / self.size[:, None]

    def ones(self) -> np.ndarray:
        """(g, p) one row of each picture: rows are sorted by value, so the draw knows nothing of their order."""
        return self.losses[self.start + (self.ticket % self.size.astype(np.uint64)).astype(np.int64)]


def _policies(
    choice: np.ndarray, prices: np.ndarray, full: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, int]:
    (rows, arms), chosen, asked, top = shape, np.asarray(choice), np.asarray(prices, np.float64), whole_number(full)
    if asked.ndim != 1 or not asked.size or chosen.shape != (rows, asked.size):
        raise DataError(
            f"choices need one row per score ({rows}) and one column per price, one at least, was: shapes "
            f"{chosen.shape} and {asked.shape}"
        )
    if not np.isfinite(asked).all() or (np.diff(asked) < 0).any():
        raise DataError(f"prices must be finite and ascending, dear choices first, was: {asked}; sort both by price")
    if chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= arms:
        raise DataError(f"choices must be arms, whole numbers 0 to {arms - 1}, was: {chosen.dtype} {np.unique(chosen)}")
    if top is None or not 0 <= top < arms:
        raise DataError(f"full must be an arm, a whole number 0 to {arms - 1}, was: {full!r}")
    return chosen.astype(np.int64), asked, top


def _promise(max_loss: float | None, max_broken: float | None) -> tuple[Kind, float]:
    if (max_loss is None) == (max_broken is None):
        raise BudgetError(
            f"a certificate makes one promise, was: max_loss={max_loss!r} and max_broken={max_broken!r}; give one"
        )
    if max_loss is not None:
        return "max_loss", _share("max_loss", max_loss)
    return "max_broken", _share("max_broken", max_broken)


def _share(name: str, value: object) -> float:
    if not 0 < (number := finite_number(value)) < 1:
        raise BudgetError(f"{name} must lie between 0 and 1, both excluded, was: {value!r}; 0.01 is one point in 100")
    return number


def _per_picture(values: np.ndarray) -> np.ndarray:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or not rows.size or not (np.abs(rows) <= 1).all():
        raise DataError(
            f"a test needs rows (pictures, p) in [-1, 1], one at least, was: shape {rows.shape}; scores lie in [0, 1]"
        )
    return rows
