"""Unexplained: what a variant shows where the recorded masks say that nothing of the kind is.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from cosmos_engine.quality.color_adherence import cielab
from cosmos_engine.quality.contours import canny, tolerance_px
from cosmos_engine.quality.motion import TrueFlow
from cosmos_engine.quality.stretches import stretches


def new_edges(rgb: UInt8[np.ndarray, "h w 3"], known_px: Float32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return edges of a variant's frame that neither its source nor the recorded geometry has nearby.

    Args:
        known_px: distance of each pixel to the nearest edge of those.
    """
    return canny(rgb) & (known_px > 2 * tolerance_px(*rgb.shape[:2]))


def extra_px(
    seen: Float32[np.ndarray, "t h w"],
    explained: Bool[np.ndarray, "t h w"],
    edges: Bool[np.ndarray, "t h w"],
    *,
    margin_px: float,
    frames: int,
) -> float:
    """Return the area of the largest thing of a role that is seen for a while where no such thing was recorded.

    In each frame the connected regions of `seen` above 1/2 outside the recorded masks, each times the share of its
    contour that has an edge of its own; of each stretch the median of the greatest; of these the greatest.

    Args:
        seen: probability of the role.
        explained: where the role was recorded.
        edges: what `new_edges` returns for each frame: a thing that came with the variant has a contour that came too,
            while a reader's mistake about a known surface has none.
        margin_px: contours that are read this far outside are no extra thing.
        frames: of a stretch.
    """
    size = 2 * round(margin_px) + 1
    near = np.ones((size, size), np.uint8)
    areas = np.zeros(len(seen))
    for frame in range(len(seen)):
        beyond = (seen[frame] > 0.5) & (cv2.dilate(explained[frame].astype(np.uint8), near) == 0)
        if beyond.any():
            areas[frame] = _largest(beyond, edges[frame])
    return _worst_median(areas, frames)


def _largest(beyond: Bool[np.ndarray, "h w"], edges: Bool[np.ndarray, "h w"]) -> float:
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(beyond.astype(np.uint8))
    near = cv2.dilate(edges.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    largest = 0.0
    for region in range(1, count):
        area = float(statistics[region, cv2.CC_STAT_AREA])
        if area > largest:
            inside = (regions == region).astype(np.uint8)
            contour = (inside > 0) & (cv2.erode(inside, np.ones((3, 3), np.uint8)) == 0)
            largest = max(largest, area * float(near[contour].mean()))
    return largest


def unexplained_change(
    rgb: UInt8[np.ndarray, "t h w 3"], flow: TrueFlow, still: Bool[np.ndarray, "t h w"], *, side_px: int
) -> float | None:
    """Return how much the colour of a patch of the scene changes from frame to frame, of the worst patch and pair.

    Each frame is compared with the next one brought back by the true flow, in the two axes of CIELAB that a shadow
    changes least; differences are averaged over patches, of which the greatest counts: something that comes or goes
    is small, and changes its place altogether.

    Args:
        still: pixels of the scene, away from robot and objects.
        side_px: of a patch.

    Returns:
        CIELAB units; None if the flow of the scene is nowhere known.
    """
    rows, columns = np.mgrid[: rgb.shape[1], : rgb.shape[2]].astype(np.float32)
    lab = [cielab(frame / np.float32(255.0)) for frame in rgb]
    worst: list[float] = []
    for pair in range(len(rgb) - 1):
        valid = flow.valid[pair] & still[pair]
        if not valid.any():
            continue
        x, y = columns + flow.flow_px[pair, ..., 0], rows + flow.flow_px[pair, ..., 1]
        back = cv2.remap(lab[pair + 1][..., 1:], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = np.where(valid, np.linalg.norm(back - lab[pair][..., 1:], axis=-1), 0.0)
        worst.append(float(cv2.blur(change, (side_px, side_px)).max()))
    return max(worst) if worst else None


def _worst_median(values: Float64[np.ndarray, " t"], frames: int) -> float:
    return max(float(np.median(values[stretch])) for stretch in stretches(len(values), frames))
