"""The network of the small geometry reader: a U-Net that sees one frame at a time.

Shape legend: B frame, C channel, H W pixel; numbers in names are the share of the frame's side (x2 = half).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_engine.controls.role_map import ROLES

SIDE_MULTIPLE = 16
"""Frames are padded to this; the deepest features are this coarse."""


class ReaderNetwork(nn.Module):
    """Map rgb to role logits and log-depth.

    Works at half size and below, where most of the cost is; one layer at full size puts the contours back. Of the
    deepest features their mean over the frame is added, so that a pixel knows the light and colours of the whole frame.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 48, 80, 112), detail_width: int = 16) -> None:
        super().__init__()
        w2, w4, w8, w16 = widths
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), *_convolution(12, w2))
        self.encode2 = _block(w2, w2)
        self.encode4 = _block(w2, w4, stride=2)
        self.encode8 = _block(w4, w8, stride=2)
        self.encode16 = nn.Sequential(_block(w8, w16, stride=2), *_convolution(w16, w16, dilation=2))
        self.whole = nn.Linear(w16, w16)
        self.up8, self.decode8 = nn.Conv2d(w16, w8, 1), _block(w8, w8)
        self.up4, self.decode4 = nn.Conv2d(w8, w4, 1), _block(w4, w4)
        self.up2, self.decode2 = nn.Conv2d(w4, w2, 1), _block(w2, w2)
        self.up1 = nn.Sequential(nn.Conv2d(w2, 4 * detail_width, 1), nn.PixelShuffle(2))
        self.detail = nn.Conv2d(3, detail_width, 3, padding=1)
        self.fuse = nn.Sequential(*_convolution(detail_width, 2 * detail_width))
        self.heads = nn.Conv2d(2 * detail_width, len(ROLES) + 1, 3, padding=1)

    def forward(self, rgb_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return role logits (B, 3, H, W) in the order of `ROLES`, and log-depth (B, H, W).

        `rgb_BCHW` is in [-1, 1], its sides multiples of 16.
        """
        x2 = self.encode2(self.stem(rgb_BCHW))
        x4 = self.encode4(x2)
        x8 = self.encode8(x4)
        x16 = self.encode16(x8)
        x16 = x16 + self.whole(x16.mean((2, 3)))[:, :, None, None]
        y8 = self.decode8(x8 + _doubled(self.up8(x16)))
        y4 = self.decode4(x4 + _doubled(self.up4(y8)))
        y2 = self.decode2(x2 + _doubled(self.up2(y4)))
        y1 = self.fuse(self.up1(y2) + self.detail(rgb_BCHW))
        out = self.heads(y1).float()
        return out[:, : len(ROLES)], out[:, len(ROLES)]


def frames_as_input(rgb_BHWC: Tensor) -> Tensor:
    """Return uint8 frames (B, H, W, 3) as float32 (B, 3, H', W') in [-1, 1], padded to the network's side multiple."""
    rgb_BCHW = rgb_BHWC.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
    H, W = rgb_BCHW.shape[2:]
    padded = F.pad(rgb_BCHW, (0, -W % SIDE_MULTIPLE, 0, -H % SIDE_MULTIPLE), mode="replicate")
    return padded.contiguous(memory_format=torch.channels_last)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def _convolution(inward: int, outward: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inward, outward, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outward, momentum=0.03),
        nn.SiLU(),
    ]


def _block(inward: int, outward: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_convolution(inward, outward, stride=stride), *_convolution(outward, outward))
