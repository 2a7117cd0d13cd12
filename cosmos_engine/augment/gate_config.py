"""The gate's thresholds: what each measure of a variant must reach, or must not go beyond."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cosmos_engine.errors import InputError

AT_LEAST = frozenset(
    {
        "edge_f1",
        "contour_presence_robot",
        "contour_presence_manipulated",
        "least_motion",
        "iou_robot",
        "iou_manipulated",
        "presence_robot",
        "presence_manipulated",
        "own_time",
        "critic",
    }
)
"""Measures of which more is better; of all others less is."""
PIXELS = (
    "edge_f1",
    "contour_presence_robot",
    "contour_presence_manipulated",
    "contour_advantage_robot",
    "contour_advantage_manipulated",
    "least_motion",
    "hue_manipulated",
    "odd_color",
    "flicker_scene",
    "flicker_foreground",
)
FLOW = ("flow_robot", "flow_manipulated", "flow_scene", "unexplained_change")
READER = (
    "iou_robot",
    "iou_manipulated",
    "centroid_px",
    "presence_robot",
    "presence_manipulated",
    "advantage_robot",
    "advantage_manipulated",
    "displacement_px",
    "own_time",
    "extra_px_robot",
    "extra_px_manipulated",
    "si_rmse",
)
CAMERA_MEASURES = (*PIXELS, *FLOW, *READER)
"""What is measured of each camera, cheapest first; `cosmos_engine.quality.adherence` says what each one is."""
CROSS_VIEW, VIEW_DIFFERENCE = "cross_view", "view_difference"
CRITIC = "critic"


@dataclass(frozen=True)
class CameraThresholds:
    """Thresholds of one camera's measures; None: the measure does not decide.

    Raises:
        InputError: a threshold that is not finite.
    """

    edge_f1: float | None = None
    contour_presence_robot: float | None = None
    contour_presence_manipulated: float | None = None
    contour_advantage_robot: float | None = None
    contour_advantage_manipulated: float | None = None
    least_motion: float | None = None
    hue_manipulated: float | None = None
    odd_color: float | None = None
    flicker_scene: float | None = None
    flicker_foreground: float | None = None
    flow_robot: float | None = None
    flow_manipulated: float | None = None
    flow_scene: float | None = None
    unexplained_change: float | None = None
    iou_robot: float | None = None
    iou_manipulated: float | None = None
    centroid_px: float | None = None
    presence_robot: float | None = None
    presence_manipulated: float | None = None
    advantage_robot: float | None = None
    advantage_manipulated: float | None = None
    displacement_px: float | None = None
    own_time: float | None = None
    extra_px_robot: float | None = None
    extra_px_manipulated: float | None = None
    si_rmse: float | None = None
    critic: float | None = None

    def __post_init__(self) -> None:
        _check_finite(self)

    def as_mapping(self) -> Mapping[str, float]:
        """Return the thresholds that decide, by measure."""
        return _deciding(self)


@dataclass(frozen=True)
class CrossViewThresholds:
    """Thresholds of what is measured between cameras; None: the measure does not decide."""

    view_difference: float | None = None

    def __post_init__(self) -> None:
        _check_finite(self)

    def as_mapping(self) -> Mapping[str, float]:
        """Return the thresholds that decide, by measure."""
        return _deciding(self)


@dataclass(frozen=True)
class GateConfig:
    """What a variant must keep to.

    Attributes:
        fixed: for cameras that stand still.
        moving: for cameras that move, as one at the wrist.
        cross_view: between cameras.
        stop_early: whether the dearer checks are left out once a cheaper one has failed. The verdict is the same, its
            list of failures and measures shorter.
    """

    fixed: CameraThresholds = field(default_factory=CameraThresholds)
    moving: CameraThresholds = field(default_factory=CameraThresholds)
    cross_view: CrossViewThresholds = field(default_factory=CrossViewThresholds)
    stop_early: bool = False


def failure(key: str, value: float, threshold: float) -> str | None:
    """Return one line if a value is on the wrong side of its threshold.

    Args:
        key: camera and measure, such as "agentview/iou_robot".
    """
    if key.rsplit("/", 1)[-1] in AT_LEAST:
        return None if value >= threshold else f"{key} {value:.4g}, expected at least {threshold:.4g}"
    return None if value <= threshold else f"{key} {value:.4g}, expected at most {threshold:.4g}"


def _deciding(thresholds: CameraThresholds | CrossViewThresholds) -> dict[str, float]:
    return {name: value for name, value in dataclasses.asdict(thresholds).items() if value is not None}


def _check_finite(thresholds: CameraThresholds | CrossViewThresholds) -> None:
    for name, value in _deciding(thresholds).items():
        if not math.isfinite(value):
            raise InputError(f"gate threshold {name}: expected a finite number or null, got {value}")
