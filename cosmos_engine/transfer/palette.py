"""A palette: what the text alone says of the look, the same in every latent cell.

Shapes: B prompt, M text token, C text width, G group of latent channels, H hidden, S channels of a group.

A codec that keeps the look part by part has latent channels for each part in every cell, so a cell may say how all
parts look without knowing which of them it shows. What a prompt says of a part is then a map from a token to numbers,
which is learnt in minutes; the transformer adds what depends on the place. The 2B model has none.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_engine.transfer.config import TransferConfig

HIDDEN = 192


class Palette(nn.Module):
    """Read each group's channels from the text token that speaks of it and from that of the last group, the light."""

    def __init__(self, config: TransferConfig) -> None:
        super().__init__()
        self.tokens, self.channels = list(config.palette_tokens), list(config.palette_channels)
        self.of_token = nn.Linear(config.text_width, HIDDEN)
        self.of_light = nn.Linear(config.text_width, HIDDEN)
        self.group = nn.Parameter(torch.zeros(len(self.tokens), HIDDEN))
        self.more = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.ModuleList(nn.Linear(HIDDEN, channels) for channels in config.palette_channels)

    def forward(self, text_BMC: Float[Tensor, "b m c"]) -> Float[Tensor, "b s"]:
        """Return the channels of all groups side by side."""
        last = text_BMC.shape[1] - 1
        tokens_BGC = text_BMC[:, [min(token, last) for token in self.tokens]]
        x_BGH = F.gelu(self.of_token(tokens_BGC) + self.of_light(tokens_BGC[:, -1:]) + self.group)
        x_BGH = x_BGH + F.gelu(self.more(x_BGH))
        return torch.cat([out(x_BGH[:, group]) for group, out in enumerate(self.out)], dim=-1)

    @torch.no_grad()
    def fold_guidance(self, guidance: float, empty_1MC: Float[Tensor, "1 m c"]) -> None:
        """Have the weights say what guidance would: the look, and so much of its difference from no prompt's look.

        A mean of all looks that a prompt allows is paler than each of them. Classifier-free guidance brings the colours
        back at the price of a second evaluation of the network; on a map that is linear in its last layer it is a
        change of that layer's weights.

        Args:
            guidance: 0 changes nothing.
            empty_1MC: text tokens of the empty prompt.
        """
        without_prompt = self(empty_1MC).split(self.channels, dim=-1)
        for out, look_1S in zip(self.out, without_prompt, strict=True):
            assert isinstance(out, nn.Linear)
            out.weight.mul_(1 + guidance)
            out.bias.mul_(1 + guidance).sub_(guidance * look_1S[0])
