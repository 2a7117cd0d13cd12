"""Adherence: how well one camera's variant shows the recorded geometry, as numbers by name, in three tiers of cost.

Every number is of the worst instance and of the worst stretch of frames, unless it says otherwise: a fault of one
second in one object must show. A number is missing where there is nothing to measure: a camera that hardly sees an
instance says nothing of it. Lengths and areas are in pixels of a frame 128 high.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, UInt8

from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.data import Role
from cosmos_engine.quality.clip_geometry import ClipGeometry
from cosmos_engine.quality.contours import edge_scores
from cosmos_engine.quality.depth_error import si_rmse
from cosmos_engine.quality.displacement import Placed, contour_placements, role_placements
from cosmos_engine.quality.motion import flicker
from cosmos_engine.quality.object_color import hue_error
from cosmos_engine.quality.odd_color import odd_color
from cosmos_engine.quality.optical_flow import flow_error, optical_flow
from cosmos_engine.quality.overlap import assigned, centroid_error_px, frame_iou
from cosmos_engine.quality.reader import Readings
from cosmos_engine.quality.stretches import stretches
from cosmos_engine.quality.timing import least_motion, own_time_share
from cosmos_engine.quality.unexplained import extra_px, new_edges, unexplained_change

FOREGROUND: tuple[Role, ...] = ("robot", "manipulated")
STRETCH_FRAMES = 12
"""0.6 s at 20 Hz: long enough to tell a small object's place to a pixel."""
BRIEF_FRAMES = 6
SMALLEST_PX = 60
"""An instance counts in frames that show at least so many of its pixels; a cube in the front camera has 100."""
SWEPT_PX = 12
MOVING_PX = 200
FLOW_PX = 300
EXTRA_MARGIN_PX = 3.0
SPOT_PX = 30
PATCH_PX = 5

Measured = dict[str, float]


def pixel_measures(rgb: UInt8[np.ndarray, "t h w 3"], clip: ClipGeometry, colors: Mapping[int, str]) -> Measured:
    """Return what needs no reader and no flow of the variant; the cheapest.

    Args:
        rgb: the variant, at the size at which it is judged.
        clip: its recording.
        colors: objects that have another colour on purpose, by instance id.

    Returns:
        edge_f1: of the foreground, over the clip, as `EdgeScores.f1`.
        contour_presence_ROLE, contour_advantage_ROLE: as `contour_placements` has them.
        least_motion: as `timing.least_motion`.
        hue_manipulated: as `hue_error`.
        odd_color: as `odd_color`.
        flicker_scene, flicker_foreground: over the clip, as `flicker`.
    """
    passes, area = clip.passes, clip.px**2
    found: dict[str, float | None] = {}
    found["edge_f1"] = edge_scores(rgb, passes.instance, passes.depth_m, clip.foreground).f1
    for role in FOREGROUND:
        placed = [
            one
            for instance_id in _ids(clip, role)
            for one in contour_placements(
                rgb, passes.instance, instance_id, smallest_px=SMALLEST_PX * area, frames=STRETCH_FRAMES
            )
        ]
        found[f"contour_presence_{role}"] = _least(one.evidence for one in placed)
        found[f"contour_advantage_{role}"] = _greatest(one.advantage for one in placed)
    found["least_motion"] = least_motion(rgb, clip.swept, pairs=4, smallest_px=SWEPT_PX * area)
    hues = [
        hue_error(
            rgb,
            passes.rgb,
            passes.instance == instance_id,
            smallest_px=SMALLEST_PX * area,
            frames=STRETCH_FRAMES,
            named=colors.get(instance_id),
        )
        for instance_id in _ids(clip, "manipulated")
    ]
    found["hue_manipulated"] = _greatest(hue for hue in hues if hue is not None)
    found["odd_color"] = odd_color(rgb, passes.instance, clip.scene_ids, clip.beside, smallest_px=SPOT_PX * area)
    anywhere = clip.masks["robot"] | clip.masks["manipulated"]
    found["flicker_scene"] = flicker(rgb, clip.flow, ~anywhere)
    found["flicker_foreground"] = flicker(rgb, clip.flow, anywhere)
    return _known(found)


def flow_measures(rgb: UInt8[np.ndarray, "t h w 3"], clip: ClipGeometry) -> Measured:
    """Return how the variant's pixels move.

    Returns:
        flow_robot, flow_manipulated, flow_scene: error of the optical flow relative to the true one, as `flow_error`.
        unexplained_change: as the function of that name.
    """
    area = clip.px**2
    seen = optical_flow(rgb)
    regions = {**clip.masks, "scene": ~(clip.masks["robot"] | clip.masks["manipulated"])}
    found: dict[str, float | None] = {
        f"flow_{name}": flow_error(seen, clip.flow, region, frames=8, smallest_px=FLOW_PX * area)
        for name, region in regions.items()
    }
    side_px = max(1, round(PATCH_PX * clip.px))
    found["unexplained_change"] = unexplained_change(rgb, clip.flow, ~clip.beside, side_px=side_px)
    return _known(found)


