"""Rollouts: trials depend on their seed alone, and what happens is counted as what it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import LazyObservation, Observation
from policies.policy import PolicySpec, check_environment
from policies.rollout import EnvironmentPool, run_trials

SPEC = PolicySpec(
    observation_shapes={"agentview_image": [16, 16, 3], "robot0_eef_pos": [2], "goal": [2]},
    action_dim=2,
    step_hz=20.0,
    action_chunk=3,
)


class GoalSeeker:
    """Act towards the goal, with some noise from the trial's generator."""

    spec = SPEC

    def __init__(self, noise: float = 0.1, speed: float = 1.0) -> None:
        self.noise = noise
        self.speed = speed

    def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        assert observations["agentview_image"].shape[1:] == (2, 16, 16, 3)
        towards = self.speed * (observations["goal"][:, -1] - observations["robot0_eef_pos"][:, -1]) / 0.3
        drawn = np.stack([rng.normal(0, self.noise, (3, 2)) for rng in rngs])
        return (towards[:, None] + drawn).astype(np.float32)


def _trials(point_mass: Callable[..., Any], size: int, seeds: Sequence[int], **arguments: Any) -> dict[int, Any]:
    with EnvironmentPool(point_mass, size) as pool:
        return {trial.seed: trial for trial in run_trials(GoalSeeker(), pool, seeds, **arguments)}


def test_every_seed_has_one_trial_and_succeeds(point_mass: Callable[..., Any]) -> None:
    trials = _trials(point_mass, 3, range(10))
    assert sorted(trials) == list(range(10))
    assert {trial.outcome for trial in trials.values()} == {"success"}


def test_trials_do_not_depend_on_how_many_run_side_by_side(point_mass: Callable[..., Any]) -> None:
    alone, together = _trials(point_mass, 1, range(8)), _trials(point_mass, 5, range(8))
    assert {seed: trial.steps for seed, trial in alone.items()} == {
        seed: trial.steps for seed, trial in together.items()
    }


def test_standing_still_is_a_failure_at_the_horizon(point_mass: Callable[..., Any]) -> None:
    with EnvironmentPool(point_mass, 2) as pool:
        trials = list(run_trials(GoalSeeker(noise=0.0, speed=0.0), pool, [1, 2]))
    assert [(trial.outcome, trial.steps) for trial in trials] == [("failure", 30)] * 2


def test_crash_is_told_apart_and_its_environment_replaced(point_mass: Callable[..., Any]) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(point_mass(crash_seeds=frozenset({1, 4})))
        return made[-1]

    with EnvironmentPool(make, 2) as pool:
        trials = {trial.seed: trial for trial in run_trials(GoalSeeker(speed=0.5), pool, range(6))}
    assert {seed for seed, trial in trials.items() if trial.outcome == "crash"} == {1, 4}
    assert trials[1].steps == 3
    assert trials[1].error == "RuntimeError: the solver diverged"
    assert len(made) == 4
    assert all(environment.closed for environment in made)


def test_actions_that_are_not_finite_are_a_crash(point_mass: Callable[..., Any]) -> None:
    with EnvironmentPool(point_mass, 1) as pool:
        (trial,) = run_trials(GoalSeeker(noise=float("inf")), pool, [0])
    assert (trial.outcome, trial.error) == ("crash", "ValueError: the policy's actions are not finite")


def test_appearance_is_prepared_before_the_reset(point_mass: Callable[..., Any]) -> None:
    def brighten(environment: Any, seed: int) -> None:
        environment.brightness = 10 * seed

    trials = _trials(point_mass, 2, [3, 4, 5], prepare=brighten, film_camera="agentview_image")
    for seed in (3, 4, 5):
        assert len(trials[seed].frames) == trials[seed].steps + 1
        assert np.median(trials[seed].frames[0]) == 10 * seed


def test_films_are_rendered_for_the_outcomes_that_are_wanted_alone(point_mass: Callable[..., Any]) -> None:
    rendered: list[int] = []

    class Lazy(point_mass):  # type: ignore[valid-type, misc]
        def observe(self) -> Observation:
            observation = dict(super().observe())
            image = observation.pop("agentview_image")

            def render() -> np.ndarray:
                rendered.append(self.seed)
                return image

            return LazyObservation(observation, {"agentview_image": render})

    outcomes: dict[str, list[bool]] = {}

    def film(outcome: str) -> bool:
        outcomes.setdefault(outcome, []).append(outcome == "failure")
        return outcomes[outcome][-1]

    class RightSeeker:
        """Reach the goals to the right, and stand still before the others; sees no image."""

        spec = PolicySpec({"robot0_eef_pos": [2], "goal": [2]}, action_dim=2, step_hz=20.0, action_chunk=3)

        def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
            towards = (observations["goal"][:, -1] - observations["robot0_eef_pos"][:, -1]) / 0.3
            return np.repeat((towards * (towards[:, :1] > 0))[:, None], 3, axis=1).astype(np.float32)

    with EnvironmentPool(Lazy, 2) as pool:
        trials = list(run_trials(RightSeeker(), pool, range(8), film_camera="agentview_image", film=film))
    by_outcome = {kind: [trial for trial in trials if trial.outcome == kind] for kind in ("success", "failure")}
    assert all(by_outcome.values())
    assert {kind: len(asked) for kind, asked in outcomes.items()} == {k: len(t) for k, t in by_outcome.items()}
    assert all(trial.frames == [] for trial in by_outcome["success"])
    assert all(len(trial.frames) == trial.steps + 1 for trial in by_outcome["failure"])
    assert set(rendered) == {trial.seed for trial in by_outcome["failure"]}


def test_a_users_mistake_in_preparing_is_no_crash(point_mass: Callable[..., Any]) -> None:
    def refuse(environment: Any, seed: int) -> None:
        raise InputError("unknown shift")

    with pytest.raises(InputError, match="unknown shift"):
        _trials(point_mass, 1, [0], prepare=refuse)


@pytest.mark.parametrize(
    ("shapes", "action_dim", "step_hz", "message"),
    [
        ({"wrist_image": [16, 16, 3]}, 2, 20.0, "sees 'wrist_image', which environment 'reach' does not give"),
        (
            {"agentview_image": [32, 32, 3]},
            2,
            20.0,
            r"expects 'agentview_image' of shape \(32, 32, 3\), .* \(16, 16, 3\)",
        ),
        ({"goal": [2]}, 7, 20.0, "its actions have 7 numbers, environment 'reach' takes 2"),
        ({"goal": [2]}, 2, 10.0, "acts at 10 Hz, environment 'reach' steps at 20 Hz"),
    ],
)
def test_what_does_not_fit_is_named(
    point_mass: Callable[..., Any], shapes: dict[str, list[int]], action_dim: int, step_hz: float, message: str
) -> None:
    spec = PolicySpec(observation_shapes=shapes, action_dim=action_dim, step_hz=step_hz)
    with pytest.raises(InputError, match=message):
        check_environment("bc", spec, point_mass())
