"""Depth and instance ids are coloured so that the colours mean something."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.report.colour import (
    BACKGROUND,
    NO_HIT,
    depth_range_m,
    depth_to_rgb,
    instance_palette,
    instance_to_rgb,
    turbo,
)


def test_near_is_red_and_far_is_blue() -> None:
    near, far = depth_to_rgb(np.array([[[0.5, 2.0]]], np.float32), 0.5, 2.0)[0, 0].astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0]


def test_farther_is_never_nearer_in_the_map() -> None:
    depth_m = np.linspace(0.1, 3.0, 500, dtype=np.float32).reshape(1, 1, -1)
    shades = depth_to_rgb(depth_m, 0.5, 2.0)[0, 0]
    levels = [np.flatnonzero((turbo() == shade).all(axis=1)) for shade in shades]
    assert all(later.min() <= earlier.max() for earlier, later in itertools.pairwise(levels))


def test_no_hit_has_a_color_of_its_own() -> None:
    rgb = depth_to_rgb(np.array([[[np.inf, 1.0]]], np.float32), 0.5, 2.0)
    assert tuple(rgb[0, 0, 0]) == NO_HIT
    assert not (turbo() == NO_HIT).all(axis=1).any()


def test_depth_range_is_that_of_what_was_hit() -> None:
    depth_m = np.full((2, 10, 10), np.inf, np.float32)
    depth_m[:, :5] = 0.75
    assert depth_range_m(depth_m) == (0.75, 0.75)
    assert depth_range_m(np.full((2, 4, 4), np.inf, np.float32)) == (0.0, 1.0)


def test_one_depth_only_is_colored_without_a_warning() -> None:
    assert depth_to_rgb(np.ones((1, 2, 2), np.float32), 1.0, 1.0).shape == (1, 2, 2, 3)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["robot", "manipulated", "scene"]), min_size=1, max_size=24))
def test_every_instance_has_its_own_color(roles: list[str]) -> None:
    labels = {index + 1: InstanceLabel(f"part {index}", "part", role) for index, role in enumerate(roles)}  # type: ignore[arg-type]
    palette = instance_palette(labels)
    assert palette.keys() == labels.keys()
    assert len({*palette.values(), BACKGROUND}) == len(labels) + 1


def test_the_hue_tells_the_role() -> None:
    labels = {i: InstanceLabel("a", "a", ("robot", "manipulated", "scene")[i % 3]) for i in range(1, 19)}  # type: ignore[arg-type]
    for instance_id, rgb in instance_palette(labels).items():
        hue, saturation, _ = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
        role = labels[instance_id].role
        assert (saturation < 0.4) == (role == "scene")
        if role != "scene":
            assert (0.5 < hue < 0.8) == (role == "robot")


def test_ids_take_their_palettes_color_and_the_rest_the_background(rng: np.random.Generator) -> None:
    instance = rng.integers(0, 4, (2, 5, 5)).astype(np.uint16)
    rgb = instance_to_rgb(instance, {1: (255, 0, 0), 3: (0, 0, 255)})
    assert {tuple(map(int, color)) for color in rgb[instance == 1]} == {(255, 0, 0)}
    assert {tuple(map(int, color)) for color in rgb[(instance == 0) | (instance == 2)]} == {BACKGROUND}


@pytest.mark.parametrize("far_m", [1.0, 5.0])
def test_beyond_the_range_takes_the_ends_colors(far_m: float) -> None:
    rgb = depth_to_rgb(np.array([[[0.01, far_m + 9.0]]], np.float32), 0.5, far_m)
    np.testing.assert_array_equal(rgb[0, 0], turbo()[[255, 0]])
