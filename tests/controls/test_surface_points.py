import numpy as np

from cosmos_engine.controls import surface_points
from cosmos_engine.controls.surface_points import FAR_M
from cosmos_engine.data import CameraPasses


def passes(depth_m: np.ndarray, instance: np.ndarray | None = None) -> CameraPasses:
    frames, height, width = depth_m.shape
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, 3] = (1.0, 2.0, 3.0)
    pose[:, :3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # looks along the world's x
    return CameraPasses(
        np.zeros((frames, height, width, 3), np.uint8),
        depth_m.astype(np.float32),
        np.zeros((frames, height, width), np.uint16) if instance is None else instance,
        np.array([[50.0, 0, 1.5], [0, 50.0, 1.0], [0, 0, 1]]),
        pose,
    )


def test_points_by_hand():
    made = surface_points(passes(np.full((1, 3, 4), 2.0)))
    np.testing.assert_allclose(made[0, 1, :, :3], [[3, 2 - x * 2 / 50, 3] for x in (-1.5, -0.5, 0.5, 1.5)], atol=1e-6)
    np.testing.assert_allclose(made[0, :, 0, 2], [3 + 2 / 50, 3, 3 - 2 / 50], atol=1e-6)
    np.testing.assert_allclose(made[..., 3], 2 / 50)


def test_nothing_hit_is_far_away_and_finite():
    made = surface_points(passes(np.full((1, 3, 4), np.inf)))
    np.testing.assert_allclose(made[..., 0], 1 + FAR_M)
    assert np.isfinite(made).all()


def test_a_moving_instance_is_told_from_its_middle():
    depth = np.full((2, 3, 4), 2.0)
    instance = np.zeros((2, 3, 4), np.uint16)
    instance[0, 1, :2] = 6
    instance[1, 1, 1:3] = 6  # one pixel on
    made = surface_points(passes(depth, instance), moving=[6, 9])
    np.testing.assert_allclose(made[0, 1, :2], made[1, 1, 1:3], atol=1e-6)
    np.testing.assert_allclose(made[0, 1, :2, :3].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(made[0, 0], surface_points(passes(depth))[0, 0])


def test_some_frames():
    depth = np.stack([np.full((3, 4), float(metres)) for metres in (1, 2, 3)])
    every = surface_points(passes(depth))
    np.testing.assert_array_equal(surface_points(passes(depth), frames=[2, 0]), every[[2, 0]])
