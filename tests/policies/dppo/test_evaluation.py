"""Evaluation: the same trials as the benchmark's, and no rate where nothing finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmos_engine.sim.vector import VectorEnvironment
from policies.checkpoint import load_policy
from policies.dppo.evaluation import Evaluation, evaluate
from policies.policy import PolicySpec
from policies.rollout import EnvironmentPool, run_trials


def test_success_without_a_finished_trial_is_none(cloned: Path, aim: Callable[..., Any]) -> None:
    policy = load_policy(cloned, torch.device("cpu")).policy
    make = partial(aim, crash_seeds=frozenset(range(100)))
    with EnvironmentPool(make, 1) as pool:
        ends = [trial.outcome for trial in run_trials(policy, pool, range(30))]
    crashing = [seed for seed, outcome in enumerate(ends) if outcome == "crash"]
    with VectorEnvironment(make, 2, observations=["goal", "attempts"], workers=0) as environments:
        evaluation = evaluate(policy, environments, crashing)
    assert evaluation == Evaluation(0, 0, len(crashing))
    assert evaluation.success_rate is None
    assert evaluation.as_log()["wilson_95"] is None


def test_trials_end_as_in_the_benchmark(cloned: Path, aim: Callable[..., Any]) -> None:
    policy = load_policy(cloned, torch.device("cpu")).policy
    with EnvironmentPool(aim, 3) as pool:
        outcomes = [trial.outcome for trial in run_trials(policy, pool, range(40))]
    for count in (1, 7, 64):
        with VectorEnvironment(aim, count, observations=["goal", "attempts"], workers=0) as environments:
            evaluation = evaluate(policy, environments, range(40))
        assert evaluation == Evaluation(outcomes.count("success"), outcomes.count("failure"), 0)
    assert 0 < evaluation.successes < 40


class _Broken:
    spec = PolicySpec({"goal": [1]}, action_dim=1, step_hz=20.0, observation_frames=1, action_chunk=1)

    def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        return np.full((len(rngs), 1, 1), np.nan, np.float32)


def test_actions_that_are_not_finite_are_crashes(aim: Callable[..., Any]) -> None:
    with VectorEnvironment(aim, 2, observations=["goal"], workers=0) as environments:
        assert evaluate(_Broken(), environments, range(5)) == Evaluation(0, 0, 5)
