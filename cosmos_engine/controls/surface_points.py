"""Surface points: where in the world every pixel of a clip lies, so that a pattern can stay on its surface.

Shapes: t frames, h rows, w columns. World frame: metres, z up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float32

from cosmos_engine.data import CameraPasses

FAR_M = 4.0
"""Depth that is taken where nothing was hit."""


def surface_points(
    passes: CameraPasses, moving: Collection[int] = (), frames: Sequence[int] | None = None
) -> Float32[np.ndarray, "_ h w 4"]:
    """Return the world position (x, y, z) of the surface that each pixel shows, and the length that the pixel covers.

    Args:
        passes: depth, ids, intrinsics and poses of a camera.
        moving: instances that move. Their points are told from the middle of what is seen of them in the frame, so that
            a pattern moves along with them; how they turn is not known.
        frames: which frames, by index; all by default.

    Returns:
        Metres, all finite.
    """
    height, width = passes.size
    frames = range(len(passes.rgb)) if frames is None else frames
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
    rays = (pixels @ np.linalg.inv(passes.intrinsics_px).T).astype(np.float32)
    focal_px = float(np.sqrt(abs(np.linalg.det(passes.intrinsics_px[:2, :2]))))
    points = np.empty((len(frames), height, width, 4), np.float32)
    for row, index in enumerate(frames):
        depth = np.where(np.isfinite(passes.depth_m[index]), passes.depth_m[index], np.float32(FAR_M))
        pose = passes.world_from_camera[index].astype(np.float32)
        points[row, ..., :3] = (rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]
        points[row, ..., 3] = depth / focal_px
        for instance_id in moving:
            seen = passes.instance[index] == instance_id
            if seen.any():
                points[row, seen, :3] -= points[row, seen, :3].mean(axis=0)
    return points