def reader_measures(rgb: UInt8[np.ndarray, "t h w 3"], clip: ClipGeometry, readings: Readings) -> Measured:
    """Return what a reader sees in the variant; the dearest, for the reading itself.

    Returns:
        iou_ROLE: median over a stretch of the overlap of the mask read back with the recorded one.
        centroid_px: distance of an instance's centroid as read back, median over the clip.
        presence_ROLE, advantage_ROLE: as `role_placements` has them.
        displacement_px: to where an instance has most evidence.
        own_time: as `own_time_share`.
        extra_px_ROLE: as `extra_px`.
        si_rmse: of depth, median over a stretch.
    """
    area = clip.px**2
    found: dict[str, float | None] = {}
    displaced: list[float] = []
    edges = _new_edges(rgb, clip)
    for role in FOREGROUND:
        seen, truth = readings.role_probabilities[..., ROLES.index(role)], clip.masks[role]
        overlap = frame_iou(readings.mask(role), truth)
        overlap[truth.sum((1, 2)) < SMALLEST_PX * area] = np.nan
        found[f"iou_{role}"] = _least(_medians(overlap))
        placed = _role_placed(clip, role, seen)
        found[f"presence_{role}"] = _least(one.evidence for one in placed)
        found[f"advantage_{role}"] = _greatest(one.advantage for one in placed)
        displaced += [one.displacement_px / clip.px for one in placed]
        beyond = extra_px(seen, truth, edges, margin_px=EXTRA_MARGIN_PX * clip.px, frames=8)
        found[f"extra_px_{role}"] = beyond / area
    found["displacement_px"] = _greatest(displaced)
    found["centroid_px"] = _centroid_px(clip, readings)
    found["own_time"] = own_time_share(
        readings.role_probabilities, clip.roles, frames=BRIEF_FRAMES, smallest_px=MOVING_PX * area
    )
    found["si_rmse"] = _greatest(_medians(si_rmse(readings.log_depth, clip.passes.depth_m)))
    return _known(found)


def _role_placed(clip: ClipGeometry, role: Role, seen: np.ndarray) -> list[Placed]:
    placed: list[Placed] = []
    for instance_id in _ids(clip, role):
        truth = clip.passes.instance == instance_id
        placed += role_placements(
            seen,
            truth,
            clip.masks[role] & ~truth,
            smallest_px=SMALLEST_PX * clip.px**2,
            frames=STRETCH_FRAMES,
        )
    return placed


def _centroid_px(clip: ClipGeometry, readings: Readings) -> float | None:
    errors = []
    for role in FOREGROUND:
        parts = assigned(readings.mask(role), clip.passes.instance, _ids(clip, role))
        for instance_id, part in parts.items():
            error = centroid_error_px(part, clip.passes.instance == instance_id)
            if np.isfinite(error).sum() >= STRETCH_FRAMES / 2:
                errors.append(float(np.nanmedian(error)) / clip.px)
    return _greatest(errors)


def _new_edges(rgb: UInt8[np.ndarray, "t h w 3"], clip: ClipGeometry) -> Bool[np.ndarray, "t h w"]:
    return np.stack([new_edges(frame, known_px) for frame, known_px in zip(rgb, clip.known_edges_px, strict=True)])


def _ids(clip: ClipGeometry, role: Role) -> list[int]:
    return [instance_id for instance_id, of in sorted(clip.foreground.items()) if of == role]


def _medians(values: np.ndarray, frames: int = STRETCH_FRAMES) -> list[float]:
    """Return the median of each stretch of which at least half of the frames count; stretches overlap by half."""
    parts = [values[stretch] for stretch in stretches(len(values), frames)]
    enough = [one[np.isfinite(one)] for one in parts if 2 * np.isfinite(one).sum() >= min(frames, len(values))]
    return [float(np.median(one)) for one in enough]


def _least(values: Iterable[float]) -> float | None:
    return min(values, default=None)


def _greatest(values: Iterable[float]) -> float | None:
    return max(values, default=None)


def _known(found: Mapping[str, float | None]) -> Measured:
    """Return what was measured, as finite numbers."""
    return {name: float(value) for name, value in found.items() if value is not None and np.isfinite(value)}
