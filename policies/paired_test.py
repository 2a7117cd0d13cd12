"""The paired test of two arms that attempted the same trials."""

from __future__ import annotations

import math


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: are the discordant pairs split evenly?

    Under the null hypothesis `only_first` is binomial with n = `only_first` + `only_second` and p = 1/2 (McNemar 1947,
    with the exact binomial tail in place of the chi-squared approximation).

    Args:
        only_first: trials in which only the first arm succeeded.
        only_second: trials in which only the second arm did.

    Returns:
        A value in (0, 1]; 1 without discordant pairs.
    """
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**discordant)
