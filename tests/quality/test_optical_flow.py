import numpy as np
import pytest

from cosmos_engine.quality.motion import TrueFlow
from cosmos_engine.quality.optical_flow import flow_error, optical_flow

SIZE, FRAMES, STEP_PX = 64, 8, 2


def sliding() -> np.ndarray:
    """A smooth random pattern that moves to the right."""
    import cv2

    wide = np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE + FRAMES * STEP_PX, 3)).astype(np.float32)
    wide = cv2.GaussianBlur(wide, (0, 0), 2.0)
    wide = ((wide - wide.min()) / np.ptp(wide) * 255).astype(np.uint8)
    return np.stack([wide[:, (FRAMES - i) * STEP_PX :][:, :SIZE] for i in range(FRAMES)])


def truth(step_px: float = STEP_PX) -> TrueFlow:
    flow = np.zeros((FRAMES - 1, SIZE, SIZE, 2), np.float32)
    flow[..., 0] = step_px
    valid = np.zeros(flow.shape[:3], bool)
    valid[:, 8:-8, 8:-8] = True
    return TrueFlow(flow, valid)


def error(rgb: np.ndarray, true: TrueFlow) -> float | None:
    region = np.ones((FRAMES, SIZE, SIZE), bool)
    return flow_error(optical_flow(rgb), true, region, frames=4, smallest_px=100.0)


def test_a_pattern_is_seen_to_move_as_it_does():
    assert error(sliding(), truth()) < 0.1


def test_a_still_picture_is_as_wrong_as_none():
    assert error(np.repeat(sliding()[:1], FRAMES, 0), truth()) == pytest.approx(1.0, abs=0.01)


def test_motion_the_other_way_is_twice_as_wrong():
    assert error(sliding()[:, :, ::-1], truth()) == pytest.approx(2.0, abs=0.1)


def test_a_held_stretch_counts_although_the_rest_is_right():
    rgb = sliding()
    rgb[4:] = rgb[4]
    assert error(rgb, truth()) > 0.7


def test_nothing_is_said_where_nothing_moves():
    assert error(sliding(), truth(0.0)) is None
    assert optical_flow(sliding()[:1]).shape == (0, SIZE, SIZE, 2)
