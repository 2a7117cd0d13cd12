"""The value function: what the cloned policy sees, through encoders of its own, to one number."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float, Float32, UInt8
from torch import nn

from policies.diffusion import DiffusionPolicy


class Critic(nn.Module):
    """Estimate the discounted sum of scaled rewards from an observation window.

    The image encoders start as copies of the cloned policy's and learn apart from the actor's: a value function that
    shared them would move the actor. The perceptron is that of the published experiments: one residual block.

    Args:
        cloned: the policy whose observations it sees.
        width: of the hidden layers.
    """

    def __init__(self, cloned: DiffusionPolicy, width: int) -> None:
        super().__init__()
        self.observer = copy.deepcopy(cloned)
        observation_width = cloned.observation_width
        del self.observer.unet
        self.observer.requires_grad_(True)
        self.first = nn.Linear(observation_width, width)
        self.block = nn.Sequential(nn.Mish(), nn.Linear(width, width), nn.Mish(), nn.Linear(width, width))
        self.head = nn.Linear(width, 1)

    def forward(
        self,
        images: Mapping[str, UInt8[torch.Tensor, "b t y x 3"]],
        low_dim: Mapping[str, Float32[torch.Tensor, "b t _"]],
        crop_generator: torch.Generator | None = None,
    ) -> Float[torch.Tensor, " b"]:
        """Return one value per window; arguments as of `DiffusionPolicy.observe`."""
        hidden_BD = self.first(self.observer.observe(images, low_dim, crop_generator))
        return self.head(hidden_BD + self.block(hidden_BD))[:, 0]
