"""A light vision transformer for pixels without pre-training, in the spirit of DPPO's (Ren et al. 2024).

Theirs and this one follow Hu et al. 2024 ("Imitation bootstrapped reinforcement learning"): overlapping patches from
two convolutions, one or two blocks, and in place of a class token a learned summary that keeps where things are.

Legend: N images, C channels, Y rows, X columns, L patches, D width, H heads, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

GROUPS = 8


@dataclass(frozen=True)
class VitConfig:
    """Size the transformer; patch and width are DPPO's."""

    patch: int = 8  # pixels between patches; even
    width: int = 128  # a multiple of 8 and of heads
    blocks: int = 1
    heads: int = 4
    features: int = 128


class AttentionBlock(nn.Module):
    """Attention, then a perceptron, each normalised before and added after.

    Args:
        width: D.
        heads: H, a divisor of D.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens_NLD: Float[torch.Tensor, "n l d"]) -> Float[torch.Tensor, "n l d"]:
        """Return the tokens after the block."""
        qkv_NL3D = self.queries_keys_values(self.attention_norm(tokens_NLD))
        q_NHLd, k_NHLd, v_NHLd = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv_NL3D.chunk(3, dim=-1)
        )
        seen_NHLd = functional.scaled_dot_product_attention(q_NHLd, k_NHLd, v_NHLd)
        tokens_NLD = tokens_NLD + self.joined(seen_NHLd.transpose(1, 2).flatten(2))
        return tokens_NLD + self.perceptron(tokens_NLD)


class VitEncoder(nn.Module):
    """Patches, learned positions, attention blocks, and a summary by learned weights over patches.

    Args:
        config: sizes.
        size: pixels of a side of the images; at least two patches.
    """

    def __init__(self, config: VitConfig, size: int) -> None:
        super().__init__()
        width, stride = config.width, config.patch // 2
        self.patches = nn.Sequential(
            nn.Conv2d(3, width, config.patch, stride),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 2),
        )
        first = (size - config.patch) // stride + 1
        patches = ((first - 3) // 2 + 1) ** 2
        self.positions_LD = nn.Parameter(0.02 * torch.randn(patches, width))
        self.blocks = nn.Sequential(*(AttentionBlock(width, config.heads) for _ in range(config.blocks)))
        self.norm = nn.LayerNorm(width)
        # The summary: F mixtures over patches, each weighted channel by channel and summed.
        self.mixtures = nn.Sequential(nn.Linear(patches, config.features), nn.LayerNorm(config.features), nn.ReLU())
        self.channel_weights_DF = nn.Parameter(torch.randn(width, config.features) * width**-0.5)
        self.feature_norm = nn.LayerNorm(config.features)
        self.feature_width = config.features

    def forward(self, images_NCYX: Float[torch.Tensor, "n 3 y x"]) -> Float[torch.Tensor, "n f"]:
        """Return features of images in [-1, 1]."""
        tokens_NLD = self.patches(images_NCYX).flatten(2).transpose(1, 2) + self.positions_LD
        tokens_NDL = self.norm(self.blocks(tokens_NLD)).transpose(1, 2)
        return self.feature_norm((self.mixtures(tokens_NDL) * self.channel_weights_DF).sum(1))
