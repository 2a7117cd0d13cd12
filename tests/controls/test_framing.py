from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.controls import RESOLUTIONS, Framing, frame_for, identity_framing
from cosmos_engine.controls.framing import nearest_aspect
from cosmos_engine.errors import InputError

PIXELS = st.integers(16, 400)
RESOLUTION = st.sampled_from(sorted(RESOLUTIONS))
FIT = st.sampled_from(["letterbox", "crop"])
# Resizing 1080 frames takes its time: pictures are made at the small resolutions, numbers are checked at all.
PICTURE_RESOLUTION = st.sampled_from(["256", "480"])


def seen(framing: Framing) -> tuple[slice, slice]:
    """Rows and columns of the camera's frames that lie in the window."""
    return tuple(
        slice(max(0, at), min(size, at + window))
        for at, window, size in zip(framing.corner, framing.window, framing.source, strict=True)
    )


def centre(frame: np.ndarray) -> np.ndarray:
    """Centre of brightness in pixels, measured from the upper left corner of the frame."""
    rows, columns = np.indices(frame.shape[:2]) + 0.5
    light = frame[..., 0].astype(float)
    return np.array([(rows * light).sum(), (columns * light).sum()]) / light.sum()


def test_every_size_of_the_table_is_whole_tokens_and_has_its_aspect():
    for resolution, sizes in RESOLUTIONS.items():
        assert set(sizes) == {"16,9", "4,3", "1,1", "3,4", "9,16"}
        for aspect, (width, height) in sizes.items():
            assert width % 16 == height % 16 == 0
            assert nearest_aspect(height, width) == aspect, (resolution, aspect)


@pytest.mark.parametrize(
    ("height", "width", "aspect"),
    [
        (128, 128, "1,1"),
        (480, 640, "4,3"),
        (200, 320, "16,9"),
        (720, 1280, "16,9"),
        (320, 200, "9,16"),
        (30, 400, "16,9"),
    ],
)
def test_the_nearest_aspect_is_nvidias(height, width, aspect):
    assert nearest_aspect(height, width) == aspect


@settings(max_examples=300, deadline=None)
@given(PIXELS, PIXELS, RESOLUTION, FIT)
def test_nothing_is_stretched_and_no_more_is_added_or_lost_than_needed(height, width, resolution, fit):
    framing = frame_for(height, width, resolution, fit)
    assert framing.source == (height, width)
    assert framing.size[0] % 16 == framing.size[1] % 16 == 0
    assert Fraction(framing.size[0], framing.window[0]) == Fraction(framing.size[1], framing.window[1]) == framing.scale
    out = RESOLUTIONS[resolution][nearest_aspect(height, width)]
    assert framing.size == out[::-1]
    rows, columns = seen(framing)
    if fit == "letterbox":
        assert (rows, columns) == (slice(0, height), slice(0, width))
        unit = Fraction(*framing.window)  # one unit less in the window would no longer hold the frame
        smaller = (framing.window[0] - unit.numerator, framing.window[1] - unit.denominator)
        assert smaller[0] < height or smaller[1] < width
    else:
        assert (rows.stop - rows.start, columns.stop - columns.start) == framing.window
        unit = Fraction(*framing.window)
        assert framing.window[0] + unit.numerator > height or framing.window[1] + unit.denominator > width


@settings(max_examples=30, deadline=None)
@given(PIXELS, PIXELS, PICTURE_RESOLUTION, FIT, st.integers(0, 255))
def test_frames_come_back_in_number_size_and_constant_colour(height, width, resolution, fit, grey):
    framing = frame_for(height, width, resolution, fit)
    source = np.full((2, height, width, 3), (grey, 255 - grey, 7), np.uint8)
    fitted = framing.fitted(source)
    assert fitted.shape == (2, *framing.size, 3)
    assert fitted.dtype == np.uint8
    assert (fitted == source[0, 0, 0]).all()
    np.testing.assert_array_equal(framing.restored(fitted, source), source)


@settings(max_examples=30, deadline=None)
@given(PIXELS, PIXELS, PICTURE_RESOLUTION, FIT, st.data())
def test_a_block_is_shown_and_comes_back_where_it_was_within_half_a_pixel(height, width, resolution, fit, data):
    framing = frame_for(height, width, resolution, fit)
    rows, columns = seen(framing)
    side = min(8, rows.stop - rows.start, columns.stop - columns.start)
    row = data.draw(st.integers(rows.start, rows.stop - side))
    column = data.draw(st.integers(columns.start, columns.stop - side))
    source = np.zeros((1, height, width, 3), np.uint8)
    source[:, row : row + side, column : column + side] = 255
    fitted = framing.fitted(source)
    at = (np.array([row, column]) + side / 2 - framing.corner) * float(framing.scale)
    # Within the window alone: what sticks out of the frame mirrors it.
    inside = np.zeros_like(fitted[0])
    first = (np.array([rows.start, columns.start]) - framing.corner) * float(framing.scale)
    last = (np.array([rows.stop, columns.stop]) - framing.corner) * float(framing.scale)
    box = tuple(slice(int(a), int(np.ceil(b))) for a, b in zip(first, last, strict=True))
    inside[box] = fitted[0][box]
    assert np.abs(centre(inside) - at).max() <= 0.5 * max(1.0, float(framing.scale))
    back = centre(framing.restored(fitted, np.zeros_like(source))[0])
    assert np.abs(back - (np.array([row, column]) + side / 2)).max() <= 0.5


