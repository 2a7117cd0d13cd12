"""Spatial softmax: feature maps to the image positions of what they respond to.

Legend: N images, C channels, Y rows, X columns, K keypoints.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import nn


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
