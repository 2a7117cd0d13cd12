"""The codec of size tiny: its decoder is guided by the control videos and by the geometry that the simulator knows.

Shapes: B clip, C channel, T frame, L latent frame, H W pixel, h w latent cell, K part, S number of a style.

Contours come from the controls, so the latent only has to carry the look, and it carries it part by part: each pixel
takes its colours from what the latent says of the part that it shows, pooled over the clip (region-wise styles as in
SEAN, Zhu et al. 2020). No colour runs over a contour, and none changes from frame to frame. That is what makes a codec
affordable on a CPU that would have to spend thousands of updates to learn contours from latents.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_engine.transfer.codec import (
    CELL_CHANNELS,
    SPATIAL_STRIDE,
    TEMPORAL_STRIDE,
    Guide,
    control_latent,
    grouped_frames,
    guide_frames,
)
from cosmos_engine.transfer.part_head import PartHead
from cosmos_engine.transfer.parts import PARTS
from cosmos_engine.transfer.shader import GEOMETRY_CHANNELS, Shader, lit
from cosmos_engine.transfer.solid_noise import CHANNELS as NOISE_CHANNELS
from cosmos_engine.transfer.solid_noise import solid_noise

CODE_CHANNELS = 10
"""Latent channels that say how one part looks; the first three begin as its colour."""
LOCAL_CHANNELS = 16
"""Latent channels that say how the light is at a place."""
LATENT_CHANNELS = len(PARTS) * CODE_CHANNELS + LOCAL_CHANNELS
STYLE_NUMBERS = 3 + 3 + NOISE_CHANNELS + 1  # colour, second colour less colour, weights of the noise, bias
PATTERN_GAIN = 4.0  # on the weights of the noise: both factors of a faint pattern would learn slowly
FRAMES_AT_ONCE = 8  # of the pixels' work outside of training: what a processor's cache likes
PICTURE_M = 1.6  # width of the picture in metres where the geometry is not known


class Decoded(NamedTuple):
    """What a decoder makes of a latent: the video, about [-1, 1], and for training what it is made of.

    Attributes:
        video_BCTHW: painted colours in light.
        painted_BCTHW: the colours.
        light_BCTHW: what the shader returned.
        parts_BKTHW: logits of the parts.
    """

    video_BCTHW: Float[Tensor, "b 3 t h w"]
    painted_BCTHW: Float[Tensor, "b 3 t h w"]
    light_BCTHW: Float[Tensor, "b 6 t h w"]
    parts_BKTHW: Float[Tensor, "b k t h w"]


class GuidedCodec(nn.Module):
    """A convolutional codec with styles by part.

    The encoder works frame by frame and averages the four frames of a group, so latent frame t sees no later group.
    Latents are normalised by running statistics (the `latents_mean/std` of other VAEs).

    The decoder asks of each pixel which part it shows, paints it in two colours that a pattern of solid noise mixes
    (colours and pattern by the style of its part), and lets the light of the place fall on it.

    Args:
        width: channels of the encoder's first layer.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, stride=2),
            nn.SiLU(),
        )
        self.group = nn.Conv2d(4 * width, LATENT_CHANNELS, 1)
        self.group_coarse = nn.Conv2d(CELL_CHANNELS, LATENT_CHANNELS, 1)
        self.normalise = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.02)
        self.parts = PartHead()
        self.style = nn.Linear(CODE_CHANNELS, STYLE_NUMBERS)
        self.style_more = nn.Sequential(nn.Linear(CODE_CHANNELS, 48), nn.GELU(), nn.Linear(48, STYLE_NUMBERS))
        self.shader = Shader(2 * LOCAL_CHANNELS)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Start where a cell says its mean colour of every part, and patterns are faint."""
        for row in range(len(PARTS) * CODE_CHANNELS):
            channel = row % CODE_CHANNELS
            if channel < 3:
                self.group.weight[row] *= 0.1
                self.group_coarse.weight[row] = 0.0
                of_color = self.group_coarse.weight[row].view(TEMPORAL_STRIDE, 3, 4)
                of_color[:, channel] = 1 / (4 * TEMPORAL_STRIDE)
        nn.init.normal_(self.style.weight, std=0.1)
        nn.init.zeros_(self.style.bias)
        self.style.weight[:3] = 0.0
        self.style.weight[:3, :3] = 0.4 * torch.eye(3)
        self.style.bias[3:6] = 0.1
        last = self.style_more[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    @property
    def uses_points(self) -> bool:
        """Patterns stay on their surfaces."""
        return True

    def encode(self, video_BCTHW: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c l hh ww"]:
        """Encode video in [-1, 1] to normalised latents; T = 4k + 1, H and W multiples of 8."""
        B, _, _, H, W = video_BCTHW.shape
        frames = video_BCTHW.transpose(1, 2).reshape(-1, 3, H, W)
        features = self.encoder(frames.contiguous(memory_format=torch.channels_last))
        features = features.reshape(B, -1, *features.shape[1:]).transpose(1, 2)  # B C T h w
        grouped = grouped_frames(features).mean(2)  # B L C h w
        L = grouped.shape[1]
        coarse = control_latent(video_BCTHW).transpose(1, 2).flatten(0, 1)
        latent = self.normalise((self.group(grouped.flatten(0, 1)) + self.group_coarse(coarse)).float())
        return latent.reshape(B, L, *latent.shape[1:]).transpose(1, 2)

    def encode_control(self, video_BCTHW: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 48 l hh ww"]:
        """Return `control_latent`: pooled frames, of which no detail depends on what was learnt."""
        return control_latent(video_BCTHW)

    def decode(self, latent_BCTHW: Float[Tensor, "b c l hh ww"], guide: Guide) -> Float[Tensor, "b 3 t h w"]:
        """Decode latents to video in about [-1, 1]."""
        return self.decode_parts(latent_BCTHW, guide).video_BCTHW

    def decode_parts(self, latent_BCTHW: Float[Tensor, "b c l hh ww"], guide: Guide) -> Decoded:
        """Decode latents, and return the logits of the parts with the video."""
        B, _, L, h, w = latent_BCTHW.shape
        T, H, W = (L - 1) * TEMPORAL_STRIDE + 1, h * SPATIAL_STRIDE, w * SPATIAL_STRIDE
        controls_BCTHW = guide_frames(guide.controls, latent_BCTHW.new_zeros(B, 1, T, H, W))
        points_B4THW = guide.points_B4THW
        if points_B4THW is None:
            points_B4THW = _picture_points(latent_BCTHW, T, H, W)
        logits = torch.stack([self._logits(clip_CTHW, has_seg="seg" in guide.controls) for clip_CTHW in controls_BCTHW])
        parts_BKTHW = logits.float().softmax(1).to(logits.dtype)
        shares_BKThw = F.avg_pool3d(parts_BKTHW, (1, SPATIAL_STRIDE, SPATIAL_STRIDE))
        style_BKS = self.styles(latent_BCTHW, shares_BKThw)
        is_known = "depth" in guide.controls and guide.points_B4THW is not None
        seeds = guide.seeds or [0] * B
        colors, lights = [], []
        for row in range(B):
            cells = self._cells(latent_BCTHW[row], shares_BKThw[row])
            step = T if torch.is_grad_enabled() else FRAMES_AT_ONCE
            for at in range(0, T, step):
                shown = slice(at, at + step)
                points_4THW = points_B4THW[row, :, shown]
                noise_NTHW = solid_noise(points_4THW[None], seeds[row : row + 1])[0]
                painted_3THW = painted(parts_BKTHW[row, :, shown], style_BKS[row], noise_NTHW)
                geometry_6THW = (
                    _geometry(points_4THW)
                    if is_known
                    else points_4THW.new_zeros(GEOMETRY_CHANNELS, *points_4THW.shape[1:])
                )
                seen_TCHW = torch.cat([controls_BCTHW[row, :, shown], geometry_6THW]).transpose(0, 1)
                seen_TCHW = seen_TCHW.contiguous(memory_format=torch.channels_last)
                colors.append(painted_3THW)
                lights.append(self.shader(painted_3THW.transpose(0, 1), seen_TCHW, cells[shown]).transpose(0, 1))
        painted_BCTHW, light_BCTHW = (
            torch.cat(pieces, dim=1).unflatten(1, (B, T)).transpose(0, 1) for pieces in (colors, lights)
        )
        return Decoded(lit(painted_BCTHW, light_BCTHW), painted_BCTHW, light_BCTHW, logits)

    def styles(
        self, latent_BCTHW: Float[Tensor, "b c l hh ww"], shares_BKThw: Float[Tensor, "b k t hh ww"]
    ) -> Float[Tensor, "b k s"]:
        """Return each part's style: of the mean of what the latent says of it, over the clip's cells that show it.

        A cell counts by the square of the part's share, so that cells of one part alone say most about it.
        """
        codes = latent_BCTHW[:, : len(PARTS) * CODE_CHANNELS].unflatten(1, (len(PARTS), CODE_CHANNELS))
        weight_BKLhw = grouped_frames(shares_BKThw).mean(2).transpose(1, 2).square()
        weight_BKLhw = weight_BKLhw / (weight_BKLhw.sum((2, 3, 4), keepdim=True) + 1e-4)
        code_BKC = torch.einsum("bkclhw,bklhw->bkc", codes.float(), weight_BKLhw.float()).to(codes.dtype)
        return self.style(code_BKC) + self.style_more(code_BKC)

    def _logits(self, controls_CTHW: Float[Tensor, "c t h w"], *, has_seg: bool) -> Float[Tensor, "k t h w"]:
        frames = controls_CTHW.transpose(0, 1)
        step = len(frames) if torch.is_grad_enabled() else FRAMES_AT_ONCE
        pieces = [
            self.parts(frames[at : at + step].contiguous(memory_format=torch.channels_last), has_seg=has_seg)
            for at in range(0, len(frames), step)
        ]
        return torch.cat(pieces).transpose(0, 1)

    def _cells(self, latent_CLhw: Tensor, shares_KThw: Tensor) -> Float[Tensor, "t c hh ww"]:
        """Return what the shader sees of each frame's cells: the light there, the light of the clip, and parts."""
        local = latent_CLhw[-LOCAL_CHANNELS:]
        both = torch.cat([local, local.mean((1, 2, 3), keepdim=True).expand_as(local)]).transpose(0, 1)
        by_frame = both.repeat_interleave(TEMPORAL_STRIDE, dim=0)[TEMPORAL_STRIDE - 1 :]
        return torch.cat([by_frame, shares_KThw.transpose(0, 1)], dim=1)


