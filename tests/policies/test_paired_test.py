"""McNemar's exact test against a count of all outcomes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.paired_test import mcnemar_exact


@pytest.mark.parametrize(("first", "second"), [(0, 5), (1, 6), (3, 3), (4, 7)])
def test_p_value_is_the_share_of_splits_at_least_as_uneven(first: int, second: int) -> None:
    splits = [sum(coins) for coins in itertools.product((0, 1), repeat=first + second)]
    # Two-sided by doubling the smaller tail, as the exact test is defined; an even split is certain.
    tail = sum(heads <= min(first, second) for heads in splits) / len(splits)
    assert mcnemar_exact(first, second) == pytest.approx(min(1.0, 2 * tail), rel=1e-12)


def test_no_discordant_pair_is_no_evidence() -> None:
    assert mcnemar_exact(0, 0) == 1.0


@given(first=st.integers(0, 300), second=st.integers(0, 300))
def test_order_does_not_matter_and_more_evidence_is_smaller(first: int, second: int) -> None:
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)
    if first > second:
        assert mcnemar_exact(first + 1, second) <= mcnemar_exact(first, second)
