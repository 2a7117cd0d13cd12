"""Image encoders: camera images to feature vectors. No batch norm: it and averaged weights do not mix.

Legend: N images, C channels, Y rows, X columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import nn

from cosmos_engine.errors import InputError
from policies.keypoints import SpatialSoftmax
from policies.resnet import RESNET_STRIDE, ResNet18Encoder
from policies.vit import VitConfig, VitEncoder

GROUPS = 8


@dataclass(frozen=True)
class EncoderConfig:
    """Choose and size the image encoder; every camera gets one of its own.

    "conv" is a few convolutions for CPUs, "vit" one transformer block for CPUs that see fine detail, "resnet18" the
    literature's. `widths` sizes "conv" alone, `vit` sizes "vit" alone; `keypoints` serves "conv" and "resnet18".
    """

    kind: Literal["conv", "resnet18", "vit"] = "conv"
    widths: tuple[int, ...] = (16, 32, 64)  # channels of the convolutions, multiples of 8
    keypoints: int = 32
    vit: VitConfig = field(default_factory=VitConfig)


class ConvEncoder(nn.Module):
    """A small convolutional encoder for CPUs: two strided convolutions, plain ones, spatial softmax.

    Args:
        widths: channels, two or more.
        keypoints: of the spatial softmax.
    """

    def __init__(self, widths: tuple[int, ...], keypoints: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for level, width in enumerate(widths):
            kernel_size, stride = (5, 2) if level == 0 else (3, 2 if level == 1 else 1)
            layers += [
                nn.Conv2d(channels, width, kernel_size, stride, padding=kernel_size // 2),
                nn.GroupNorm(GROUPS, width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.keypoints = SpatialSoftmax(channels, keypoints)
        self.feature_width = 2 * keypoints

    def forward(self, images_NCYX: Float[torch.Tensor, "n 3 y x"]) -> Float[torch.Tensor, "n d"]:
        """Return features of images in [-1, 1]."""
        return self.keypoints(self.convolutions(images_NCYX))


Encoder = ConvEncoder | ResNet18Encoder | VitEncoder

ENCODERS: dict[str, Callable[[EncoderConfig, int], Encoder]] = {
    "conv": lambda config, _size: ConvEncoder(config.widths, config.keypoints),
    "resnet18": lambda config, _size: ResNet18Encoder(config.keypoints),
    "vit": lambda config, size: VitEncoder(config.vit, size),
}
"""Kind -> a function that builds the encoder of a config for square images of so many pixels."""


def check_encoder_config(config: EncoderConfig, size: int) -> None:
    """Make sure that the encoder's sizes fit together and fit images of `size` pixels.

    Raises:
        InputError: names the key that does not fit.
    """
    vit = config.vit
    of_kind = {
        "conv": [
            (len(config.widths) >= 2, f"widths: expected two or more, got {list(config.widths)}"),
            (
                all(width > 0 and width % GROUPS == 0 for width in config.widths),
                f"widths: expected multiples of {GROUPS}, got {list(config.widths)}",
            ),
        ],
        # A map of one pixel has its keypoint in the middle whatever it shows.
        "resnet18": [(size > RESNET_STRIDE, f"kind resnet18: expected crop_size above {RESNET_STRIDE}, got {size}")],
        "vit": [
            (vit.patch >= 2 and vit.patch % 2 == 0, f"vit.patch: expected an even number, got {vit.patch}"),
            (size >= 2 * vit.patch, f"vit.patch: expected at most half of crop_size {size}, got {vit.patch}"),
            (vit.heads >= 1 and vit.blocks >= 1, f"vit: expected heads and blocks, got {vit.heads} and {vit.blocks}"),
            (
                vit.width > 0 and vit.width % GROUPS == 0 and vit.width % max(1, vit.heads) == 0,
                f"vit.width: expected a multiple of {GROUPS} and of heads {vit.heads}, got {vit.width}",
            ),
            (vit.features >= 1, f"vit.features: expected at least 1, got {vit.features}"),
        ],
    }
    checks = [*of_kind[config.kind], (config.keypoints >= 1, f"keypoints: expected at least 1, got {config.keypoints}")]
    for holds, message in checks:
        if not holds:
            raise InputError(f"policy.encoder.{message}")
