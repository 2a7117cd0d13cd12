"""Depth control: disparity from true depth, scaled over the clip."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8


def depth_control(depth_m: Float32[np.ndarray, "t h w"]) -> UInt8[np.ndarray, "t h w 3"]:
    """Return disparity 1/z scaled to 0..255 over the whole clip: near is bright, no hit (inf) is 0.

    The depth branch was trained on Video-Depth-Anything, whose output is disparity, min-max scaled over the clip; a
    scale for each frame would flicker. A clip with one depth only is white where something was hit.
    """
    hit = np.isfinite(depth_m) & (depth_m > 0)
    disparity = np.zeros(depth_m.shape, np.float32)
    np.divide(1.0, depth_m, out=disparity, where=hit)
    if not hit.any():
        return np.zeros((*depth_m.shape, 3), np.uint8)
    near = float(disparity[hit].max())
    far = 0.0 if not hit.all() else float(disparity.min())
    scaled = disparity / near if near == far else (disparity - far) / (near - far)
    grey = np.round(scaled.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
