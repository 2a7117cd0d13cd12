"""Likeness: how near a variant is to the true render of its look, and how far variants are from each other.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16

from cosmos_engine.quality.color_adherence import cielab

SMALLEST_PX = 16


def psnr_db(
    rgb: UInt8[np.ndarray, "t h w 3"],
    truth: UInt8[np.ndarray, "t h w 3"],
    region: Bool[np.ndarray, "t h w"] | None = None,
) -> float | None:
    """Return the peak signal-to-noise ratio in decibels, 10 log10(255^2 / mean squared error) over the whole clip.

    Infinite for equal clips; None if `region` is empty.
    """
    difference = rgb.astype(np.float64) - truth
    squares = (difference if region is None else difference[region]) ** 2
    if not squares.size:
        return None
    mean = float(squares.mean())
    return float(10 * np.log10(255.0**2 / mean)) if mean else float("inf")


def diversity(
    variants: Sequence[UInt8[np.ndarray, "t h w 3"]], instance: UInt16[np.ndarray, "t h w"], frames: int = 4
) -> float | None:
    """Return how different variants of one clip look, in CIELAB units: 0 if all are equal, about 40 for random looks.

    It stands in for pairwise LPIPS, whose weights cannot be shipped, and is no substitute for it: it knows colours and
    the patterns on surfaces, not what they mean. For each pair of variants and each instance in view, two numbers are
    added: the distance of the mean colours (CIE 1976), and the mean absolute difference of the lightness once each
    instance's own mean is taken off, which is where textures, shades and highlights are. The mean over instances counts
    a small object as much as a wall; the mean over pairs is returned. Motion and layout, which all variants share,
    count nothing.

    Args:
        variants: clips of the same frames.
        instance: the recorded ids.
        frames: how many frames are looked at, spread over the clip.

    Returns:
        None for fewer than two variants.
    """
    if len(variants) < 2:
        return None
    chosen = np.unique(np.linspace(0, len(instance) - 1, min(frames, len(instance))).round().astype(int))
    ids = instance[chosen]
    labs = [cielab(rgb[chosen] / 255.0) for rgb in variants]
    masks = [mask for mask in (ids == i for i in np.unique(ids)) if int(mask.sum()) >= SMALLEST_PX]
    if not masks:
        return None
    return float(np.mean([_difference(a[mask], b[mask]) for a, b in combinations(labs, 2) for mask in masks]))


def _difference(a: Float32[np.ndarray, "n 3"], b: Float32[np.ndarray, "n 3"]) -> float:
    color = np.linalg.norm(a.mean(0) - b.mean(0))
    pattern = np.abs((a[:, 0] - a[:, 0].mean()) - (b[:, 0] - b[:, 0].mean())).mean()
    return float(color + pattern)
