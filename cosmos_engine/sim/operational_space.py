"""Operational-space control: delta poses of the tool centre point, by damped least squares, to joint servos.

The commanded pose is part of the simulation's state (userdata), so that a replay from any state goes the same way.
Action conventions are robosuite's OSC_POSE: translation and axis-angle rotation in the world's axes, and a gripper
that closes at +1.
"""

from __future__ import annotations

import mujoco
import numpy as np
from jaxtyping import Float32, Float64

from cosmos_engine.sim.arm import FINGER_TRAVEL_M, HOME_RAD, JOINT_COUNT, JOINT_LIMITS_RAD

ACTION_DIM = 7
POSITION_SCALE_M = 0.05
"""Translation that an action of 1 commands in one control step."""
ROTATION_SCALE_RAD = 0.5
"""Rotation that an action of 1 commands in one control step."""

# The commanded pose may run at most this far ahead of the real one, so that a blocked arm pushes with a bounded
# force and answers at once when the command turns round.
_POSITION_LEASH_M = 0.08
_ROTATION_LEASH_RAD = 0.6
_WORKSPACE_LOW_M = np.array([-0.28, -0.33, 0.008])
_WORKSPACE_HIGH_M = np.array([0.28, 0.33, 0.42])

# Damping keeps joint velocities finite near singular postures (Wampler 1986; Nakamura and Hanafusa 1986).
_DAMPING = 1e-3 * np.eye(6)
_POSTURE_GAIN = 0.1


class OperationalSpaceController:
    """Turn actions into servo targets of one model. Holds no state of its own: it lives in `MjData`."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._tcp = model.site("tcp").id
        self._joint_positions = slice(model.joint("joint1").qposadr[0], model.joint("joint1").qposadr[0] + JOINT_COUNT)
        self._joint_velocities = slice(model.joint("joint1").dofadr[0], model.joint("joint1").dofadr[0] + JOINT_COUNT)
        self._home_rad = np.array(HOME_RAD)
        limits = np.array(JOINT_LIMITS_RAD)
        self._low_rad, self._high_rad = limits[:, 0].copy(), limits[:, 1].copy()
        self._jacobian = np.zeros((6, model.nv))
        self._error = np.zeros(6)

    def hold(self, data: mujoco.MjData) -> None:
        """Command the present pose, with open fingers. Needs up-to-date kinematics in `data`."""
        quat_wxyz = np.empty(4)
        mujoco.mju_mat2Quat(quat_wxyz, data.site_xmat[self._tcp])
        data.userdata[:3] = data.site_xpos[self._tcp]
        data.userdata[3:7] = quat_wxyz
        data.ctrl[:JOINT_COUNT] = data.qpos[self._joint_positions]
        data.ctrl[JOINT_COUNT:] = (FINGER_TRAVEL_M, -FINGER_TRAVEL_M)

    def command(self, data: mujoco.MjData, action: Float32[np.ndarray, " 7"]) -> None:
        """Move the commanded pose by `action` and set the servo targets that lead there.

        Args:
            data: with kinematics and centre-of-mass quantities up to date.
            action: translation (3), axis-angle rotation (3), gripper (+1 closed, -1 open), each in [-1, 1].
        """
        error = self._error
        position_m, target = data.site_xpos[self._tcp], data.userdata
        wanted_m = target[:3] + POSITION_SCALE_M * action[:3]
        np.clip(wanted_m, _WORKSPACE_LOW_M, _WORKSPACE_HIGH_M, out=wanted_m)
        np.clip(wanted_m - position_m, -_POSITION_LEASH_M, _POSITION_LEASH_M, out=error[:3])
        target[:3] = position_m + error[:3]
        error[3:] = self._rotation_error(data, action)

        mujoco.mj_jacSite(self._model, data, self._jacobian[:3], self._jacobian[3:], self._tcp)
        jacobian = self._jacobian[:, self._joint_velocities]
        joints_rad = data.qpos[self._joint_positions]
        # The posture term acts in the null space: what it does to the pose is taken out of the pose error.
        posture_rad = _POSTURE_GAIN * (self._home_rad - joints_rad)
        pose_rad = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING, error - jacobian @ posture_rad)
        np.clip(joints_rad + posture_rad + pose_rad, self._low_rad, self._high_rad, out=data.ctrl[:JOINT_COUNT])
        opening_m = FINGER_TRAVEL_M * (0.5 - 0.5 * float(action[6]))
        data.ctrl[JOINT_COUNT] = opening_m
        data.ctrl[JOINT_COUNT + 1] = -opening_m

    def _rotation_error(self, data: mujoco.MjData, action: Float32[np.ndarray, " 7"]) -> Float64[np.ndarray, " 3"]:
        """Turn the commanded orientation by the action and return what is missing to it, in the world's axes."""
        present, turned, missing = np.zeros(4), np.zeros(4), np.zeros(4)
        rotation_rad = ROTATION_SCALE_RAD * action[3:6].astype(np.float64)
        mujoco.mju_mulQuat(turned, _quat_of(rotation_rad), data.userdata[3:7])
        mujoco.mju_mat2Quat(present, data.site_xmat[self._tcp])
        mujoco.mju_negQuat(missing, present)
        mujoco.mju_mulQuat(missing, turned, missing.copy())
        mujoco.mju_quat2Vel(rotation_rad, missing, 1.0)
        angle_rad = float(np.sqrt(rotation_rad @ rotation_rad))
        if angle_rad > _ROTATION_LEASH_RAD:
            rotation_rad *= _ROTATION_LEASH_RAD / angle_rad
            mujoco.mju_mulQuat(turned, _quat_of(rotation_rad), present)
        mujoco.mju_normalize4(turned)
        data.userdata[3:7] = turned
        return rotation_rad


def _quat_of(rotation_rad: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 4"]:
    """Return the quaternion (wxyz) of an axis-angle vector."""
    quat_wxyz = np.zeros(4)
    angle_rad = float(np.sqrt(rotation_rad @ rotation_rad))
    axis = rotation_rad / angle_rad if angle_rad > 0 else np.array([1.0, 0.0, 0.0])
    mujoco.mju_axisAngle2Quat(quat_wxyz, axis, angle_rad)
    return quat_wxyz
