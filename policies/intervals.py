"""Intervals of success rates: one for a number of trials fixed beforehand, one for stopping whenever one likes."""

from __future__ import annotations

import math
from collections.abc import Callable

Z_95 = 1.959963984540054  # the normal distribution's 0.975 quantile


def wilson_95(successes: int, trials: int) -> tuple[float, float] | None:
    """Return the 95 % score interval of a binomial proportion (Wilson 1927); None without trials.

    Args:
        successes: 0 to `trials`.
        trials: attempts that finished.
    """
    if trials == 0:
        return None
    rate = successes / trials
    shrink = 1.0 + Z_95**2 / trials
    centre = (rate + Z_95**2 / (2 * trials)) / shrink
    half_width = Z_95 / shrink * math.sqrt(rate * (1.0 - rate) / trials + Z_95**2 / (4 * trials**2))
    # At 0 and at `trials` successes the bound is exactly 0 or 1; rounding must not move it across.
    low = 0.0 if successes == 0 else centre - half_width
    high = 1.0 if successes == trials else centre + half_width
    return low, high


def confidence_sequence_95(successes: int, trials: int) -> tuple[float, float] | None:
    """Return an interval that holds the rate at every number of trials at once, in 95 % of runs; None without trials.

    So it may be looked at after each trial, and trials may end when it is narrow enough; `wilson_95` would then miss
    the rate more often than it says. It is wider: at 80 of 100, 65 to 91 instead of 71 to 87 %. A rate p lies outside
    where the likelihood of the outcomes, averaged over all rates, is 20 times that under p (Robbins 1970, with the
    uniform mixture and Ville's inequality).

    Args:
        successes: 0 to `trials`.
        trials: attempts that finished.
    """
    if trials == 0:
        return None
    failures = trials - successes
    averaged = math.lgamma(successes + 1) + math.lgamma(failures + 1) - math.lgamma(trials + 2)

    def holds(rate: float) -> bool:
        likelihood = successes * _log(rate) + failures * _log(1.0 - rate)
        return averaged - likelihood < math.log(20.0)

    best = successes / trials
    low = 0.0 if successes == 0 else _bisected(holds, best, 0.0)
    high = 1.0 if failures == 0 else _bisected(holds, best, 1.0)
    return low, high


def _log(value: float) -> float:
    return math.log(value) if value > 0.0 else -1e300  # times 0 it is 0, as the limit is


def _bisected(holds: Callable[[float], bool], inside: float, outside: float) -> float:
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside
