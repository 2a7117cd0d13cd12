"""Clips of a textured floor under a camera whose pose is known, for the tests of the texture baseline."""

from __future__ import annotations

import numpy as np

from cosmos_engine.controls import ControlClip
from cosmos_engine.controls.clip import ClipSource
from cosmos_engine.controls.framing import identity_framing
from cosmos_engine.data import CameraPasses, InstanceLabel

TABLE, CUBE, ROBOT = 3, 6, 1
LABELS = {
    ROBOT: InstanceLabel("robot", "robot_arm", "robot"),
    TABLE: InstanceLabel("table", "table", "scene"),
    CUBE: InstanceLabel("cube", "red cube", "manipulated"),
}
SIZE, FOCAL_PX = 64, 80.0
INTRINSICS_PX = np.array([[FOCAL_PX, 0, (SIZE - 1) / 2], [0, FOCAL_PX, (SIZE - 1) / 2], [0, 0, 1]])


def looking_down(x_m: float, y_m: float, height_m: float, tilt_rad: float = 0.0, turn_rad: float = 0.0) -> np.ndarray:
    """Return the pose of a camera above the table: OpenCV axes, x to the right and z down at no tilt."""
    tilt = np.array([[1, 0, 0], [0, np.cos(tilt_rad), -np.sin(tilt_rad)], [0, np.sin(tilt_rad), np.cos(tilt_rad)]])
    turn = np.array([[np.cos(turn_rad), -np.sin(turn_rad), 0], [np.sin(turn_rad), np.cos(turn_rad), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = turn @ np.diag([1.0, -1.0, -1.0]) @ tilt
    pose[:3, 3] = (x_m, y_m, height_m)
    return pose


def rays() -> np.ndarray:
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    return np.stack([column, row, np.ones((SIZE, SIZE))], -1) @ np.linalg.inv(INTRINSICS_PX).T


def table_passes(poses: np.ndarray, rgb: np.ndarray, instance: np.ndarray | None = None) -> CameraPasses:
    """Return the passes of the plane z = 0, analytically; what looks above the horizon hits nothing."""
    depth = np.empty((len(poses), SIZE, SIZE), np.float32)
    for index, pose in enumerate(poses):
        down = (rays() @ pose[:3, :3].T)[..., 2]
        depth[index] = np.where(down < -1e-6, -pose[2, 3] / np.minimum(down, -1e-6), np.inf)
    if instance is None:
        instance = np.full(depth.shape, TABLE, np.uint16)
    instance = np.where(np.isfinite(depth), instance, 0).astype(np.uint16)
    return CameraPasses(rgb, depth, instance, INTRINSICS_PX, np.asarray(poses, np.float64))


def clip_of(passes: CameraPasses) -> ControlClip:
    return ControlClip(passes.rgb, {}, {}, source=ClipSource(passes, LABELS, identity_framing(*passes.size)))


def grey(frames: int, value: int = 120) -> np.ndarray:
    return np.full((frames, SIZE, SIZE, 3), value, np.uint8)
