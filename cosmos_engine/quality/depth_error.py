"""Depth error: does the depth that is read back from a variant agree with the recorded one, but for its scale?

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64


def si_rmse(
    log_depth: Float32[np.ndarray, "t h w"],
    depth_m: Float32[np.ndarray, "t h w"],
    region: Bool[np.ndarray, "t h w"] | None = None,
) -> Float64[np.ndarray, " t"]:
    """Return the scale-invariant root mean square error of each frame, 0 or more, in units of natural logarithm.

    sqrt(mean d^2 - (mean d)^2) with d = log_depth - log(depth_m): Eigen et al. 2014, eq. 1. It does not change when all
    depths of a frame are multiplied by one number.

    Args:
        log_depth: as read back, up to one number added to a whole frame.
        depth_m: as recorded; pixels of infinite depth are not counted.
        region: pixels that count; the mean of d is over them too. By default all.

    Returns:
        NaN for a frame without a pixel that counts.
    """
    known = np.isfinite(depth_m) if region is None else np.isfinite(depth_m) & region
    errors = np.full(len(depth_m), np.nan)
    for frame in np.flatnonzero(known.any((1, 2))):
        difference = log_depth[frame][known[frame]].astype(np.float64) - np.log(depth_m[frame][known[frame]])
        errors[frame] = difference.std()
    return errors
