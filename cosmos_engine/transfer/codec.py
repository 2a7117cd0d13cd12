"""Codecs: video <-> latent, behind one small interface.

Shape legend: B clip, C channel, T frame (latent frame: T_lat = (T - 1) / 4 + 1), H W pixel (latent: H/8, W/8).

`guided_codec.GuidedCodec` is the codec of size tiny, whose decoder sees the control videos beside the latent;
`wan.WanCodec` that of the 2B model, which decodes from the latent alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.controls import MODALITIES, Modality

SPATIAL_STRIDE = 8
TEMPORAL_STRIDE = 4
CELL_CHANNELS = 48  # of `control_latent`: 4 frames, 3 colours, 2x2 sub-cells
GUIDE_CHANNELS: dict[Modality, int] = {"edge": 1, "vis": 3, "depth": 1, "seg": 3}


@dataclass(frozen=True)
class Guide:
    """What a decoder may look at beside the latent; one that does not says so in its docstring.

    Attributes:
        controls: the control videos that condition the clip, each (B, 3, T, H, W) in [-1, 1].
        points_B4THW: world position of what each pixel shows and the length that it covers, metres
            (`controls.surface_points`); None where the geometry is not known.
        seeds: one a row, the same for all cameras and segments of a variant: of what the decoder draws itself.
    """

    controls: Mapping[Modality, Tensor]
    points_B4THW: Tensor | None = None
    seeds: Sequence[int] = ()


@runtime_checkable
class Codec(Protocol):
    """Turn video into normalised latents and back.

    Video is (B, 3, T, H, W) in [-1, 1] with T = 4k + 1 and H, W multiples of 8; latents are (B, C, (T-1)/4+1, H/8, W/8)
    with about unit variance.
    """

    @property
    def uses_points(self) -> bool:
        """Whether `decode` looks at the geometry, which costs something to work out."""
        ...

    def encode(self, video_BCTHW: Tensor) -> Tensor: ...

    def encode_control(self, video_BCTHW: Tensor) -> Tensor:
        """Return what the network's control branches see of a control video; a Wan codec encodes it like any video."""
        ...

    def decode(self, latent_BCTHW: Tensor, guide: Guide) -> Tensor: ...


def guide_frames(controls: Mapping[Modality, Tensor], like_BCTHW: Tensor) -> Tensor:
    """Stack control videos into (B, 8, T, H, W): edge and depth by one channel, vis and seg by three, absent ones 0."""
    parts = []
    for modality in MODALITIES:
        channels = GUIDE_CHANNELS[modality]
        video = controls.get(modality)
        if video is None:
            B, _, T, H, W = like_BCTHW.shape
            parts.append(like_BCTHW.new_zeros(B, channels, T, H, W))
        else:
            # Shifted to [0, 1], so that black and absent are the same: a control with no content says nothing.
            parts.append((video[:, :channels] + 1.0) / 2.0)
    return torch.cat(parts, dim=1)


def control_latent(video_BCTHW: Tensor) -> Tensor:
    """Pool a control video to the latent grid for the tiny network's control branches.

    Each latent cell (8x8 pixels, 4 frames) keeps 2x2 sub-cells, every frame and three channels: 48 channels. The first
    frame fills a latent frame of its own, repeated four times, as in the Wan VAE's causal grouping.

    Args:
        video_BCTHW: (B, 3, T, H, W) in [-1, 1], T = 4k + 1, H and W multiples of 8.

    Returns:
        (B, 48, (T-1)/4+1, H/8, W/8).
    """
    B, C, _, H, W = video_BCTHW.shape
    grouped = grouped_frames(video_BCTHW)  # B T_lat 4 C H W
    T_lat = grouped.shape[1]
    pooled = F.avg_pool2d(grouped.reshape(-1, C, H, W), SPATIAL_STRIDE // 2)
    cells = F.pixel_unshuffle(pooled, 2)
    cells = cells.reshape(B, T_lat, TEMPORAL_STRIDE * C * 4, H // SPATIAL_STRIDE, W // SPATIAL_STRIDE)
    return cells.transpose(1, 2)


def grouped_frames(video_BCTHW: Tensor) -> Tensor:
    """Return (B, T_lat, 4, C, H, W): the first frame repeated, then groups of four frames."""
    frames = video_BCTHW.transpose(1, 2)
    first = frames[:, :1].expand(-1, TEMPORAL_STRIDE, -1, -1, -1)
    return torch.cat([first, frames[:, 1:]], dim=1).unflatten(1, (-1, TEMPORAL_STRIDE))
