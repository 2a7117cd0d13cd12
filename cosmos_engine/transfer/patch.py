"""Video latents to tokens and back.

Shapes: B batch, C channels, T frames, H rows, W columns of the latent; L tokens (time-major), D width.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Patchify(nn.Module):
    """Gather each patch of a latent into one token, channels first."""

    def __init__(self, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, x_BCTHW: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b l p"]:
        batch, channels, *size = x_BCTHW.shape
        (t, h, w), (pt, ph, pw) = token_grid(size, self.patch), self.patch
        patches = x_BCTHW.reshape(batch, channels, t, pt, h, ph, w, pw)
        return patches.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, t * h * w, channels * pt * ph * pw)


class PatchEmbed(nn.Module):
    """Embed the patches of a latent as tokens."""

    def __init__(self, channels: int, width: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            Patchify(patch), nn.Linear(channels * patch[0] * patch[1] * patch[2], width, bias=False)
        )

    def forward(self, x_BCTHW: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b l d"]:
        return cast(Tensor, self.proj(x_BCTHW))


def token_grid(size: torch.Size | list[int], patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the tokens along (time, height, width) of a latent of `size` cells along the same axes.

    Raises:
        ValueError: the latent is no whole number of patches.
    """
    if any(cells % step for cells, step in zip(size, patch, strict=True)):
        raise ValueError(f"latent of {tuple(size)} cells (time, height, width) is no whole number of {patch} patches")
    t, h, w = (cells // step for cells, step in zip(size, patch, strict=True))
    return t, h, w


def unpatchify(
    x_BLP: Float[Tensor, "b l p"], grid: tuple[int, int, int], patch: tuple[int, int, int]
) -> Float[Tensor, "b c t h w"]:
    """Spread tokens over a latent; the output layer orders a patch (height, width, time, channel), unlike the input."""
    (t, h, w), (pt, ph, pw) = grid, patch
    cells = x_BLP.reshape(x_BLP.shape[0], t, h, w, ph, pw, pt, -1)
    return cells.permute(0, 7, 1, 6, 2, 4, 3, 5).reshape(x_BLP.shape[0], -1, t * pt, h * ph, w * pw)


def with_masks(
    x_BCTHW: Float[Tensor, "b c t h w"], condition_mask_B1THW: Float[Tensor, "#b 1 t #h #w"]
) -> Float[Tensor, "b k t h w"]:
    """Append the mask of conditional frames, and NVIDIA's padding mask, which is zero wherever the picture is whole."""
    mask = condition_mask_B1THW.to(x_BCTHW.dtype).expand(x_BCTHW.shape[0], 1, *x_BCTHW.shape[2:])
    return torch.cat((x_BCTHW, mask, torch.zeros_like(mask)), dim=1)
