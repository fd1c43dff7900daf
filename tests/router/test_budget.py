"""The table of uses in router/budget.py, row by row, and the way to and from a command line."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from router import Budget, BudgetError

ROWS = [
    ("64", Budget(cap=64)),
    ("cap 64 tokens", Budget(64)),
    ("cap 1.5 tflops", Budget(cap=1.5, unit="tflops")),
    ("mean 16", Budget(mean=16)),
    ("mean 16 tokens", Budget(mean=16, unit="tokens")),
    ("mean 40 ms", Budget(mean=40, unit="ms")),
    ("price 0.002", Budget(price=0.002)),
    ("price 0.002 tflops", Budget(price=0.002, unit="tflops")),
    ("max_loss 0.01", Budget(max_loss=0.01)),
    ("max_broken 0.02", Budget(max_broken=0.02)),
    ("none", None),
]


def test_an_int_is_a_hard_cap():
    assert Budget.of(64) == Budget(cap=64)
    assert Budget.of(np.int32(64)).cap == 64


def test_none_is_no_cap():
    assert Budget.of(None) is None


def test_a_budget_stays_itself():
    budget = Budget(cap=3)
    assert Budget.of(budget) is budget


@pytest.mark.parametrize("value", [0, -1, True, False, np.True_, 64.0, float("nan"), "64", "auto", [64], b"64"])
def test_everything_else_is_refused_with_rule_value_and_remedy(value):
    with pytest.raises(
        BudgetError, match=r"whole number of visual tokens, at least 1, was: .*; write budget=64, Budget"
    ):
        Budget.of(value)


@pytest.mark.parametrize(("text", "budget"), ROWS)
def test_a_command_line_is_read_as_the_table_says(text, budget):
    assert Budget.parse(f" {text} ") == budget


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_reads_back_equal(seed):
    rng = np.random.default_rng(seed)
    for unit in (None, "tokens", "tflops", "ms", "US dollars", "a  b", "€/1k", "none"):
        wide = float(10.0 ** rng.uniform(-300, 300))
        budgets = [Budget(mean=wide, unit=unit), Budget(price=wide, unit=unit), Budget(price=0, unit=unit)]
        budgets.append(Budget(int(rng.integers(1, 2**62)) if unit in (None, "tokens") else wide, unit=unit))
        budgets += [Budget(max_loss=rng.random()), Budget(max_broken=rng.random())]
        for budget in budgets:
            assert Budget.parse(str(budget)) == budget, str(budget)


NUMBERS = ["", "auto", "64.0", "-1", "0", "0x10", "1_0", "²", "None"]
CAPS = ["cap", "cap x", "cap 1.5", "cap 1.2.3 ms", "cap 0 ms", "Cap 3"]
MEANS = ["mean", "mean nan", "mean inf", "mean 1e999", "mean 0", "mean -1", "mean16", "mean 1\ttokens", "mean 1 2\n3"]
OTHERS = ["price", "price -1", "max_loss 0", "max_loss 1", "max_loss 0.01 ms", "max_broken 2"]


@pytest.mark.parametrize("text", [*NUMBERS, *CAPS, *MEANS, *OTHERS])
def test_other_texts_are_refused_with_the_forms(text):
    with pytest.raises(BudgetError, match=r"must be written as '64', .* or 'none', was: "):
        Budget.parse(text)


def test_exactly_one_of_the_five_is_given():
    with pytest.raises(BudgetError, match="exactly one of cap, mean, price, max_loss, max_broken, was: none of them"):
        Budget()
    with pytest.raises(BudgetError, match="was: cap, mean; write"):
        Budget(64, mean=16)
    with pytest.raises(TypeError):
        Budget(64, 16)


BAD = [True, np.True_, float("nan"), float("inf"), -1, "16", [16], 1j, 10**400]


@pytest.mark.parametrize("value", [*BAD, 0])
def test_caps_in_units_and_means_are_positive_and_finite(value):
    with pytest.raises(BudgetError, match="mean must be a positive, finite number, was: "):
        Budget(mean=value)
    with pytest.raises(BudgetError, match="cap must be a positive, finite number, was: "):
        Budget(cap=value, unit="ms")


@pytest.mark.parametrize("value", BAD)
def test_a_price_may_be_zero_but_not_less(value):
    assert Budget(price=0).price == 0
    with pytest.raises(BudgetError, match="price must be a finite number, at least 0, was: "):
        Budget(price=value)


@pytest.mark.parametrize("kind", ["max_loss", "max_broken"])
@pytest.mark.parametrize("value", [*BAD, 0, 1])
def test_a_loss_lies_between_0_and_1(kind, value):
    with pytest.raises(BudgetError, match=f"{kind} must lie between 0 and 1, was: "):
        Budget(**{kind: value})


@pytest.mark.parametrize("unit", ["", " ms", "ms ", "a\nb", 3, b"ms", True])
def test_a_unit_is_a_name(unit):
    with pytest.raises(BudgetError, match=r"unit must be a printable name .* was: "):
        Budget(mean=16, unit=unit)


def test_a_loss_has_no_unit():
    for kind in ("max_loss", "max_broken"):
        with pytest.raises(BudgetError, match=f"a {kind} is in score and has no unit, was: unit='tokens'"):
            Budget(**{kind: 0.01}, unit="tokens")


def test_units_default_to_tokens_and_a_price_to_the_routers_own():
    assert Budget(64).unit == Budget(mean=16).unit == "tokens"
    assert Budget(price=1).unit is None and Budget(max_loss=0.1).unit is None


def test_kind_and_value_tell_which_is_given():
    assert (Budget(mean=np.float32(0.5)).kind, Budget(mean=np.float32(0.5)).value) == ("mean", 0.5)
    assert type(Budget(mean=Fraction(1, 2)).value) is float and type(Budget(np.int8(3)).value) is int


def test_a_budget_can_be_a_key_and_be_replaced():
    assert {Budget(64): 1}[Budget(cap=64, unit="tokens")] == 1
    assert dataclasses.replace(Budget(mean=16), mean=8) == Budget(mean=8)
