"""Shading: how bright light and shadow make a surface, without what is painted on it.

The image of a surface is its colour times the shading. A pattern stays where it is while shadows move, so what a place
of the world usually looks like is its pattern, and how a frame departs from that is shading (Weiss 2001, "Deriving
intrinsic images from image sequences"). A pattern has fine detail and light that does not move has little, so of the
usual look only the broad changes count as shading too.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8, UInt16

from cosmos_engine.augment.surfaces import Surfaces

DARKEST = 2 / 255
"""Luma below this says nothing of shading."""
LIT_MARGIN = 0.02
"""Of log luma: what is darker than a place's mean by more than this is taken to be in shadow."""
BROAD_M = 0.06
"""Standard deviation of what counts as broad."""
DEEPEST, BRIGHTEST = -1.5, 0.3
"""Of log shading: departures beyond this are places that were hardly ever seen, not light."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luma(rgb: UInt8[np.ndarray, "t h w 3"]) -> Float32[np.ndarray, "t h w"]:
    """Return Rec. 601 luma in [0, 1]."""
    return np.stack([frame.astype(np.float32) @ LUMA for frame in rgb]) / np.float32(255)


def surface_shading(
    brightness: Float32[np.ndarray, "t h w"],
    instance: UInt16[np.ndarray, "t h w"],
    surfaces: Surfaces,
    mask: Bool[np.ndarray, "t h w"],
) -> Float32[np.ndarray, "t h w"]:
    """Return the shading of surfaces that do not move, 1 at the median of each instance; 1 outside `mask` too.

    Args:
        brightness: luma of the frames, in [0, 1].
        instance: ids; no shading crosses from one to another, nor from one face to another.
        surfaces: where the pixels lie.
        mask: pixels of surfaces that do not move.
    """
    log_luma = np.log(np.maximum(brightness, np.float32(DARKEST)))
    shading = np.zeros_like(log_luma)
    for instance_id in np.unique(instance[mask]):
        of_instance = mask & (instance == instance_id)
        for face in np.unique(surfaces.face[of_instance]):
            group = of_instance & (surfaces.face == face)
            usual = np.zeros_like(log_luma)
            usual[group] = _usual(surfaces.cell[group], log_luma[group])
            for index in np.flatnonzero(group.any(axis=(1, 2))).tolist():
                at = group[index]
                departure = np.where(at, log_luma[index] - usual[index], 0)
                if not surfaces.static:
                    # Cells are small but not points: at the edges of a pattern they leave lines of a pixel's width.
                    departure = cv2.medianBlur(departure.astype(np.float32), 3)
                broad = _blurred(usual[index], at, _broad_px(surfaces, index, at))
                shading[index][at] = (broad + np.clip(departure, DEEPEST, BRIGHTEST))[at]
        shading[of_instance] -= np.median(shading[of_instance])
    return np.exp(shading)


def _usual(cell: Int64[np.ndarray, " n"], log_luma: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return for each pixel the log luma that its place has when no shadow is on it, over all frames."""
    _, place = np.unique(cell, return_inverse=True)
    seen = np.bincount(place)
    mean = np.bincount(place, log_luma) / seen
    lit = log_luma > mean[place] - LIT_MARGIN
    usual: np.ndarray = np.bincount(place, log_luma * lit) / np.maximum(np.bincount(place, lit), 1)
    return usual[place]


def _broad_px(surfaces: Surfaces, index: int, mask: Bool[np.ndarray, "h w"]) -> float:
    """Return `BROAD_M` in pixels of one frame, within what a frame of that size can bear."""
    distance_m = float(np.median(surfaces.distance_m[index][mask]))
    return float(np.clip(BROAD_M * surfaces.focal_px / distance_m, 2, len(mask) / 4))


def _blurred(
    values: Float32[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], sigma_px: float
) -> Float32[np.ndarray, "h w"]:
    """Return a Gaussian mean of the values within a mask."""
    weight = mask.astype(np.float32)
    total = cv2.GaussianBlur(values * weight, (0, 0), sigma_px)
    return total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma_px), 1e-4)
