"""The decoder stage: draw true renders from what the network predicts; the network learns along.

Predicted latents are not encoded ones, and an error of latents is not what is seen. The encoder stays, so the network's
latents keep their meaning.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cosmos_engine.data import write_file
from cosmos_engine.transfer.guided_codec import GuidedCodec
from cosmos_engine.transfer.model import TransferModel
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.tiny import TinyModel
from cosmos_engine.transfer.training.codec_stage import reconstruction_loss
from cosmos_engine.transfer.training.config import DecoderStageConfig
from cosmos_engine.transfer.training.network_stage import draw_noisy, latent_error, predicted
from cosmos_engine.transfer.training.sheet import sample_sheet
from cosmos_engine.transfer.training.stage import Stage
from cosmos_engine.transfer.training.stream import BatchSource

LATENT_WEIGHT = 0.1  # of the error of latents beside that of pixels, so that later denoise steps keep their sense


def train_decoder(model: TinyModel, source: BatchSource, config: DecoderStageConfig, out: Path) -> None:
    """Train the codec's decoder, and the network with it unless the config says otherwise."""
    processes = source.processes
    codec, network = model.codec, model.network
    codec.requires_grad_(True)
    for part in (codec.encoder, codec.group, codec.group_coarse):
        part.requires_grad_(False)
    model.text.eval().requires_grad_(False)
    network.requires_grad_(config.network)
    trained = nn.ModuleDict({"codec": codec, "network": network} if config.network else {"codec": codec})
    stage = Stage("decoder", trained, config, out, processes)
    with source.stream(3, config) as stream:

        def loss(update: int) -> Tensor:
            codec.normalise.eval()  # its statistics belong to the encoder
            drawn = stream[update]
            batch = drawn.batch
            with source.autocast():
                with torch.no_grad():
                    x0 = codec.encode(batch.rgb_BCTHW).float()
                noisy = draw_noisy(x0, drawn, config)
                clean = predicted(model, noisy.latent_BCTHW, noisy.t_B, noisy.condition_B1THW, batch)
                given = torch.where(noisy.condition_B1THW > 0, x0, clean)
                decoded = codec.decode_parts(given, batch.guide)
            latent = latent_error(clean, x0, batch, noisy.condition_B1THW, processes)
            stage.figures["latent"] = latent.item()
            return reconstruction_loss(decoded, batch, processes, stage.figures) + LATENT_WEIGHT * latent

        def draw_samples(updates: int) -> None:
            averages = dict(stage.average.eval().named_children())
            shown_codec, shown_network = averages["codec"], averages.get("network", network)
            assert isinstance(shown_codec, GuidedCodec)
            assert isinstance(shown_network, TransferNetwork)
            shown = TransferModel(shown_network, shown_codec, model.text)
            write_file(out / f"decoder_{updates:06d}.png", sample_sheet(shown, source.pool, processes.device))

        stage.run(loss, draw_samples)
