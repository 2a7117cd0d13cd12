"""Clips as small H.264 videos that any browser plays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from cosmos_engine.errors import InputError

# Constant rate factor of x264: 18 is visually lossless, 23 its default.
QUALITY_CRF = 22
# A keyframe every half second at 20 Hz, so that scrubbing lands at once.
KEYFRAME_FRAMES = 10
# ITU-R BT.709 and limited range, by their numbers in ISO/IEC 23091-2. Untagged video is guessed at by its height.
BT709 = 1
LIMITED_RANGE = 1


def encode_mp4(rgb: UInt8[np.ndarray, "t h w 3"], fps: float, *, scale: int = 1) -> bytes:
    """Encode a clip as an H.264 mp4 (yuv420p, BT.709), the one form that every browser plays.

    Args:
        rgb: frames, 0..255; odd sizes grow by one row or column, repeated from the edge.
        fps: frames a second, > 0.
        scale: whole-number enlargement before encoding. The format halves the resolution of colour, so a small clip
            keeps its colour edges only when enlarged.

    Raises:
        ValueError: no frames, `fps` or `scale` not positive.
        InputError: this build of PyAV has no H.264 encoder.
    """
    if rgb.shape[0] == 0 or fps <= 0 or scale < 1:
        raise ValueError(f"encode_mp4: expected frames, fps > 0, scale >= 1; got {rgb.shape}, {fps}, {scale}")
    if "libx264" not in av.codecs_available:
        raise InputError("video: PyAV has no libx264 encoder; install PyAV's wheel (pip install av)")
    height, width = rgb.shape[1] * scale, rgb.shape[2] * scale
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        # Without mbtree: with it x264's bytes differ, about once in 200 times, for the same frames.
        options = {"crf": str(QUALITY_CRF), "preset": "medium", "g": str(KEYFRAME_FRAMES), "bf": "0", "mbtree": "0"}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=options)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        # One thread for each of many small clips is as fast, and the bytes never depend on the machine.
        codec.thread_count = 1
        for image in rgb:
            large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) if scale > 1 else image
            even = np.pad(large, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def side_by_side(clips: Sequence[UInt8[np.ndarray, "t h _ 3"]]) -> UInt8[np.ndarray, "t h w 3"]:
    """Join clips of the same frame count and height from left to right, without gaps.

    Raises:
        ValueError: no clips, or clips of different frame counts or heights.
    """
    if not clips or len({clip.shape[:2] for clip in clips}) != 1:
        raise ValueError(f"side_by_side: expected one frame count and height, got {[clip.shape for clip in clips]}")
    return np.concatenate(clips, axis=2)


def read_mp4(path: Path) -> bytes:
    """Return a video file's bytes as they are, having checked that a browser can play them.

    Raises:
        InputError: the file is missing, unreadable, or not H.264 in yuv420p.
    """
    try:
        content = path.read_bytes()
        with av.open(io.BytesIO(content)) as container:
            codec = container.streams.video[0].codec_context
            found = f"{codec.name} {codec.pix_fmt}"
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise InputError(f"{path}: cannot be read as a video: {error}") from error
    if found != "h264 yuv420p":
        raise InputError(f"{path}: expected H.264 in yuv420p, which browsers play; got {found}")
    return content
