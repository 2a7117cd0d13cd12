"""Clips as the page embeds them: data URIs of small videos with a still of each."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from cosmos_engine.report.sheet import webp
from cosmos_engine.report.video import encode_mp4

Clip = UInt8[np.ndarray, "t h w 3"]

# Small clips are enlarged until their height reaches the first, see `encode_mp4`; large ones shrink to the other.
LEAST_HEIGHT_PX = 224
MOST_HEIGHT_PX = 360
STILL_HEIGHT_PX = 128


@dataclass(frozen=True)
class ClipView:
    """One clip: whose view it is, its video, and the still that stands for it until it plays (and on paper)."""

    camera: str
    video: str
    still: str

    @property
    def size(self) -> int:
        """What the clip adds to the page, in bytes."""
        return len(self.video) + len(self.still)


def clip_view(camera: str, clip: Clip, fps: float) -> ClipView:
    """Return a clip of any size as a video of 224 to 360 rows or so, and its middle frame."""
    small = shrunk(clip, MOST_HEIGHT_PX)
    scale = max(1, math.ceil(LEAST_HEIGHT_PX / small.shape[1]))
    still = shrunk(small[len(small) // 2][np.newaxis], STILL_HEIGHT_PX)[0]
    opaque = np.concatenate([still, np.full((*still.shape[:2], 1), 255, np.uint8)], axis=-1)
    return ClipView(
        camera=camera,
        video=data_uri(encode_mp4(small, fps, scale=scale), "video/mp4"),
        still=data_uri(webp(opaque, lossless=False), "image/webp"),
    )


def shrunk(clip: Clip, height_px: int) -> UInt8[np.ndarray, "t rows columns 3"]:
    """Return a clip of `height_px` rows with the aspect that it had, or the clip itself where it has no more."""
    height, width = clip.shape[1:3]
    if height <= height_px:
        return clip
    size = (max(1, round(width * height_px / height)), height_px)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip]).astype(np.uint8)


def data_uri(content: bytes, media_type: str) -> str:
    """Return `content` as a base64 data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
