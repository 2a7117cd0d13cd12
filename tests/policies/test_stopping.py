"""A cell ends as soon as its rate is known well enough, by its first seeds and not by its fastest trials."""

from __future__ import annotations

import numpy as np

from policies.intervals import confidence_sequence_95
from policies.rollout import Outcome, Trial
from policies.stopping import decisive_trials

SEEDS = range(100, 300)


def _trials(count: int, rate: float = 0.8) -> list[Trial]:
    rng = np.random.default_rng(1)
    outcomes: list[Outcome] = ["success" if draw < rate else "failure" for draw in rng.random(count)]
    return [Trial(seed, outcome, 9) for seed, outcome in zip(SEEDS, outcomes, strict=False)]


def test_the_fewest_first_trials_that_are_enough_decide() -> None:
    trials = _trials(200)
    decisive = decisive_trials(trials, SEEDS, 0.15)
    assert decisive is not None
    assert [trial.seed for trial in decisive] == list(SEEDS[: len(decisive)])

    def half_width(count: int) -> float:
        interval = confidence_sequence_95(sum(trial.outcome == "success" for trial in trials[:count]), count)
        assert interval is not None
        return (interval[1] - interval[0]) / 2

    assert half_width(len(decisive)) <= 0.15
    assert all(half_width(count) > 0.15 for count in range(1, len(decisive)))


def test_order_of_the_ends_does_not_matter_and_gaps_are_waited_for() -> None:
    trials = _trials(200)
    decisive = decisive_trials(trials, SEEDS, 0.15)
    assert decisive is not None
    fastest_first = sorted(trials, key=lambda trial: trial.outcome == "failure")
    assert decisive_trials(fastest_first, SEEDS, 0.15) == decisive
    assert decisive_trials(trials[1:], SEEDS, 0.15) is None
    assert decisive_trials(trials[: len(decisive) - 1], SEEDS, 0.15) is None


def test_crashes_decide_nothing() -> None:
    crashed = [Trial(seed, "crash", 0, "RuntimeError: x") for seed in SEEDS[:50]]
    finished = [Trial(seed, "success", 9) for seed in SEEDS[50:]]
    assert decisive_trials(crashed, SEEDS, 0.45) is None
    decisive = decisive_trials([*crashed, *finished], SEEDS, 0.15)
    alone = decisive_trials(finished, SEEDS[50:], 0.15)
    assert decisive is not None
    assert alone is not None
    assert len(decisive) == 50 + len(alone)
