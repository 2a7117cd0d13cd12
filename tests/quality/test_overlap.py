import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.quality import assigned, centroid_error_px, frame_iou, iou


def square(row: int, column: int, side: int = 10, frames: int = 2) -> np.ndarray:
    mask = np.zeros((frames, 40, 40), bool)
    mask[:, row : row + side, column : column + side] = True
    return mask


def test_a_mask_overlaps_itself_wholly():
    mask = square(4, 5)
    assert iou(mask, mask) == 1.0
    assert np.all(frame_iou(mask, mask) == 1.0)
    assert np.all(centroid_error_px(mask, mask) == 0.0)


def test_nothing_to_overlap_is_no_score():
    empty = np.zeros((2, 8, 8), bool)
    assert iou(empty, empty) is None
    assert np.isnan(frame_iou(empty, empty)).all()
    assert np.isnan(centroid_error_px(empty, empty)).all()


def test_a_vanished_mask_has_overlap_zero_and_no_distance():
    mask = square(4, 5)
    assert iou(np.zeros_like(mask), mask) == 0.0
    assert np.isnan(centroid_error_px(np.zeros_like(mask), mask)).all()


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_a_shift_gives_its_analytic_overlap_and_distance(down, right):
    truth, moved = square(14, 14), square(14 + down, 14 + right)
    shared = (10 - abs(down)) * (10 - abs(right))
    assert iou(moved, truth) == pytest.approx(shared / (200 - shared))
    assert centroid_error_px(moved, truth) == pytest.approx(np.hypot(down, right))


def test_pixels_go_to_the_nearest_instance():
    instance = np.zeros((1, 20, 40), np.uint16)
    instance[:, 5:10, 2:7], instance[:, 5:10, 30:35] = 6, 7
    predicted = (instance > 0) | (np.arange(40) == 9)
    parts = assigned(predicted, instance, [6, 7, 8])
    assert parts[6][0, 0, 9]
    assert not parts[7][0, 0, 9]
    assert np.array_equal(parts[6] | parts[7], predicted)
    assert not parts[8].any()


def test_without_instances_pixels_go_to_none():
    predicted = np.ones((1, 4, 4), bool)
    assert not assigned(predicted, np.zeros((1, 4, 4), np.uint16), [6])[6].any()
