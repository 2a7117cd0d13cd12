"""Scripted experts: one plan a task, followed smoothly and closed-loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32, Float64

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.operational_space import ACTION_DIM, POSITION_SCALE_M, ROTATION_SCALE_RAD
from cosmos_engine.sim.scene import BOWL_FLOOR_M
from cosmos_engine.sim.tabletop import STEP_HZ, TabletopEnvironment

OPEN, CLOSED = -1.0, 1.0

_SPEED_M_S = 0.15  # mean over a move; the peak is 15/8 of it
_TURN_RAD_S = 1.2
_HOVER_M = 0.09  # above an object before reaching for it, and above a place after letting go
_CARRY_M = 0.06  # above a place before lowering to it
_SETTLE_STEPS = 2  # the arm lags its command by about 60 ms
_GRIP_STEPS = 5
_RELEASE_STEPS = 4
_NEXT_FROM = 0.6
"""Share of the movement to a waypoint after which the next one begins, as people's do (Flash and Henis 1991)."""
_PICK_ATTEMPTS = 3
_HELD_WITHIN_M = 0.03
_UP = np.array([0.0, 0.0, 1.0])
_DOWNWARDS_WXYZ = np.array([0.0, 1.0, 0.0, 0.0])  # hand pointing down, fingers spread along the world's y axis


@dataclass(frozen=True)
class _Move:
    """Bring the tool centre point to a pose on a minimum-jerk path, then keep it there for some control steps.

    At a waypoint the hand does not stop: the next move begins before this one has ended, and the two add up.
    """

    position_m: Float64[np.ndarray, " 3"]
    yaw_rad: float
    gripper: float
    hold_steps: int = 0
    is_waypoint: bool = False


@dataclass
class _Movement:
    """A move under way: what it adds to the pose that it began from."""

    shift_m: Float64[np.ndarray, " 3"]
    turn_rad: Float64[np.ndarray, " 3"]
    steps: int
    made: int = 0

    def advance(self) -> float:
        """Go on by one control step and return the progress in [0, 1]."""
        self.made += 1
        return _minimum_jerk(min(1.0, self.made / self.steps))


class Expert:
    """Act one episode of a task on the table-top from privileged state. Make a new one for every episode.

    The plan reads the objects' places when each move begins, and every action is the difference between the path and
    the commanded pose; so action noise and what it does to the objects are corrected.

    Args:
        task: a name in `TASKS`.
        action_noise: standard deviation of Gaussian noise on the six pose components of every action.
        rng: the noise's source; needed if there is noise.

    Raises:
        InputError: unknown task, negative noise, or noise without a source.
    """

    def __init__(self, task: str, *, action_noise: float = 0.0, rng: np.random.Generator | None = None) -> None:
        if task not in _PLANS:
            raise InputError(f"task {task!r}: no expert for it{nearest(task, _PLANS)}")
        if action_noise < 0 or (action_noise > 0 and rng is None):
            raise InputError(f"action_noise: expected at least 0, with a random generator, got {action_noise}")
        self._plan = _PLANS[task]
        self._action_noise = action_noise
        self._rng = rng
        self._actions: Iterator[Float64[np.ndarray, " 7"]] | None = None

    def act(self, environment: TabletopEnvironment) -> Float32[np.ndarray, " 7"]:
        """Return the next action, in [-1, 1]; at the end of the plan, one that stays where it is."""
        if self._actions is None:
            self._actions = _follow(environment, self._plan(environment))
        action = next(self._actions)
        if self._rng is not None and self._action_noise > 0:
            action[:6] += self._rng.normal(0, self._action_noise, 6)
        return action.clip(-1, 1).astype(np.float32)


def _follow(environment: TabletopEnvironment, plan: Iterator[_Move]) -> Iterator[Float64[np.ndarray, " 7"]]:
    """Yield the actions that make the moves of a plan, one a control step, and hold the last pose for ever."""
    gripper = OPEN
    start_m, start_wxyz = environment.commanded_position_m, environment.commanded_quat_wxyz
    last_m, last_wxyz = start_m, start_wxyz  # the pose that all movements so far lead to
    movements: list[_Movement] = []
    for move in plan:
        gripper = move.gripper
        goal_wxyz = _product(_quat_of(np.array([0.0, 0.0, move.yaw_rad])), _DOWNWARDS_WXYZ)
        shift_m, turn_rad = move.position_m - last_m, _rotation_between(last_wxyz, goal_wxyz)
        last_m, last_wxyz = move.position_m, goal_wxyz
        duration_s = max(float(np.linalg.norm(shift_m)) / _SPEED_M_S, float(np.linalg.norm(turn_rad)) / _TURN_RAD_S)
        steps = max(1, math.ceil(duration_s * STEP_HZ))
        movements.append(_Movement(shift_m, turn_rad, steps))
        for _ in range(math.ceil(_NEXT_FROM * steps) if move.is_waypoint else steps + move.hold_steps):
            position_m, quat_wxyz = start_m, start_wxyz
            for movement in movements:
                progress = movement.advance()
                position_m = position_m + progress * movement.shift_m
                quat_wxyz = _product(_quat_of(progress * movement.turn_rad), quat_wxyz)
            yield _action_to(environment, position_m, quat_wxyz, gripper)
    while True:
        yield np.array([0.0] * (ACTION_DIM - 1) + [gripper])


