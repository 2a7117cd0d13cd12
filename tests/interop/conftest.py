"""Recordings, datasets and foreign files, small and whole."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cosmos_engine.data import (
    CameraPasses,
    DatasetWriter,
    Episode,
    InstanceLabel,
    Recording,
    RecordingWriter,
    build_certificate,
)

SIZES = {"table": (16, 20), "wrist": (12, 12)}
LABELS = {
    1: InstanceLabel("arm", "robot", "robot"),
    2: InstanceLabel("cube", "cube", "manipulated"),
    3: InstanceLabel("table", "table", "scene"),
}
LAB_COLORS = {
    "cube_1": (120, 230, 255),
    "robot": (204, 110, 248),
    "table": (255, 237, 218),
    "background": (200, 200, 200),
}


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not sync: it matters after a power cut, which no test makes, and takes minutes on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def passes(rng: np.random.Generator, length: int, size: tuple[int, int]) -> CameraPasses:
    height, width = size
    depth_m = rng.uniform(0.3, 2.0, (length, height, width)).astype(np.float32)
    depth_m[:, 0, 0] = np.inf
    poses = np.tile(np.eye(4), (length, 1, 1))
    poses[:, :3, 3] = rng.normal(size=(length, 3))
    return CameraPasses(
        rgb=rng.integers(0, 256, (length, height, width, 3), dtype=np.uint8),
        depth_m=depth_m,
        instance=rng.integers(0, 4, (length, height, width), dtype=np.uint16),
        intrinsics_px=np.array([[30.0, 0, (width - 1) / 2], [0, 30.0, (height - 1) / 2], [0, 0, 1]]),
        world_from_camera=poses,
    )


def episode_of(seed: int, *, arms: int = 2, sizes: dict[str, tuple[int, int]] | None = None) -> Episode:
    """Two arms, cameras of different sizes, another length and instruction each, an extra observation and extras."""
    rng = np.random.default_rng(seed)
    steps = 5 + seed % 3
    robots = {
        f"robot{arm}_{name}": rng.normal(size=(steps, width)).astype(np.float32)
        for arm in range(arms)
        for name, width in {"eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2}.items()
    }
    return Episode(
        actions=rng.uniform(-1, 1, (steps, 7 * arms)).astype(np.float32),
        states=rng.normal(size=(steps, 11)),
        rewards=(np.arange(steps) == steps - 1).astype(np.float32),
        dones=np.arange(steps) == steps - 1,
        observations={
            **robots,
            "object": rng.normal(size=(steps, 6)).astype(np.float32),
            "wrench": rng.normal(size=(steps, 6)).astype(np.float32),
        },
        cameras={name: passes(rng, steps, size) for name, size in (sizes or SIZES).items()},
        labels=LABELS,
        success=True,
        seed=seed,
        step_hz=20.0,
        episode_id=f"00000000-0000-4000-8000-{seed:012d}",
        source="embedded-mujoco",
        task="hand_over",
        instruction=f"hand over the cube, way {seed}",
        extras={
            "obs/normals": rng.normal(size=(steps, 4, 4, 3)).astype(np.float32),
            "attribute/number/mass": np.array(0.5),
        },
    )


@pytest.fixture
def make_episode() -> Callable[..., Episode]:
    return episode_of


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording and the dataset that each test gets a copy of."""
    folder = tmp_path_factory.mktemp("made_once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        env_args = {"env_name": "hand_over", "type": 1, "env_kwargs": {"control_freq": 20}}
        with RecordingWriter(folder / "demos", env_args) as writer:
            for seed in range(4):
                writer.append(episode_of(seed))
        _write_dataset(folder / "hand_over.zarr", Recording(folder / "demos"))
    return folder


@pytest.fixture
def recording(made_once: Path, tmp_path: Path) -> Recording:
    """Four demos of two arms, seeds 0 to 3."""
    return Recording(shutil.copytree(made_once / "demos", tmp_path / "demos"))


@pytest.fixture
def dataset(made_once: Path, tmp_path: Path) -> Path:
    """A dataset of the recording: each original, a variant each, and one that the gate did not accept."""
    return Path(shutil.copytree(made_once / "hand_over.zarr", tmp_path / "hand_over.zarr"))


def _write_dataset(path: Path, recording: Recording) -> None:
    with DatasetWriter(path, attrs={"job": {"env_args": recording.env_args}}) as writer:
        for demo in range(4):
            episode = recording.episode(demo)
            for variant in range(3 if demo == 1 else 2):
                info: dict[str, Any] = {"episode_id": episode.episode_id, "demo_seed": demo, "task": episode.task}
                info |= {"instruction": episode.instruction}
                if variant:
                    info |= {"prompt": f"oak table {demo}", "seed": 7}
                writer.append(
                    {
                        "action": episode.actions,
                        "state": episode.states,
                        "timestamp": episode.timestamps_s,
                        **episode.observations,
                        **{f"{name}_image": made.rgb // (variant + 1) for name, made in episode.cameras.items()},
                    },
                    source_demo=demo,
                    variant=variant,
                    accepted=variant < 2,
                    info=info,
                )
        writer.finish(build_certificate(recording, writer, config={}, weights_sha256={}))


def assert_same_episode(actual: Episode, expected: Episode, *, but: tuple[str, ...] = ()) -> None:
    for field in dataclasses.fields(Episode):
        if field.name in but:
            continue
        found, wanted = getattr(actual, field.name), getattr(expected, field.name)
        if field.name == "cameras":
            assert found.keys() == wanted.keys()
            for camera in wanted:
                for one in dataclasses.fields(CameraPasses):
                    left, right = getattr(found[camera], one.name), getattr(wanted[camera], one.name)
                    assert left.dtype == right.dtype, (camera, one.name)
                    np.testing.assert_array_equal(left, right, f"{camera} {one.name}")
        elif field.name in ("observations", "extras"):
            assert found.keys() == wanted.keys(), field.name
            for name in wanted:
                assert found[name].dtype == wanted[name].dtype, name
                np.testing.assert_array_equal(found[name], wanted[name], name)
        else:
            np.testing.assert_array_equal(found, wanted, field.name)


def write_lab_file(path: Path, demos: int = 2, *, steps: int = 5, size: int = 12) -> Path:
    """What Isaac Lab's recorder writes of the Cosmos environment: its groups, types and encodings."""
    names = list(LAB_COLORS)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = demos * steps
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Isaac-Stack-Cube-Franka-IK-Rel-Visuomotor-Cosmos-v0", "type": 2}
        )
        for number in range(demos):
            rng = np.random.default_rng(number)
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            demo.attrs["success"] = True
            demo["actions"] = rng.uniform(-1, 1, (steps, 7)).astype(np.float32)
            demo["processed_actions"] = rng.uniform(-1, 1, (steps, 9)).astype(np.float32)
            for name, width in {"eef_pos": 3, "eef_quat": 4, "gripper_pos": 2, "joint_pos": 9, "actions": 7}.items():
                demo[f"obs/{name}"] = rng.normal(size=(steps, width)).astype(np.float32)
            image = (steps, size, size)
            demo["obs/table_cam"] = rng.integers(0, 256, (*image, 3), dtype=np.uint8)
            demo["obs/wrist_cam"] = rng.integers(0, 256, (*image, 3), dtype=np.uint8)
            demo["obs/table_cam_normals"] = rng.uniform(0, 1, (*image, 4)).astype(np.float32)
            depth = rng.uniform(0.2, 1.9, (*image, 1)).astype(np.float32)
            depth[:, 0, 0] = 0  # its `image` observation writes 0 for infinity
            demo["obs/table_cam_depth"] = depth
            table = np.array([(*LAB_COLORS[name], 255) for name in names], np.uint8)
            demo["obs/table_cam_segmentation"] = table[rng.integers(0, len(names), image)]
            demo["obs/subtask_terms/grasp_1"] = rng.integers(0, 2, steps).astype(bool)
            groups = {"articulation/robot/joint_position": 9, "rigid_object/cube_1/root_pose": 7}
            for name, width in groups.items():
                demo[f"initial_state/{name}"] = rng.normal(size=(1, width)).astype(np.float32)
                demo[f"states/{name}"] = rng.normal(size=(steps, width)).astype(np.float32)
    return path


def write_robomimic_file(path: Path, *, actions: str = "f8") -> Path:
    """A low-dimensional robomimic file: float64 throughout, a model, next_obs, its own masks, no success attribute."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = 15
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        for number in (0, 2, 10):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = 5
            demo.attrs["model_file"] = f"<mujoco>{number}</mujoco>"
            demo.attrs["ep_meta"] = json.dumps({"lang": f"lift it, way {number}"})
            demo["actions"] = rng.uniform(-1, 1, (5, 14)).astype(actions)
            demo["states"] = rng.normal(size=(5, 32))
            demo["rewards"] = (np.arange(5) == 4).astype("f8")
            demo["dones"] = (np.arange(5) == 4).astype("i8")
            for group in ("obs", "next_obs"):
                demo[f"{group}/robot0_eef_pos"] = rng.normal(size=(5, 3))
                demo[f"{group}/robot1_eef_pos"] = rng.normal(size=(5, 3))
        file["mask/train"] = np.array(["demo_0", "demo_10"], dtype="S")
        file["mask/valid"] = np.array(["demo_2"], dtype="S")
    return path


@pytest.fixture
def robomimic_file() -> Callable[..., Path]:
    return write_robomimic_file


@pytest.fixture
def same_episode() -> Callable[..., None]:
    """Assert that two episodes are the same, bit for bit, but for some fields."""
    return assert_same_episode


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    return write_lab_file(tmp_path / "lab.hdf5")
