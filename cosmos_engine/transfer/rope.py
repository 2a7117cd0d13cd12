"""Rotary position embedding over time, height and width.

Shapes: L tokens (time-major), F half the head width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

BASE_PERIOD = 10_000.0


class Rotary(NamedTuple):
    """Cosines and sines of every token's angles."""

    cos_LF: Float32[Tensor, "l f"]
    sin_LF: Float32[Tensor, "l f"]


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Return how many channels of a head serve (time, height, width): a third each, rounded in favour of time."""
    spatial = head_dim // 6 * 2
    return head_dim - 2 * spatial, spatial, spatial


def rotary_for_grid(
    grid: tuple[int, int, int],
    head_dim: int,
    ratios: tuple[float, float, float],
    device: torch.device | str = "cpu",
) -> Rotary:
    """Compute the rotary tables of a grid of tokens, in float32 as NVIDIA's code does.

    An axis of width d counts its positions from 0 and has frequencies `theta^(-2i/d)`, where the extrapolation ratio r
    stretches the base period, theta = 10000 r^(d / (d - 2)) ("NTK-aware" scaling). No frame-rate modulation.

    Args:
        grid: tokens along (time, height, width).
        head_dim: channels of a head, even.
        ratios: extrapolation ratios along (time, height, width).
    """
    angles = []
    for axis, (count, width, ratio) in enumerate(zip(grid, axis_widths(head_dim), ratios, strict=True)):
        theta = BASE_PERIOD * ratio ** (width / (width - 2))
        exponents = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
        positions = torch.arange(count, dtype=torch.float32, device=device)
        shape = [1, 1, 1, width // 2]
        shape[axis] = count
        angles.append(torch.outer(positions, 1.0 / theta**exponents).reshape(shape).expand(*grid, width // 2))
    angles_LF = torch.cat(angles, dim=-1).flatten(0, 2)
    return Rotary(angles_LF.cos(), angles_LF.sin())


def rotate(x_BHLE: Float[Tensor, "b h l e"], rotary: Rotary) -> Float[Tensor, "b h l e"]:
    """Rotate channel i of each head against channel i + E/2 by the token's angle i, in at least float32."""
    wide = torch.promote_types(x_BHLE.dtype, torch.float32)
    cos_LF, sin_LF = rotary.cos_LF.to(wide), rotary.sin_LF.to(wide)
    first, second = x_BHLE.to(wide).chunk(2, dim=-1)
    rotated = torch.cat((first * cos_LF - second * sin_LF, second * cos_LF + first * sin_LF), dim=-1)
    return rotated.to(x_BHLE.dtype)
