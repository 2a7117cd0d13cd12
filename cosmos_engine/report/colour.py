"""Colours for passes that have none: depth and instance ids."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from cosmos_engine.data.episode import InstanceLabel, Role

Rgb = tuple[int, int, int]

# Where nothing was hit: outside the colour map, so that it cannot be taken for a distance.
NO_HIT: Rgb = (38, 38, 44)
BACKGROUND: Rgb = (24, 24, 28)
# First hue, hue range (turns), saturation and value by role: cool robot, warm manipulated objects, pale scene.
ROLE_HUES: dict[Role, tuple[float, float, float, float]] = {
    "robot": (0.55, 0.20, 0.70, 0.85),
    "manipulated": (0.02, 0.16, 0.85, 0.98),
    "scene": (0.28, 0.20, 0.22, 0.62),
}
# The golden ratio's fraction: successive multiples stay far apart, however many there are.
GOLDEN = 0.618034


def depth_range_m(depth_m: Float32[np.ndarray, "t h w"]) -> tuple[float, float]:
    """Return near and far in metres: the 1st and 99th percentile of what was hit; (0, 1) where nothing was."""
    hits = depth_m[np.isfinite(depth_m)]
    if not hits.size:
        return 0.0, 1.0
    near_m, far_m = np.percentile(hits, [1.0, 99.0])
    return float(near_m), float(far_m)


def depth_to_rgb(depth_m: Float32[np.ndarray, "t h w"], near_m: float, far_m: float) -> UInt8[np.ndarray, "t h w 3"]:
    """Colour depth by the Turbo map, red at `near_m` to blue at `far_m`, both in metres; `NO_HIT` where infinite.

    Turbo: A. Mikhailov, "Turbo, an improved rainbow colormap for visualization", 2019.
    """
    hit = np.isfinite(depth_m)
    nearness = (far_m - np.where(hit, depth_m, far_m)) / max(far_m - near_m, 1e-6)
    levels = np.round(nearness.clip(0.0, 1.0) * 255.0).astype(np.uint8)
    rgb = turbo()[levels]
    rgb[~hit] = NO_HIT
    return rgb


def turbo() -> UInt8[np.ndarray, "256 3"]:
    """Return the Turbo map from far (index 0, blue) to near (index 255, red)."""
    ramp = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)
    return np.ascontiguousarray(ramp[:, 0, ::-1])


def instance_palette(labels: Mapping[int, InstanceLabel]) -> dict[int, Rgb]:
    """Return a colour for each instance id: the hue tells the role, and ids of one role differ within it."""
    palette = {}
    count: dict[Role, int] = {}
    for instance_id in sorted(labels):
        role = labels[instance_id].role
        index = count.get(role, 0)
        count[role] = index + 1
        hue, hue_range, saturation, value = ROLE_HUES[role]
        # Every other id is darker, so that neighbours in hue still differ.
        red, green, blue = colorsys.hsv_to_rgb(
            (hue + hue_range * (index * GOLDEN % 1.0)) % 1.0, saturation, value * (1.0, 0.7)[index % 2]
        )
        palette[instance_id] = (round(red * 255), round(green * 255), round(blue * 255))
    return palette


def instance_to_rgb(instance: UInt16[np.ndarray, "t h w"], palette: Mapping[int, Rgb]) -> UInt8[np.ndarray, "t h w 3"]:
    """Colour instance ids by `palette`; ids that it lacks, and 0, take the background colour."""
    table = np.full((np.iinfo(np.uint16).max + 1, 3), BACKGROUND, np.uint8)
    for instance_id, rgb in palette.items():
        table[instance_id] = rgb
    return table[instance]
