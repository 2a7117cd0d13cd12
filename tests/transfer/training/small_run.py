"""A small post-training, as a function and as a process of torchrun: `python -m tests.transfer.training.small_run`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.guided_codec import LATENT_CHANNELS
from cosmos_engine.transfer.tiny import TinyModel, save_tiny
from cosmos_engine.transfer.training.config import DecoderStageConfig, NetworkStageConfig, PosttrainConfig
from cosmos_engine.transfer.training.posttrain import ClipSource, posttrain
from cosmos_engine.transfer.training.stage import StageConfig

SMALL: dict[str, Any] = {"updates": 2, "batch": 2, "frames": 5, "warmup": 1, "save_every": 1}
OFF = StageConfig(updates=0)
EVERYTHING = PosttrainConfig(
    codec=StageConfig(**SMALL),
    text=OFF,
    network=NetworkStageConfig(**SMALL, energy=0.5, energy_after=0.0),
    decoder=DecoderStageConfig(**SMALL),
    bfloat16=False,
)
SIZE = TransferConfig(
    width=48,
    blocks=2,
    heads=4,
    adaln_rank=8,
    control_channels=48,
    text_width=32,
    inject_after=(0,),
    latent_channels=LATENT_CHANNELS,
    palette_tokens=(0, 1, 2),
    palette_channels=(40, 40, 16),
    modalities=("edge", "depth", "seg"),
    prediction="x0",
    timestep_scale=1000.0,
)
NETWORK = dataclasses.replace(EVERYTHING, codec=OFF, decoder=DecoderStageConfig(updates=0))


def write_begun(file: Path) -> Path:
    """Write a small checkpoint to go on from, with branches that say something, of which vis is missing."""
    torch.manual_seed(0)
    model = TinyModel(SIZE)
    for parameter in model.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.02)
    save_tiny(file, model, {})
    return file


def run(out: Path, pool: Path, config: PosttrainConfig = EVERYTHING, **given: Any) -> Path:
    """Post-train on the clips of a pool."""
    return posttrain(out, config, ClipSource(pool, render=False), **given)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), init=Path(sys.argv[3]))
