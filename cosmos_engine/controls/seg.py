"""Seg control: one colour for each instance, from exact instance ids."""

from __future__ import annotations

import colorsys

import numpy as np
from jaxtyping import UInt8, UInt16


def instance_colors(ids: np.ndarray, seed: int) -> UInt8[np.ndarray, "n 3"]:
    """Return one random HSV colour for each id; id 0 (background) is black.

    A colour depends on (seed, id) alone, so that an object has the same colour in every camera and clip of an episode.
    """
    colors = np.zeros((len(ids), 3), np.uint8)
    for row, instance_id in enumerate(ids):
        if instance_id != 0:
            hue, saturation, value = np.random.default_rng((seed, int(instance_id))).uniform((0, 0.5, 0.5), (1, 1, 1))
            colors[row] = np.round(np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255)
    return colors


def seg_control(instance: UInt16[np.ndarray, "t h w"], seed: int) -> UInt8[np.ndarray, "t h w 3"]:
    """Return the instance ids as colours, pixel-exact; background is black."""
    present = np.zeros(1 << 16, bool)
    present[instance] = True
    ids = np.flatnonzero(present)
    colors = np.zeros((1 << 16, 3), np.uint8)
    colors[ids] = instance_colors(ids, seed)
    return colors[instance]