@given(st.sampled_from([(96, 96), (160, 160), (240, 320), (60, 80), (144, 256), (48, 48)]), FIT)
def test_a_whole_enlargement_by_nearest_comes_back_bit_by_bit(size, fit):
    framing = frame_for(*size, "480", fit)
    assert framing.scale.denominator == 1
    source = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    np.testing.assert_array_equal(framing.restored(framing.fitted(source, "nearest"), source), source)


def test_a_letterboxed_whole_enlargement_comes_back_bit_by_bit():
    framing = Framing(source=(30, 53), size=(192, 320), window=(48, 80), corner=(-9, -13))
    source = np.random.default_rng(0).integers(0, 256, (1, 30, 53, 3), np.uint8)
    np.testing.assert_array_equal(framing.restored(framing.fitted(source, "nearest")), source)


@pytest.mark.parametrize("size", [(128, 128), (200, 320), (84, 84), (240, 424)])
def test_an_enlarged_smooth_picture_comes_back_within_two_grey_levels(size):
    rows, columns = np.indices(size)
    wave = 128 + 100 * np.sin(rows / 9.0) * np.cos(columns / 7.0)
    source = np.repeat(wave.astype(np.uint8)[None, ..., None], 3, axis=-1)
    framing = frame_for(*size)
    difference = framing.restored(framing.fitted(source)).astype(int) - source
    assert np.abs(difference).max() <= 2


def test_a_crop_leaves_pixels_outside_its_window_as_they_are_in_the_source():
    framing = frame_for(128, 200, "256", "crop")
    source = np.random.default_rng(0).integers(0, 256, (2, 128, 200, 3), np.uint8)
    made = np.full((3, 2, *framing.size, 3), 9, np.uint8)
    restored = framing.restored(made, source)
    rows, columns = seen(framing)
    assert restored.shape == (3, *source.shape)
    assert (restored[:, :, rows, columns] == 9).all()
    outside = np.ones((128, 200), bool)
    outside[rows, columns] = False
    assert outside.any()
    assert (restored[:, :, outside] == source[:, outside]).all()
    with pytest.raises(ValueError, match="a crop is pasted"):
        framing.restored(made)


@given(PIXELS, PIXELS, PICTURE_RESOLUTION, FIT)
@settings(max_examples=20, deadline=None)
def test_ids_by_nearest_are_never_between_two_ids(height, width, resolution, fit):
    ids = np.random.default_rng(0).choice(np.array([0, 7, 40_000], np.uint16), (1, height, width))
    framing = frame_for(height, width, resolution, fit)
    fitted = framing.fitted(ids, "nearest")
    assert fitted.dtype == np.uint16
    assert fitted.shape == (1, *framing.size)
    assert set(np.unique(fitted)) <= {0, 7, 40_000}


def test_the_border_of_a_letterbox_mirrors_the_frame_whatever_its_width():
    framing = Framing(source=(1, 3), size=(16, 16), window=(16, 16), corner=(-7, -6))
    row = framing.fitted(np.array([[[10, 20, 30]]], np.uint16), "nearest")[0, 0]
    np.testing.assert_array_equal(row, [30, 20, 10, 20] * 4)  # the camera's 10, 20, 30 begins in the seventh column


def test_identity_returns_the_same_array():
    framing = identity_framing(37, 51)
    frames = np.zeros((2, 37, 51, 3), np.uint8)
    assert framing.fitted(frames) is frames
    assert framing.restored(frames) is frames
    assert frame_for(480, 640).is_identity


def test_frames_of_another_size_are_refused():
    framing = frame_for(128, 128)
    with pytest.raises(ValueError, match=r"\(128, 128\), got an array \(1, 64, 128, 3\)"):
        framing.fitted(np.zeros((1, 64, 128, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(480, 480\)"):
        framing.restored(np.zeros((1, 128, 128, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((128, 128, "780"), "resolution '780'.*did you mean '(1080|480|720)'"),
        ((8, 10, "720", "crop"), "camera of 10x8 pixels: too small to crop to 15:11; use fit letterbox"),
    ],
)
def test_a_wrong_framing_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        frame_for(*arguments)
    assert "\n" not in str(caught.value)
