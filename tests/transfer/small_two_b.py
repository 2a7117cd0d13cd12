"""A folder of weights in the layout of the 2B model, random and small enough for a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import nn

from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.published.folder import (
    DISTILLED,
    GENERAL,
    REASON1,
    VAE,
    Source,
    WeightsFolder,
    weights_name,
)
from cosmos_engine.transfer.weights import WeightsHeader, save_weights

TEXT_WIDTH_IN = 24
TOKENS = 6
SMALL = TransferConfig(
    width=48,
    blocks=3,
    heads=2,
    adaln_rank=4,
    control_channels=20,
    text_width=16,
    text_width_in=TEXT_WIDTH_IN,
    image_width=12,
    inject_after=(0, 1),
    latent_channels=4,
)


class FakeEncoder:
    """Embed a prompt as numbers that follow from its letters."""

    def check(self, prompts) -> None:
        pass

    def embeddings(self, prompt: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(sum(prompt.encode()) + len(prompt))
        return torch.randn(TOKENS, TEXT_WIDTH_IN, generator=generator).to(torch.bfloat16)


def random_network(config: TransferConfig = SMALL) -> TransferNetwork:
    torch.manual_seed(0)
    network = TransferNetwork(config)
    for parameter in network.parameters():
        fan_in = parameter.shape[-1] if parameter.ndim > 1 else 4
        nn.init.normal_(parameter, std=fan_in**-0.5)
    return network


def write_weights(folder: Path, config: TransferConfig = SMALL) -> WeightsFolder:
    """Write base, branches, VAE and a stand-in for Reason1, and a manifest that names them.

    As published, the distilled model has no image path.
    """
    weights = WeightsFolder(folder)
    networks = {GENERAL: random_network(config), DISTILLED: random_network(replace(config, image_width=None))}
    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 2, 2],
        num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.0, 0.3],
        latents_std=[0.5, 0.6, 0.7, 0.8],
    )
    with weights.writing():
        for model, modalities in ((GENERAL, config.modalities), (DISTILLED, ("edge",))):
            for module in ("base", *modalities):
                name = weights_name(model, module)
                (folder / name).parent.mkdir(exist_ok=True)
                network = networks[model]
                part = network.base if module == "base" else network.branch(module)
                save_weights(folder / name, {module: part}, WeightsHeader(network.config, {}), "bfloat16")
                weights.record(name.removesuffix(".safetensors"), Source(f"{module}.pt"), [name])
        vae.save_pretrained(folder / VAE)
        weights.record(VAE, Source("tokenizer.pth"), [f"{VAE}/{file.name}" for file in (folder / VAE).iterdir()])
        (folder / REASON1).mkdir()
        (folder / REASON1 / "config.json").write_text("{}")
        weights.record(REASON1, Source(""), [f"{REASON1}/config.json"])
    return weights
