"""Codecs: video <-> latent, behind one small interface.

Shape legend: B clip, C channel, T frame (latent frame: T_lat = (T - 1) / 4 + 1), H W pixel (latent: H/8, W/8).

`GuidedCodec` is the codec of size tiny. Its decoder sees the control videos beside the latent, at full resolution:
contours come from the geometry that the simulator knows, and the latent only has to carry the look (colours, texture,
light). That is what makes an 8x8x4-fold compression affordable on a CPU; the 2B model uses the Wan2.1 VAE instead,
which decodes from the latent alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_engine.controls import MODALITIES, Modality

SPATIAL_STRIDE = 8
TEMPORAL_STRIDE = 4
CELL_CHANNELS = 48  # of `control_latent`: 4 frames, 3 colours, 2x2 sub-cells
GUIDE_CHANNELS: dict[Modality, int] = {"edge": 1, "vis": 3, "depth": 1, "seg": 3}


@runtime_checkable
class Codec(Protocol):
    """Turn video into normalised latents and back.

    Video is (B, 3, T, H, W) in [-1, 1] with T = 4k + 1 and H, W multiples of 8; latents are (B, C, (T-1)/4+1, H/8, W/8)
    with about unit variance. `controls` are the control videos that condition the clip, as video tensors; a codec that
    decodes from the latent alone says so in its docstring.
    """

    def encode(self, video_BCTHW: Tensor) -> Tensor: ...

    def encode_control(self, video_BCTHW: Tensor) -> Tensor:
        """Return what the network's control branches see of a control video; a Wan codec encodes it like any video."""
        ...

    def decode(self, latent_BCTHW: Tensor, controls: Mapping[Modality, Tensor]) -> Tensor: ...


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
    grouped = _grouped(video_BCTHW)  # B T_lat 4 C H W
    T_lat = grouped.shape[1]
    pooled = F.avg_pool2d(grouped.reshape(-1, C, H, W), SPATIAL_STRIDE // 2)
    cells = F.pixel_unshuffle(pooled, 2)
    cells = cells.reshape(B, T_lat, TEMPORAL_STRIDE * C * 4, H // SPATIAL_STRIDE, W // SPATIAL_STRIDE)
    return cells.transpose(1, 2)


def _grouped(video_BCTHW: Tensor) -> Tensor:
    """Return (B, T_lat, 4, C, H, W): the first frame repeated, then groups of four frames."""
    frames = video_BCTHW.transpose(1, 2)
    first = frames[:, :1].expand(-1, TEMPORAL_STRIDE, -1, -1, -1)
    return torch.cat([first, frames[:, 1:]], dim=1).unflatten(1, (-1, TEMPORAL_STRIDE))


def _ungrouped(cells: Tensor, latent_frames: int) -> Tensor:
    """Return (B L, 4 C, h, w) as frames (B T, C, h, w); of the first group only the last frame exists."""
    frames = cells.unflatten(1, (TEMPORAL_STRIDE, -1)).unflatten(0, (-1, latent_frames)).flatten(1, 2)
    return frames[:, TEMPORAL_STRIDE - 1 :].flatten(0, 1)


class GuidedCodec(nn.Module):
    """A convolutional codec with 16 latent channels whose decoder is guided by the control videos.

    The encoder works frame by frame and mixes the four frames of a group at the end, so latent frame t sees no later
    group. Latents are normalised by running statistics (the `latents_mean/std` of other VAEs).

    The decoder adds three parts: a coarse picture that the latent holds linearly; an affine map of the guide whose
    coefficients change from cell to cell (Gharbi et al. 2017, deep bilateral learning), which puts the right colour on
    either side of a contour; and detail from convolutions over latent and guide.
    """

    def __init__(self, latent_channels: int = 16, width: int = 48) -> None:
        super().__init__()
        w32, w16 = width + width // 2, 2 * width
        guide_channels = sum(GUIDE_CHANNELS.values())
        self.latent_channels = latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, w32, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(w32, w16, 3, padding=1, stride=2),
            nn.SiLU(),
        )
        self.group = nn.Sequential(
            nn.Conv2d(TEMPORAL_STRIDE * w16, 2 * w16, 1), nn.SiLU(), nn.Conv2d(2 * w16, latent_channels, 1)
        )
        self.group_coarse = nn.Conv2d(CELL_CHANNELS, latent_channels, 1)
        self.normalise = nn.BatchNorm2d(latent_channels, affine=False, momentum=0.02)

        self.coarse = nn.Conv2d(latent_channels, CELL_CHANNELS, 1)
        self.look = nn.Sequential(
            nn.Conv2d(latent_channels, w16, 3, padding=1), nn.SiLU(), nn.Conv2d(w16, TEMPORAL_STRIDE * w16, 1)
        )
        self.guide64 = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * guide_channels, width, 1))
        self.guide32 = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.guide16 = nn.Conv2d(width, w16, 3, padding=1, stride=2)
        self.decode16 = nn.Sequential(nn.Conv2d(2 * w16, w16, 3, padding=1), nn.SiLU())
        self.affine = nn.Conv2d(w16, 3 * guide_channels, 3, padding=1)
        self.up32 = nn.Sequential(nn.Conv2d(w16, 4 * w32, 1), nn.PixelShuffle(2))
        self.decode32 = nn.Sequential(nn.Conv2d(w32 + width, w32, 3, padding=1), nn.SiLU())
        self.up64 = nn.Sequential(nn.Conv2d(w32, 4 * width, 1), nn.PixelShuffle(2))
        self.decode64 = nn.Sequential(
            nn.Conv2d(2 * width + 3, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()
        )
        self.detail = nn.Sequential(nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2))

    def encode(self, video_BCTHW: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c l hh ww"]:
        """Encode video in [-1, 1] to normalised latents; T = 4k + 1, H and W multiples of 8."""
        B, _, _, H, W = video_BCTHW.shape
        frames = video_BCTHW.transpose(1, 2).reshape(-1, 3, H, W)
        features = self.encoder(frames.contiguous(memory_format=torch.channels_last))
        features = features.reshape(B, -1, *features.shape[1:]).transpose(1, 2)  # B C T h w
        grouped = _grouped(features).flatten(2, 3)  # B L 4C h w
        L = grouped.shape[1]
        coarse = control_latent(video_BCTHW).transpose(1, 2).flatten(0, 1)
        latent = self.normalise((self.group(grouped.flatten(0, 1)) + self.group_coarse(coarse)).float())
        return latent.reshape(B, L, *latent.shape[1:]).transpose(1, 2)

    def encode_control(self, video_BCTHW: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 48 l hh ww"]:
        """Return `control_latent`: pooled frames, of which no detail depends on what was learnt."""
        return control_latent(video_BCTHW)

    def decode(
        self, latent_BCTHW: Float[Tensor, "b c l hh ww"], controls: Mapping[Modality, Tensor]
    ) -> Float[Tensor, "b 3 t h w"]:
        """Decode latents to video in about [-1, 1], guided by `controls`, each (B, 3, T, H, W) in [-1, 1]."""
        B, _, L, h, w = latent_BCTHW.shape
        T, H, W = (L - 1) * TEMPORAL_STRIDE + 1, h * SPATIAL_STRIDE, w * SPATIAL_STRIDE
        guide = guide_frames(controls, latent_BCTHW.new_zeros(B, 1, T, H, W)).transpose(1, 2).flatten(0, 1)
        guide = guide.contiguous(memory_format=torch.channels_last)
        cells = latent_BCTHW.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        look = _ungrouped(self.look(cells), L)
        coarse32 = F.pixel_shuffle(_ungrouped(self.coarse(cells), L), 2)

        g64 = F.silu(self.guide64(guide))
        g32 = F.silu(self.guide32(g64))
        x = self.decode16(torch.cat([look, self.guide16(g32)], dim=1))
        coefficients = F.interpolate(self.affine(x), (H, W), mode="bilinear")
        painted = (coefficients.unflatten(1, (3, -1)) * guide[:, None]).sum(2)
        x = self.decode32(torch.cat([self.up32(x), g32], dim=1))
        coarse64 = F.interpolate(coarse32, scale_factor=2.0, mode="bilinear")
        x = self.decode64(torch.cat([self.up64(x), g64, coarse64], dim=1))
        rgb = F.interpolate(coarse32, (H, W), mode="bilinear") + painted + self.detail(x)
        return rgb.reshape(B, T, *rgb.shape[1:]).transpose(1, 2)
