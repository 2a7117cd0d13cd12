"""Intervals of success rates."""

from __future__ import annotations

import math

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
