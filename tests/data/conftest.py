"""Episodes small enough to write by the hundred, with every pass and a value of every kind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cosmos_engine.data import CameraPasses, Episode, InstanceLabel, RecordingWriter

CAMERAS = {"agentview": (8, 10), "robot0_eye_in_hand": (6, 6)}


def _passes(rng: np.random.Generator, length: int, height: int, width: int) -> CameraPasses:
    depth_m = rng.uniform(0.3, 2.0, (length, height, width)).astype(np.float32)
    depth_m[:, 0, 0] = np.inf
    return CameraPasses(
        rgb=rng.integers(0, 256, (length, height, width, 3), dtype=np.uint8),
        depth_m=depth_m,
        instance=rng.integers(0, 4, (length, height, width), dtype=np.uint16),
        intrinsics_px=np.array([[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]]),
        world_from_camera=np.tile(np.eye(4), (length, 1, 1)),
    )


def _episode(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(4, 9))
    return Episode(
        actions=rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        states=rng.normal(size=(steps, 11)),
        rewards=np.zeros(steps, dtype=np.float32),
        dones=np.arange(steps) == steps - 1,
        observations={
            "robot0_eef_pos": rng.normal(size=(steps, 3)).astype(np.float32),
            "robot0_eef_quat": rng.normal(size=(steps, 4)).astype(np.float32),
        },
        cameras={name: _passes(rng, steps, *size) for name, size in CAMERAS.items()},
        labels={
            1: InstanceLabel("arm", "robot", "robot"),
            2: InstanceLabel("cube", "cube", "manipulated"),
            3: InstanceLabel("table", "table", "scene"),
        },
        success=bool(seed % 2),
        seed=seed,
        step_hz=20.0,
        episode_id=f"00000000-0000-4000-8000-{seed:012d}",
        source="embedded-mujoco",
        task="lift",
        instruction="lift the cube",
    )


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not sync: it matters after a power cut, which no test makes, and takes minutes on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def make_episode() -> Callable[[int], Episode]:
    """An episode that its seed determines."""
    return _episode


@pytest.fixture
def episode() -> Episode:
    return _episode(1)


@pytest.fixture
def env_args() -> dict[str, Any]:
    return {"env_name": "lift", "type": 2, "env_kwargs": {"image_size": [8, 10]}}


@pytest.fixture
def recording_folder(tmp_path: Path, env_args: dict[str, Any]) -> Path:
    """A recording of three episodes, of seeds 0, 1, 2."""
    folder = tmp_path / "demos"
    with RecordingWriter(folder, env_args) as writer:
        for seed in range(3):
            writer.append(_episode(seed))
    return folder


@pytest.fixture
def dataset_arrays() -> Callable[[Episode], dict[str, NDArray[Any]]]:
    """The rows that a dataset holds of an episode's original."""

    def arrays(episode: Episode) -> dict[str, NDArray[Any]]:
        return {
            "action": episode.actions,
            "state": episode.states,
            "timestamp": episode.timestamps_s,
            **episode.observations,
            **{f"{name}_image": passes.rgb for name, passes in episode.cameras.items()},
        }

    return arrays


@pytest.fixture
def kill_after() -> Callable[[float, Callable[[], object]], bool]:
    """Run something in a process of its own and kill -9 it after some seconds; say whether the kill came in time."""

    def run(seconds: float, target: Callable[[], object]) -> bool:
        process = multiprocessing.get_context("fork").Process(target=target)
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode != 0

    return run


@pytest.fixture
def folder_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Every file under a folder with its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    return read
