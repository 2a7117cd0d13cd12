import dataclasses

import numpy as np
import pytest

from cosmos_engine.quality.cross_view import common_points, view_difference

from .conftest import COLORS, painted, scene


def cameras(step_m: float = 0.03):
    """The same scene from a place to the right: the cube at 0.9 m moves 2 px to the left for 0.03 m."""
    first = scene(4)
    pose = first.world_from_camera.copy()
    pose[:, 0, 3] = step_m
    instance = np.full_like(first.instance, 3)
    depth = np.ones_like(first.depth_m)
    cube = np.roll(first.instance == 6, -2, 2)
    instance[cube], depth[cube] = 6, 0.9
    second = dataclasses.replace(first, rgb=painted(instance), instance=instance, depth_m=depth, world_from_camera=pose)
    return {"first": first, "second": second}


def test_points_of_an_object_are_found_in_the_other_camera():
    views = cameras()
    rows, columns, y, x = common_points(views["first"], views["second"], 6, 0)
    assert len(rows) == 100
    np.testing.assert_array_equal(rows, y)
    np.testing.assert_array_equal(columns - 2, x)


def test_points_that_the_other_camera_sees_hidden_do_not_count():
    views = cameras()
    hidden = views["second"].instance.copy()
    hidden[hidden == 6] = 3
    blind = dataclasses.replace(views["second"], instance=hidden)
    assert len(common_points(views["first"], blind, 6, 0)[0]) == 0
    near = dataclasses.replace(views["second"], depth_m=views["second"].depth_m - 0.1)
    assert len(common_points(views["first"], near, 6, 0)[0]) == 0


def test_the_same_colour_differs_by_nothing_another_by_much():
    views = cameras()
    images = {name: passes.rgb for name, passes in views.items()}
    assert view_difference(images, views, [6, 7]) == pytest.approx(0, abs=1e-4)
    dark = images | {"second": images["second"] // 2}
    assert view_difference(dark, views, [6]) < 40
    green = images | {"second": painted(views["second"].instance, COLORS | {6: (30, 150, 50)})}
    assert view_difference(green, views, [6]) > 60


def test_one_camera_or_no_common_object_says_nothing():
    views = cameras()
    images = {name: passes.rgb for name, passes in views.items()}
    assert view_difference(images, {"first": views["first"]}, [6]) is None
    assert view_difference(images, views, [7]) is None
