"""A transformer block of the base, and its sibling in a control branch.

Shapes: B batch, L video tokens (time-major), D width, M text tokens of C channels, N image tokens.
Attribute names are NVIDIA's checkpoint keys.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_engine.transfer.attention import CrossAttention, SelfAttention
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.modulation import Modulation, TimeEmbedding
from cosmos_engine.transfer.rope import Rotary

NORM_EPS = 1e-6
MLP_TOKENS = 16_384  # at a time when nothing is trained: enough for a GPU's matrix products, and a fifth of the memory


class BlockContext(NamedTuple):
    """What every block of one evaluation sees besides its tokens."""

    time: TimeEmbedding
    text_BMC: Float[Tensor, "b m c"]
    image_BND: Float[Tensor, "#b n d"] | None
    rotary: Rotary


class FeedForward(nn.Module):
    """The MLP of a block."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(width, ratio * width, bias=False)
        self.layer2 = nn.Linear(ratio * width, width, bias=False)

    def forward(self, x_BLD: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        if torch.is_grad_enabled() or x_BLD.shape[1] <= MLP_TOKENS:
            return self.layer2(F.gelu(self.layer1(x_BLD)))
        return torch.cat([self.layer2(F.gelu(self.layer1(part))) for part in x_BLD.split(MLP_TOKENS, dim=1)], dim=1)


class Block(nn.Module):
    """Self-attention, cross-attention and MLP, each on modulated, normalised tokens and behind a gate."""

    def __init__(self, config: TransferConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.mlp = FeedForward(config.width, config.mlp_ratio)
        self.adaln_modulation_self_attn = Modulation(config.width, config.adaln_rank, parts=3)
        self.adaln_modulation_cross_attn = Modulation(config.width, config.adaln_rank, parts=3)
        self.adaln_modulation_mlp = Modulation(config.width, config.adaln_rank, parts=3)

    def forward(self, x_BLD: Float[Tensor, "b l d"], context: BlockContext) -> Float[Tensor, "b l d"]:
        shift, scale, gate = (part.to(x_BLD.dtype) for part in self.adaln_modulation_self_attn(context.time))
        x_BLD = torch.addcmul(x_BLD, gate, self.self_attn(modulated(x_BLD, shift, scale), context.rotary))
        shift, scale, gate = (part.to(x_BLD.dtype) for part in self.adaln_modulation_cross_attn(context.time))
        attended_BLD = self.cross_attn(modulated(x_BLD, shift, scale), context.text_BMC, context.image_BND)
        x_BLD = torch.addcmul(x_BLD, gate, attended_BLD)
        shift, scale, gate = (part.to(x_BLD.dtype) for part in self.adaln_modulation_mlp(context.time))
        return torch.addcmul(x_BLD, gate, self.mlp(modulated(x_BLD, shift, scale)))


class ControlBlock(Block):
    """A block of a control branch: `after_proj` taps its tokens; the first one's `before_proj` lets the control in."""

    def __init__(self, config: TransferConfig, *, is_first: bool) -> None:
        super().__init__(config)
        if is_first:
            self.before_proj = nn.Linear(config.width, config.width)
        self.after_proj = nn.Linear(config.width, config.width)


def modulated(
    x_BLD: Float[Tensor, "b l d"], shift: Float[Tensor, "b 1 d"], scale: Float[Tensor, "b 1 d"]
) -> Float[Tensor, "b l d"]:
    """Normalise tokens over their channels, then scale and shift them per sample."""
    return torch.addcmul(shift, F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=NORM_EPS), 1 + scale)
