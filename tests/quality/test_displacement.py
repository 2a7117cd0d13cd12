import numpy as np
import pytest

from cosmos_engine.quality.displacement import contour_placements, role_placements

from .conftest import COLORS, painted, scene

FRAMES = 12


def roles(dx: int, dy: int = 0, move_px: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reader sees of the objects if the cube lies (dx, dy) beside its place; the cube's and the bowl's masks."""
    instance = scene(FRAMES, move_px).instance
    cube, bowl = instance == 6, instance == 7
    seen = np.roll(cube, (dy, dx), (1, 2)) | bowl
    return seen.astype(np.float32), cube, bowl


def test_a_part_in_its_place_has_all_evidence_there():
    for one in role_placements(*roles(0), smallest_px=20.0, frames=6):
        assert one.evidence == pytest.approx(1.0)
        assert one.displacement_px == 0
        assert one.advantage < -0.2


@pytest.mark.parametrize(("dx", "dy"), [(4, 0), (0, 5), (-3, -4)])
def test_a_part_beside_its_place_is_found_there(dx, dy):
    for one in role_placements(*roles(dx, dy), smallest_px=20.0, frames=6):
        assert one.displacement_px == pytest.approx(np.hypot(dx, dy))
        assert one.advantage > 0.2


def test_a_part_that_vanished_has_no_evidence():
    seen, cube, bowl = roles(0)
    for one in role_placements(np.where(cube, np.float32(0.0), seen), cube, bowl, smallest_px=20.0, frames=6):
        assert one.evidence == 0


def test_a_part_gone_for_one_stretch_shows_there():
    seen, cube, bowl = roles(0)
    seen[6:][cube[6:]] = 0
    evidence = [one.evidence for one in role_placements(seen, cube, bowl, smallest_px=20.0, frames=6)]
    assert evidence[0] == pytest.approx(1.0)
    assert evidence[-1] == 0


def test_frames_that_hardly_show_a_part_do_not_count():
    seen, cube, bowl = roles(4)
    assert not role_placements(seen, cube, bowl, smallest_px=101.0, frames=6)
    cube[::2] = False
    cube[1::4] = False
    assert not role_placements(seen, cube, bowl, smallest_px=20.0, frames=6)


@pytest.mark.parametrize("dx", [0, 4])
def test_contours_say_where_an_instance_is_without_a_reader(dx):
    passes = scene(FRAMES, move_px=1)
    rgb = painted(passes.instance, COLORS | {6: COLORS[3]})
    rgb[np.roll(passes.instance == 6, dx, 2)] = COLORS[6]
    for one in contour_placements(rgb, passes.instance, 6, smallest_px=20.0, frames=6):
        assert one.displacement_px == dx
        assert (one.advantage > 0.1) == bool(dx)


def test_noise_over_all_gives_no_place_an_advantage():
    passes = scene(FRAMES, move_px=1)
    noise = np.random.default_rng(0).normal(0, 12, passes.rgb.shape)
    rgb = (passes.rgb + noise).clip(0, 255).astype(np.uint8)
    assert all(
        one.advantage < -0.05 for one in contour_placements(rgb, passes.instance, 6, smallest_px=20.0, frames=FRAMES)
    )
