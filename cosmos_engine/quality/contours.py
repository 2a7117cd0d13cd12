"""Contours: does a variant change its colour where the recorded geometry has its edges?

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16

from cosmos_engine.controls.edge import THRESHOLDS

# Low hysteresis thresholds, so that dim objects count too; of true renders they find 98 in 100 contour pixels.
CANNY_LOW, CANNY_HIGH = THRESHOLDS["low"]
TOLERANCE_SHARE = 0.0075
"""Of the frame's diagonal, as in the boundary benchmark of Martin et al. 2004: 1.4 px at 128x128."""
DEPTH_JUMP = 0.02  # relative change of disparity between neighbours
CREASE = 0.004  # relative second difference of disparity, which is 0 on every plane


@dataclass(frozen=True)
class EdgeScores:
    """Agreement of edges, each in [0, 1]; None where there is nothing to agree with.

    Attributes:
        precision: share of the variant's edges on the foreground that lie at an edge of the geometry.
        recall: share of the foreground's contours at which the variant has an edge.
    """

    precision: float | None
    recall: float | None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; 0 if the variant has no edges where there are contours."""
        if self.recall is None:
            return None
        precision = self.precision or 0.0
        total = precision + self.recall
        return 2 * precision * self.recall / total if total else 0.0


def tolerance_px(height: int, width: int) -> float:
    """Return how far an edge may lie from where it belongs; at least to the next pixel."""
    return max(TOLERANCE_SHARE * math.hypot(height, width), 1.0)


def edge_scores(
    rgb: UInt8[np.ndarray, "t h w 3"],
    instance: UInt16[np.ndarray, "t h w"],
    depth_m: Float32[np.ndarray, "t h w"],
    foreground: Collection[int],
) -> EdgeScores:
    """Return how well Canny edges of `rgb` agree with the edges of the foreground's geometry.

    Recall is over the contours of foreground instances, as in the boundary benchmark of Martin et al. 2004. Precision
    is over the variant's edges on the foreground and up to the tolerance beside it; there, edges inside an instance
    (jumps and creases of the depth) are right too. A texture, a shadow or a highlight on the foreground costs
    precision, also in the source, so read this beside the source's score. Small objects are mostly contour, and noise
    has an edge everywhere: frames of nothing but noise score 0.6 to 0.8. Agreement of edges alone proves nothing.
    """
    tolerance = tolerance_px(*rgb.shape[1:3])
    found, right, contour, hit = 0, 0, 0, 0
    for frame, ids, depth in zip(rgb, instance, depth_m, strict=True):
        edges, truth = canny(frame), contour_mask(ids, foreground)
        band = distance_px(np.isin(ids, list(foreground))) <= tolerance
        geometry = truth | (geometry_edges(ids, depth) & band)
        found += int((edges & band).sum())
        right += int((edges & band & (distance_px(geometry) <= tolerance)).sum())
        contour += int(truth.sum())
        hit += int((truth & (distance_px(edges) <= tolerance)).sum())
    return EdgeScores(right / found if found else None, hit / contour if contour else None)


def contour_adherence(
    rgb: UInt8[np.ndarray, "t h w 3"], instance: UInt16[np.ndarray, "t h w"], foreground: Collection[int]
) -> Mapping[int, float]:
    """Return for each foreground instance in view the share of its contour at which `rgb` has an edge, in [0, 1].

    Boundary recall (Martin et al. 2004), as it measures how superpixels adhere to objects, here instance by instance:
    a small object counts as much as the arm.
    """
    tolerance = tolerance_px(*rgb.shape[1:3])
    near = [distance_px(canny(frame)) <= tolerance for frame in rgb]
    shares = {}
    for instance_id in foreground:
        truth = np.stack([contour_mask(ids, [instance_id]) for ids in instance])
        if truth.any():
            shares[instance_id] = float(np.stack(near)[truth].mean())
    return shares


def boundary_f1(predicted: Bool[np.ndarray, "t h w"], truth: Bool[np.ndarray, "t h w"]) -> float | None:
    """Return the contour accuracy F of a mask in [0, 1] (Perazzi et al. 2016); None if both masks are empty."""
    tolerance = tolerance_px(*truth.shape[1:])
    counts = np.zeros(4)
    for ours, theirs in zip(predicted, truth, strict=True):
        a, b = (contour_mask(mask.astype(np.uint16), [1]) for mask in (ours, theirs))
        near_a, near_b = distance_px(a) <= tolerance, distance_px(b) <= tolerance
        counts += (a.sum(), (a & near_b).sum(), b.sum(), (b & near_a).sum())
    if not counts[0] and not counts[2]:
        return None
    return EdgeScores(counts[1] / counts[0] if counts[0] else None, counts[3] / counts[2] if counts[2] else 0.0).f1


def canny(rgb: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Return Canny edges of one frame."""
    return cv2.Canny(np.ascontiguousarray(rgb), CANNY_LOW, CANNY_HIGH) > 0


def contour_mask(instance: UInt16[np.ndarray, "h w"], ids: Collection[int]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels inside the instances `ids` that have a pixel of another id above, below, left or right."""
    differs = np.zeros(instance.shape, bool)
    across, down = instance[:, 1:] != instance[:, :-1], instance[1:] != instance[:-1]
    differs[:, 1:] |= across
    differs[:, :-1] |= across
    differs[1:] |= down
    differs[:-1] |= down
    return differs & np.isin(instance, list(ids))


def geometry_edges(instance: UInt16[np.ndarray, "h w"], depth_m: Float32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return all edges of the geometry: changes of id, jumps of the depth, and creases between two planes.

    Disparity is linear over the picture of a plane, so its second differences are 0 there and not at a crease.
    """
    disparity = np.where(np.isfinite(depth_m), 1.0 / depth_m, 0.0)
    size = np.maximum(disparity, 1e-3)
    edges = contour_mask(instance, np.unique(instance).tolist())
    for axis in (0, 1):
        first = np.abs(np.diff(disparity, axis=axis))
        second = np.abs(np.diff(disparity, n=2, axis=axis))
        before, middle = [slice(None)] * 2, [slice(None)] * 2
        before[axis], middle[axis] = slice(None, -1), slice(1, -1)
        edges[tuple(before)] |= first > DEPTH_JUMP * size[tuple(before)]
        edges[tuple(middle)] |= second > CREASE * size[tuple(middle)]
    return edges


def distance_px(mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return the distance of each pixel to the nearest pixel of the mask; inf everywhere if it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
