import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.data import InstanceLabel
from cosmos_engine.quality.object_color import hue_difference, hue_error, prompted_colors

from .conftest import COLORS, LABELS, painted, scene


@given(st.floats(1, 90), st.floats(1, 90), st.floats(0, 360), st.floats(0, 180))
def test_hue_difference_is_that_of_the_cie(first, second, hue_deg, turn_deg):
    def lab(chroma, angle_deg):
        angle = np.deg2rad(angle_deg)
        return np.array([50.0, chroma * np.cos(angle), chroma * np.sin(angle)])

    wanted = 2 * np.sqrt(first * second) * np.sin(np.deg2rad(turn_deg) / 2)
    assert hue_difference(lab(first, hue_deg), lab(second, hue_deg + turn_deg)) == pytest.approx(wanted, abs=1e-4)


def turned(color: tuple[int, int, int], degrees: float) -> tuple[int, int, int]:
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    red, green, blue = colorsys.hsv_to_rgb((hue + degrees / 360) % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def error(rgb: np.ndarray, named: str | None = None) -> float | None:
    passes = scene(12)
    return hue_error(rgb, passes.rgb, passes.instance == 6, smallest_px=20.0, frames=4, named=named)


def test_an_object_that_keeps_its_hue_has_no_error_in_any_light():
    passes = scene(12)
    assert error(passes.rgb) == 0
    assert error(passes.rgb // 2) < 12


def test_another_hue_is_an_error_that_grows_with_the_turn():
    passes = scene(12)
    errors = [error(painted(passes.instance, COLORS | {6: turned(COLORS[6], turn)})) for turn in (30, 60, 120)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[1] > 40


def test_a_hue_that_changes_for_a_while_counts():
    rgb = scene(12).rgb.copy()
    rgb[4:8][scene(12).instance[4:8] == 6] = turned(COLORS[6], 120)
    assert error(rgb) > 40


def test_the_colour_that_the_prompt_names_is_the_right_one():
    passes = scene(12)
    blue = painted(passes.instance, COLORS | {6: COLORS[7]})
    assert error(blue) > 40
    assert error(blue, "blue") < 5
    assert error(passes.rgb, "blue") > 40


def test_an_object_hardly_seen_is_not_judged():
    passes = scene(12)
    assert hue_error(passes.rgb, passes.rgb, passes.instance == 6, smallest_px=101.0, frames=4) is None


@pytest.mark.parametrize(
    ("prompt", "given_colors"),
    [
        ("a green cube and a blue bowl on a table", {6: "green"}),
        ("a red cube beside a green cube", {}),
        ("a green cube, then a white cube", {}),
        ("brown wood, warm light", {}),
        ("", {}),
    ],
)
def test_a_prompt_gives_an_object_a_colour_if_it_says_so_plainly(prompt, given_colors):
    assert prompted_colors(prompt, LABELS) == given_colors


def test_of_two_cubes_a_prompt_recolours_neither():
    labels = LABELS | {8: InstanceLabel("cubeB", "green cube", "manipulated")}
    assert prompted_colors("a white cube", labels) == {}
