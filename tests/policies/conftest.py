"""A small world for the policies: a point that is steered to a goal, and datasets recorded in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from cosmos_engine.data.dataset_writer import DatasetWriter
from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.sim.environment import CameraFrame, Observation, StepResult

# A busy machine is no failure: no test here is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

PIXELS = 16


class PointMass:
    """A real `Environment`: a point in the unit square moves 0.1 per control step towards where its action points.

    The only camera looks down on the square; `brightness` is its appearance.
    """

    task = "reach"
    instruction = "move the point to the goal"
    step_hz = 20.0
    camera_names = ("agentview",)
    action_dim = 2
    horizon = 30
    labels: Mapping[int, InstanceLabel] = {1: InstanceLabel("point", "point", "robot")}
    observation_spec: Mapping[str, tuple[int, ...]] = {
        "robot0_eef_pos": (2,),
        "goal": (2,),
        "agentview_image": (PIXELS, PIXELS, 3),
    }

    def __init__(self, crash_seeds: frozenset[int] = frozenset()) -> None:
        self.crash_seeds = crash_seeds
        self.brightness = 0
        self.closed = False
        self.reset(0)

    def reset(self, seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.position = rng.uniform(0.1, 0.9, 2)
        self.goal = rng.uniform(0.1, 0.9, 2)
        self.steps = 0
        return self.observe()

    def step(self, action: np.ndarray) -> StepResult:
        assert not self.closed
        if self.seed in self.crash_seeds and self.steps == 3:
            raise RuntimeError("the solver diverged")
        self.position = np.clip(self.position + 0.1 * np.asarray(action, np.float64), 0.0, 1.0)
        self.steps += 1
        reached = self.success()
        return StepResult(self.observe(), float(reached), reached, self.steps >= self.horizon and not reached)

    def observe(self) -> Observation:
        return {
            "robot0_eef_pos": self.position.astype(np.float32),
            "goal": self.goal.astype(np.float32),
            "agentview_image": self.render_passes("agentview").rgb,
        }

    def render_passes(self, camera: str) -> CameraFrame:
        rgb = np.full((PIXELS, PIXELS, 3), self.brightness, np.uint8)
        instance = np.zeros((PIXELS, PIXELS), np.uint16)
        for place, channel in ((self.goal, 1), (self.position, 0)):
            row, column = np.minimum((place * PIXELS).astype(int), PIXELS - 1)
            rgb[row, column, channel] = 255
        instance[row, column] = 1
        depth_m = np.ones((PIXELS, PIXELS), np.float32)
        return CameraFrame(rgb, depth_m, instance, np.eye(3), np.eye(4))

    def get_state(self) -> np.ndarray:
        return np.concatenate([self.position, self.goal, [self.steps, self.seed]])

    def set_state(self, state: np.ndarray) -> None:
        self.position, self.goal = state[:2].copy(), state[2:4].copy()
        self.steps, self.seed = int(state[4]), int(state[5])

    def success(self) -> bool:
        return bool(np.linalg.norm(self.position - self.goal) < 0.08)

    def close(self) -> None:
        self.closed = True

    def expert_action(self) -> np.ndarray:
        return np.clip((self.goal - self.position) / 0.1, -1.0, 1.0).astype(np.float32)


def record_episode(seed: int, brightness: int = 0) -> dict[str, np.ndarray]:
    """Return the arrays of one expert episode, one row more than it takes to reach the goal."""
    environment = PointMass()
    environment.brightness = brightness
    observation = environment.reset(seed)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*observation, "action", "state")}
    done = False
    while not done or len(rows["action"]) < 4:
        for name, value in observation.items():
            rows[name].append(value)
        rows["action"].append(environment.expert_action())
        rows["state"].append(environment.get_state())
        result = environment.step(rows["action"][-1])
        observation, done = result.observation, result.terminated
    arrays = {name: np.stack(values) for name, values in rows.items()}
    return arrays | {"timestamp": np.arange(len(rows["action"])) / environment.step_hz}


def write_dataset(path: Path, *, demos: int = 4, variants: int = 0, rejected: tuple[tuple[int, int], ...] = ()) -> Path:
    """Write a dataset of `demos` episodes (seeds 0, 1, ...) with variants of another brightness."""
    with DatasetWriter(path, attrs={"task": "reach"}) as writer:
        for demo in range(demos):
            for variant in range(variants + 1):
                writer.append(
                    record_episode(demo, brightness=40 * variant),
                    source_demo=demo,
                    variant=variant,
                    accepted=(demo, variant) not in rejected,
                    info={"demo_seed": demo},
                )
        writer.finish({"kind": "test"})
    return path


@pytest.fixture(scope="session")
def point_mass() -> type[PointMass]:
    """Return the environment's class."""
    return PointMass


@pytest.fixture(scope="session")
def dataset_of() -> Callable[..., Path]:
    """Return the function that writes a dataset: path, demos, variants, rejected."""
    return write_dataset
