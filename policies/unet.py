"""The conditional 1D U-Net over action sequences (Janner et al. 2022; Chi et al. 2023, section III).

Legend: B batch, P horizon positions, A action, C channels, D conditioning features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import nn

GROUPS = 8


class StepEmbedding(nn.Module):
    """Embed denoise steps: sinusoids (Vaswani et al. 2017, section 3.5), then a two-layer perceptron.

    Args:
        width: features of the sinusoids and of the result; even.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))

    def forward(self, steps_B: Int[torch.Tensor, " b"]) -> Float[torch.Tensor, "b d"]:
        """Return one embedding per denoise step."""
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=steps_B.device) * (-math.log(10_000.0) / (half - 1)))
        angles = steps_B.float()[:, None] * rates
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))


class FilmBlock(nn.Module):
    """Two convolutions with group norm; the first is scaled and shifted by the conditioning (FiLM, Perez et al. 2018).

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output; a multiple of 8 (the groups).
        condition_width: features of the conditioning vector.
        kernel_size: odd.
    """

    def __init__(self, channels_in: int, channels_out: int, condition_width: int, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.first = nn.Conv1d(channels_in, channels_out, kernel_size, padding=padding)
        self.first_norm = nn.GroupNorm(GROUPS, channels_out)
        self.second = nn.Conv1d(channels_out, channels_out, kernel_size, padding=padding)
        self.second_norm = nn.GroupNorm(GROUPS, channels_out)
        self.film = nn.Linear(condition_width, 2 * channels_out)
        self.shortcut = nn.Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.activation = nn.Mish()

    def forward(
        self, x_BCP: Float[torch.Tensor, "b c p"], condition_BD: Float[torch.Tensor, "b d"]
    ) -> Float[torch.Tensor, "b c_out p"]:
        """Return the block's output; `condition_BD` has already passed the activation."""
        scale_BC1, bias_BC1 = self.film(condition_BD)[:, :, None].chunk(2, dim=1)
        hidden_BCP = self.activation(self.first_norm(self.first(x_BCP)))
        hidden_BCP = hidden_BCP * (1.0 + scale_BC1) + bias_BC1
        return self.activation(self.second_norm(self.second(hidden_BCP))) + self.shortcut(x_BCP)


class FilmPair(nn.Module):
    """Two blocks at one resolution.

    Args:
        channels_in: channels of the input.
        width: channels of the output.
        condition_width: features of the conditioning vector.
        kernel_size: odd.
    """

    def __init__(self, channels_in: int, width: int, condition_width: int, kernel_size: int) -> None:
        super().__init__()
        self.first = FilmBlock(channels_in, width, condition_width, kernel_size)
        self.second = FilmBlock(width, width, condition_width, kernel_size)

    def forward(
        self, x_BCP: Float[torch.Tensor, "b c p"], condition_BD: Float[torch.Tensor, "b d"]
    ) -> Float[torch.Tensor, "b c_out p"]:
        """Return the second block's output."""
        return self.second(self.first(x_BCP, condition_BD), condition_BD)


class Unet1d(nn.Module):
    """Predict the noise (or velocity) in an action sequence, given the denoise step and an observation vector.

    Args:
        action_dim: A.
        observation_width: features of the observation vector.
        widths: channels per resolution, finest first; multiples of 8. Each further one halves the positions.
        kernel_size: of the convolutions over time; odd.
        step_width: features of the denoise-step embedding.
    """

    def __init__(
        self,
        *,
        action_dim: int,
        observation_width: int,
        widths: Sequence[int],
        kernel_size: int = 5,
        step_width: int = 128,
    ) -> None:
        super().__init__()
        self.step_embedding = StepEmbedding(step_width)
        self.activation = nn.Mish()
        condition_width = step_width + observation_width

        def pair(channels_in: int, width: int) -> FilmPair:
            return FilmPair(channels_in, width, condition_width, kernel_size)

        finer = list(widths[:-1])
        self.down = nn.ModuleList(map(pair, [action_dim, *finer], widths))
        self.downsample = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for width in finer)
        self.middle = pair(widths[-1], widths[-1])
        self.upsample = nn.ModuleList(
            nn.ConvTranspose1d(coarse, fine, 4, stride=2, padding=1) for fine, coarse in reversed([*pairwise(widths)])
        )
        self.up = nn.ModuleList(pair(2 * width, width) for width in reversed(finer))
        self.head = nn.Conv1d(widths[0], action_dim, 1)

    def forward(
        self,
        actions_BPA: Float[torch.Tensor, "b p a"],
        steps_B: Int[torch.Tensor, " b"],
        observation_BD: Float[torch.Tensor, "b d"],
    ) -> Float[torch.Tensor, "b p a"]:
        """Return the network's prediction for noised actions; P is a multiple of 2^(len(widths) - 1)."""
        condition_BD = self.activation(torch.cat([self.step_embedding(steps_B), observation_BD], dim=-1))
        hidden_BCP = actions_BPA.transpose(1, 2)
        skips: list[torch.Tensor] = []
        for level, blocks in enumerate(self.down):
            hidden_BCP = blocks(hidden_BCP, condition_BD)
            if level < len(self.downsample):
                skips.append(hidden_BCP)
                hidden_BCP = self.downsample[level](hidden_BCP)
        hidden_BCP = self.middle(hidden_BCP, condition_BD)
        for upsample, blocks in zip(self.upsample, self.up, strict=True):
            hidden_BCP = blocks(torch.cat([upsample(hidden_BCP), skips.pop()], dim=1), condition_BD)
        return self.head(hidden_BCP).transpose(1, 2)
