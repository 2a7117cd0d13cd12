"""Actions move the tool centre point as commanded."""

import numpy as np
import pytest

from cosmos_engine.sim.tabletop import TabletopEnvironment

STAY_OPEN = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)


@pytest.fixture(scope="module")
def environment():
    return TabletopEnvironment("lift", render=False)


def _settled(environment, action=STAY_OPEN, steps=20):
    for _ in range(steps):
        observation = environment.step(action).observation
    return observation


def _turn_rad(start_xyzw, end_xyzw):
    """Axis-angle of end * start^-1, both with scalar last."""
    (a, b, c, d), (e, f, g, h) = end_xyzw, start_xyzw * [-1, -1, -1, 1]
    vector = np.array([d * e + a * h + b * g - c * f, d * f - a * g + b * h + c * e, d * g + a * f - b * e + c * h])
    scalar = d * h - a * e - b * f - c * g
    angle_rad = 2 * np.arctan2(np.linalg.norm(vector), abs(scalar))
    return np.sign(scalar) * vector / np.linalg.norm(vector) * angle_rad


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_full_translation_moves_five_centimetres_along_the_world_axis(environment, axis, sign):
    environment.reset(0)
    start_m = _settled(environment)["robot0_eef_pos"]
    action = STAY_OPEN.copy()
    action[axis] = sign
    environment.step(action)
    moved_m = _settled(environment)["robot0_eef_pos"] - start_m
    expected_m = np.zeros(3)
    expected_m[axis] = 0.05 * sign
    np.testing.assert_allclose(moved_m, expected_m, atol=1e-3)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_rotation_turns_about_the_world_axis_and_keeps_the_position(environment, axis, sign):
    environment.reset(0)
    start = _settled(environment)
    action = STAY_OPEN.copy()
    action[3 + axis] = 0.6 * sign
    environment.step(action)
    end = _settled(environment)
    expected_rad = np.zeros(3)
    expected_rad[axis] = 0.3 * sign
    turn_rad = _turn_rad(start["robot0_eef_quat"].astype(float), end["robot0_eef_quat"].astype(float))
    np.testing.assert_allclose(turn_rad, expected_rad, atol=0.02)
    np.testing.assert_allclose(end["robot0_eef_pos"], start["robot0_eef_pos"], atol=2e-3)


def test_gripper_closes_at_plus_one_and_opens_at_minus_one(environment):
    environment.reset(0)
    close = STAY_OPEN.copy()
    close[6] = 1
    np.testing.assert_allclose(_settled(environment, close)["robot0_gripper_qpos"], 0, atol=1e-3)
    np.testing.assert_allclose(_settled(environment)["robot0_gripper_qpos"], [0.04, -0.04], atol=1e-3)


def test_the_pose_holds_without_commands(environment):
    start_m = environment.reset(3)["robot0_eef_pos"]
    np.testing.assert_allclose(_settled(environment, steps=100)["robot0_eef_pos"], start_m, atol=1e-3)


def test_a_command_never_runs_far_ahead_of_the_arm(environment):
    environment.reset(0)
    into_the_table = np.array([0, 0, -1, 0, 0, 0, -1], dtype=np.float32)
    for _ in range(40):
        position_m = environment.step(into_the_table).observation["robot0_eef_pos"]
        assert np.abs(environment.commanded_position_m - position_m).max() < 0.1
    assert position_m[2] > 0


def test_full_actions_of_any_direction_leave_finite_states_within_the_joint_limits(environment):
    rng = np.random.default_rng(0)
    for seed in range(3):
        environment.reset(seed)
        for _ in range(20):
            action = rng.choice(np.array([-1, 1], dtype=np.float32), 7)
            for _ in range(5):
                joints_rad = environment.step(action).observation["robot0_joint_pos"]
        assert np.isfinite(environment.get_state()).all()
        assert np.abs(joints_rad).max() < 3.8
