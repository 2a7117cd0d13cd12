"""Timing: does every frame of a variant show its own moment, and not one some frames earlier or later?

Shapes: t frames, p = t - 1 pairs of consecutive frames, h rows, w columns, r roles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64, Num, UInt8, UInt16

from cosmos_engine.quality.stretches import stretches

LAGS = (2, 4, 8)


def own_time_share(
    role_probabilities: Float32[np.ndarray, "t h w r"],
    truth: UInt8[np.ndarray, "t h w"],
    *,
    frames: int,
    smallest_px: float,
    lags: Sequence[int] = LAGS,
) -> float | None:
    """Return the share of moving pixels that show their own frame rather than another one, of the worst stretch.

    Two frames some time apart differ in the pixels that robot and objects have left or reached. Whatever a reader gets
    wrong everywhere, it gets wrong in both; on these pixels alone it says which of the two frames it sees. Right frames
    come near to 1, frames of the other moment near to 0.

    Args:
        role_probabilities: as read back.
        truth: index of each pixel's recorded role.
        frames: of a stretch.
        smallest_px: a stretch with fewer differing pixels, summed over its frames, does not count.
        lags: how many frames apart, both ways.

    Returns:
        None if too little moves anywhere.
    """
    length, pixels = len(truth), truth[0].size
    flat = truth.reshape(length, pixels)
    probabilities = role_probabilities.reshape(length, pixels, -1)
    worst: list[float] = []
    for lag in lags:
        if lag >= length:
            continue
        frame, pixel = np.nonzero(flat[lag:] != flat[:-lag])
        early, late = flat[frame, pixel], flat[frame + lag, pixel]
        for at, own, other in ((frame, early, late), (frame + lag, late, early)):
            right = probabilities[at, pixel, own] > probabilities[at, pixel, other]
            counts = np.bincount(at, right, length), np.bincount(at, minlength=length)
            worst += _shares(*counts, frames, smallest_px)
    return min(worst) if worst else None


def swept(instance: UInt16[np.ndarray, "t h w"]) -> Bool[np.ndarray, "p h w"]:
    """Return the pixels that show another instance in the next frame: something has left them or reached them."""
    return instance[1:] != instance[:-1]


def least_motion(
    rgb: UInt8[np.ndarray, "t h w 3"], swept_px: Bool[np.ndarray, "p h w"], *, pairs: int, smallest_px: float
) -> float | None:
    """Return how much swept pixels change their colour in the stillest stretch, relative to the clip's median.

    A held frame changes nothing while the recording moves: 0. Where a part passes over a surface of nearly its own
    colour little changes too, so a stretch is several pairs long.

    Args:
        swept_px: what `swept` returns.
        pairs: of a stretch.
        smallest_px: pairs with fewer swept pixels do not count; a stretch consists of pairs that count.

    Returns:
        None if fewer than two stretches' worth of pairs count.
    """
    counted = np.flatnonzero(swept_px.sum((1, 2)) >= smallest_px)
    if len(counted) < 2 * pairs:
        return None
    change = np.array([np.abs(rgb[i + 1].astype(np.int16) - rgb[i])[swept_px[i]].mean() for i in counted], np.float64)
    usual = float(np.median(change))
    if not usual:
        return 0.0
    stretches = np.convolve(change, np.full(pairs, 1.0 / pairs), mode="valid")
    return float(stretches.min()) / usual


def _shares(
    right: Num[np.ndarray, " t"], count: Int64[np.ndarray, " t"], frames: int, smallest_px: float
) -> list[float]:
    """Return right / count of each stretch that has enough pixels."""
    shares = []
    for stretch in stretches(len(count), frames):
        total = float(count[stretch].sum())
        if total >= smallest_px:
            shares.append(float(right[stretch].sum()) / total)
    return shares
