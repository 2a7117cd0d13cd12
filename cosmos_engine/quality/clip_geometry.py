"""Clip geometry: what a recording says of one camera's clip, worked out once for all of its variants.

Shapes: t frames, p = t - 1 pairs of consecutive frames, h rows, w columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from cosmos_engine.controls import role_mask
from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.data import CameraPasses, InstanceLabel, Role
from cosmos_engine.quality.contours import canny, distance_px, geometry_edges
from cosmos_engine.quality.motion import InstancePoses, TrueFlow, true_flow
from cosmos_engine.quality.timing import swept

JUDGED_HEIGHT_PX = 128
"""Larger frames are judged at this height: the reader that ships knows no other, and thresholds are in these pixels."""
STILL_M = 1e-3
"""A camera that moves less over a clip is fixed."""
BESIDE_PX = 5


class ClipGeometry:
    """Hold masks, edges and true flow of one camera's clip, at the size at which variants are judged.

    Args:
        passes: as recorded.
        labels: what each instance id is.
        poses: of bodies that move, for the flow on them.
    """

    def __init__(
        self, passes: CameraPasses, labels: Mapping[int, InstanceLabel], poses: InstancePoses | None = None
    ) -> None:
        self.recorded_shape = passes.rgb.shape
        self.passes = reduced(passes)
        self.labels = labels
        self._poses = poses or {}
        self.foreground: dict[int, Role] = {i: label.role for i, label in labels.items() if label.role != "scene"}
        self.scene_ids = [i for i in (0, *sorted(labels)) if i not in self.foreground]

    @property
    def is_fixed(self) -> bool:
        """Whether the camera stands still."""
        poses = self.passes.world_from_camera
        return bool(np.abs(poses - poses[0]).max() <= STILL_M)

    @property
    def px(self) -> float:
        """Length, in pixels of these frames, of one pixel of a frame `JUDGED_HEIGHT_PX` high."""
        return self.passes.size[0] / JUDGED_HEIGHT_PX

    @cached_property
    def roles(self) -> UInt8[np.ndarray, "t h w"]:
        """Index into `ROLES` of each pixel."""
        of_id = np.full(1 << 16, ROLES.index("scene"), np.uint8)
        for instance_id, role in self.foreground.items():
            of_id[instance_id] = ROLES.index(role)
        return of_id[self.passes.instance]

    @cached_property
    def masks(self) -> dict[Role, Bool[np.ndarray, "t h w"]]:
        """Pixels of robot and manipulated objects."""
        return {role: role_mask(self.passes.instance, self.labels, [role]) for role in ("robot", "manipulated")}

    @cached_property
    def beside(self) -> Bool[np.ndarray, "t h w"]:
        """Robot, manipulated objects, and what lies right beside them."""
        size = 2 * round(BESIDE_PX * self.px) + 1
        anything = (self.masks["robot"] | self.masks["manipulated"]).astype(np.uint8)
        return np.stack([cv2.dilate(frame, np.ones((size, size), np.uint8)) > 0 for frame in anything])

    @cached_property
    def known_edges_px(self) -> Float32[np.ndarray, "t h w"]:
        """Distance of each pixel to the nearest edge of the recorded frame or of the geometry."""
        frames = zip(self.passes.rgb, self.passes.instance, self.passes.depth_m, strict=True)
        return np.stack([distance_px(canny(rgb) | geometry_edges(ids, depth_m)) for rgb, ids, depth_m in frames])

    @cached_property
    def flow(self) -> TrueFlow:
        """True flow of the scene and of the bodies whose poses are known."""
        return true_flow(self.passes, self.scene_ids, self._poses)

    @cached_property
    def swept(self) -> Bool[np.ndarray, "p h w"]:
        """Pixels that show another instance in the next frame."""
        return swept(self.passes.instance)

    def judged(self, rgb: UInt8[np.ndarray, "t a b 3"]) -> UInt8[np.ndarray, "t h w 3"]:
        """Return frames of the recorded size at the size at which variants are judged."""
        return _resized(rgb, self.passes.size, cv2.INTER_AREA)


def reduced(passes: CameraPasses) -> CameraPasses:
    """Return passes of at most `JUDGED_HEIGHT_PX` rows; ids and depth by nearest, so that both tell of one surface."""
    height, width = passes.size
    if height <= JUDGED_HEIGHT_PX:
        return passes
    size = JUDGED_HEIGHT_PX, max(1, round(width * JUDGED_HEIGHT_PX / height))
    down, across = size[0] / height, size[1] / width
    # Pixel centres lie at whole coordinates: the new x is (x + 1/2) * across - 1/2.
    new_from_old = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])
    return dataclasses.replace(
        passes,
        rgb=_resized(passes.rgb, size, cv2.INTER_AREA),
        depth_m=_resized(passes.depth_m, size, cv2.INTER_NEAREST_EXACT),
        instance=_resized(passes.instance, size, cv2.INTER_NEAREST_EXACT),
        intrinsics_px=new_from_old @ passes.intrinsics_px,
    )


def _resized(frames: Shaped[np.ndarray, "t ..."], size: tuple[int, int], how: int) -> Shaped[np.ndarray, "t ..."]:
    if frames.shape[1:3] == size:
        return frames
    return np.stack([cv2.resize(np.ascontiguousarray(frame), size[::-1], interpolation=how) for frame in frames])
