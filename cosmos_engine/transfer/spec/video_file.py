"""Video and image files: any that PyAV and Pillow read in, H.264 mp4 and JPEG out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from cosmos_engine.data.atomic import atomic_file
from cosmos_engine.errors import InputError
from cosmos_engine.report.video import BT709, LIMITED_RANGE

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")  # what NVIDIA's pipeline reads
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_FPS = Fraction(1)
# Constant rate factor of x264: 18 is visually lossless; these videos are measured and trained on, so rather less loss.
QUALITY_CRF = 12
JPEG_QUALITY = 95
MAX_RATE_DENOMINATOR = 1001  # 30000/1001 is NTSC's 29.97


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds.

    Attributes:
        frames: that can be decoded.
        height, width: of a frame in pixels.
        fps: frames a second; 1 for an image.
    """

    frames: int
    height: int
    width: int
    fps: Fraction


def probe_video(path: Path) -> VideoInfo:
    """Decode a whole file and say what it holds; what its header says of its length is not always so.

    Raises:
        InputError: the file is missing, no video or image, damaged, or of changing size.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        height, width, _ = _read_image(path).shape
        return VideoInfo(1, height, width, IMAGE_FPS)
    info = VideoInfo(0, 0, 0, IMAGE_FPS)
    for frame, fps in _decode(path):
        info = VideoInfo(info.frames + 1, frame.height, frame.width, fps)
    return info


def read_frames(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield the frames of a video or image as rgb, one at a time.

    Raises:
        InputError: as `probe_video`.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        yield _read_image(path)
        return
    for frame, _ in _decode(path):
        yield frame.to_ndarray(format="rgb24")


def read_video(path: Path, max_frames: int | None = None) -> UInt8[np.ndarray, "t h w 3"]:
    """Return the first `max_frames` frames (default: all) of a video or image as rgb.

    Raises:
        InputError: as `probe_video`.
    """
    frames = []
    for frame in read_frames(path):
        frames.append(frame)
        if len(frames) == max_frames:
            break
    return np.stack(frames)


def write_video(path: Path, rgb: UInt8[np.ndarray, "t h w 3"], fps: Fraction) -> None:
    """Write an H.264 mp4 (yuv420p, BT.709) atomically; an odd side grows by one pixel, repeated from the edge.

    Unlike `report.video.encode_mp4` it keeps the exact rate, writes frame by frame, and spends bytes on quality.

    Raises:
        InputError: the file system refuses, or this build of PyAV has no H.264 encoder.
        ValueError: no frames, or `fps` not positive.
    """
    if len(rgb) == 0 or fps <= 0:
        raise ValueError(f"write_video: expected frames and fps > 0, got {rgb.shape} and {fps}")
    if "libx264" not in av.codecs_available:
        raise InputError("video: PyAV has no libx264 encoder; install PyAV's wheel (pip install av)")
    _, height, width, _ = rgb.shape
    even = ((0, height % 2), (0, width % 2), (0, 0))
    with (
        atomic_file(path) as temporary,
        _ffmpeg_errors(path, "cannot be written"),
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        rate = Fraction(fps).limit_denominator(MAX_RATE_DENOMINATOR)
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(QUALITY_CRF)})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        for image in rgb:
            padded = np.ascontiguousarray(np.pad(image, even, mode="edge"))
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode(None))


def write_image(path: Path, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write a JPEG atomically.

    Raises:
        InputError: the file system refuses.
    """
    with atomic_file(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="JPEG", quality=JPEG_QUALITY, subsampling=0)


def _decode(path: Path) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Yield the frames of a video, each with the video's rate."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        suffixes = ", ".join(VIDEO_SUFFIXES + IMAGE_SUFFIXES)
        raise InputError(f"{path}: expected a video or an image ({suffixes}), got {path.suffix or 'no ending'}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    size, count = None, 0
    with _ffmpeg_errors(path, "cannot be read as a video"), av.open(str(path)) as container:
        if not container.streams.video:
            raise InputError(f"{path}: cannot be read as a video: it holds none")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        fps = stream.average_rate or stream.base_rate
        if not fps or fps <= 0:
            raise InputError(f"{path}: cannot be read as a video: no frame rate")
        for packet in container.demux(stream):
            for frame in packet.decode():
                # A decoder papers over what it cannot read, and only marks the frame.
                if packet.is_corrupt or frame.is_corrupt:
                    raise InputError(f"{path}: damaged at frame {count}")
                size = size or (frame.height, frame.width)
                if (frame.height, frame.width) != size:
                    raise InputError(f"{path}: frame {count} is {frame.height} x {frame.width}, those before it {size}")
                count += 1
                yield frame, Fraction(fps)
    if count == 0:
        raise InputError(f"{path}: cannot be read as a video: it has no frame")


def _read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as rgb; transparent parts become white, as in NVIDIA's reader."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(f"{path}: expected 8 bits a channel, got an image of mode {image.mode}")
            if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image: {' '.join(str(error).split())}") from error


@contextmanager
def _ffmpeg_errors(path: Path, problem: str) -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as error:
        raise InputError(f"{path}: {problem}: {error.strerror or error}") from error
