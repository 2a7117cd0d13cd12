"""Success is what the instruction says, and starts are where the task allows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from cosmos_engine.sim.tasks import TASKS, ObjectState, find_task, sample_start


def _at(x_m, y_m, z_m, *, speed_m_s=0.0, touches_gripper=False):
    return ObjectState(np.array([x_m, y_m, z_m]), speed_m_s, touches_gripper)


STACKED = {"cubeA": _at(0.1, 0.0, 0.078), "cubeB": _at(0.1, 0.01, 0.027)}
IN_BOWL = {"apple": _at(0.0, 0.1, 0.04), "bowl": _at(0.01, 0.1, 0.0)}


@settings(deadline=None)
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 2**32))
def test_starts_lie_in_their_areas_and_apart(name, seed):
    task = TASKS[name]
    starts = sample_start(task, np.random.default_rng(seed))
    for (x_m, y_m, yaw_rad), area in zip(starts, task.start_areas, strict=True):
        assert area.low_m[0] <= x_m <= area.high_m[0]
        assert area.low_m[1] <= y_m <= area.high_m[1]
        assert -np.pi <= yaw_rad <= np.pi
    for first in range(len(starts)):
        for second in range(first):
            assert np.hypot(*(starts[first] - starts[second])[:2]) >= task.clearance_m


def test_lifted_means_four_centimetres_above_rest():
    succeeded = TASKS["lift"].succeeded
    assert not succeeded({"cube": _at(0, 0, 0.024)})
    assert not succeeded({"cube": _at(0, 0, 0.024 + 0.039)})
    assert succeeded({"cube": _at(0, 0, 0.024 + 0.041)})


def test_a_cube_on_the_other_is_stacked():
    assert TASKS["stack"].succeeded(STACKED)


@pytest.mark.parametrize(
    ("cube", "changes"),
    [
        ("cubeA", {"touches_gripper": True}),
        ("cubeA", {"speed_m_s": 0.2}),
        ("cubeA", {"position_m": np.array([0.13, 0.0, 0.078])}),  # over the edge
        ("cubeA", {"position_m": np.array([0.1, 0.0, 0.1])}),  # in the air
        ("cubeA", {"position_m": np.array([0.1, 0.06, 0.024])}),  # beside
        ("cubeB", {"speed_m_s": 0.2}),
    ],
)
def test_a_cube_held_moving_or_elsewhere_is_not_stacked(cube, changes):
    assert not TASKS["stack"].succeeded(STACKED | {cube: dataclasses.replace(STACKED[cube], **changes)})


def test_a_tower_in_the_air_is_not_stacked():
    raised = {
        name: dataclasses.replace(cube, position_m=cube.position_m + np.array([0, 0, 0.05]))
        for name, cube in STACKED.items()
    }
    assert not TASKS["stack"].succeeded(raised)


def test_an_apple_at_rest_in_the_bowl_succeeds():
    assert TASKS["apple_in_bowl"].succeeded(IN_BOWL)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("apple", {"touches_gripper": True}),
        ("apple", {"speed_m_s": 0.2}),
        ("apple", {"position_m": np.array([0.1, 0.1, 0.03])}),  # beside
        ("apple", {"position_m": np.array([0.0, 0.1, 0.1])}),  # above
        ("bowl", {"position_m": np.array([0.01, 0.1, 0.02])}),  # tilted on something
    ],
)
def test_an_apple_held_moving_or_elsewhere_is_not_in_the_bowl(name, changes):
    assert not TASKS["apple_in_bowl"].succeeded(IN_BOWL | {name: dataclasses.replace(IN_BOWL[name], **changes)})


def test_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'stack'"):
        find_task("stacks")


class _MiddleFirst(np.random.Generator):
    """Put the first object into the middle, from where a small area leaves no room, and all others at random."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        self._drawn = 0

    def uniform(self, low, high):
        self._drawn += 1
        return np.zeros(2) if self._drawn == 1 else super().uniform(low, high)


def test_a_first_object_that_leaves_no_room_is_drawn_again():
    starts = sample_start(TASKS["apple_in_bowl"], _MiddleFirst())
    assert np.hypot(*(starts[0] - starts[1])[:2]) >= TASKS["apple_in_bowl"].clearance_m
