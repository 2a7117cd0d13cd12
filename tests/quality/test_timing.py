import numpy as np
import pytest

from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.quality.timing import least_motion, own_time_share, swept

from .conftest import painted, scene

FRAMES = 20


def moving() -> tuple[np.ndarray, np.ndarray]:
    """The roles of a cube that moves a pixel a frame, and the ids."""
    instance = scene(FRAMES, move_px=1).instance
    role = np.full(instance.shape, ROLES.index("scene"), np.uint8)
    role[instance == 1] = ROLES.index("robot")
    role[instance >= 6] = ROLES.index("manipulated")
    return role, instance


def probabilities(role: np.ndarray, error: float = 0.0) -> np.ndarray:
    made = np.eye(len(ROLES), dtype=np.float32)[role]
    wrong = np.random.default_rng(0).random(role.shape) < error
    made[wrong] = 1 / 3
    return made


def share(shown: np.ndarray, role: np.ndarray, error: float = 0.0) -> float | None:
    return own_time_share(probabilities(role[shown], error), role, frames=6, smallest_px=30.0)


def test_right_frames_show_their_own_time():
    role, _ = moving()
    assert share(np.arange(FRAMES), role) == 1
    assert share(np.arange(FRAMES), role, error=0.2) > 0.6


@pytest.mark.parametrize("slip", [2, -2, 4, -4])
def test_slipped_frames_show_another_time(slip):
    role, _ = moving()
    assert share(np.clip(np.arange(FRAMES) + slip, 0, FRAMES - 1), role) < 0.2


def test_held_frames_show_another_time():
    role, _ = moving()
    frames = np.arange(FRAMES)
    assert share(np.where((frames >= 6) & (frames < 14), 6, frames), role) < 0.3


def test_nothing_is_said_of_a_still_clip():
    role, _ = moving()
    still = np.repeat(role[:1], FRAMES, 0)
    assert own_time_share(probabilities(still), still, frames=6, smallest_px=30.0) is None


def test_held_frames_do_not_move():
    _, instance = moving()
    rgb, frames = painted(instance), np.arange(FRAMES)
    pixels = swept(instance)
    assert least_motion(rgb, pixels, pairs=4, smallest_px=5.0) == pytest.approx(1.0, abs=0.1)
    held = np.where((frames >= 6) & (frames < 12), 6, frames)
    assert least_motion(rgb[held], pixels, pairs=4, smallest_px=5.0) == 0
    assert least_motion(rgb[np.zeros(FRAMES, int)], pixels, pairs=4, smallest_px=5.0) == 0


def test_motion_is_not_judged_where_hardly_anything_moves():
    _, instance = moving()
    assert least_motion(painted(instance), swept(instance), pairs=4, smallest_px=1000.0) is None
    still = np.repeat(instance[:1], FRAMES, 0)
    assert least_motion(painted(still), swept(still), pairs=4, smallest_px=1.0) is None
