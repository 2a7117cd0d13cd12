import dataclasses

import numpy as np
import pytest

from cosmos_engine.data import CameraPasses, Episode
from cosmos_engine.quality import embedded_poses, flicker, true_flow

from .conftest import LABELS, SIZE, scene


def moved_camera(passes: CameraPasses, step_m: float) -> CameraPasses:
    poses = passes.world_from_camera.copy()
    poses[:, 0, 3] = step_m * np.arange(len(poses))
    return dataclasses.replace(passes, world_from_camera=poses)


def test_nothing_moves_nowhere(passes):
    flow = true_flow(passes, [1, 3, 6, 7])
    assert flow.flow_px == pytest.approx(0, abs=1e-6)
    assert flow.valid.all()


def test_a_camera_that_moves_sideways_sees_the_parallax_of_each_depth(passes):
    # f x / z = 60 px * 0.01 m / 1 m. The picture itself is not moved, so only the table's inside is in view again.
    flow = true_flow(moved_camera(passes, 0.01), [3])
    on_table = flow.valid & (passes.instance[:-1] == 3)
    assert on_table.mean() > 0.6
    np.testing.assert_allclose(flow.flow_px[on_table] - (-0.6, 0.0), 0, atol=1e-4)
    assert not flow.valid[passes.instance[:-1] != 3].any()


def test_a_body_with_poses_moves_as_they_do():
    # 2 px a frame at 0.9 m and f = 60 px is 0.03 m.
    passes = scene(frames=4, move_px=2)
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = 0.03 * np.arange(4)
    flow = true_flow(passes, [1, 3, 7], {6: poses})
    cube = passes.instance[:-1] == 6
    np.testing.assert_allclose(flow.flow_px[cube & flow.valid] - (2.0, 0.0), 0, atol=1e-4)
    assert (flow.valid & cube).sum() > 0.7 * cube.sum()
    covered = (passes.instance[:-1] == 3) & (passes.instance[1:] == 6)
    assert not flow.valid[covered].any()


def test_a_pair_without_a_pose_is_not_known():
    passes = scene(frames=3)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[2] = np.nan
    valid = true_flow(passes, [3], {6: poses}).valid & (passes.instance[:-1] == 6)
    assert valid[0].any()
    assert not valid[1].any()


def test_colours_that_move_along_do_not_flicker():
    passes = scene(frames=4, move_px=2)
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = 0.03 * np.arange(4)
    flow = true_flow(passes, [1, 3, 7], {6: poses})
    assert flicker(passes.rgb, flow) == pytest.approx(0, abs=0.01)


def test_flicker_is_the_change_in_levels(passes):
    brighter = passes.rgb.copy()
    brighter[1] += 10
    flow = true_flow(passes, [1, 3, 6, 7])
    assert flicker(brighter, flow) == pytest.approx(10)
    table = passes.instance == 3
    assert flicker(np.where(table[..., None], brighter, passes.rgb), flow, passes.instance == 6) == 0
    assert flicker(brighter, flow, np.zeros_like(table)) is None


def episode(observations: dict[str, np.ndarray]) -> Episode:
    length = 3
    return Episode(
        np.zeros((length, 7), np.float32),
        np.zeros((length, 2)),
        np.zeros(length, np.float32),
        np.zeros(length, bool),
        observations,
        {"front": scene(length)},
        {**LABELS, 2: dataclasses.replace(LABELS[1], name="gripper", class_name="gripper")},
        True,
        0,
        20.0,
        "id",
        "embedded-mujoco",
        "t",
        "i",
    )


def test_poses_of_objects_and_gripper_come_from_the_observations():
    half = np.sqrt(0.5)
    objects = np.zeros((3, 20), np.float32)
    objects[:, 0:3], objects[:, 3:7] = (1, 2, 3), (0, 0, half, half)  # a quarter turn about z
    objects[:, 16] = 1
    fingers = np.array([[0.04, -0.04], [0.04, -0.04], [0.02, -0.02]], np.float32)
    unit = np.tile(np.array([0, 0, 0, 1], np.float32), (3, 1))
    seen = {"robot0_eef_pos": np.zeros((3, 3), np.float32), "robot0_eef_quat": unit, "robot0_gripper_qpos": fingers}
    poses = embedded_poses(episode({"object": objects, **seen}))
    assert poses[6][0] @ (1, 0, 0, 1) == pytest.approx((1, 3, 3, 1))
    assert poses[7] == pytest.approx(np.tile(np.eye(4), (3, 1, 1)))
    assert np.isfinite(poses[2][1]).all()
    assert np.isnan(poses[2][2]).all()  # the fingers closed


def test_other_recordings_have_no_poses():
    assert embedded_poses(episode({})) == {}
    assert embedded_poses(episode({"object": np.zeros((3, 14), np.float32)})) == {}


def test_flow_carries_a_pixel_of_a_still_frame_to_itself(passes):
    flow = true_flow(passes, [3])
    assert flow.flow_px.shape == (2, SIZE, SIZE, 2)
