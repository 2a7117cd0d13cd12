"""The arm has the Franka's published kinematics and limits."""

import mujoco
import numpy as np
import pytest

from cosmos_engine.sim.arm import (
    FINGER_TRAVEL_M,
    FLANGE_M,
    HAND_YAW_RAD,
    HOME_RAD,
    JOINT_LIMITS_RAD,
    MODIFIED_DH,
    TCP_M,
    TORQUE_LIMITS_NM,
)
from cosmos_engine.sim.scene import ARM_BASE_M, build_model


@pytest.fixture(scope="module")
def model():
    return build_model(())


def _rotation(axis, angle_rad):
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    block = {"x": ((1, 0, 0), (0, cos, -sin), (0, sin, cos)), "z": ((cos, -sin, 0), (sin, cos, 0), (0, 0, 1))}[axis]
    transform = np.eye(4)
    transform[:3, :3] = block
    return transform


def _translation(x_m, z_m):
    transform = np.eye(4)
    transform[0, 3], transform[2, 3] = x_m, z_m
    return transform


def _world_from_tcp(joints_rad):
    """Multiply out the modified DH chain, as the manufacturer's documentation gives it."""
    transform = np.eye(4)
    transform[:3, 3] = ARM_BASE_M
    for (a_m, d_m, alpha_rad), q_rad in zip(MODIFIED_DH, joints_rad, strict=True):
        transform = transform @ _rotation("x", alpha_rad) @ _translation(a_m, 0) @ _rotation("z", q_rad)
        transform = transform @ _translation(0, d_m)
    return transform @ _translation(0, FLANGE_M) @ _rotation("z", HAND_YAW_RAD) @ _translation(0, TCP_M)


def _pose_of_tcp(model, joints_rad):
    data = mujoco.MjData(model)
    data.qpos[:7] = joints_rad
    mujoco.mj_kinematics(model, data)
    site = model.site("tcp").id
    return data.site_xpos[site], data.site_xmat[site].reshape(3, 3)


def test_tool_centre_point_follows_the_published_dh_chain(model):
    rng = np.random.default_rng(0)
    low, high = np.array(JOINT_LIMITS_RAD).T
    for joints_rad in rng.uniform(low, high, size=(50, 7)):
        position_m, rotation = _pose_of_tcp(model, joints_rad)
        expected = _world_from_tcp(joints_rad)
        np.testing.assert_allclose(position_m, expected[:3, 3], atol=1e-8)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-8)


def test_published_table_is_the_one_in_use():
    """Franka Control Interface documentation, "Denavit-Hartenberg parameters" and "Limits"."""
    assert [row[:2] for row in MODIFIED_DH] == [
        (0.0, 0.333),
        (0.0, 0.0),
        (0.0, 0.316),
        (0.0825, 0.0),
        (-0.0825, 0.384),
        (0.0, 0.0),
        (0.088, 0.0),
    ]
    half_turns = np.array([row[2] for row in MODIFIED_DH]) / (np.pi / 2)
    np.testing.assert_allclose(half_turns, [0, -1, 1, 1, -1, 1, 1])


def test_joint_and_torque_limits_are_in_the_model(model):
    joints = [model.joint(f"joint{i + 1}") for i in range(7)]
    np.testing.assert_allclose([joint.range for joint in joints], JOINT_LIMITS_RAD)
    np.testing.assert_allclose(model.actuator_forcerange[:7, 1], TORQUE_LIMITS_NM)
    np.testing.assert_allclose(model.actuator_ctrlrange[:7], JOINT_LIMITS_RAD)


def test_home_posture_points_the_hand_down_with_fingers_along_y(model):
    _, rotation = _pose_of_tcp(model, HOME_RAD)
    np.testing.assert_allclose(rotation, np.diag([1, -1, -1]), atol=1e-4)


def test_open_fingers_are_eight_centimetres_apart_and_closed_ones_touch(model):
    pads = [body for body in range(model.nbody) if model.body(body).name.startswith("gripper_finger")]
    data = mujoco.MjData(model)
    for opening_m in (0.0, FINGER_TRAVEL_M):
        data.qpos[7:9] = (opening_m, -opening_m)
        mujoco.mj_kinematics(model, data)
        geoms = [max(np.flatnonzero(model.geom_bodyid == body)) for body in pads]
        gap_m = mujoco.mj_geomDistance(model, data, int(geoms[0]), int(geoms[1]), 1.0, None)
        assert gap_m == pytest.approx(2 * opening_m, abs=1e-6)


def test_only_hand_and_fingers_of_the_robot_collide(model):
    for geom in range(model.ngeom):
        name = model.body(int(model.geom_bodyid[geom])).name
        if name.startswith(("link", "robot")):
            assert model.geom_contype[geom] == model.geom_conaffinity[geom] == 0
