"""Colours: of light by its temperature, and named ones that can be told apart."""

import itertools

import numpy as np

from cosmos_engine.sim.colors import COLORS, light_rgb


def test_light_color_follows_its_temperature():
    np.testing.assert_allclose(light_rgb(6600.0), 1, atol=0.01)
    red, green, blue = light_rgb(3000.0)
    assert 1 == red > green > blue
    red, green, blue = light_rgb(10000.0)
    assert 1 == blue > green > red


def test_named_colors_can_be_told_apart():
    for (_, one), (_, other) in itertools.combinations(COLORS.items(), 2):
        assert np.abs(np.subtract(one, other)).max() > 0.2
