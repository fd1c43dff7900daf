"""The table of uses in router/budget.py, row by row."""

import numpy as np
import pytest

from router import Budget, BudgetError


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
    with pytest.raises(BudgetError, match=r"whole number of visual tokens, at least 1, was: .*; write budget=64"):
        Budget.of(value)
