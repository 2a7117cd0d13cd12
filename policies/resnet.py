"""ResNet18 with group norm and spatial softmax: the image encoder of the diffusion policy's paper (Chi et al. 2023).

Legend: N images, C channels, Y rows, X columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import nn

from policies.keypoints import SpatialSoftmax

RESNET_STRIDE = 32  # pixels of the image per pixel of the last map
_WIDTHS = (64, 128, 256, 512)
_CHANNELS_PER_GROUP = 16  # as Chi et al. 2023, who put group norm where He et al. 2016 have batch norm


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2), normalised by groups.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output; a multiple of 16.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.first_norm = _group_norm(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = _group_norm(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            projection = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, _group_norm(channels_out))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x_NCYX: Float[torch.Tensor, "n c y x"]) -> Float[torch.Tensor, "n c_out y_out x_out"]:
        """Return the block's output."""
        hidden_NCYX = self.activation(self.first_norm(self.first(x_NCYX)))
        return self.activation(self.second_norm(self.second(hidden_NCYX)) + self.shortcut(x_NCYX))


class ResNet18Encoder(nn.Module):
    """The convolutions of ResNet18, spatial softmax, and a linear layer; no weights from elsewhere.

    Args:
        keypoints: of the spatial softmax; features are two a keypoint.
    """

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, _WIDTHS[0], 7, 2, padding=3, bias=False),
            _group_norm(_WIDTHS[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        ]
        channels = _WIDTHS[0]
        for width in _WIDTHS:
            layers += [ResidualBlock(channels, width, 1 if width == channels else 2), ResidualBlock(width, width, 1)]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        for module in self.convolutions.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015
        self.keypoints = SpatialSoftmax(channels, keypoints)
        self.feature_width = 2 * keypoints
        self.projection = nn.Linear(self.feature_width, self.feature_width)

    def forward(self, images_NCYX: Float[torch.Tensor, "n 3 y x"]) -> Float[torch.Tensor, "n d"]:
        """Return features of images in [-1, 1]."""
        return self.projection(self.keypoints(self.convolutions(images_NCYX)))


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _CHANNELS_PER_GROUP, channels)
