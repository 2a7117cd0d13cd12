"""Wilson's interval against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.intervals import wilson_95


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_equals_newcombes_table(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson_95(successes, trials)
    assert interval is not None
    assert interval == pytest.approx((low, high), abs=5e-5)


def test_no_trials_have_no_interval() -> None:
    assert wilson_95(0, 0) is None


@given(trials=st.integers(1, 500), fraction=st.floats(0, 1))
def test_interval_holds_the_rate_and_mirrors_with_it(trials: int, fraction: float) -> None:
    successes = round(fraction * trials)
    interval, mirrored = wilson_95(successes, trials), wilson_95(trials - successes, trials)
    assert interval is not None
    assert mirrored is not None
    assert 0.0 <= interval[0] <= successes / trials <= interval[1] <= 1.0
    assert mirrored == pytest.approx((1 - interval[1], 1 - interval[0]))
