import numpy as np
import pytest

from cosmos_engine.quality.odd_color import odd_color

FRAMES, SIZE = 9, 64
BROWN, BEIGE, CYAN = (110, 64, 33), (214, 189, 148), (60, 200, 224)


def surface(pattern: bool) -> np.ndarray:
    rgb = np.full((FRAMES, SIZE, SIZE, 3), BROWN, np.uint8)
    if pattern:
        rgb[:, :, ::4] = BEIGE
    return rgb


def oddness(rgb: np.ndarray, near: np.ndarray | None = None) -> float:
    instance = np.full(rgb.shape[:3], 3, np.uint16)
    nothing = np.zeros(rgb.shape[:3], bool)
    return odd_color(rgb, instance, [3], nothing if near is None else near, smallest_px=20.0)


@pytest.mark.parametrize("pattern", [False, True])
def test_a_spot_in_a_colour_of_its_own_is_odd(pattern):
    rgb = surface(pattern)
    assert oddness(rgb) == 0
    rgb[:, 20:28, 30:38] = CYAN
    assert oddness(rgb) > 30


def test_what_lasts_less_than_half_of_the_frames_looked_at_is_not_odd():
    rgb = surface(False)
    rgb[4, 20:28, 30:38] = CYAN
    assert oddness(rgb) == 0


def test_a_colour_in_many_places_is_a_pattern():
    rgb = surface(False)
    for row in (5, 30, 55):
        for column in (5, 30, 55):
            rgb[:, row : row + 6, column : column + 6] = CYAN
    assert oddness(rgb) == 0


def test_a_speck_and_what_lies_beside_an_object_do_not_count():
    rgb = surface(False)
    rgb[:, 20:22, 30:32] = CYAN
    assert oddness(rgb) < 10
    rgb[:, 20:28, 30:38] = CYAN
    near = np.zeros(rgb.shape[:3], bool)
    near[:, 16:32, 26:42] = True
    assert oddness(rgb, near) == 0


def test_a_shadow_is_less_odd_than_a_thing():
    rgb = surface(False)
    rgb[:, 20:28, 30:38] //= 2
    assert oddness(rgb) < 15
