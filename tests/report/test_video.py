"""Clips become videos that a browser plays, with their frames, size, rate and colours."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from cosmos_engine.report.video import encode_mp4, read_mp4, side_by_side

# Largest error of 8-bit limited-range YUV and x264 on flat colour, in levels of 255.
FLAT_COLOR_TOLERANCE = 5


def decode(content: bytes) -> tuple[np.ndarray, float]:
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate)
        frames = [
            frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in container.decode(stream)
        ]
    return np.stack(frames), rate


def flat_clip(colors: list[tuple[int, int, int]], height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.array(colors, np.uint8)[:, None, None], (len(colors), height, width, 3)).copy()


color = st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))


@settings(max_examples=20, deadline=None)
@given(
    colors=st.lists(color, min_size=1, max_size=12),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fps=st.sampled_from([1.0, 12.5, 20.0, 29.97]),
    scale=st.integers(1, 3),
)
def test_video_has_the_clips_frames_size_rate_and_colors(
    colors: list[tuple[int, int, int]], size: tuple[int, int], fps: float, scale: int
) -> None:
    height, width = size
    frames, rate = decode(encode_mp4(flat_clip(colors, height, width), fps, scale=scale))
    assert frames.shape == (len(colors), height * scale + height * scale % 2, width * scale + width * scale % 2, 3)
    assert rate == pytest.approx(fps, rel=1e-3)
    np.testing.assert_allclose(frames.mean(axis=(1, 2)), colors, atol=FLAT_COLOR_TOLERANCE)


def test_video_shows_the_picture_upright_and_unmirrored() -> None:
    clip = np.zeros((3, 64, 64, 3), np.uint8)
    clip[:, :32, :32] = (255, 0, 0)
    clip[:, 32:, 32:] = (0, 0, 255)
    frames, _ = decode(encode_mp4(clip, 20.0))
    assert frames[1, 16, 16].argmax() == 0
    assert frames[1, 48, 48].argmax() == 2
    assert frames[1, 16, 48].max() < 30


def test_same_clip_gives_the_same_bytes(rng: np.random.Generator) -> None:
    clip = rng.integers(0, 255, (8, 32, 32, 3), np.uint8)
    assert encode_mp4(clip, 20.0) == encode_mp4(clip, 20.0)


@pytest.mark.parametrize(("frames", "fps", "scale"), [(0, 20.0, 1), (2, 0.0, 1), (2, 20.0, 0)])
def test_no_video_from_no_frames_rate_or_scale(frames: int, fps: float, scale: int) -> None:
    with pytest.raises(ValueError, match="encode_mp4"):
        encode_mp4(np.zeros((frames, 8, 8, 3), np.uint8), fps, scale=scale)


def test_side_by_side_keeps_every_pixel_in_order(rng: np.random.Generator) -> None:
    clips = [rng.integers(0, 255, (3, 6, width, 3), np.uint8) for width in (4, 5, 7)]
    joined = side_by_side(clips)
    assert joined.shape == (3, 6, 16, 3)
    for clip, left in zip(clips, (0, 4, 9), strict=True):
        np.testing.assert_array_equal(joined[:, :, left : left + clip.shape[2]], clip)


@pytest.mark.parametrize("shapes", [[], [(3, 6, 4, 3), (4, 6, 4, 3)], [(3, 6, 4, 3), (3, 5, 4, 3)]])
def test_clips_of_different_lengths_or_heights_are_not_joined(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="side_by_side"):
        side_by_side([np.zeros(shape, np.uint8) for shape in shapes])


def test_a_playable_file_is_taken_as_it_is(tmp_path: Path) -> None:
    content = encode_mp4(flat_clip([(9, 9, 9)] * 3, 16, 16), 20.0)
    (tmp_path / "clip.mp4").write_bytes(content)
    assert read_mp4(tmp_path / "clip.mp4") == content


def test_a_file_that_browsers_cannot_play_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "old.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    (tmp_path / "cut.mp4").write_bytes(encode_mp4(flat_clip([(9, 9, 9)] * 3, 16, 16), 20.0)[:200])
    for name, message in (("old.mp4", "mpeg4"), ("cut.mp4", "cannot be read"), ("absent.mp4", "cannot be read")):
        with pytest.raises(InputError, match=message):
            read_mp4(tmp_path / name)
