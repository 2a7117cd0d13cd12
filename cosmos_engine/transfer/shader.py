"""The shader: how light falls on what is painted, from geometry and what the latent says of each place.

Shapes: N frame, C channel, H W pixel, h w latent cell.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_engine.transfer.codec import GUIDE_CHANNELS
from cosmos_engine.transfer.parts import PARTS

GEOMETRY_CHANNELS = 6  # world position and normal


class Shader(nn.Module):
    """A small U-Net that returns the light on painted colours: what multiplies them and what is added.

    Args:
        cell_channels: of the look at each latent cell.
        width: channels at half resolution.
    """

    def __init__(self, cell_channels: int, width: int = 24) -> None:
        super().__init__()
        middle, coarse = width + width // 3, 2 * width
        seen = sum(GUIDE_CHANNELS.values()) + GEOMETRY_CHANNELS + 3
        self.look = nn.Sequential(nn.Conv2d(cell_channels + len(PARTS), coarse, 3, padding=1), nn.SiLU())
        self.down2 = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * seen, width, 1), nn.SiLU())
        self.down4 = nn.Sequential(nn.Conv2d(width, middle, 3, padding=1, stride=2), nn.SiLU())
        self.down8 = nn.Sequential(nn.Conv2d(middle, coarse, 3, padding=1, stride=2), nn.SiLU())
        self.at8 = nn.Sequential(nn.Conv2d(2 * coarse, coarse, 3, padding=1), nn.SiLU())
        self.up4 = nn.Sequential(nn.Conv2d(coarse, 4 * middle, 1), nn.PixelShuffle(2))
        self.at4 = nn.Sequential(nn.Conv2d(2 * middle, middle, 3, padding=1), nn.SiLU())
        self.up2 = nn.Sequential(nn.Conv2d(middle, 4 * width, 1), nn.PixelShuffle(2))
        self.at2 = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.SiLU())
        self.up1 = nn.Sequential(nn.Conv2d(width, 4 * 12, 1), nn.PixelShuffle(2))
        self.out = nn.Sequential(nn.Conv2d(12 + seen, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 6, 3, padding=1))
        last = self.out[2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, painted_N3HW: Float[Tensor, "n 3 hh ww"], seen_NCHW: Float[Tensor, "n c hh ww"], cells_NChw: Tensor
    ) -> Float[Tensor, "n 6 hh ww"]:
        """Return for each colour by how much more than once it is shown, and what is added; zero at first.

        Args:
            painted_N3HW: colours in [-1, 1].
            seen_NCHW: control videos and geometry.
            cells_NChw: the look of each cell, and the share of each part in it.
        """
        seen_NCHW = torch.cat([painted_N3HW, seen_NCHW], dim=1)
        x2 = self.down2(seen_NCHW)
        x4 = self.down4(x2)
        x = self.at8(torch.cat([self.down8(x4), self.look(cells_NChw)], dim=1))
        x = self.at4(torch.cat([self.up4(x), x4], dim=1))
        x = self.at2(torch.cat([self.up2(x), x2], dim=1))
        light: Tensor = self.out(torch.cat([self.up1(x), seen_NCHW], dim=1))
        return light


def lit(painted_BCTHW: Float[Tensor, "b 3 t hh ww"], light_BCTHW: Float[Tensor, "b 6 t hh ww"]) -> Tensor:
    """Return painted colours in light: a light falls on every colour alike, a highlight has its own."""
    return (painted_BCTHW + 1.0) * (1.0 + light_BCTHW[:, :3]) - 1.0 + light_BCTHW[:, 3:]
