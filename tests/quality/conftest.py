import numpy as np
import pytest
from hypothesis import settings

from cosmos_engine.data import CameraPasses, InstanceLabel

# A busy machine is no failure: no test here is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SIZE = 48
LABELS = {
    1: InstanceLabel("robot", "robot_arm", "robot"),
    3: InstanceLabel("table", "table", "scene"),
    6: InstanceLabel("cube", "red cube", "manipulated"),
    7: InstanceLabel("bowl", "blue bowl", "manipulated"),
}
COLORS = {1: (240, 240, 235), 3: (110, 64, 33), 6: (204, 26, 26), 7: (36, 82, 199)}


def painted(instance: np.ndarray, colors: dict[int, tuple[int, int, int]] = COLORS) -> np.ndarray:
    rgb = np.zeros((*instance.shape, 3), np.uint8)
    for instance_id, color in colors.items():
        rgb[instance == instance_id] = color
    return rgb


def scene(frames: int = 3, move_px: int = 0) -> CameraPasses:
    """A table seen from above at 1 m, an arm, and two objects 2 cm nearer; the cube moves to the right."""
    instance = np.full((frames, SIZE, SIZE), 3, np.uint16)
    depth = np.ones((frames, SIZE, SIZE), np.float32)
    for frame in range(frames):
        cube = slice(8 + frame * move_px, 18 + frame * move_px)
        for instance_id, rows, columns, depth_m in (
            (1, slice(0, 14), slice(30, 44), 0.8),
            (6, slice(24, 34), cube, 0.9),
            (7, slice(32, 44), slice(32, 46), 0.9),
        ):
            instance[frame, rows, columns] = instance_id
            depth[frame, rows, columns] = depth_m
    middle = (SIZE - 1) / 2
    intrinsics = np.array([[60.0, 0, middle], [0, 60.0, middle], [0, 0, 1]])
    return CameraPasses(painted(instance), depth, instance, intrinsics, np.tile(np.eye(4), (frames, 1, 1)))


@pytest.fixture
def passes() -> CameraPasses:
    return scene()
