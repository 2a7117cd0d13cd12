"""Wilson's interval against published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.intervals import confidence_sequence_95, wilson_95


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


@given(trials=st.integers(1, 500), fraction=st.floats(0, 1))
def test_sequence_holds_the_rate_mirrors_with_it_and_ends_where_the_likelihood_is_a_twentieth(
    trials: int, fraction: float
) -> None:
    successes = round(fraction * trials)
    sequence, mirrored = (confidence_sequence_95(count, trials) for count in (successes, trials - successes))
    assert sequence is not None
    assert mirrored is not None
    low, high = sequence
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    assert mirrored == pytest.approx((1 - high, 1 - low))
    # The uniform average of p^s (1 - p)^f is s! f! / (s + f + 1)!.
    averaged = 1 / ((trials + 1) * math.comb(trials, successes))
    for bound in {low, high} - {0.0, 1.0}:
        likelihood = bound**successes * (1 - bound) ** (trials - successes)
        assert averaged / likelihood == pytest.approx(20.0, rel=1e-6)


@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_sequence_holds_the_rate_at_every_look_where_wilsons_interval_does_not(rate: float) -> None:
    rng = np.random.default_rng(0)
    runs, trials = 400, 200
    missed = {"sequence": 0, "wilson": 0}
    bounds = {
        (successes, n): (confidence_sequence_95(successes, n), wilson_95(successes, n))
        for n in range(1, trials + 1)
        for successes in range(n + 1)
    }
    for _ in range(runs):
        counts = np.cumsum(rng.random(trials) < rate).tolist()
        looks = [bounds[successes, n] for n, successes in enumerate(counts, start=1)]
        for name, intervals in zip(missed, zip(*looks, strict=True), strict=True):
            missed[name] += any(not low <= rate <= high for low, high in intervals)
    assert missed["sequence"] <= 0.05 * runs
    assert missed["wilson"] > 0.15 * runs


def test_no_trials_have_no_sequence() -> None:
    assert confidence_sequence_95(0, 0) is None
