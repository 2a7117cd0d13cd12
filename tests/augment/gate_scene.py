"""Episodes of a painted table with a cube that moves, and a reader that knows the paints, for the tests of the gate."""

from __future__ import annotations

import numpy as np

from cosmos_engine.data import CameraPasses, Episode, InstanceLabel
from cosmos_engine.quality import Readings

SIZE, FRAMES = 48, 24
LABELS = {
    1: InstanceLabel("robot", "robot_arm", "robot"),
    3: InstanceLabel("table", "table", "scene"),
    6: InstanceLabel("cube", "red cube", "manipulated"),
}
COLORS = {1: (240, 240, 235), 3: (110, 64, 33), 6: (204, 26, 26)}
CAMERAS = ("front", "wrist")


def painted(instance: np.ndarray, colors: dict[int, tuple[int, int, int]] = COLORS) -> np.ndarray:
    rgb = np.zeros((*instance.shape, 3), np.uint8)
    for instance_id, color in colors.items():
        rgb[instance == instance_id] = color
    return rgb


def ids() -> np.ndarray:
    """An arm and a cube, both of which move a pixel every second frame."""
    instance = np.full((FRAMES, SIZE, SIZE), 3, np.uint16)
    for frame in range(FRAMES):
        instance[frame, 0:14, 16 + frame // 2 : 30 + frame // 2] = 1
        instance[frame, 24:34, 6 + frame // 2 : 16 + frame // 2] = 6
    return instance


def episode(labels: dict[int, InstanceLabel] = LABELS) -> Episode:
    """Two cameras that see the same; one of them is moved a little, so that it counts as moving."""
    instance = ids()
    depth = np.where(instance == 3, 1.0, 0.9).astype(np.float32)
    intrinsics = np.array([[60.0, 0, 23.5], [0, 60.0, 23.5], [0, 0, 1]])
    fixed = np.tile(np.eye(4), (FRAMES, 1, 1))
    moving = fixed.copy()
    moving[1:, 2, 3] = 0.002
    cameras = {
        name: CameraPasses(painted(instance), depth, instance, intrinsics, poses)
        for name, poses in zip(CAMERAS, (fixed, moving), strict=True)
    }
    zeros = np.zeros(FRAMES, np.float32)
    return Episode(
        np.zeros((FRAMES, 7), np.float32), np.zeros((FRAMES, 2)), zeros, zeros > 0, {}, cameras, labels,
        True, 0, 20.0, "11111111-0000-0000-0000-000000000000", "test", "lift", "lift the red cube",
    )  # fmt: skip


class PaintReader:
    """Read the paints as the roles that they stand for; the depth of every pixel is that of its paint."""

    name = "paint-reader"

    def read(self, rgb: np.ndarray) -> Readings:
        roles = [(rgb == COLORS[1]).all(-1), (rgb == COLORS[6]).all(-1)]
        roles.append(~(roles[0] | roles[1]))
        depth = np.where(roles[2], 1.0, 0.9)
        return Readings(np.stack(roles, -1).astype(np.float32), np.log(depth).astype(np.float32))
