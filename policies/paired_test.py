"""The paired test of two arms that attempted the same trials."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from cosmos_engine.report.paired import Paired

Key = TypeVar("Key", bound=Hashable)


def compare(here: Mapping[Key, str], there: Mapping[Key, str], reference: str) -> Paired:
    """Compare two arms over the trials that both finished.

    Args:
        here: trial -> "success", "failure" or "crash".
        there: the same of the arm to compare with; what is in one of them alone does not count.
        reference: name of that arm.
    """
    pairs = [
        (outcome == "success", there[trial] == "success")
        for trial, outcome in here.items()
        if trial in there and "crash" not in (outcome, there[trial])
    ]
    only_here = sum(first and not second for first, second in pairs)
    only_reference = sum(second and not first for first, second in pairs)
    return Paired(reference, only_here, only_reference, mcnemar_exact(only_here, only_reference))


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
