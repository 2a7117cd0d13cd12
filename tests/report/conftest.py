"""A small analytic scene: a ball that crosses a table in front of a wall, seen by two cameras."""

from __future__ import annotations

import numpy as np
import pytest

from cosmos_engine.data.episode import CameraPasses, Episode, InstanceLabel

LENGTH = 12


def passes_of(size: tuple[int, int], shift: float) -> CameraPasses:
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    frames = []
    for t in range(LENGTH):
        center = (0.55 * height, (0.2 + 0.5 * t / LENGTH + shift) * width)
        ball = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < (0.14 * height) ** 2
        arm = (abs(columns - center[1]) < 0.05 * width) & (rows < center[0] - 0.1 * height)
        table = rows > 0.5 * height
        sky = rows < 0.1 * height
        instance = np.select([ball, arm, sky, table], [2, 1, 0, 3], 4).astype(np.uint16)
        depth_m = np.select([ball, arm, sky, table], [0.8, 0.9, np.inf, 1.6 - 0.6 * rows / height], 1.8)
        rgb = np.array([[70, 90, 120], [90, 96, 110], [230, 60, 50], [170, 130, 90], [205, 205, 210]], np.uint8)[
            instance
        ]
        frames.append((rgb, depth_m.astype(np.float32), instance))
    rgb, depth_m, instance = (np.stack(arrays) for arrays in zip(*frames, strict=True))
    focal_px = float(width)
    return CameraPasses(
        rgb=rgb,
        depth_m=depth_m,
        instance=instance,
        intrinsics_px=np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]]),
        world_from_camera=np.tile(np.eye(4), (LENGTH, 1, 1)),
    )


@pytest.fixture(scope="session")
def episode() -> Episode:
    return Episode(
        actions=np.zeros((LENGTH, 7), np.float32),
        states=np.zeros((LENGTH, 9)),
        rewards=np.zeros(LENGTH, np.float32),
        dones=np.zeros(LENGTH, bool),
        observations={"robot0_eef_pos": np.zeros((LENGTH, 3), np.float32)},
        cameras={"agentview": passes_of((48, 64), 0.0), "robot0_eye_in_hand": passes_of((48, 64), 0.1)},
        labels={
            1: InstanceLabel("arm", "panda", "robot"),
            2: InstanceLabel("ball", "ball", "manipulated"),
            3: InstanceLabel("table", "table", "scene"),
            4: InstanceLabel("wall", "wall", "scene"),
            9: InstanceLabel("lamp", "lamp", "scene"),
        },
        success=True,
        seed=12,
        step_hz=20.0,
        episode_id="7b2f2c9e-55a4-4d38-9c59-000000000012",
        source="analytic",
        task="roll",
        instruction="roll the ball to the right",
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
