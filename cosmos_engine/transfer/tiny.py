"""The tiny model: network, guided codec and text encoder in one checkpoint small enough to ship."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.guided_codec import GuidedCodec
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.text import HashedTextEncoder
from cosmos_engine.transfer.weights import WeightsHeader, load_weights, read_header, save_weights


class TinyModel(nn.Module):
    """Hold the parts of a tiny checkpoint under the names that its file uses."""

    def __init__(self, config: TransferConfig = SIZES["tiny"]) -> None:
        super().__init__()
        self.network = TransferNetwork(config)
        self.codec = GuidedCodec()
        self.text = HashedTextEncoder(config.text_width)


def shipped_checkpoint() -> Path:
    """Return the checkpoint that comes with the package."""
    return Path(str(resources.files("cosmos_engine.transfer"))) / "checkpoints" / "transfer25-tiny.safetensors"


def save_tiny(file: Path, model: TinyModel, notes: Mapping[str, str]) -> None:
    """Write a checkpoint in float16; `notes` say how it was made."""
    save_weights(file, dict(model.named_children()), WeightsHeader(model.network.config, notes), "float16")


def load_tiny(file: Path) -> TinyModel:
    """Read a checkpoint that `save_tiny` wrote.

    Raises:
        InputError: no such file, a truncated or foreign one, or one that does not fit.
    """
    model = TinyModel(read_header(file).config)
    load_weights(file, dict(model.named_children()))
    model.codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return model.eval().requires_grad_(False)
