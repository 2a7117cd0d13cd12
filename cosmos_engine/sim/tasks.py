"""The table-top's tasks: what lies on the table, how a start is drawn, and what counts as success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.scene import BOWL_HEIGHT_M, SceneObject

_DRAWS_BEFORE_OVER = 200
_LIFT_HEIGHT_M = 0.04
_STILL_M_S = 0.05
_STACK_OFFSET_FRACTION = 0.5  # of the lower cube's edge: beyond it the upper cube would topple
_STACK_HEIGHT_TOLERANCE_M = 0.006


@dataclass(frozen=True)
class ObjectState:
    """Hold what success is judged by: pose, speed, and whether the gripper touches the object."""

    position_m: Float64[np.ndarray, " 3"]
    speed_m_s: float
    touches_gripper: bool


@dataclass(frozen=True)
class StartArea:
    """Bound where an object's middle may start on the table, about the point above the world's origin."""

    low_m: tuple[float, float]
    high_m: tuple[float, float]


@dataclass(frozen=True)
class Task:
    """Describe one task.

    `start_areas` has one area an object; `clearance_m` is the least distance between the middles of two objects at
    the start. `succeeded` judges the objects' states, by name.
    """

    name: str
    instruction: str
    objects: tuple[SceneObject, ...]
    start_areas: tuple[StartArea, ...]
    clearance_m: float
    horizon: int
    succeeded: Callable[[Mapping[str, ObjectState]], bool]


def find_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        InputError: if there is none; names the nearest.
    """
    if name not in TASKS:
        raise InputError(f"task {name!r}: no such task{nearest(name, TASKS)}")
    return TASKS[name]


def sample_start(task: Task, rng: np.random.Generator) -> Float64[np.ndarray, "object 3"]:
    """Draw a start: (x m, y m, yaw rad) of every object, uniform in its area, apart by the task's clearance."""
    placed: list[tuple[float, float, float]] = []
    draws = 0
    while len(placed) < len(task.objects):
        draws += 1
        if draws % _DRAWS_BEFORE_OVER == 0:
            placed.clear()  # an object in the middle of a small area leaves no room for the next
        area = task.start_areas[len(placed)]
        x_m, y_m = rng.uniform(area.low_m, area.high_m)
        yaw_rad = rng.uniform(-np.pi, np.pi)
        if all(np.hypot(x_m - x, y_m - y) >= task.clearance_m for x, y, _ in placed):
            placed.append((float(x_m), float(y_m), float(yaw_rad)))
    return np.array(placed, dtype=np.float64)


def _lifted(objects: Mapping[str, ObjectState]) -> bool:
    """Tell whether the cube's middle is at least 4 cm above where it rests."""
    return bool(objects["cube"].position_m[2] > _CUBE.rest_height_m + _LIFT_HEIGHT_M)


def _stacked(objects: Mapping[str, ObjectState]) -> bool:
    """Tell whether cubeA lies on cubeB, at rest and released."""
    upper, lower = objects["cubeA"], objects["cubeB"]
    offset_m = upper.position_m - lower.position_m
    on_top = (
        np.hypot(offset_m[0], offset_m[1]) < _STACK_OFFSET_FRACTION * 2 * _CUBE_B.half_extent_m
        and abs(offset_m[2] - _CUBE_A.half_extent_m - _CUBE_B.half_extent_m) < _STACK_HEIGHT_TOLERANCE_M
        and lower.position_m[2] < _CUBE_B.rest_height_m + _STACK_HEIGHT_TOLERANCE_M
    )
    still = upper.speed_m_s < _STILL_M_S and lower.speed_m_s < _STILL_M_S
    return bool(on_top and still and not upper.touches_gripper)


def _apple_in_bowl(objects: Mapping[str, ObjectState]) -> bool:
    """Tell whether the apple lies inside the bowl's rim, at rest and released, and the bowl stands on the table."""
    apple, bowl = objects["apple"], objects["bowl"]
    offset_m = apple.position_m - bowl.position_m
    inside = (
        np.hypot(offset_m[0], offset_m[1]) < _BOWL.half_extent_m - _APPLE.half_extent_m / 2
        and 0 < offset_m[2] < BOWL_HEIGHT_M + _APPLE.half_extent_m / 2
        and abs(bowl.position_m[2]) < _STACK_HEIGHT_TOLERANCE_M
    )
    return bool(inside and apple.speed_m_s < _STILL_M_S and not apple.touches_gripper)


_CUBE = SceneObject("cube", "cube", "red", 0.024)
_CUBE_A = SceneObject("cubeA", "cube", "red", 0.024)
_CUBE_B = SceneObject("cubeB", "cube", "green", 0.027)
_APPLE = SceneObject("apple", "apple", "red", 0.03)
_BOWL = SceneObject("bowl", "bowl", "blue", 0.078)

TASKS: dict[str, Task] = {
    "lift": Task(
        name="lift",
        instruction="lift the red cube",
        objects=(_CUBE,),
        start_areas=(StartArea((-0.1, -0.12), (0.1, 0.12)),),
        clearance_m=0.0,
        horizon=200,
        succeeded=_lifted,
    ),
    "stack": Task(
        name="stack",
        instruction="stack the red cube on the green cube",
        objects=(_CUBE_A, _CUBE_B),
        start_areas=(StartArea((-0.1, -0.14), (0.1, 0.14)), StartArea((-0.1, -0.14), (0.1, 0.14))),
        clearance_m=0.11,
        horizon=300,
        succeeded=_stacked,
    ),
    "apple_in_bowl": Task(
        name="apple_in_bowl",
        instruction="put the apple in the bowl",
        objects=(_APPLE, _BOWL),
        start_areas=(StartArea((-0.1, -0.16), (0.1, 0.16)), StartArea((-0.08, -0.12), (0.08, 0.12))),
        clearance_m=0.15,
        horizon=300,
        succeeded=_apple_in_bowl,
    ),
}
