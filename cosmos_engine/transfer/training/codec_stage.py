"""The codec stage: reconstruct clips from noisy latents and the controls."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.data import write_file
from cosmos_engine.transfer.codec import GuidedCodec
from cosmos_engine.transfer.training.batch import Batch
from cosmos_engine.transfer.training.processes import Processes, shared_batch_norm
from cosmos_engine.transfer.training.sheet import reconstruction_sheet
from cosmos_engine.transfer.training.stage import Stage, StageConfig
from cosmos_engine.transfer.training.stream import BatchSource, Drawn

FOREGROUND_WEIGHT = 5.0  # of robot and objects, as in the network stage
LATENT_NOISE = 0.15  # on the codec's latents in training, so that the decoder forgives the network's errors


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
                rebuilt = codec.decode(noisy_latent(codec, drawn), drawn.batch.controls).float()
            return reconstruction_loss(rebuilt, drawn.batch, processes)

        def draw_samples(updates: int) -> None:
            sheet = reconstruction_sheet(stage.average.eval(), source.pool, processes.device, source.bfloat16)
            write_file(out / f"codec_{updates:06d}.png", sheet)

        stage.run(loss, draw_samples)


def noisy_latent(codec: GuidedCodec, drawn: Drawn) -> Tensor:
    """Return the latents of a batch with the noise that decoders are trained under."""
    latent = codec.encode(drawn.batch.rgb_BCTHW)
    return latent + LATENT_NOISE * drawn.noise.normal(*latent.shape)


def reconstruction_loss(rebuilt_BCTHW: Tensor, batch: Batch, processes: Processes, coarse_px: int = 1) -> Tensor:
    """Return L1 of values and of spatial differences, foreground weighted.

    Args:
        rebuilt_BCTHW: what the decoder made of `batch`.
        batch: the true clips.
        processes: who shares the batch; the weights' mean is over all of it.
        coarse_px: side of the blocks over which the background's error is averaged first.
    """
    foreground = batch.foreground_BTHW[:, None].float()
    weight = 1.0 + (FOREGROUND_WEIGHT - 1.0) * foreground
    weight = weight / processes.mean(weight.mean())
    error = rebuilt_BCTHW - batch.rgb_BCTHW
    if coarse_px > 1:
        error = torch.where(foreground > 0, error, _block_means(error * (1.0 - foreground), coarse_px))
    differences = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (
        error.diff(dim=-2).abs() * weight[..., 1:, :]
    ).mean()
    return (error.abs() * weight).mean() + differences


def _block_means(error_BCTHW: Tensor, side: int) -> Tensor:
    """Return every pixel's block mean, smooth from block to block."""
    frames = error_BCTHW.transpose(1, 2).flatten(0, 1)
    coarse = F.avg_pool2d(frames, side)
    smooth = F.interpolate(coarse, frames.shape[-2:], mode="bilinear")
    return smooth.unflatten(0, (error_BCTHW.shape[0], -1)).transpose(1, 2)
