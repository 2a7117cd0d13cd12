"""Strips and sheets show the clip's own frames, first to last."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosmos_engine.report.sheet import GAP_PX, LABEL_WIDTH_PX, contact_sheet, film_strip, frame_indices, webp


@settings(deadline=None)
@given(length=st.integers(1, 500), count=st.integers(2, 20))
def test_frames_run_from_the_first_to_the_last_without_repeats(length: int, count: int) -> None:
    indices = frame_indices(length, count)
    assert indices[0] == 0
    assert indices[-1] == length - 1
    assert indices == sorted(set(indices))
    assert len(indices) == min(length, count)


@pytest.mark.parametrize(("length", "count"), [(0, 6), (5, 0)])
def test_no_frames_of_nothing(length: int, count: int) -> None:
    with pytest.raises(ValueError, match="frame_indices"):
        frame_indices(length, count)


def test_strip_holds_the_frames_with_clear_gaps(rng: np.random.Generator) -> None:
    clip = rng.integers(0, 255, (9, 6, 8, 3), np.uint8)
    strip = film_strip(clip, 3)
    assert strip.shape == (6, 3 * 8 + 2 * GAP_PX, 4)
    for column, index in enumerate((0, 4, 8)):
        left = column * (8 + GAP_PX)
        np.testing.assert_array_equal(strip[:, left : left + 8, :3], clip[index])
        assert not strip[:, left + 8 : left + 8 + GAP_PX, 3].any()


def test_sheet_shows_every_rows_frames_unchanged(rng: np.random.Generator) -> None:
    rows = {
        "rgb": rng.integers(0, 255, (5, 30, 20, 3), np.uint8),
        "depth": rng.integers(0, 255, (5, 12, 20, 3), np.uint8),
    }
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(rows, 2))))
    top = GAP_PX
    for clip in rows.values():
        for column, index in enumerate((0, 4)):
            left = LABEL_WIDTH_PX + column * (20 + GAP_PX)
            np.testing.assert_array_equal(sheet[top : top + clip.shape[1], left : left + 20], clip[index])
        top += clip.shape[1] + GAP_PX
    label = sheet[: GAP_PX + 30, : LABEL_WIDTH_PX - GAP_PX]
    assert label.min() < 128


def test_a_sheet_needs_a_row() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet({}, 3)


def test_lossless_pictures_keep_every_color(rng: np.random.Generator) -> None:
    strip = film_strip(rng.integers(0, 255, (3, 10, 10, 3), np.uint8), 3)
    decoded = np.asarray(Image.open(io.BytesIO(webp(strip, lossless=True))))
    opaque = strip[..., 3] == 255
    np.testing.assert_array_equal(decoded[opaque], strip[opaque])
