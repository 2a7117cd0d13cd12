"""Overlap: do masks that are read back from a variant lie where the recorded ones do?

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt16

SMALLEST_PX = 12
"""Masks of fewer pixels have no centroid: a sliver at the frame's border moves by as much as it is long."""


def iou(predicted: Bool[np.ndarray, "t h w"], truth: Bool[np.ndarray, "t h w"]) -> float | None:
    """Return intersection over union in [0, 1], of the pixels of all frames together; None if both are empty.

    Jaccard 1912. Summed over the clip, so that a frame counts by the pixels that it shows.
    """
    union = int((predicted | truth).sum())
    return int((predicted & truth).sum()) / union if union else None


def frame_iou(predicted: Bool[np.ndarray, "t h w"], truth: Bool[np.ndarray, "t h w"]) -> Float64[np.ndarray, " t"]:
    """Return intersection over union of each frame, in [0, 1]; NaN where both are empty."""
    union = (predicted | truth).sum((1, 2)).astype(np.float64)
    union[union == 0] = np.nan
    return (predicted & truth).sum((1, 2)) / union


def centroid_error_px(
    predicted: Bool[np.ndarray, "t h w"], truth: Bool[np.ndarray, "t h w"]
) -> Float64[np.ndarray, " t"]:
    """Return the distance of the masks' centroids in each frame; NaN where either has fewer than `SMALLEST_PX` pixels.

    A mask that vanished has no distance; its IoU is 0.
    """
    counted = np.minimum(predicted.sum((1, 2)), truth.sum((1, 2))) >= SMALLEST_PX
    error = np.full(len(truth), np.nan)
    for frame in np.flatnonzero(counted):
        error[frame] = np.linalg.norm(_centroid_px(predicted[frame]) - _centroid_px(truth[frame]))
    return error


def assigned(
    predicted: Bool[np.ndarray, "t h w"], instance: UInt16[np.ndarray, "t h w"], ids: Sequence[int]
) -> dict[int, Bool[np.ndarray, "t h w"]]:
    """Split a role's mask among its instances: a pixel goes to the instance whose recorded mask is nearest.

    Readers see roles; the recorded ids say which of two objects of a role is which. Where no instance is in the frame,
    the pixels go to none.
    """
    masks = {instance_id: np.zeros_like(predicted) for instance_id in ids}
    for frame in range(len(predicted)):
        present = [instance_id for instance_id in ids if (instance[frame] == instance_id).any()]
        if not present:
            continue
        away = [cv2.distanceTransform((instance[frame] != i).astype(np.uint8), cv2.DIST_L2, 5) for i in present]
        nearest = np.stack(away).argmin(0)
        for place, instance_id in enumerate(present):
            masks[instance_id][frame] = predicted[frame] & (nearest == place)
    return masks


def _centroid_px(mask: Bool[np.ndarray, "h w"]) -> Float64[np.ndarray, " 2"]:
    return np.argwhere(mask).mean(0)
