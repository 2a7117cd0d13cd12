"""When a cell of the benchmark may end before its last trial."""

from __future__ import annotations

from collections.abc import Sequence

from policies.intervals import confidence_sequence_95
from policies.rollout import Trial


def decisive_trials(trials: Sequence[Trial], seeds: Sequence[int], half_width: float) -> list[Trial] | None:
    """Return the fewest first trials whose 95 % confidence sequence is narrow enough; None if more are needed.

    Trials count in the order of their seeds, not in that of their ends: of trials that run side by side the short ones
    end first, and these are the successes. So what counts does not depend on how many run side by side.

    Args:
        trials: those that have ended, in any order.
        seeds: of all planned trials, in order.
        half_width: of the success rate, up to which the sequence is narrow enough.
    """
    ended = {trial.seed: trial for trial in trials}
    first: list[Trial] = []
    successes = finished = 0
    for seed in seeds:
        if seed not in ended:
            return None
        first.append(ended[seed])
        finished += first[-1].outcome != "crash"
        successes += first[-1].outcome == "success"
        interval = confidence_sequence_95(successes, finished)
        if interval is not None and interval[1] - interval[0] <= 2 * half_width:
            return first
    return None
