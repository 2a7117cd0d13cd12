"""A control branch: one modality's own blocks, whose outputs are added to the base's tokens.

Shapes: B batch, C control channels, T frames, H rows, W columns of the latent; L tokens (time-major), D width.
Attribute names are NVIDIA's checkpoint keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_engine.transfer.block import BlockContext, ControlBlock
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.patch import PatchEmbed, with_masks

MASK_CHANNELS = 2


class ControlBranch(nn.Module):
    """Run one modality's control blocks beside the base.

    The first block starts from the embedded noisy latent plus the embedded control, and every block sees text and
    time, so a branch has to run again at each denoise step; its embedded control does not.
    """

    def __init__(self, config: TransferConfig) -> None:
        super().__init__()
        self.control_channels = config.control_channels
        self.control_embedder = PatchEmbed(config.control_channels + MASK_CHANNELS, config.width, config.patch)
        self.control_blocks = nn.ModuleList(
            ControlBlock(config, is_first=index == 0) for index in range(config.control_blocks)
        )

    def embed_control(
        self, control_BCTHW: Float[Tensor, "b c t h w"], condition_mask_B1THW: Float[Tensor, "#b 1 t #h #w"]
    ) -> Float[Tensor, "b l d"]:
        """Embed a control latent once for all denoise steps of a segment.

        Args:
            control_BCTHW: the control latent; missing channels are zero.
            condition_mask_B1THW: 1 at conditional frames, else 0.

        Raises:
            ValueError: more channels than the branch has.
        """
        missing = self.control_channels - control_BCTHW.shape[1]
        if missing < 0:
            raise ValueError(f"control latent: at most {self.control_channels} channels, got {control_BCTHW.shape[1]}")
        padded = F.pad(control_BCTHW, (0, 0, 0, 0, 0, 0, 0, missing))
        first = cast(ControlBlock, self.control_blocks[0])
        return first.before_proj(self.control_embedder(with_masks(padded, condition_mask_B1THW)))

    def forward(
        self, latent_BLD: Float[Tensor, "b l d"], control_BLD: Float[Tensor, "b l d"], context: BlockContext
    ) -> Iterator[Float[Tensor, "b l d"]]:
        """Yield one residual per injection point, not yet weighted; each is computed when it is asked for.

        Args:
            latent_BLD: the embedded noisy latent, as the base's first block sees it.
            control_BLD: from `embed_control`.
        """
        x_BLD = control_BLD + latent_BLD
        for block in cast(Iterable[ControlBlock], self.control_blocks):
            x_BLD = block(x_BLD, context)
            yield block.after_proj(x_BLD)
