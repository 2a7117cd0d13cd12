"""Rollout videos."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from cosmos_engine.data.atomic import atomic_file


def write_video(path: Path, frames: Sequence[UInt8[np.ndarray, "h w 3"]], step_hz: float) -> None:
    """Write frames as H.264 at one frame per control step; odd sizes lose their last row or column.

    Raises:
        InputError: if the file cannot be written.
    """
    rows, columns = (extent - extent % 2 for extent in frames[0].shape[:2])  # 4:2:0 chroma needs even sizes
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(step_hz).limit_denominator(1000), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:rows, :columns]), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
