"""All measures of one camera's variant against its recording.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from cosmos_engine.controls import role_mask
from cosmos_engine.data import CameraPasses, InstanceLabel, Role
from cosmos_engine.errors import InputError
from cosmos_engine.quality.color_adherence import color_adherence
from cosmos_engine.quality.contours import boundary_f1, contour_adherence, edge_scores
from cosmos_engine.quality.depth_error import si_rmse
from cosmos_engine.quality.likeness import psnr_db
from cosmos_engine.quality.motion import InstancePoses, flicker, true_flow
from cosmos_engine.quality.overlap import assigned, centroid_error_px, iou
from cosmos_engine.quality.reader import Reader

FOREGROUND: tuple[Role, ...] = ("robot", "manipulated")


@dataclass(frozen=True)
class Measures:
    """What was measured of one clip; None where there was nothing to measure. Higher is better unless it says lower.

    Attributes:
        miou: of robot and manipulated as read back, mean of both, in [0, 1].
        iou_robot, iou_manipulated: the two.
        centroid_px: distance of an instance's centroid as read back, mean over frames, of the worst foreground instance
            among those that are read back at all; lower is better.
        boundary_f1: contour accuracy of the masks as read back, mean of robot and manipulated, in [0, 1].
        edge_f1, edge_precision, edge_recall: of the variant's Canny edges on the foreground, in [0, 1]; no reader.
        contour_adherence: share of an instance's contour with an edge, mean over foreground instances; no reader.
        si_rmse: of depth as read back, median over frames, in natural logarithm; lower is better.
        flicker_scene, flicker_foreground: warping error in levels of 0 to 255, where the true flow is known; lower is
            better.
        color_adherence: share of regions with a colour that the prompt names for them.
        psnr_db, psnr_foreground_db: against the true render of the same look.
    """

    miou: float | None = None
    iou_robot: float | None = None
    iou_manipulated: float | None = None
    centroid_px: float | None = None
    boundary_f1: float | None = None
    edge_f1: float | None = None
    edge_precision: float | None = None
    edge_recall: float | None = None
    contour_adherence: float | None = None
    si_rmse: float | None = None
    flicker_scene: float | None = None
    flicker_foreground: float | None = None
    color_adherence: float | None = None
    psnr_db: float | None = None
    psnr_foreground_db: float | None = None


def measure(
    rgb: UInt8[np.ndarray, "t h w 3"],
    passes: CameraPasses,
    labels: Mapping[int, InstanceLabel],
    reader: Reader,
    *,
    poses: InstancePoses | None = None,
    phrases: Mapping[int, str] | None = None,
    light: str = "",
    truth: UInt8[np.ndarray, "t h w 3"] | None = None,
) -> Measures:
    """Measure a variant of one camera.

    Args:
        rgb: the variant.
        passes: the recorded passes of the same frames.
        labels: what each instance id is.
        reader: reads geometry back from `rgb`.
        poses: of foreground instances that move, for the flicker on them.
        phrases: what the prompt says of each instance; without it the adherence to the prompt is None.
        light: what the prompt says of the light.
        truth: the true render of the same look; without it PSNR is None.

    Raises:
        InputError: the variant has not the frames and size of its source.
    """
    if rgb.shape != passes.rgb.shape:
        raise InputError(f"variant: expected the shape of its source {passes.rgb.shape}, got {rgb.shape}")
    readings = reader.read(rgb)
    truths = {role: role_mask(passes.instance, labels, [role]) for role in FOREGROUND}
    read = {role: readings.mask(role) for role in FOREGROUND}
    overlaps = {role: iou(read[role], truths[role]) for role in FOREGROUND}
    foreground = {i: label.role for i, label in labels.items() if label.role != "scene"}
    edges = edge_scores(rgb, passes.instance, passes.depth_m, foreground)
    flow = true_flow(passes, [i for i in (0, *labels) if i not in foreground], poses)
    anywhere = truths["robot"] | truths["manipulated"]
    judged = color_adherence(rgb, passes.instance, phrases or {}, light)
    return Measures(
        miou=mean(overlaps.values()),
        iou_robot=overlaps["robot"],
        iou_manipulated=overlaps["manipulated"],
        centroid_px=_worst_centroid_px(read, passes, foreground),
        boundary_f1=mean(boundary_f1(read[role], truths[role]) for role in FOREGROUND),
        edge_f1=edges.f1,
        edge_precision=edges.precision,
        edge_recall=edges.recall,
        contour_adherence=mean(contour_adherence(rgb, passes.instance, foreground).values()),
        si_rmse=_median(si_rmse(readings.log_depth, passes.depth_m)),
        flicker_scene=flicker(rgb, flow, ~anywhere),
        flicker_foreground=flicker(rgb, flow, anywhere),
        color_adherence=mean(map(float, judged.values())),
        psnr_db=None if truth is None else psnr_db(rgb, truth),
        psnr_foreground_db=None if truth is None else psnr_db(rgb, truth, anywhere),
    )


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_measures(measures: list[Measures]) -> Measures:
    """Return the mean of each measure over clips; a clip in which there was nothing to measure does not count."""
    names = [field.name for field in dataclasses.fields(Measures)]
    return Measures(**{name: mean(getattr(one, name) for one in measures) for name in names})


def _worst_centroid_px(
    read: Mapping[Role, np.ndarray], passes: CameraPasses, foreground: Mapping[int, Role]
) -> float | None:
    errors = []
    for role, mask in read.items():
        ids = [instance_id for instance_id, of_role in foreground.items() if of_role == role]
        for instance_id, part in assigned(mask, passes.instance, ids).items():
            error = centroid_error_px(part, passes.instance == instance_id)
            if np.isfinite(error).any():
                errors.append(float(np.nanmean(error)))
    return max(errors) if errors else None


def _median(values: Float64[np.ndarray, " t"]) -> float | None:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else None
