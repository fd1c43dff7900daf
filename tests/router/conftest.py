"""Outcome tables of a small world in which a question's words and one feature of its picture say what it needs."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.features import VERSION
from training_data.outcomes import Features, Outcomes

M = (1, 4, 16, 64)
KINDS = {"what colour is it": 0.3, "how many are there": 1.6, "what number is written": 2.8}


def make_outcomes(pictures=600, seed=0, features=True, unit="tflops", noise=0.6, backbone=None):
    """Two questions per picture; need = that of the question's kind + what the picture adds."""
    rng = np.random.default_rng(seed)
    n = 2 * pictures
    kinds = list(KINDS)
    kind = rng.integers(0, len(kinds), n)
    busy = np.repeat(rng.normal(size=pictures), 2)
    need = np.array([KINDS[kinds[k]] for k in kind]) + 0.9 * busy + noise * rng.normal(size=n)
    chance = 1 / (1 + np.exp(-4 * (np.arange(4) - need[:, None] + 0.5)))
    score = (rng.random((n, 1)) < chance).astype(float)  # one throw for all arms: more tokens never hurt
    questions = [f"{kinds[k]} {'please ' * (number % 2)}{number % 7}" for number, k in enumerate(kind)]
    values = np.stack([busy, rng.normal(size=n), rng.normal(size=n)], axis=1)
    columns = Features(VERSION, ("pixels_busy", "pixels_noise", "patches_noise"), values) if features else None
    cost = np.tile(np.array(M) + 20.0, (n, 1)) * (1 if unit == "tokens" else 1e-3)
    return Outcomes(
        id=np.array([f"q{seed}-{k}" for k in range(n)]),
        group=np.repeat([f"p{seed}-{k}" for k in range(pictures)], 2),
        dataset=np.array([f"d{k}" for k in kind]),
        question=np.array(questions, dtype=object),
        replicate=np.zeros(n, int),
        arms=tuple(map(str, M)),
        score=score,
        cost=cost,
        m=np.array(M),
        gold_logprob=np.log(chance),
        features=columns,
        meta=np.array([{"need": float(value), "kind": kinds[k]} for value, k in zip(need, kind, strict=True)]),
        unit=unit,
        backbone=backbone,
    )


def make_worded(count=2000, seed=0):
    """Questions alone, at three m: each of two hundred words moves the score and the need for tokens a little."""
    rng = np.random.default_rng(seed)
    effects = np.random.default_rng(99).normal(size=(200, 2)) * (0.9, 0.6)
    words = rng.integers(0, 200, (count, 4))
    level, need = effects[words].sum(axis=1).T / 2
    steps = np.array([-1.0, 0.2, 0.8])
    chance = 1 / (1 + np.exp(-(level[:, None] + 0.6 + (1.0 + need[:, None]) * steps)))
    throw = rng.random((count, 1)) * 0.7 + rng.random((count, 3)) * 0.3
    ids = np.array([f"w{seed}-{k}" for k in range(count)])
    return Outcomes(
        id=ids,
        group=ids,
        dataset=np.repeat("worded", count),
        question=np.array([f"is the {' '.join(f'w{word}' for word in row)} there" for row in words], dtype=object),
        replicate=np.zeros(count, int),
        arms=("36", "144", "576"),
        score=(throw < chance).astype(float),
        cost=np.tile([36.0, 144.0, 576.0], (count, 1)),
        m=np.array([36, 144, 576]),
        unit="tokens",
    )


@pytest.fixture(scope="session")
def train():
    return make_outcomes()


@pytest.fixture(scope="session")
def test():
    return make_outcomes(400, seed=1)


@pytest.fixture(scope="session")
def router(train):
    from router import Router

    return Router.fit(train)
