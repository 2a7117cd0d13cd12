"""The decoder stage: draw true renders from what the network predicts in one denoise step.

Predicted latents are not encoded ones; a decoder that has seen them takes contours from the controls. The encoder
stays, so the network's latents keep their meaning.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cosmos_engine.data import write_file
from cosmos_engine.transfer.codec import GuidedCodec
from cosmos_engine.transfer.tiny import TinyModel
from cosmos_engine.transfer.training.codec_stage import noisy_latent, reconstruction_loss
from cosmos_engine.transfer.training.config import DecoderStageConfig
from cosmos_engine.transfer.training.critic import Critic, CriticConfig
from cosmos_engine.transfer.training.network_stage import predicted_from_noise
from cosmos_engine.transfer.training.sheet import ShownModel, sample_sheet
from cosmos_engine.transfer.training.stage import Stage
from cosmos_engine.transfer.training.stream import BatchSource


def train_decoder(
    model: TinyModel, source: BatchSource, config: DecoderStageConfig, critic_config: CriticConfig, out: Path
) -> None:
    """Train the codec's decoder, with a critic if its weight is above 0."""
    processes = source.processes
    codec = model.codec
    codec.requires_grad_(True)
    for part in (codec.encoder, codec.group, codec.group_coarse):
        part.requires_grad_(False)
    model.network.eval().requires_grad_(False)
    model.text.eval().requires_grad_(False)
    critic = Critic(critic_config, config.seed, processes) if critic_config.weight else None
    stage = Stage("decoder", codec, config, out, processes, critic)
    with source.stream(3, config) as stream:

        def loss(update: int) -> Tensor:
            codec.normalise.eval()  # its statistics belong to the encoder
            drawn = stream[update]
            batch = drawn.batch
            is_encoded = config.encoded > 0 and drawn.rng.random() < config.encoded
            with source.autocast():
                with torch.no_grad():
                    if is_encoded:
                        latent = noisy_latent(codec, drawn)
                    else:
                        latent = predicted_from_noise(model, batch, drawn.noise)
                rebuilt = codec.decode(latent, batch.controls).float()
            coarse_px = 1 if is_encoded else config.coarse_px
            value = reconstruction_loss(rebuilt, batch, processes, coarse_px)
            if critic is None:
                return value
            stage.figures["reconstruction"] = value.item()
            with source.autocast():
                stage.figures["critic"] = critic.learn(batch.rgb_BCTHW, rebuilt, batch.controls)
                weight = critic_config.weight_at(update)
                return value + weight * critic.loss(batch.rgb_BCTHW, rebuilt, batch.controls) if weight else value

        def draw_samples(updates: int) -> None:
            average = stage.average.eval()
            assert isinstance(average, GuidedCodec)
            shown = ShownModel(model.network, average, model.text)
            write_file(out / f"decoder_{updates:06d}.png", sample_sheet(shown, source.pool, processes.device))

        stage.run(loss, draw_samples)
