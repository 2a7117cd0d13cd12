"""Videos and images come back with their frames, size, rate and colours, or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.spec.video_file import probe_video, read_frames, read_video, write_image, write_video

# 8-bit limited-range YUV and x264 at a high quality, in levels of 255.
TOLERANCE = 4


def smooth_clip(frames: int, height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(60, 200, (4, 4, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.stack([np.roll(image, shift, axis=1) for shift in range(frames)])


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(16), Fraction(25, 2)])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (33, 47)])
def test_video_keeps_frames_rate_and_colors_and_grows_to_even_sides(tmp_path, height, width, fps):
    clip = smooth_clip(7, height, width)
    write_video(tmp_path / "a.mp4", clip, fps)
    info = probe_video(tmp_path / "a.mp4")
    assert (info.frames, info.height, info.width, info.fps) == (7, height + height % 2, width + width % 2, fps)
    back = read_video(tmp_path / "a.mp4")[:, :height, :width]
    assert np.abs(back.astype(int) - clip).mean() < TOLERANCE
    assert np.abs(back.mean(axis=(1, 2)) - clip.mean(axis=(1, 2))).max() < TOLERANCE
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_reading_stops_at_the_frames_that_are_wanted(tmp_path):
    clip = smooth_clip(9, 32, 32)
    write_video(tmp_path / "a.mp4", clip, Fraction(10))
    assert read_video(tmp_path / "a.mp4", 4).shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(read_video(tmp_path / "a.mp4", 4), read_video(tmp_path / "a.mp4")[:4])
    assert read_video(tmp_path / "a.mp4", 40).shape == (9, 32, 32, 3)


def test_lossless_video_is_read_as_it_was_written(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 30, 20, "bgr0"
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    np.testing.assert_array_equal(read_video(tmp_path / "a.mkv"), clip)


def test_image_is_a_video_of_one_frame(tmp_path):
    image = smooth_clip(1, 40, 50)[0]
    write_image(tmp_path / "a.jpg", image)
    assert probe_video(tmp_path / "a.jpg").frames == 1
    assert np.abs(read_video(tmp_path / "a.jpg")[0].astype(int) - image).mean() < TOLERANCE
    Image.fromarray(image).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_video(tmp_path / "b.png")[0], image)


def test_transparent_pixels_are_white(tmp_path):
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    (frame,) = read_frames(tmp_path / "a.png")
    assert (frame[:2] == 0).all()
    assert (frame[2:] == 255).all()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.mp4", None, "no such file"),
        ("none.png", None, "no such file"),
        ("text.mp4", b"hello", "cannot be read as a video"),
        ("empty.webm", b"", "cannot be read as a video"),
        ("text.png", b"hello", "cannot be read as an image"),
        ("clip.gif", b"GIF89a", "expected a video or an image"),
        ("clip", b"x", "no ending"),
    ],
)
def test_file_that_is_no_video_is_refused_in_one_line(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        probe_video(tmp_path / name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sound_without_pictures_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="it holds none"):
        probe_video(tmp_path / "a.mkv")


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_truncated_video_is_refused_and_not_read_as_a_shorter_one(tmp_path, share):
    write_video(tmp_path / "whole.mp4", smooth_clip(20, 64, 64), Fraction(10))
    with (
        av.open(str(tmp_path / "whole.mp4")) as source,
        av.open(str(tmp_path / "index_first.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = (tmp_path / "index_first.mp4").read_bytes()
    assert probe_video(tmp_path / "index_first.mp4").frames == 20
    (tmp_path / "cut.mp4").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"cut\.mp4"):
        probe_video(tmp_path / "cut.mp4")


def test_depth_image_of_16_bits_is_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "depth.png")
    with pytest.raises(InputError, match="8 bits"):
        probe_video(tmp_path / "depth.png")


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_video(tmp_path / "missing" / "a.mp4", smooth_clip(2, 16, 16), Fraction(10))
    with pytest.raises(ValueError, match="frames"):
        write_video(tmp_path / "a.mp4", smooth_clip(2, 16, 16)[:0], Fraction(10))
    assert list(tmp_path.iterdir()) == []


def test_written_file_can_be_played_by_a_browser(tmp_path):
    write_video(Path(tmp_path / "a.mp4"), smooth_clip(2, 16, 16), Fraction(10))
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
