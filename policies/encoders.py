"""Image encoders: camera images to feature vectors. Group norm throughout: batch norm and EMA weights do not mix.

Legend: N images, C channels, Y rows, X columns, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import nn

GROUPS = 8


@dataclass(frozen=True)
class EncoderConfig:
    """Choose and size the image encoder; every camera gets one of its own."""

    kind: Literal["conv"] = "conv"
    widths: tuple[int, ...] = (16, 32, 64)  # channels of the convolutions, multiples of 8
    keypoints: int = 32


class SpatialSoftmax(nn.Module):
    """Turn each feature map into the expected image position of its activation (Finn et al. 2016; Levine et al. 2016).

    Args:
        channels: channels of the input.
        keypoints: feature maps, by a 1x1 convolution.
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, keypoints, 1)

    def forward(self, features_NCYX: Float[torch.Tensor, "n c y x"]) -> Float[torch.Tensor, "n d"]:
        """Return the keypoints' positions in [-1, 1]: D = 2K, x of all keypoints first."""
        rows, columns = features_NCYX.shape[-2:]
        # float32: in bfloat16 the expected position would be quantised to about a quarter of a pixel.
        weights_NKYX = self.maps(features_NCYX).float().flatten(2).softmax(-1).unflatten(2, (rows, columns))
        x_X = torch.linspace(-1.0, 1.0, columns, device=weights_NKYX.device)
        y_Y = torch.linspace(-1.0, 1.0, rows, device=weights_NKYX.device)
        return torch.cat([weights_NKYX.sum(2) @ x_X, weights_NKYX.sum(3) @ y_Y], dim=-1)


class ConvEncoder(nn.Module):
    """A small convolutional encoder for CPUs: two strided convolutions, plain ones, spatial softmax.

    Args:
        config: widths (two or more) and keypoints.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for level, width in enumerate(config.widths):
            kernel_size, stride = (5, 2) if level == 0 else (3, 2 if level == 1 else 1)
            layers += [
                nn.Conv2d(channels, width, kernel_size, stride, padding=kernel_size // 2),
                nn.GroupNorm(GROUPS, width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.keypoints = SpatialSoftmax(channels, config.keypoints)
        self.feature_width = 2 * config.keypoints

    def forward(self, images_NCYX: Float[torch.Tensor, "n 3 y x"]) -> Float[torch.Tensor, "n d"]:
        """Return features of images in [-1, 1]."""
        return self.keypoints(self.convolutions(images_NCYX))


ENCODERS: dict[str, Callable[[EncoderConfig], ConvEncoder]] = {"conv": ConvEncoder}
