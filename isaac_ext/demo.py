"""A tape and its passes as an episode of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cosmos_engine.data.episode import CameraPasses, Episode, InstanceLabel
from isaac_ext.stage import BodyPoses, is_under
from isaac_ext.tape import Tape

SOURCE = "isaac-sim"
GRIPPER_WORDS = ("finger", "gripper", "knuckle")
"""A joint or link whose name holds one of these belongs to the gripper."""


def end_effector_of(robot: str, body_paths: Sequence[str]) -> str:
    """Return the link that carries the gripper: the last one of the robot that is no finger; empty if there is none."""
    links = [path for path in body_paths if is_under(path, robot) and not _is_gripper(path)]
    return links[-1] if links else ""


def observations(
    tape: Tape, end_effector: str, manipulated: Sequence[str], metres_per_unit: float
) -> dict[str, np.ndarray]:
    """Return the low-dimensional observations of a tape, float32 (t, d), by robomimic's names.

    `robot0_joint_pos`, `robot0_joint_vel` and `robot0_gripper_qpos` are in radians and metres; `robot0_eef_pos` in
    metres, `robot0_eef_quat` xyzw; `object` is position and xyzw quaternion of each manipulated body. What the stage
    has not is not there.

    Args:
        tape: the tape.
        end_effector: path of the link whose pose is the end effector's.
        manipulated: paths of prims that are manipulated; bodies at or below them count.
        metres_per_unit: of the stage.
    """
    found = {"robot0_joint_pos": tape.positions, "robot0_joint_vel": tape.velocities}
    gripper = [index for index, name in enumerate(tape.joint_names) if _is_gripper(name)]
    if gripper:
        found["robot0_gripper_qpos"] = tape.positions[:, gripper]
    table = tape.poses.reshape(len(tape), -1, 7)
    positions_m, quats_xyzw = table[..., :3] * metres_per_unit, table[..., [4, 5, 6, 3]]
    if end_effector in tape.body_paths:
        index = tape.body_paths.index(end_effector)
        found["robot0_eef_pos"], found["robot0_eef_quat"] = positions_m[:, index], quats_xyzw[:, index]
    objects = [i for i, path in enumerate(tape.body_paths) if any(is_under(path, root) for root in manipulated)]
    if objects:
        both = np.concatenate([positions_m[:, objects], quats_xyzw[:, objects]], axis=2)
        found["object"] = both.reshape(len(tape), -1)
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def episode(
    tape: Tape,
    low_dimensional: Mapping[str, np.ndarray],
    cameras: Mapping[str, CameraPasses],
    labels: Mapping[int, InstanceLabel],
) -> Episode:
    """Return a tape as an episode: actions are the position targets, states all that the tape holds of each step.

    Raises:
        InputError: passes of another length, instances without a label.
    """
    rewards = np.zeros(len(tape), np.float32)
    rewards[-1] = float(tape.success)
    return Episode(
        actions=tape.targets.astype(np.float32),
        states=np.concatenate([tape.positions, tape.velocities, tape.poses], axis=1),
        rewards=rewards,
        dones=np.arange(len(tape)) == len(tape) - 1,
        observations=dict(low_dimensional),
        cameras=dict(cameras),
        labels=dict(labels),
        success=tape.success,
        seed=tape.seed,
        step_hz=tape.step_hz,
        episode_id=tape.episode_id,
        source=SOURCE,
        task=tape.task,
        instruction=tape.instruction,
    )


def state_parts(state: np.ndarray, joints: int) -> tuple[np.ndarray, np.ndarray, BodyPoses]:
    """Return joint positions, joint velocities and body poses of one row of an episode's states."""
    return state[:joints], state[joints : 2 * joints], BodyPoses.unflat(state[2 * joints :])


def _is_gripper(name: str) -> bool:
    return any(word in name.rpartition("/")[2].lower() for word in GRIPPER_WORDS)
