"""The Transfer2.5 network: a video transformer and its control branches.

Shapes: B batch, C channels, T frames, H rows, W columns of the latent; L tokens (time-major), D width; M text tokens.
Attribute names of the base and of a branch are NVIDIA's checkpoint keys (without their prefix `net.`).
Source: arXiv 2511.00062 and NVIDIA's published code of Cosmos-Transfer2.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_engine.transfer.attention import CrossAttention
from cosmos_engine.transfer.block import Block, BlockContext, modulated
from cosmos_engine.transfer.branch import MASK_CHANNELS, ControlBranch
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.control_weights import ControlWeight, token_weight
from cosmos_engine.transfer.modulation import Modulation, SharedModulation, Sinusoids, TimeEmbedding, wide_linear
from cosmos_engine.transfer.norm import RMSNorm
from cosmos_engine.transfer.palette import Palette
from cosmos_engine.transfer.patch import PatchEmbed, token_grid, unpatchify, with_masks
from cosmos_engine.transfer.rope import rotary_for_grid


class FinalLayer(nn.Module):
    """Turn tokens into patches of the output, in at least float32."""

    def __init__(self, config: TransferConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.width, math.prod(config.patch) * config.latent_channels, bias=False)
        self.adaln_modulation = Modulation(config.width, config.adaln_rank, parts=2)

    def forward(self, x_BLD: Float[Tensor, "b l d"], time: TimeEmbedding) -> Float[Tensor, "b l p"]:
        shift, scale = self.adaln_modulation(time)
        return wide_linear(self.linear, modulated(x_BLD.to(shift.dtype), shift, scale))


class VideoTransformer(nn.Module):
    """The base: embed a noisy latent, run its blocks, and add control residuals where a branch injects them."""

    def __init__(self, config: TransferConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = PatchEmbed(config.latent_channels + MASK_CHANNELS, config.width, config.patch)
        self.t_embedder = nn.Sequential(Sinusoids(config.width), SharedModulation(config.width))
        self.t_embedding_norm = RMSNorm(config.width)
        if config.text_width_in is not None:
            self.crossattn_proj = nn.Sequential(nn.Linear(config.text_width_in, config.text_width), nn.GELU())
        if config.image_width is not None:
            self.img_context_proj = nn.Sequential(nn.Linear(config.image_width, config.width), nn.GELU())
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.final_layer = FinalLayer(config)

    def embed_time(self, time_B: Float[Tensor, " b"]) -> TimeEmbedding:
        """Embed the flow time of each sample."""
        sinusoids, shared = self.t_embedder
        wide = torch.promote_types(self.t_embedding_norm.weight.dtype, torch.float32)
        sinusoids_BD = sinusoids(time_B * self.config.timestep_scale).to(wide)
        return TimeEmbedding(self.t_embedding_norm(sinusoids_BD), shared(sinusoids_BD))

    def embed_image(self, image_BNI: Float[Tensor, "b n i"] | None) -> Float[Tensor, "_ n d"] | None:
        """Project an image context; None stands for NVIDIA's zeros, which fold into a single token."""
        if not hasattr(self, "img_context_proj"):
            if image_BNI is not None:
                raise ValueError("image context given to a network without an image path")
            return None
        linear, activation = self.img_context_proj
        return activation(linear.bias)[None, None] if image_BNI is None else activation(linear(image_BNI))

    def forward(
        self,
        x_BLD: Float[Tensor, "b l d"],
        residuals: Mapping[int, Float[Tensor, "b l d"]],
        context: BlockContext,
    ) -> Float[Tensor, "b l p"]:
        """Run the blocks on embedded tokens, adding `residuals[i]` after block i; return patches of the output."""
        for index, block in enumerate(self.blocks):
            x_BLD = block(x_BLD, context)
            if index in residuals:
                x_BLD = x_BLD + residuals[index]
        return self.final_layer(x_BLD, context.time)


