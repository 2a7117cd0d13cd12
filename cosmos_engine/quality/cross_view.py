"""Cross-view: has a point of an object the same colour in both cameras?

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.data import CameraPasses
from cosmos_engine.quality.color_adherence import cielab

SAME_POINT_M = 0.004
"""A point seen by one camera is the one seen by another if the depth there agrees within this ..."""
SAME_POINT_SHARE = 0.01
"""... or within this share of the depth."""
SMALLEST_POINTS = 40


def common_points(
    first: CameraPasses, second: CameraPasses, instance_id: int, frame: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows and columns in the first camera, then in the second, of points of an instance that both see.

    Points of the first camera are projected into the second; they count where it sees the same instance at their depth.
    """
    rows, columns = np.nonzero((first.instance[frame] == instance_id) & np.isfinite(first.depth_m[frame]))
    depth = first.depth_m[frame, rows, columns].astype(np.float64)
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(first.intrinsics_px).T
    pose, other = first.world_from_camera[frame], second.world_from_camera[frame]
    world = (rays * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
    seen = (world - other[:3, 3]) @ other[:3, :3] @ second.intrinsics_px.T
    ahead = seen[:, 2] > 1e-6
    at = np.round(seen[:, :2] / np.where(ahead, seen[:, 2], 1.0)[:, None]).clip(-1, 1 << 20).astype(int)
    height, width = second.size
    inside = ahead & (at >= 0).all(1) & (at[:, 0] < width) & (at[:, 1] < height)
    x, y = np.where(inside, at[:, 0], 0), np.where(inside, at[:, 1], 0)
    there = second.depth_m[frame, y, x]
    near = np.abs(there - seen[:, 2]) < np.maximum(SAME_POINT_M, SAME_POINT_SHARE * seen[:, 2])
    kept = inside & near & (second.instance[frame, y, x] == instance_id)
    return rows[kept], columns[kept], y[kept], x[kept]


def view_difference(
    images: Mapping[str, UInt8[np.ndarray, "t h w 3"]],
    cameras: Mapping[str, CameraPasses],
    instance_ids: Sequence[int],
    *,
    frames_apart: int = 4,
) -> float | None:
    """Return by how much an object's colour differs between two cameras, of the worst object and pair of cameras.

    The median difference, over all points that both cameras see, of the two axes of CIELAB that are not lightness: how
    bright a surface is depends on the side that it is seen from, what colour it has hardly does.

    Args:
        frames_apart: every so many frames are looked at.

    Returns:
        CIELAB units; None if no object shows both cameras `SMALLEST_POINTS` points, in all frames together.
    """
    names = [camera for camera in cameras if camera in images]
    worst: list[float] = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            for instance_id in instance_ids:
                ours, theirs = [], []
                for frame in range(0, len(images[first]), frames_apart):
                    rows, columns, y, x = common_points(cameras[first], cameras[second], instance_id, frame)
                    ours.append(images[first][frame, rows, columns])
                    theirs.append(images[second][frame, y, x])
                if sum(map(len, ours)) >= SMALLEST_POINTS:
                    a, b = (cielab(np.concatenate(colors) / 255.0)[:, 1:] for colors in (ours, theirs))
                    worst.append(float(np.linalg.norm(np.median(a - b, axis=0))))
    return max(worst) if worst else None
