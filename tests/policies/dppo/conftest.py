"""A task that reinforcement solves in seconds, and a policy cloned from a bad teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.sim.environment import CameraFrame, Observation, StepResult
from policies.checkpoint import PolicyRecord, save_record, save_weights
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, WindowBatch
from policies.encoders import EncoderConfig
from policies.policy import PolicySpec

PIXELS = 8
TEACHER_ERROR = 0.4


class Aim:
    """A real `Environment`: an action near the goal ends the episode with success; two attempts."""

    task = "aim"
    instruction = "name the goal"
    step_hz = 20.0
    camera_names = ("agentview",)
    action_dim = 1
    horizon = 2
    labels: Mapping[int, InstanceLabel] = {}

    def __init__(
        self, *, images: bool = False, tolerance: float = 0.2, crash_seeds: frozenset[int] = frozenset()
    ) -> None:
        self.images = images
        self.tolerance = tolerance
        self.crash_seeds = crash_seeds
        self.closed = False
        self.reset(0)

    @property
    def observation_spec(self) -> Mapping[str, tuple[int, ...]]:
        spec: dict[str, tuple[int, ...]] = {"goal": (1,), "attempts": (1,)}
        return spec | {"agentview_image": (PIXELS, PIXELS, 3)} if self.images else spec

    def reset(self, seed: int) -> Observation:
        self.seed = seed
        self.goal = float(np.random.default_rng(seed).uniform(-0.4, 0.4))
        self.steps = 0
        self.hit = False
        return self.observe()

    def step(self, action: np.ndarray) -> StepResult:
        assert not self.closed
        if self.seed in self.crash_seeds and self.steps == 1:
            raise RuntimeError("the solver diverged")
        self.steps += 1
        self.hit = abs(float(action[0]) - self.goal) < self.tolerance
        return StepResult(self.observe(), float(self.hit), self.hit, self.steps >= self.horizon and not self.hit)

    def observe(self) -> Observation:
        observation = {
            "goal": np.array([self.goal], np.float32),
            "attempts": np.array([self.steps / self.horizon], np.float32),
        }
        if self.images:
            observation["agentview_image"] = self.render_passes("agentview").rgb
        return observation

    def render_passes(self, camera: str) -> CameraFrame:
        rgb = np.zeros((PIXELS, PIXELS, 3), np.uint8)
        rgb[:, int((self.goal + 1) / 2 * PIXELS)] = 255
        flat = np.ones((PIXELS, PIXELS), np.float32)
        return CameraFrame(rgb, flat, flat.astype(np.uint16), np.eye(3), np.eye(4))

    def get_state(self) -> np.ndarray:
        return np.array([self.seed, self.goal, self.steps, self.hit], np.float64)

    def set_state(self, state: np.ndarray) -> None:
        self.seed, self.goal, self.steps, self.hit = int(state[0]), float(state[1]), int(state[2]), bool(state[3])

    def success(self) -> bool:
        return self.hit

    def close(self) -> None:
        self.closed = True


def cloned_policy(folder: Path, *, images: bool = False, updates: int = 150) -> Path:
    """Write the run of a policy cloned from a teacher that misses by `TEACHER_ERROR` give or take."""
    shapes = {"agentview_image": [PIXELS, PIXELS, 3]} if images else {"goal": [1], "attempts": [1]}
    spec = PolicySpec(shapes, action_dim=1, step_hz=20.0, observation_frames=1, action_chunk=1)
    config = DiffusionPolicyConfig(
        observation_frames=1,
        horizon=1,
        action_chunk=1,
        image_size=PIXELS,
        crop_size=PIXELS - 1,
        encoder=EncoderConfig(widths=(8, 8), keypoints=2),
        unet_widths=(16,),
        training_denoise_steps=10,
        sampler="ddpm",
    )
    torch.manual_seed(0)
    policy = DiffusionPolicy(config, spec)
    rng = np.random.default_rng(0)
    policy.fit_normalizers(
        {"goal": np.array([[-1], [1]], np.float32), "attempts": np.array([[0], [1]], np.float32)},
        np.array([[-1], [1]], np.float32),
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        goals = rng.uniform(-0.4, 0.4, (64, 1, 1)).astype(np.float32)
        actions = (goals + TEACHER_ERROR + rng.normal(0, 0.15, goals.shape)).clip(-1, 1).astype(np.float32)
        columns = ((goals[:, 0, 0] + 1) / 2 * PIXELS).astype(int)
        pictures = np.zeros((64, 1, PIXELS, PIXELS, 3), np.uint8)
        pictures[np.arange(64), 0, :, columns] = 255
        batch = WindowBatch(
            images={"agentview_image": torch.from_numpy(pictures)} if images else {},
            low_dim={}
            if images
            else {"goal": torch.from_numpy(goals), "attempts": torch.from_numpy(rng.random((64, 1, 1), np.float32))},
            actions=torch.from_numpy(actions),
            inside=torch.ones(64, 1, dtype=torch.bool),
        )
        loss = policy.loss(batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder.mkdir(parents=True)
    save_record(folder, PolicyRecord(policy=config, spec=spec, tasks=["aim"], demo_seeds=[7, 8]))
    save_weights(folder, policy, updates)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: the promise of equal bytes is for equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a policy that sees states."""
    return cloned_policy(tmp_path_factory.mktemp("dppo") / "bc")


@pytest.fixture(scope="session")
def cloned_from_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a policy that sees images alone."""
    return cloned_policy(tmp_path_factory.mktemp("dppo") / "bc_images", images=True, updates=20)


@pytest.fixture(scope="session")
def aim() -> Callable[..., Aim]:
    """Return the environment's class."""
    return Aim
