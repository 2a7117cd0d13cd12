"""Images as LeRobot keeps them: an H.264 mp4 of many episodes, quick to seek in, or PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from cosmos_engine.data.atomic import atomic_file
from cosmos_engine.errors import InputError

# LeRobot's own encoder puts a keyframe at every second frame: random windows decode two frames at most.
_KEYFRAME_FRAMES = 2
_CODEC = "libx264"

WriteFrames = Callable[[NDArray[np.uint8]], None]
"""Takes (T, H, W, 3) frames."""


@contextmanager
def video_file(path: Path, height: int, width: int, fps: int, crf: int) -> Iterator[WriteFrames]:
    """Yield what writes frames at a whole rate, the n-th at n / fps seconds; the file appears when the body ends.

    Raises:
        InputError: this build of PyAV has no H.264 encoder, or the file system refuses.
    """
    if _CODEC not in av.codecs_available:
        raise InputError("video: PyAV has no libx264 encoder; install PyAV's wheel (pip install av)")
    try:
        with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
            options = {"crf": str(crf), "g": str(_KEYFRAME_FRAMES), "bf": "0", "mbtree": "0"}
            stream = container.add_stream(_CODEC, rate=fps, options=options)
            stream.width, stream.height = width, height
            stream.pix_fmt = _pixel_format(height, width)
            stream.codec_context.thread_count = 1  # with mbtree 0: the same frames give the same bytes anywhere
            frames = 0

            def write(rgb: NDArray[np.uint8]) -> None:
                nonlocal frames
                for image in rgb:
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                    frame.pts = frames
                    frames += 1
                    container.mux(stream.encode(frame))

            yield write
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def video_info(height: int, width: int, fps: int) -> dict[str, Any]:
    """Return what LeRobot's info.json says of such a video."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": _pixel_format(height, width),
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }


def png(rgb: NDArray[np.uint8]) -> bytes:
    """Return one (H, W, 3) image as PNG."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"png: cannot encode an image of shape {rgb.shape}")
    return encoded.tobytes()


def _pixel_format(height: int, width: int) -> str:
    """Return the format of every player; odd sides need one that does not halve colour."""
    return "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"
