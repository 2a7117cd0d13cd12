"""Linear normalisation of low-dimensional arrays to [-1, 1] by the limits of the training split."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import nn

MIN_RANGE = (
    1e-4  # as Chi et al. 2023: below it a dimension counts as constant, else its noise would be blown up to [-1, 1]
)


class LimitsNormalizer(nn.Module):
    """Map each dimension's [low, high] to [-1, 1]; a constant dimension maps to 0 and back to its constant.

    The two buffers are saved with the policy's weights.

    Args:
        width: dimensions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("half_range", torch.ones(width))
        self.centre: torch.Tensor
        self.half_range: torch.Tensor

    def fit(self, rows: Float32[np.ndarray, "n d"]) -> None:
        """Take the limits from `rows`."""
        low, high = rows.min(axis=0), rows.max(axis=0)
        constant = high - low < MIN_RANGE
        self.centre.copy_(torch.from_numpy((low + high) / 2))
        self.half_range.copy_(torch.from_numpy(np.where(constant, np.float32(1.0), (high - low) / 2)))

    def normalize(self, values: Float[torch.Tensor, "*n d"]) -> Float[torch.Tensor, "*n d"]:
        """Return normalised values; what lies outside the training limits lies outside [-1, 1]."""
        return (values - self.centre) / self.half_range

    def denormalize(self, values: Float[torch.Tensor, "*n d"]) -> Float[torch.Tensor, "*n d"]:
        """Return values in their own units."""
        return values * self.half_range + self.centre
