"""Modulation by the flow time: sinusoids, their shared projection, and each block's low-rank part (AdaLN-LoRA).

All of it runs in at least float32 whatever the network's dtype (NVIDIA's "wan fp32 strategy"); these are vectors, one
per sample, so this costs nothing. Shapes: B batch, D width, K = 3 D. Attribute names are NVIDIA's checkpoint keys.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MAX_PERIOD = 10_000.0


class TimeEmbedding(NamedTuple):
    """What the flow time tells the blocks: the normalised sinusoids, and a modulation that all blocks share."""

    sinusoids_BD: Float[Tensor, "b d"]
    shared_BK: Float[Tensor, "b k"]


class Sinusoids(nn.Module):
    """Embed one number per sample as cosines, then sines, of `width / 2` frequencies from 1 down to 1/10000 rad."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, time_B: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        half = self.width // 2
        exponents = torch.arange(half, dtype=torch.float32, device=time_B.device) / half
        angles = time_B.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
        return torch.cat((angles.cos(), angles.sin()), dim=-1)


class SharedModulation(nn.Module):
    """Project the sinusoids to the shift, scale and gate that all blocks share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, width, bias=False)
        self.linear_2 = nn.Linear(width, 3 * width, bias=False)

    def forward(self, sinusoids_BD: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        return wide_linear(self.linear_2, F.silu(wide_linear(self.linear_1, sinusoids_BD)))


class Modulation(nn.Sequential):
    """Turn a time embedding into `parts` vectors for one sub-layer: shift, scale and, for a block, gate."""

    def __init__(self, width: int, rank: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, rank, bias=False), nn.Linear(rank, parts * width, bias=False))
        self.parts = parts

    def forward(self, time: TimeEmbedding) -> tuple[Float[Tensor, "b 1 d"], ...]:
        activation, down, up = self
        own_BP = wide_linear(up, wide_linear(down, activation(time.sinusoids_BD)))
        return (own_BP + time.shared_BK[:, : own_BP.shape[-1]])[:, None].chunk(self.parts, dim=-1)


def wide_linear(linear: nn.Module, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
    """Apply a linear layer without bias in at least float32, under autocast too; no copies where it is that wide."""
    weight = linear.get_parameter("weight")
    wide = torch.promote_types(weight.dtype, torch.float32)
    with without_autocast(x.device):
        return F.linear(x.to(wide), weight.to(wide))


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast is off."""
    if not torch.amp.is_autocast_available(device.type):  # the meta device has none
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