def _action_to(
    environment: TabletopEnvironment,
    position_m: Float64[np.ndarray, " 3"],
    quat_wxyz: Float64[np.ndarray, " 4"],
    gripper: float,
) -> Float64[np.ndarray, " 7"]:
    """Return the action that moves the commanded pose to the given one."""
    shift_m = position_m - environment.commanded_position_m
    turn_rad = _rotation_between(environment.commanded_quat_wxyz, quat_wxyz)
    return np.concatenate([shift_m / POSITION_SCALE_M, turn_rad / ROTATION_SCALE_RAD, [gripper]])


def _lift(environment: TabletopEnvironment) -> Iterator[_Move]:
    yield from _pick(environment, "cube", grasp_height_m=0.0, lift_m=0.1, is_last=True)


def _stack(environment: TabletopEnvironment) -> Iterator[_Move]:
    yield from _pick(environment, "cubeA", grasp_height_m=0.004, lift_m=0.08)
    height_m = environment.objects["cubeA"].half_extent_m + environment.objects["cubeB"].half_extent_m
    yield from _place(environment, "cubeA", on="cubeB", height_m=height_m + 0.002)


def _apple_in_bowl(environment: TabletopEnvironment) -> Iterator[_Move]:
    yield from _pick(environment, "apple", grasp_height_m=0.002, lift_m=0.1)
    height_m = BOWL_FLOOR_M + environment.objects["apple"].half_extent_m
    yield from _place(environment, "apple", on="bowl", height_m=height_m + 0.015)


_PLANS: dict[str, Callable[[TabletopEnvironment], Iterator[_Move]]] = {
    "lift": _lift,
    "stack": _stack,
    "apple_in_bowl": _apple_in_bowl,
}


def _pick(
    environment: TabletopEnvironment, name: str, *, grasp_height_m: float, lift_m: float, is_last: bool = False
) -> Iterator[_Move]:
    """Grasp an object at `grasp_height_m` above its middle and lift it; try again if it stayed behind."""
    for _ in range(_PICK_ATTEMPTS):
        grasp_m, yaw_rad = environment.object_position_m(name), grasp_yaw_rad(environment, name)
        grasp_m[2] += grasp_height_m
        yield _Move(grasp_m + _HOVER_M * _UP, yaw_rad, OPEN, is_waypoint=True)
        yield _Move(grasp_m, yaw_rad, OPEN, hold_steps=_SETTLE_STEPS)
        yield _Move(grasp_m, yaw_rad, CLOSED, hold_steps=_GRIP_STEPS)
        yield _Move(grasp_m + lift_m * _UP, yaw_rad, CLOSED, is_waypoint=not is_last)
        offset_m = environment.object_position_m(name) - environment.tcp_position_m
        if np.linalg.norm(offset_m) < _HELD_WITHIN_M + grasp_height_m:
            return


def _place(environment: TabletopEnvironment, name: str, *, on: str, height_m: float) -> Iterator[_Move]:
    """Bring a held object's middle to `height_m` above the frame of the object `on`, let go and draw back."""
    yaw_rad = _yaw_rad(environment.commanded_quat_wxyz)
    place_m = environment.object_position_m(on) + height_m * _UP
    # The object may sit off the middle of the fingers: carry it, not the hand, to the place.
    place_m += environment.tcp_position_m - environment.object_position_m(name)
    yield _Move(place_m + _CARRY_M * _UP, yaw_rad, CLOSED, is_waypoint=True)
    yield _Move(place_m, yaw_rad, CLOSED, hold_steps=_SETTLE_STEPS)
    yield _Move(place_m, yaw_rad, OPEN, hold_steps=_RELEASE_STEPS)
    yield _Move(place_m + _HOVER_M * _UP, yaw_rad, OPEN)


def grasp_yaw_rad(environment: TabletopEnvironment, name: str) -> float:
    """Return the least turn of the hand that sets the fingers parallel to two faces of a cube; 0 for a round object."""
    if environment.objects[name].shape != "cube":
        return 0.0
    edge = environment.object_rotation(name)[:, 0]
    quarter = math.pi / 2
    return (math.atan2(edge[1], edge[0]) + quarter / 2) % quarter - quarter / 2


def _minimum_jerk(time: float) -> float:
    """Return the progress of a minimum-jerk movement at a time in [0, 1] (Flash and Hogan 1985)."""
    return time**3 * (10 - 15 * time + 6 * time**2)


def _quat_of(rotation_rad: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 4"]:
    quat_wxyz = np.array([1.0, 0.0, 0.0, 0.0])
    mujoco.mju_quatIntegrate(quat_wxyz, rotation_rad, 1.0)
    return quat_wxyz


def _product(left_wxyz: Float64[np.ndarray, " 4"], right_wxyz: Float64[np.ndarray, " 4"]) -> Float64[np.ndarray, " 4"]:
    product = np.empty(4)
    mujoco.mju_mulQuat(product, left_wxyz, right_wxyz)
    return product


def _rotation_between(
    start_wxyz: Float64[np.ndarray, " 4"], goal_wxyz: Float64[np.ndarray, " 4"]
) -> Float64[np.ndarray, " 3"]:
    """Return the axis-angle turn, in the world's axes, from one orientation to another."""
    inverse, rotation_rad = np.empty(4), np.empty(3)
    mujoco.mju_negQuat(inverse, start_wxyz)
    mujoco.mju_quat2Vel(rotation_rad, _product(goal_wxyz, inverse), 1.0)
    return rotation_rad


def _yaw_rad(quat_wxyz: Float64[np.ndarray, " 4"]) -> float:
    """Return the turn about the vertical of a hand that points down."""
    return float(_rotation_between(_DOWNWARDS_WXYZ, quat_wxyz)[2])
