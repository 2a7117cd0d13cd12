"""Solid noise: random patterns that fill space, seen where a surface cuts them (Perlin 1985, "An Image Synthesizer").

A point of the world has one value in every frame and from every camera, which noise of the picture has not.

Shapes: B row, T frame, H W pixel, N noise channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LATTICE = 24
"""Random values along each side of a volume, which repeats."""

# Lattice cells a metre along x, y and z: blotches of four sizes, and grain along each axis in two finenesses.
FREQUENCIES: tuple[tuple[float, float, float], ...] = (
    (6.0, 6.0, 6.0),
    (12.0, 12.0, 12.0),
    (24.0, 24.0, 24.0),
    (48.0, 48.0, 48.0),
    (3.0, 24.0, 24.0),
    (24.0, 3.0, 24.0),
    (24.0, 24.0, 3.0),
    (6.0, 48.0, 48.0),
    (48.0, 6.0, 48.0),
    (48.0, 48.0, 6.0),
)
CHANNELS = len(FREQUENCIES)
UNHEARD = 0.5
"""Lattice cells under a pixel from which on a channel fades: a camera cannot show it without aliasing."""


def solid_noise(points_B4THW: Float[Tensor, "b 4 t h w"], seeds: Sequence[int]) -> Float[Tensor, "b n t h w"]:
    """Return noise of about unit variance at world points, each channel faded where a pixel is too coarse for it.

    Args:
        points_B4THW: positions in metres and the length that a pixel covers (`controls.surface_points`).
        seeds: one a row.
    """
    frequency_N3 = points_B4THW.new_tensor(FREQUENCIES)
    rows = []
    for points_4THW, seed in zip(points_B4THW, seeds, strict=True):
        volume = _volume(int(seed), points_4THW.device, points_4THW.dtype)
        place_NTHW3 = points_4THW[:3].movedim(0, -1)[None] * frequency_N3[:, None, None, None]
        # The volume repeats; its first slices are appended so that interpolation runs over the seam.
        wrapped = place_NTHW3.remainder(LATTICE).mul_(2.0 / LATTICE).sub_(1.0)
        value_N1THW = F.grid_sample(volume, wrapped, mode="bilinear", align_corners=True)
        coarse = points_4THW[3][None] * frequency_N3.amax(1)[:, None, None, None] / UNHEARD
        rows.append(value_N1THW[:, 0] / coarse.clamp(min=1.0).square())
    return torch.stack(rows)


@lru_cache(maxsize=64)
def _volume(seed: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "n 1 d d d"]:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(CHANNELS, 1, LATTICE, LATTICE, LATTICE, generator=draw)
    values = 1.5 * values  # interpolation takes about a third of the deviation away
    for axis in (2, 3, 4):
        values = torch.cat([values, values.narrow(axis, 0, 1)], dim=axis)
    return values.to(device, dtype)
