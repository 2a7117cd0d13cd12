"""The codec stage: reconstruct clips from noisy latents and the controls."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.data import write_file
from cosmos_engine.processes import Processes
from cosmos_engine.transfer.guided_codec import Decoded, GuidedCodec
from cosmos_engine.transfer.shader import lit
from cosmos_engine.transfer.training.batch import Batch
from cosmos_engine.transfer.training.shared_batch_norm import shared_batch_norm
from cosmos_engine.transfer.training.sheet import reconstruction_sheet
from cosmos_engine.transfer.training.stage import Stage, StageConfig
from cosmos_engine.transfer.training.stream import BatchSource, Drawn
from cosmos_engine.transfer.training.variogram import variogram_distance

FOREGROUND_WEIGHT = 5.0  # of robot and objects, as in the network stage
LATENT_NOISE = 0.15  # on the codec's latents in training, so that the decoder forgives the network's errors
BLOCK_PX = 16  # side of the blocks over which the scene's error is averaged: the patterns within are not the true ones
PARTS_WEIGHT = 0.1
VARIOGRAM_WEIGHT = 4.0
LIGHT_WEIGHT = 0.5  # of the light's roughness on the scene


def train_codec(codec: GuidedCodec, source: BatchSource, config: StageConfig, out: Path) -> None:
    """Train encoder and decoder together."""
    processes = source.processes
    codec.requires_grad_(True)
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    codec.normalise = shared_batch_norm(codec.normalise, processes)
    stage = Stage("codec", codec, config, out, processes)
    with source.stream(1, config) as stream:

        def loss(update: int) -> Tensor:
            drawn = stream[update]
            with source.autocast():
                decoded = codec.decode_parts(noisy_latent(codec, drawn), drawn.batch.guide)
            return reconstruction_loss(decoded, drawn.batch, processes, stage.figures)

        def draw_samples(updates: int) -> None:
            sheet = reconstruction_sheet(stage.average.eval(), source.pool, processes.device, source.bfloat16)
            write_file(out / f"codec_{updates:06d}.png", sheet)

        stage.run(loss, draw_samples)


def noisy_latent(codec: GuidedCodec, drawn: Drawn) -> Tensor:
    """Return the latents of a batch with the noise that decoders are trained under."""
    latent = codec.encode(drawn.batch.rgb_BCTHW)
    return latent + LATENT_NOISE * drawn.noise.normal(*latent.shape)


def reconstruction_loss(decoded: Decoded, batch: Batch, processes: Processes, figures: dict[str, float]) -> Tensor:
    """Return how far a decoded batch is from the true clips.

    The foreground is compared pixel by pixel; the scene by blocks for its colours and light and by variograms for its
    patterns, and its light is smooth; the parts are compared by cross-entropy with the recorded ids.

    Args:
        decoded: what the decoder made of `batch`.
        batch: the true clips.
        processes: who shares the batch; the weights' mean is over all of it.
        figures: takes the terms, for the log.
    """
    video = decoded.video_BCTHW.float()
    foreground = batch.foreground_BTHW[:, None].float()
    weight = 1.0 + (FOREGROUND_WEIGHT - 1.0) * foreground
    weight = weight / processes.mean(weight.mean())
    error = video - batch.rgb_BCTHW
    error = torch.where(foreground > 0, error, _block_means(error * (1.0 - foreground), 1.0 - foreground))
    differences = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (
        error.diff(dim=-2).abs() * weight[..., 1:, :]
    ).mean()
    colors = (error.abs() * weight).mean() + differences
    # Patterns are for the paint: a shader that is asked for them draws a grid.
    patterned = lit(decoded.painted_BCTHW.float(), decoded.light_BCTHW.float().detach())
    pattern = variogram_distance(patterned, batch.rgb_BCTHW, batch.parts_BTHW)
    light = _roughness(decoded.light_BCTHW.float(), 1.0 - foreground)
    logits = decoded.parts_BKTHW.float()
    parts = (F.cross_entropy(logits, batch.parts_BTHW.long(), reduction="none") * weight[:, 0]).mean()
    for name, term in (("colors", colors), ("pattern", pattern), ("light", light), ("parts", parts)):
        figures[name] = round(term.item(), 5)
    return colors + VARIOGRAM_WEIGHT * pattern + LIGHT_WEIGHT * light + PARTS_WEIGHT * parts


def _roughness(light_BCTHW: Tensor, counted_B1THW: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels, where both count."""
    total = light_BCTHW.new_zeros(())
    for axis in (-1, -2):
        length = light_BCTHW.shape[axis] - 1
        both = counted_B1THW.narrow(axis, 0, length) * counted_B1THW.narrow(axis, 1, length)
        total = total + (light_BCTHW.diff(dim=axis).abs() * both).mean()
    return total


def _block_means(error_BCTHW: Tensor, counted_B1THW: Tensor) -> Tensor:
    """Return the mean over the counted pixels of every pixel's block, smooth from block to block."""
    frames = error_BCTHW.transpose(1, 2).flatten(0, 1)
    shares = F.avg_pool2d(counted_B1THW.transpose(1, 2).flatten(0, 1), BLOCK_PX)
    coarse = F.avg_pool2d(frames, BLOCK_PX) / shares.clamp(min=1.0 / BLOCK_PX**2)
    smooth = F.interpolate(coarse, frames.shape[-2:], mode="bilinear")
    return smooth.unflatten(0, (error_BCTHW.shape[0], -1)).transpose(1, 2)
