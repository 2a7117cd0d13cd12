"""How much of each control: scalar weights, weight maps over time and space, and the policies that combine them.

Shapes: B batch, T frames, H rows, W columns; L tokens (time-major).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cosmos_engine.errors import InputError

ControlWeight: TypeAlias = float | Tensor
WeightPolicy = Literal["capped", "raw"]


def resolve_weights(weights: Mapping[str, ControlWeight], policy: WeightPolicy) -> dict[str, ControlWeight]:
    """Combine the weights of all controls under a named policy; needed once per segment.

    The weights of a token are scaled by 1 / max(1, their sum over the modalities). Under

    - `capped` that always happens, as NVIDIA documents it;
    - `raw` it happens only if at least one weight is a map, as NVIDIA's code does: scalars are added as they are.

    A map that is zero everywhere becomes the number 0, so that its branch is not run.

    Args:
        weights: by modality, each within [0, 1]: a number, or a map that broadcasts with the other maps,
            such as (B or 1, 1, T, H, W) from `latent_map`.

    Raises:
        InputError: a weight outside [0, 1], or an unknown policy.
    """
    if policy not in ("capped", "raw"):
        raise InputError(f"weight policy {policy!r}: expected 'capped' or 'raw'")
    for modality, weight in weights.items():
        low, high = (weight.min().item(), weight.max().item()) if isinstance(weight, Tensor) else (weight, weight)
        if not 0 <= low <= high <= 1:
            value = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise InputError(f"control weight of {modality}: expected a value within [0, 1], got {value}")
    used = {
        modality: weight
        for modality, weight in weights.items()
        if (bool(weight.any()) if isinstance(weight, Tensor) else weight > 0)
    }
    if policy == "capped" or any(isinstance(weight, Tensor) for weight in used.values()):
        total: ControlWeight = sum(used.values())
        divisor = total.clamp(min=1.0) if isinstance(total, Tensor) else max(1.0, total)
        used = {modality: weight / divisor for modality, weight in used.items()}
    return {modality: used.get(modality, 0.0) for modality in weights}


def latent_map(
    frames_B1THW: Float[Tensor, "b 1 t h w"], size: tuple[int, int, int]
) -> Float[Tensor, "b 1 t_out h_out w_out"]:
    """Bring a map over video frames to latent frames and token or latent resolution, as NVIDIA's code does.

    Frame 0 stands for itself, as it does in a causal codec; the others are resized together, trilinearly. That samples
    the middle of each group of frames and is no mean over it.

    Args:
        frames_B1THW: a map over T frames in pixels.
        size: latent frames, rows and columns out; (T - 1) must be a multiple of (latent frames - 1).

    Raises:
        ValueError: frame counts that do not belong together.
    """
    frames, latent_frames = frames_B1THW.shape[2], size[0]
    if (frames == 1) != (latent_frames == 1) or (latent_frames > 1 and (frames - 1) % (latent_frames - 1)):
        raise ValueError(f"a map of {frames} frames cannot be brought to {latent_frames} latent frames")
    first = _resized(frames_B1THW[:, :, :1], (1, *size[1:]))
    if latent_frames == 1:
        return first
    return torch.cat((first, _resized(frames_B1THW[:, :, 1:], (latent_frames - 1, *size[1:]))), dim=2)


def token_weight(
    weight: ControlWeight, grid: tuple[int, int, int], dtype: torch.dtype
) -> float | Float[Tensor, "_ _ 1"]:
    """Shape a weight so that it multiplies tokens (B, L, D).

    Args:
        weight: a number, a tensor (B,) or a map (B or 1, 1, T, H, W) over tokens.
        grid: tokens along (time, height, width).

    Raises:
        ValueError: a tensor of another shape.
    """
    if not isinstance(weight, Tensor):
        return float(weight)
    if weight.ndim == 1:
        return weight.to(dtype)[:, None, None]
    if weight.ndim != 5 or weight.shape[1:] != (1, *grid):
        raise ValueError(f"weight map: expected (batch, 1, {', '.join(map(str, grid))}), got {tuple(weight.shape)}")
    return weight.to(dtype).reshape(weight.shape[0], math.prod(grid), 1)


def _resized(x_BCTHW: Float[Tensor, "b c t h w"], size: tuple[int, int, int]) -> Float[Tensor, "b c t_out h_out w_out"]:
    return F.interpolate(x_BCTHW, size=size, mode="trilinear", align_corners=False)
