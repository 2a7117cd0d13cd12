"""diffusers' Cosmos modules as a numeric oracle: built from our config and filled from our parameters."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import CosmosControlNetModel, CosmosTransformer3DModel
from diffusers.models.controlnets import controlnet_cosmos
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers import transformer_cosmos
from torch import Tensor, nn

from cosmos_engine.transfer.branch import ControlBranch
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.network import TransferNetwork, VideoTransformer


def _unresized(padding_mask: Tensor, size: list[int], interpolation: object) -> Tensor:
    assert list(padding_mask.shape[-2:]) == size, "the oracle gets padding masks of the right size only"
    return padding_mask


# diffusers resizes the padding mask with torchvision, which we do not need: ours has the right size to begin with.
for _module in (controlnet_cosmos, transformer_cosmos):
    if not hasattr(_module, "transforms"):
        _module.transforms = SimpleNamespace(
            functional=SimpleNamespace(resize=_unresized), InterpolationMode=SimpleNamespace(NEAREST=None)
        )

# NVIDIA's names (ours) to diffusers', longest first where one contains another.
RENAMED = {
    "x_embedder.proj.1": "patch_embed.proj",
    "control_embedder.proj.1": "patch_embed.proj",
    "t_embedder.1": "time_embed.t_embedder",
    "t_embedding_norm": "time_embed.norm",
    "adaln_modulation_self_attn.1": "norm1.linear_1",
    "adaln_modulation_self_attn.2": "norm1.linear_2",
    "adaln_modulation_cross_attn.1": "norm2.linear_1",
    "adaln_modulation_cross_attn.2": "norm2.linear_2",
    "adaln_modulation_mlp.1": "norm3.linear_1",
    "adaln_modulation_mlp.2": "norm3.linear_2",
    "final_layer.adaln_modulation.1": "norm_out.linear_1",
    "final_layer.adaln_modulation.2": "norm_out.linear_2",
    "final_layer.linear": "proj_out",
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "output_proj": "to_out.0",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
    "mlp.layer1": "ff.net.0.proj",
    "mlp.layer2": "ff.net.2",
}


def diffusers_name(name: str) -> str:
    """Return diffusers' name of one of our parameters."""
    if name.startswith("blocks."):
        name = f"transformer_{name}"
    for ours, theirs in RENAMED.items():
        if f"{ours}." in name:
            name = name.replace(f"{ours}.", f"{theirs}.")
    return name


def oracle_transformer(base: VideoTransformer) -> CosmosTransformer3DModel:
    config = base.config
    every = {after - before for before, after in zip(config.inject_after, config.inject_after[1:], strict=False)}
    model = CosmosTransformer3DModel(
        in_channels=config.latent_channels + 1,
        out_channels=config.latent_channels,
        num_layers=config.blocks,
        **_shared(config),
        concat_padding_mask=True,
        controlnet_block_every_n=every.pop() if every else config.blocks,
        img_context_dim_in=config.image_width,
        img_context_dim_out=config.width,
    )
    return _filled(model, _renamed(base))


def oracle_controlnet(base: VideoTransformer, branch: ControlBranch) -> CosmosControlNetModel:
    config = base.config
    model = CosmosControlNetModel(
        n_controlnet_blocks=config.control_blocks,
        in_channels=config.control_channels + 2,
        latent_channels=config.latent_channels + 2,
        model_channels=config.width,
        **_shared(config),
        img_context_dim_in=config.image_width,
        img_context_dim_out=config.width,
    )
    own = _renamed(branch)
    shared = {
        name.replace("patch_embed.", "patch_embed_base."): value
        for name, value in _renamed(base).items()
        if name.startswith(("patch_embed.", "time_embed.", "img_context_proj.", "crossattn_proj."))
    }
    return _filled(model, own | shared)


class DiffusersOracle:
    """Evaluate diffusers' transformer with our way of combining several of its control networks."""

    def __init__(self, network: TransferNetwork) -> None:
        self.config = network.config
        self.transformer = oracle_transformer(network.base)
        self.controlnets = {
            modality: oracle_controlnet(network.base, network.branch(modality)) for modality in network.branches
        }

    def __call__(
        self,
        latent: Tensor,
        timestep: Tensor,
        text: Tensor,
        *,
        condition_mask: Tensor,
        controls: dict[str, Tensor],
        weights: dict[str, float | Tensor],
        image: Tensor | None = None,
    ) -> Tensor:
        """As `TransferNetwork.forward`, text before its projection; weights are numbers or token maps (B, L, 1)."""
        context = text if self.config.image_width is None else (text, image)
        shared = {
            "timestep": timestep,
            "encoder_hidden_states": context,
            "condition_mask": condition_mask,
            "padding_mask": torch.zeros(1, 1, *latent.shape[-2:], dtype=latent.dtype),
            "return_dict": False,
        }
        residuals: list[Tensor] | None = None
        for modality, weight in weights.items():
            samples = self.controlnets[modality](controls_latents=controls[modality], latents=latent, **shared)[0]
            weighted = [sample * weight for sample in samples]
            residuals = weighted if residuals is None else [a + b for a, b in zip(residuals, weighted, strict=True)]
        return self.transformer(latent, block_controlnet_hidden_states=residuals, **shared)[0]


def _shared(config: TransferConfig) -> dict[str, object]:
    return {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "mlp_ratio": float(config.mlp_ratio),
        "text_embed_dim": config.text_width,
        "adaln_lora_dim": config.adaln_rank,
        "patch_size": config.patch,
        "rope_scale": config.rope_ratios,
        "extra_pos_embed_type": None,
        "use_crossattn_projection": config.text_width_in is not None,
        "crossattn_proj_in_channels": config.text_width_in or config.text_width,
        "encoder_hidden_states_channels": config.text_width,
    }


def _renamed(module: nn.Module) -> dict[str, Tensor]:
    return {diffusers_name(name): value for name, value in module.state_dict().items()}


def _filled(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    for parameter in model.parameters():  # not `model.to`, which warns about modules that these configs do not have
        parameter.data = parameter.data.double()
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.eps = 1e-6  # as in NVIDIA's code; diffusers 0.42 leaves 1e-5 in the norms of queries and keys
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


@pytest.fixture
def diffusers_oracle() -> type[DiffusersOracle]:
    return DiffusersOracle
