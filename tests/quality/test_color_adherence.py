import numpy as np
import pytest

from cosmos_engine.quality import cielab, color_adherence, named_colors
from cosmos_engine.sim.colors import COLORS, light_rgb


def test_colour_words_are_found_in_their_order():
    assert named_colors("fine dark Red and white marble.") == ("red", "white")
    assert named_colors("a shiny surface") == ()


@pytest.mark.parametrize("name", COLORS)
def test_every_colour_adheres_to_its_own_name_in_light_and_shade(name, passes):
    for brightness in (0.5, 1.0):
        rgb = np.broadcast_to(np.array(COLORS[name]) * 255 * brightness, passes.rgb.shape).astype(np.uint8)
        white = np.array(light_rgb(5500.0))
        lit = (rgb * white).astype(np.uint8)
        assert color_adherence(lit, passes.instance, {3: f"plain {name}"}) == {3: True}


def test_another_colour_does_not(passes):
    rgb = passes.rgb.copy()
    rgb[passes.instance == 6] = (30, 80, 200)
    judged = color_adherence(rgb, passes.instance, {6: "red cube", 7: "blue bowl", 3: "table", 9: "red cube"})
    assert judged == {6: False, 7: True}


def test_a_blend_of_two_named_colours_adheres(passes):
    mixed = np.mean([COLORS["red"], COLORS["blue"]], axis=0) * 255
    rgb = np.broadcast_to(mixed, passes.rgb.shape).astype(np.uint8)
    assert color_adherence(rgb, passes.instance, {3: "red and blue weave"}) == {3: True}


def test_white_in_warm_light_is_white_only_if_the_light_is_said_to_be_warm(passes):
    rgb = np.broadcast_to(np.array(light_rgb(3600.0)) * 235, passes.rgb.shape).astype(np.uint8)
    assert color_adherence(rgb, passes.instance, {3: "white wood"}, "dim warm hard light") == {3: True}
    assert color_adherence(rgb, passes.instance, {3: "white wood"}, "cool light") == {3: False}


def test_cielab_of_white_and_black():
    assert cielab(np.array([[1.0, 1, 1], [0, 0, 0]])) == pytest.approx(np.array([[100, 0, 0], [0, 0, 0]]), abs=0.1)
