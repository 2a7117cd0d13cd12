"""Image sizes: averages are averages, crops are slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policies.images import centre_crop, crop_at, padded_by_edges, resize_by_area


def _images(seed: int = 0, size: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, size, size, 3), dtype=np.uint8)


def test_half_size_is_the_mean_of_two_by_two_pixels() -> None:
    images = _images()
    means = images.reshape(4, 6, 2, 6, 2, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(resize_by_area(images, 6).astype(float) - means).max() <= 0.5


def test_equal_size_changes_nothing() -> None:
    images = _images()
    assert np.shares_memory(resize_by_area(images, 12), images)


@given(value=st.integers(0, 255), size=st.integers(1, 12))
def test_uniform_images_stay_uniform(value: int, size: int) -> None:
    images = np.full((1, 12, 12, 3), value, np.uint8)
    assert (resize_by_area(images, size) == value).all()


@given(
    rows=st.lists(st.integers(0, 4), min_size=2, max_size=2),
    columns=st.lists(st.integers(0, 4), min_size=2, max_size=2),
)
def test_crop_is_the_slice_at_its_corner_in_every_frame(rows: list[int], columns: list[int]) -> None:
    windows = torch.from_numpy(_images()).reshape(2, 2, 12, 12, 3)
    crops = crop_at(windows, torch.tensor(rows), torch.tensor(columns), 8)
    for sample, (row, column) in enumerate(zip(rows, columns, strict=True)):
        assert torch.equal(crops[sample], windows[sample, :, row : row + 8, column : column + 8])


def test_centre_crop_leaves_equal_margins() -> None:
    windows = torch.from_numpy(_images()).reshape(2, 2, 12, 12, 3)
    assert torch.equal(centre_crop(windows, 8), windows[:, :, 2:10, 2:10])
    assert torch.equal(centre_crop(windows, 12), windows)


@pytest.mark.parametrize("pixels", [0, 1, 4])
def test_padding_repeats_the_edges(pixels: int) -> None:
    windows = torch.from_numpy(_images()).reshape(2, 2, 12, 12, 3)
    expected = np.pad(windows.numpy(), [(0, 0), (0, 0), (pixels, pixels), (pixels, pixels), (0, 0)], mode="edge")
    assert np.array_equal(padded_by_edges(windows, pixels).numpy(), expected)


def test_random_shift_moves_every_frame_of_a_window_alike_and_by_no_more_than_it_says() -> None:
    windows = torch.from_numpy(_images()).reshape(2, 2, 12, 12, 3)
    shifted = crop_at(padded_by_edges(windows, 3), torch.tensor([0, 6]), torch.tensor([3, 5]), 12)
    assert torch.equal(shifted[0, :, 3:], windows[0, :, :9])  # down by three
    assert torch.equal(shifted[1, :, :9, :10], windows[1, :, 3:, 2:])  # up by three, left by two
