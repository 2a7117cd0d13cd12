"""Attention of a transformer block: self-attention over the video, cross-attention to text and image context.

Shapes: B batch, L video tokens, M text tokens, N image tokens, H heads, E head width, D width = H * E.
Attribute names are NVIDIA's checkpoint keys.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.norm import RMSNorm
from cosmos_engine.transfer.rope import Rotary, rotate


class SelfAttention(nn.Module):
    """Attend from every video token to every other, with RMS-normalised, rotated queries and keys."""

    def __init__(self, config: TransferConfig, context_width: int | None = None) -> None:
        super().__init__()
        self.heads = config.heads
        context_width = context_width or config.width
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(context_width, config.width, bias=False)
        self.v_proj = nn.Linear(context_width, config.width, bias=False)
        self.output_proj = nn.Linear(config.width, config.width, bias=False)
        self.q_norm = RMSNorm(config.head_dim)
        self.k_norm = RMSNorm(config.head_dim)

    def forward(self, x_BLD: Float[Tensor, "b l d"], rotary: Rotary) -> Float[Tensor, "b l d"]:
        q_BHLE = rotate(self.q_norm(self.split_heads(self.q_proj(x_BLD))), rotary)
        k_BHLE = rotate(self.k_norm(self.split_heads(self.k_proj(x_BLD))), rotary)
        v_BHLE = self.split_heads(self.v_proj(x_BLD))
        out_BHLE = F.scaled_dot_product_attention(q_BHLE, k_BHLE, v_BHLE)
        return self.output_proj(join_heads(out_BHLE))

    def split_heads(self, x_BLD: Float[Tensor, "b l d"]) -> Float[Tensor, "b h l e"]:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossAttention(SelfAttention):
    """Attend from every video token to the text, and to an image context that has projections of its own."""

    def __init__(self, config: TransferConfig) -> None:
        super().__init__(config, config.text_width)
        self.image_value: Tensor | None = None  # of `fold_image`
        if config.image_width is not None:
            self.q_img = nn.Linear(config.width, config.width, bias=False)
            self.k_img = nn.Linear(config.width, config.width, bias=False)
            self.v_img = nn.Linear(config.width, config.width, bias=False)
            self.q_img_norm = RMSNorm(config.head_dim)
            self.k_img_norm = RMSNorm(config.head_dim)

    def forward(  # type: ignore[override]
        self,
        x_BLD: Float[Tensor, "b l d"],
        text_BMC: Float[Tensor, "b m c"],
        image_BND: Float[Tensor, "#b n d"] | None,
    ) -> Float[Tensor, "b l d"]:
        q_BHLE = self.q_norm(self.split_heads(self.q_proj(x_BLD)))
        k_BHME = self.k_norm(self.split_heads(self.k_proj(text_BMC)))
        v_BHME = self.split_heads(self.v_proj(text_BMC))
        out_BLD = join_heads(F.scaled_dot_product_attention(q_BHLE, k_BHME, v_BHME))
        if self.image_value is not None:
            out_BLD = out_BLD + self.image_value
        elif image_BND is not None:
            out_BLD = out_BLD + self._attend_to_image(x_BLD, image_BND)
        return self.output_proj(out_BLD)

    def fold_image(self, image_1ND: Float[Tensor, "1 1 d"] | None) -> None:
        """Keep what a constant image context of one token adds, None for nothing, and give up the projections."""
        value = None if image_1ND is None else self.v_img(image_1ND)
        del self.image_value, self.q_img, self.k_img, self.v_img, self.q_img_norm, self.k_img_norm
        self.register_buffer("image_value", value, persistent=False)

    def _attend_to_image(
        self, x_BLD: Float[Tensor, "b l d"], image_BND: Float[Tensor, "#b n d"]
    ) -> Float[Tensor, "#b _ d"]:
        if image_BND.shape[1] == 1:
            # Attention to a single token is that token's value, whatever the query. A context of equal tokens, such
            # as the zeros of an absent image, is passed as one token and costs one vector instead of an attention.
            return self.v_img(image_BND)
        image_BND = image_BND.expand(x_BLD.shape[0], -1, -1)
        q_BHLE = self.q_img_norm(self.split_heads(self.q_img(x_BLD)))
        k_BHNE = self.k_img_norm(self.split_heads(self.k_img(image_BND)))
        v_BHNE = self.split_heads(self.v_img(image_BND))
        return join_heads(F.scaled_dot_product_attention(q_BHLE, k_BHNE, v_BHNE))


def join_heads(x_BHLE: Float[Tensor, "b h l e"]) -> Float[Tensor, "b l d"]:
    """Lay the heads of each token side by side again."""
    return x_BHLE.transpose(1, 2).flatten(2)
