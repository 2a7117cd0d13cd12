"""The parts of a Transfer2.5 model."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_engine.transfer.codec import Codec
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.text import TextEncoder


@dataclass(frozen=True)
class TransferModel:
    """What `Transfer25` generates with; a size differs in nothing else."""

    network: TransferNetwork
    codec: Codec
    text: TextEncoder