def painted(
    parts_KTHW: Float[Tensor, "k t h w"], style_KS: Float[Tensor, "k s"], noise_NTHW: Float[Tensor, "n t h w"]
) -> Float[Tensor, "3 t h w"]:
    """Return the colour of every pixel in [-1, 1]: its part's two colours, mixed by a pattern of the noise."""
    style_STHW = torch.einsum("kthw,ks->sthw", parts_KTHW, style_KS.to(parts_KTHW.dtype))
    color, difference, weights, bias = style_STHW.split([3, 3, NOISE_CHANNELS, 1])
    pattern = torch.tanh(PATTERN_GAIN * (weights * noise_NTHW.to(weights.dtype)).sum(0) + bias[0])
    return color + difference * pattern


def _geometry(points_4THW: Float[Tensor, "4 t h w"]) -> Float[Tensor, "6 t h w"]:
    """Return world positions in metres and unit normals."""
    position = points_4THW[:3]
    along_x = F.pad(position[..., 2:] - position[..., :-2], (1, 1))
    along_y = F.pad(position[..., 2:, :] - position[..., :-2, :], (0, 0, 1, 1))
    normal = torch.linalg.cross(along_x, along_y, dim=0)
    return torch.cat([position, normal / normal.norm(dim=0).clamp(min=1e-9)])


def _picture_points(like: Tensor, frames: int, height: int, width: int) -> Float[Tensor, "b 4 t h w"]:
    """Return a flat picture's points, for clips whose geometry is not known."""
    pixel_m = PICTURE_M / width
    rows, columns = torch.meshgrid(
        torch.arange(height, device=like.device), torch.arange(width, device=like.device), indexing="ij"
    )
    flat = torch.stack([columns * pixel_m, rows * pixel_m, torch.zeros_like(rows), torch.full_like(rows, 1) * pixel_m])
    return flat.to(like.dtype)[None, :, None].expand(like.shape[0], -1, frames, -1, -1)
