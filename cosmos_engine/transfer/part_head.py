"""The part head: which part of the scene every pixel shows, from whichever control videos there are.

Shapes: N frame, K part, H W pixel.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_engine.controls.seg import instance_colors
from cosmos_engine.transfer.codec import GUIDE_CHANNELS
from cosmos_engine.transfer.parts import PARTS

TABLETOP_IDS = (3, 4, 5, 1, 2, 6, 7)  # of table, wall, floor, robot, gripper, object, second object
SHARPNESS = 40.0  # of the softmax over parts, per squared distance of seg colours in [0, 1]
WIDTHS = (24, 32, 48)


class PartHead(nn.Module):
    """Logits of the parts: one map for each pixel's own values, another from a coarse to fine look around it.

    It starts where a part is the colour that seed 0 gives it in the seg control of the table-top; what parts look like
    in other palettes, and without a seg control, is learnt from the recorded ids.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.of_color = nn.Conv2d(GUIDE_CHANNELS["seg"], len(PARTS), 1)
        self.of_pixel = nn.Sequential(nn.Conv2d(sum(GUIDE_CHANNELS.values()), 16, 1), nn.SiLU(), nn.Conv2d(16, 8, 1))
        self.down2 = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * sum(GUIDE_CHANNELS.values()), fine, 1), nn.SiLU()
        )
        self.down4 = nn.Sequential(nn.Conv2d(fine, middle, 3, padding=1, stride=2), nn.SiLU())
        self.down8 = nn.Sequential(nn.Conv2d(middle, coarse, 3, padding=1, stride=2), nn.SiLU())
        self.down16 = nn.Sequential(nn.Conv2d(coarse, coarse, 3, padding=1, stride=2), nn.SiLU())
        self.around = nn.Sequential(
            nn.Conv2d(coarse, coarse, 3, padding=1), nn.SiLU(), nn.Conv2d(coarse, coarse, 3, padding=1), nn.SiLU()
        )
        self.up8 = nn.Sequential(nn.Conv2d(2 * coarse, middle, 3, padding=1), nn.SiLU())
        self.up4 = nn.Sequential(nn.Conv2d(2 * middle, fine, 3, padding=1), nn.SiLU())
        self.up2 = nn.Sequential(nn.Conv2d(2 * fine, fine, 3, padding=1), nn.SiLU(), nn.Conv2d(fine, len(PARTS), 1))
        with torch.no_grad():
            colors = torch.from_numpy(instance_colors(np.array(TABLETOP_IDS), 0).astype(np.float32) / 255)
            colors = torch.cat([colors, torch.zeros(1, 3)])
            self.of_color.weight.copy_(2 * SHARPNESS * colors[:, :, None, None])
            assert self.of_color.bias is not None
            self.of_color.bias.copy_(-SHARPNESS * colors.square().sum(1))

    def forward(self, guide_NCHW: Float[Tensor, "n c h w"], *, has_seg: bool) -> Float[Tensor, "n k h w"]:
        """Return logits; `guide_NCHW` as `codec.guide_frames` stacks it, with a seg control or without."""
        x2 = self.down2(guide_NCHW)
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        y8 = self.up8(torch.cat([x8, _doubled(self.around(self.down16(x8)))], dim=1))
        y4 = self.up4(torch.cat([x4, _doubled(y8)], dim=1))
        nearby = _doubled(self.up2(torch.cat([x2, _doubled(y4)], dim=1)))
        logits = self.of_pixel(guide_NCHW) + nearby
        return logits + self.of_color(guide_NCHW[:, -GUIDE_CHANNELS["seg"] :]) if has_seg else logits


def _doubled(x_NCHW: Tensor) -> Tensor:
    return F.interpolate(x_NCHW, scale_factor=2.0, mode="bilinear")
