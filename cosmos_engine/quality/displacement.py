"""Displacement: is a part where it was recorded, or rather some pixels beside it, or not there at all?

Shapes: t frames, h rows, w columns, s displacements along one axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8, UInt16

from cosmos_engine.quality.contours import contour_mask
from cosmos_engine.quality.stretches import stretches

RIM_PX = 4
"""Width of the rim that a part must stand out from."""
REACH_PX = 10
"""Largest displacement that is looked for, along each axis."""
HERE_PX, THERE_PX = 1.5, 2.5
"""Up to here a part is in its place, and from there on it is beside it; between lies what a soft contour may do."""
EVERY = 2
"""Every so many frames are looked at: neighbours say nearly the same."""
FULL_CONTRAST = 48.0
"""Levels from one pixel to the next that count as a full edge: more contrast is no more evidence."""


@dataclass(frozen=True)
class Placed:
    """Where a part is seen in one stretch of frames.

    Attributes:
        evidence: for the place where it was recorded.
        advantage: evidence for the best place beside it less that for the best place at most `HERE_PX` away; below 0
            if the part is where it was recorded.
        displacement_px: of the place that has most evidence.
    """

    evidence: float
    advantage: float
    displacement_px: float


def role_placements(
    seen: Float32[np.ndarray, "t h w"],
    truth: Bool[np.ndarray, "t h w"],
    unknown: Bool[np.ndarray, "t h w"],
    *,
    smallest_px: float,
    frames: int,
    reach_px: int = REACH_PX,
) -> list[Placed]:
    """Return where a part is seen by its role in each stretch of `frames` frames; stretches overlap by half.

    The evidence for a displacement is the mean of `seen` inside the recorded mask put there less its mean in the rim:
    in [-1, 1], and 0 for a part that vanished. It is averaged over the frames of a stretch that show enough of the part
    before the greatest is looked for: one frame of a cube ten pixels wide says little, twelve say it to a pixel.

    Args:
        seen: probability of the part's role, in [0, 1].
        truth: where the part was recorded.
        unknown: where other parts of the same role were recorded; these pixels say nothing.
        smallest_px: frames with fewer pixels of the part do not count.
        frames: of a stretch. A stretch counts with at least half as many frames that count.
        reach_px: largest displacement along each axis.
    """
    counted = np.flatnonzero(truth.sum((1, 2)) >= smallest_px)
    evidence = {
        frame: _role_evidence(seen[frame], truth[frame], unknown[frame], reach_px)
        for frame in counted[counted % EVERY == 0].tolist()
    }
    return _placed(evidence, len(truth), frames, reach_px)


def contour_placements(
    rgb: UInt8[np.ndarray, "t h w 3"],
    instance: UInt16[np.ndarray, "t h w"],
    instance_id: int,
    *,
    smallest_px: float,
    frames: int,
    reach_px: int = REACH_PX,
) -> list[Placed]:
    """Return where an instance is seen by its contour in each stretch, as `role_placements`; needs no reader.

    The evidence for a displacement is the mean strength of the frame's edges along the recorded contour put there, in
    [0, 1]. Patterns of the table have edges too, but a closed contour that moves meets them only here and there.
    """
    counted = np.flatnonzero((instance == instance_id).sum((1, 2)) >= smallest_px)
    evidence = {}
    for frame in counted[counted % EVERY == 0].tolist():
        contour = contour_mask(instance[frame], [instance_id])
        if contour.any():
            template = (contour / contour.sum()).astype(np.float32)
            evidence[frame] = _correlated(edge_strength(rgb[frame]), template, contour, reach_px)
    return _placed(evidence, len(rgb), frames, reach_px)


def edge_strength(rgb: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Return the strength of the edge at each pixel, of the channel where it is greatest, in [0, 1]."""
    smooth = np.ascontiguousarray(rgb, np.float32)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, x, 1 - x, ksize=3, scale=1 / 8) for x in (1, 0))
    strength = np.sqrt(across**2 + down**2).max(-1)
    return np.minimum(2 * strength / np.float32(FULL_CONTRAST), np.float32(1.0))


def _role_evidence(
    seen: Float32[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], unknown: Bool[np.ndarray, "h w"], reach_px: int
) -> Float64[np.ndarray, "s s"]:
    """Return the evidence for every displacement (rows down, columns right)."""
    side = 2 * RIM_PX + 1
    rim = (cv2.dilate(truth.astype(np.uint8), np.ones((side, side), np.uint8)) > 0) & ~truth & ~unknown
    template = (truth / truth.sum() - (rim / rim.sum() if rim.any() else 0.0)).astype(np.float32)
    return _correlated(np.where(unknown, np.float32(0.0), seen), template, truth | rim, reach_px)


def _correlated(
    frame: Float32[np.ndarray, "h w"],
    template: Float32[np.ndarray, "h w"],
    box: Bool[np.ndarray, "h w"],
    reach_px: int,
) -> Float64[np.ndarray, "s s"]:
    """Return the sum of frame times displaced template; beyond its border a frame goes on as it ends."""
    rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    padded = np.pad(frame, reach_px, mode="edge")[top : bottom + 2 * reach_px, left : right + 2 * reach_px]
    found = cv2.matchTemplate(np.ascontiguousarray(padded), template[top:bottom, left:right], cv2.TM_CCORR)
    return found.astype(np.float64)


def _placed(evidence: dict[int, Float64[np.ndarray, "s s"]], length: int, frames: int, reach_px: int) -> list[Placed]:
    rows, columns = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    away = np.hypot(rows, columns)
    found = []
    for stretch in stretches(length, frames):
        here = [maps for frame, maps in evidence.items() if stretch.start <= frame < stretch.stop]
        if 2 * EVERY * len(here) >= min(frames, length):
            mean = np.mean(here, axis=0)
            advantage = mean[away >= THERE_PX].max() - mean[away <= HERE_PX].max()
            displaced = away.flat[int(mean.argmax())]
            found.append(Placed(float(mean[reach_px, reach_px]), float(advantage), float(displaced)))
    return found
