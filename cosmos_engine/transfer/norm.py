"""RMS normalisation over the last axis, with a learned scale."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

RMS_EPS = 1e-6


class RMSNorm(nn.RMSNorm):
    """Normalise to unit mean square; the result keeps the input's dtype, under autocast too."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=RMS_EPS)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), RMS_EPS)
