"""Odd colour: a spot on a surface in a colour that the surface has nowhere else, which is how an extra object looks.

Shapes: t frames, h rows, w columns, n pixels.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16

from cosmos_engine.quality.color_adherence import cielab

BIN = 6.0
"""Width of a bin of each of CIELAB's two axes of colour."""
SPOT_SHARE = 0.2
"""Of the frame's height: all of a colour that lies within a square of this side is a spot."""
ALONE_SHARE = 0.9
"""Of a colour's pixels on a surface; patterns have their colours in many places."""


def odd_color(
    rgb: UInt8[np.ndarray, "t h w 3"],
    instance: UInt16[np.ndarray, "t h w"],
    surfaces: Collection[int],
    near: Bool[np.ndarray, "t h w"],
    *,
    smallest_px: float,
    every: int = 4,
    frames: int = 3,
) -> float:
    """Return by how much the colour of a spot differs from all other colours of its surface, of the oddest spot.

    In each frame looked at, the colours of a surface (CIELAB without lightness, so that shadows do not count) are put
    into bins; a bin that lies within a small square is a spot's. The spot's oddness is its distance to the nearest bin
    that is spread over the surface. What lasts counts: the median of some frames, the greatest of these medians.

    Args:
        surfaces: ids of the scene, each a surface of its own.
        near: pixels beside robot and objects, which do not count: contours bleed.
        smallest_px: spots of fewer pixels do not count.
        every: every so many frames are looked at.
        frames: over which an oddness has to last, counted in frames that are looked at.

    Returns:
        CIELAB units, 0 or more.
    """
    oddness = []
    for frame in range(0, len(rgb), every):
        colors = cielab(cv2.blur(rgb[frame], (3, 3)) / np.float32(255.0))[..., 1:]
        oddness.append(
            max(
                (_oddest(colors, (instance[frame] == surface) & ~near[frame], smallest_px) for surface in surfaces),
                default=0.0,
            )
        )
    frames = min(frames, len(oddness))
    return max(float(np.median(oddness[start : start + frames])) for start in range(len(oddness) - frames + 1))


def _oddest(colors: Float32[np.ndarray, "h w 2"], surface: Bool[np.ndarray, "h w"], smallest_px: float) -> float:
    rows, columns = np.nonzero(surface)
    if len(rows) < 4 * smallest_px:
        return 0.0
    bins = np.floor(colors[rows, columns] / BIN).astype(np.int64)
    keys, place, count = np.unique(bins[:, 0] * 1000 + bins[:, 1], return_inverse=True, return_counts=True)
    middles = np.stack([np.bincount(place, colors[rows, columns, axis]) / count for axis in (0, 1)], -1)
    reach = SPOT_SHARE * surface.shape[0] / 2
    is_spot = np.zeros(len(keys), bool)
    for key in range(len(keys)):
        mine = place == key
        inside = (np.abs(rows[mine] - np.median(rows[mine])) <= reach) & (
            np.abs(columns[mine] - np.median(columns[mine])) <= reach
        )
        is_spot[key] = inside.mean() >= ALONE_SHARE
    if is_spot.all() or not is_spot.any():
        return 0.0
    odd = np.linalg.norm(middles[is_spot][:, None] - middles[~is_spot], axis=-1).min(1)
    # A spot has several bins, from its lit side to its shaded one: it is as odd as the oddest that, with all odder
    # ones, has enough pixels.
    order = np.argsort(-odd, kind="stable")
    enough = np.cumsum(count[is_spot][order]) >= smallest_px
    return float(odd[order][enough][0]) if enough.any() else 0.0