class TransferNetwork(nn.Module):
    """Predict the velocity or the clean latent of a noisy one, under text and any subset of the controls.

    One evaluation costs the base's blocks plus a branch's blocks for each control whose weight is not 0.
    """

    def __init__(self, config: TransferConfig) -> None:
        super().__init__()
        self.config = config
        self.base = VideoTransformer(config)
        self.branches = nn.ModuleDict({modality: ControlBranch(config) for modality in config.modalities})
        self.palette = Palette(config) if config.palette_tokens else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as NVIDIA does: a new branch adds nothing, and a block is modulated by the shared part alone."""
        for name, module in self.named_modules():
            if isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)
            if not isinstance(module, nn.Linear):
                continue
            is_modulation_out = "adaln_modulation" in name and name.endswith(".2")
            if is_modulation_out or name.endswith(("before_proj", "after_proj")):
                nn.init.zeros_(module.weight)
            else:
                std = 1.0 / math.sqrt(module.in_features)
                nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def branch(self, modality: str) -> ControlBranch:
        """Return the control branch of a modality."""
        return cast(ControlBranch, self.branches[modality])

    @torch.no_grad()
    def fold_image_context(self, *, absent: bool = False) -> None:
        """Give up the image path for what NVIDIA's zero context adds: a constant in each block.

        That frees 15 % of the 2B base. A folded network takes no image context, and no checkpoint any more.

        Args:
            absent: as if the network had never had an image path: nothing is added.
        """
        if not hasattr(self.base, "img_context_proj"):
            return
        image_1ND = None if absent else self.base.embed_image(None)
        for module in self.modules():
            if isinstance(module, CrossAttention):
                module.fold_image(image_1ND)
        del self.base.img_context_proj

    def project_text(self, text_BME: Float[Tensor, "b m e"]) -> Float[Tensor, "b m c"]:
        """Project the text encoder's output to what cross-attention sees; once per prompt, the result can be cached."""
        return text_BME if self.config.text_width_in is None else self.base.crossattn_proj(text_BME)

    def embed_controls(
        self,
        controls: Mapping[str, Float[Tensor, "b _ t h w"]],
        condition_mask_B1THW: Float[Tensor, "#b 1 t #h #w"],
    ) -> dict[str, Float[Tensor, "b l d"]]:
        """Embed control latents once for all denoise steps of a segment.

        Raises:
            ValueError: a modality without a branch.
        """
        unknown = sorted(set(controls) - set(self.branches))
        if unknown:
            raise ValueError(f"controls {unknown}: this network has branches for {list(self.branches)}")
        return {
            modality: self.branch(modality).embed_control(control_BCTHW, condition_mask_B1THW)
            for modality, control_BCTHW in controls.items()
        }

    def forward(
        self,
        latent_BCTHW: Float[Tensor, "b c t h w"],
        timestep_B: Float[Tensor, " b"],
        text_BMC: Float[Tensor, "b m k"],
        *,
        condition_mask_B1THW: Float[Tensor, "#b 1 t #h #w"],
        controls: Mapping[str, Float[Tensor, "b _ t h w"]],
        weights: Mapping[str, ControlWeight],
        image_BNI: Float[Tensor, "b n i"] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Evaluate the network on raw control latents; see `denoise`. A control of weight 0 is not even embedded."""
        used = {modality: control for modality, control in controls.items() if not is_zero(weights.get(modality))}
        return self.denoise(
            latent_BCTHW,
            timestep_B,
            text_BMC,
            condition_mask_B1THW=condition_mask_B1THW,
            embedded_controls=self.embed_controls(used, condition_mask_B1THW),
            weights=weights,
            image_BNI=image_BNI,
        )

    def denoise(
        self,
        latent_BCTHW: Float[Tensor, "b c t h w"],
        timestep_B: Float[Tensor, " b"],
        text_BMC: Float[Tensor, "b m k"],
        *,
        condition_mask_B1THW: Float[Tensor, "#b 1 t #h #w"],
        embedded_controls: Mapping[str, Float[Tensor, "b l d"]],
        weights: Mapping[str, ControlWeight],
        image_BNI: Float[Tensor, "b n i"] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Evaluate the network on controls embedded by `embed_controls`.

        Args:
            latent_BCTHW: noisy latent; conditional frames hold their clean latent.
            timestep_B: flow time in [0, 1], one for all frames of a sample, conditional ones too.
            text_BMC: text tokens from `project_text`.
            condition_mask_B1THW: 1 at conditional frames, else 0.
            embedded_controls: tokens by modality; a modality may be missing if its weight is 0.
            weights: how much of each branch's residual is added, by modality, already under a weight policy
                (`control_weights.resolve_weights`): a number, one per sample (B,), or one per token
                (B or 1, 1, T, H / 2, W / 2). The number 0 skips the branch.
            image_BNI: image context tokens; None stands for NVIDIA's zeros.

        Returns:
            The prediction that `config.prediction` names, in at least float32.

        Raises:
            ValueError: a weight other than 0 without a control, a control without a weight, or a latent that is no
                whole number of patches.
        """
        grid = token_grid(latent_BCTHW.shape[2:], self.config.patch)
        context = BlockContext(
            time=self.base.embed_time(timestep_B),
            text_BMC=text_BMC,
            image_BND=self.base.embed_image(image_BNI),
            rotary=rotary_for_grid(grid, self.config.head_dim, self.config.rope_ratios, latent_BCTHW.device),
        )
        x_BLD = self.base.x_embedder(with_masks(latent_BCTHW, condition_mask_B1THW))
        residuals: dict[int, Tensor] = {}
        for modality in sorted(set(embedded_controls) | set(weights)):
            if is_zero(weights.get(modality)):
                continue
            if modality not in weights or modality not in embedded_controls:
                have, lacks = ("control", "weight") if modality not in weights else ("weight", "control")
                raise ValueError(f"{modality}: a {have} without a {lacks}")
            weight = token_weight(weights[modality], grid, x_BLD.dtype)
            residuals_BLD = self.branch(modality)(x_BLD, embedded_controls[modality], context)
            for index, residual_BLD in zip(self.config.inject_after, residuals_BLD, strict=True):
                weighted_BLD = residual_BLD * weight
                residuals[index] = residuals[index] + weighted_BLD if index in residuals else weighted_BLD
                del residual_BLD, weighted_BLD  # tokens of a long clip are gigabytes: none is kept beside the sum
        out_BCTHW = unpatchify(self.base(x_BLD, residuals, context), grid, self.config.patch)
        return out_BCTHW if self.palette is None else out_BCTHW + self.palette(text_BMC)[:, :, None, None, None]


def is_zero(weight: ControlWeight | None) -> bool:
    """Say whether a weight switches its branch off; a tensor never does, so that nothing waits for a device."""
    return isinstance(weight, float | int) and weight == 0
