"""Optical flow of a variant against the true flow: do its pixels move as the recorded geometry does?

Shapes: t frames, p = t - 1 pairs of consecutive frames, h rows, w columns.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from cosmos_engine.quality.motion import TrueFlow
from cosmos_engine.quality.stretches import stretches

SLOWEST_PX = 0.5
"""Pixels that truly move less in a frame do not count: zero is a good guess for them."""


def optical_flow(rgb: UInt8[np.ndarray, "t h w 3"]) -> Float32[np.ndarray, "p h w 2"]:
    """Return the flow that is seen between consecutive frames, in pixels (x right, y down).

    Dense inverse search (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search") on lightness.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(1)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in rgb]
    flow = np.zeros((max(0, len(rgb) - 1), *rgb.shape[1:3], 2), np.float32)
    for pair in range(len(flow)):
        flow[pair] = search.calc(grey[pair], grey[pair + 1], None)
    return flow


def flow_error(
    seen: Float32[np.ndarray, "p h w 2"],
    true: TrueFlow,
    region: Bool[np.ndarray, "t h w"],
    *,
    frames: int,
    smallest_px: float,
) -> float | None:
    """Return the error of the flow seen, relative to the true one, in the worst stretch; 0 is right, 1 as bad as none.

    Sum of end point errors over the sum of true displacements, over the pixels of a region that truly move and whose
    motion is known.

    Args:
        frames: of a stretch.
        smallest_px: a stretch with fewer pixels that count, summed over its frames, does not count.

    Returns:
        None if nothing moves enough.
    """
    pair, row, column = np.nonzero(true.valid & region[:-1])
    truth = true.flow_px[pair, row, column]
    speed = np.hypot(truth[:, 0], truth[:, 1])
    fast = speed >= SLOWEST_PX
    away = (seen[pair, row, column] - truth)[fast]
    pair = pair[fast]
    error, moved, count = (
        np.bincount(pair, weights, len(seen)) for weights in (np.hypot(away[:, 0], away[:, 1]), speed[fast], None)
    )
    worst = [
        float(error[stretch].sum() / moved[stretch].sum())
        for stretch in stretches(len(count), frames)
        if count[stretch].sum() >= smallest_px
    ]
    return max(worst) if worst else None
