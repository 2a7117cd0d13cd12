"""Post-train a Transfer2.5 network on pairs of controls and looks: codec, text encoder, then the network."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosmos_engine.controls import Modality
from cosmos_engine.transfer.codec import GuidedCodec, control_latent
from cosmos_engine.transfer.control_weights import resolve_weights
from cosmos_engine.transfer.tiny import TinyModel, save_tiny
from cosmos_engine.transfer.training.batch import Batch, draw_batch, latent_foreground
from cosmos_engine.transfer.training.clips import ClipPool, ClipPoolConfig, render_clips
from cosmos_engine.transfer.training.stage import Stage, StageConfig
from cosmos_engine.transfer.training.text_stage import train_text

HELD_OUT_SHARE = 0.02  # clips at the end of the pool that no update sees; sample sheets show them
FOREGROUND_WEIGHT = 5.0  # weight of robot and objects in the loss; they are few pixels, and a demo lives in them
TIMESTEP_SHIFT = 5.0
# Share of clips at times in [0.98, 1]. Latents of a table-top are smooth: below that, averaging out the noise already
# shows the look, and a network trained with the shift alone learnt to denoise and never looked at its controls.
PURE_NOISE_SHARE = 0.5
LATENT_NOISE = 0.15  # noise on the codec's latents in training, so that the decoder forgives the network's errors
CONDITIONAL_SHARE = 0.3  # share of batches whose first latent frame is given, as in every segment but the first


def _codec_stage() -> StageConfig:
    return StageConfig(updates=440, batch=8, frames=9, rate=2e-3, ema=0.98)


def _text_stage() -> StageConfig:
    return StageConfig(updates=500, batch=128, rate=2e-3, ema=0.98)


def _network_stage() -> StageConfig:
    return StageConfig(updates=1300, batch=16, frames=9, rate=1e-3, ema=0.99, save_every=100)


@dataclass(frozen=True)
class PosttrainConfig:
    """What `cosmos-engine posttrain` does: pairs to render, and the three stages."""

    clips: ClipPoolConfig = field(default_factory=ClipPoolConfig)
    codec: StageConfig = field(default_factory=_codec_stage)
    text: StageConfig = field(default_factory=_text_stage)
    network: StageConfig = field(default_factory=_network_stage)


def posttrain(out: Path, config: PosttrainConfig, clips: Path | None = None) -> Path:
    """Render pairs, train codec and network of size tiny, and write the checkpoint; resumes what was stopped.

    Args:
        out: the run's folder: `clips/` (unless given), stage checkpoints, `log.jsonl`, `samples/`, `checkpoint/`.
        config: sizes and rates.
        clips: folder of a clip pool to use or to make.

    Returns:
        The checkpoint file.
    """
    torch.manual_seed(config.network.seed)
    pool = render_clips(clips or out / "clips", config.clips)
    model = TinyModel()
    train_codec(model.codec, pool, config.codec, out)
    train_text(model.text, config.text, out)
    train_network(model, pool, config.network, out)
    file = out / "transfer25-tiny.safetensors"
    save_tiny(file, model, {"posttrain": json.dumps(dataclasses.asdict(config))})
    return file


def training_indices(pool: ClipPool) -> range:
    """Return the clips that updates may see."""
    return range(int(len(pool) * (1 - HELD_OUT_SHARE)))


def held_out_indices(pool: ClipPool) -> range:
    """Return the clips that no update sees."""
    return range(training_indices(pool).stop, len(pool))


def train_codec(codec: GuidedCodec, pool: ClipPool, config: StageConfig, out: Path) -> None:
    """Train the codec to reconstruct clips from noisy latents and the controls."""
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    stage = Stage("codec", codec, config, out)

    def loss(update: int) -> Tensor:
        rng, noise = _randomness(config.seed, 1, update)
        batch = draw_batch(pool, training_indices(pool), config.batch, config.frames, rng)
        with torch.autocast("cpu", torch.bfloat16):
            latent = codec.encode(batch.rgb_BCTHW)
            latent = latent + LATENT_NOISE * torch.randn(latent.shape, generator=noise)
            rebuilt = codec.decode(latent, batch.controls).float()
        return reconstruction_loss(rebuilt, batch)

    stage.run(loss)


def reconstruction_loss(rebuilt_BCTHW: Tensor, batch: Batch) -> Tensor:
    """Return L1 of values and of spatial differences, foreground weighted."""
    weight = 1.0 + (FOREGROUND_WEIGHT - 1.0) * batch.foreground_BTHW[:, None].float()
    weight = weight / weight.mean()
    error = rebuilt_BCTHW - batch.rgb_BCTHW
    differences = (error.diff(dim=-1).abs() * weight[..., 1:]).mean() + (
        error.diff(dim=-2).abs() * weight[..., 1:, :]
    ).mean()
    return (error.abs() * weight).mean() + differences


def train_network(model: TinyModel, pool: ClipPool, config: StageConfig, out: Path) -> None:
    """Train network and branches by flow matching on the frozen codec's latents and text encoder's tokens."""
    model.codec.eval().requires_grad_(False)
    model.text.eval().requires_grad_(False)
    stage = Stage("network", model.network, config, out)

    def loss(update: int) -> Tensor:
        rng, noise = _randomness(config.seed, 2, update)
        batch = draw_batch(pool, training_indices(pool), config.batch, config.frames, rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                x0 = model.codec.encode(batch.rgb_BCTHW).float()
            return flow_matching_loss(model, x0, batch, rng, noise)

    stage.run(loss)


def flow_matching_loss(
    model: TinyModel, x0_BCTHW: Tensor, batch: Batch, rng: np.random.Generator, noise: torch.Generator
) -> Tensor:
    """Return the error of the network's x0 at shifted random times, foreground weighted.

    Times are u ~ U(0, 1) shifted to s u / (1 + (s - 1) u) (Esser et al. 2024, eq. 23), or near pure noise.
    """
    B = x0_BCTHW.shape[0]
    u = torch.rand(B, generator=noise)
    shifted = TIMESTEP_SHIFT * u / (1 + (TIMESTEP_SHIFT - 1) * u)
    t = torch.where(torch.rand(B, generator=noise) < PURE_NOISE_SHARE, 1.0 - 0.02 * u, shifted)
    eps = torch.randn(x0_BCTHW.shape, generator=noise)
    t_B1111 = t.view(-1, 1, 1, 1, 1)
    noisy = (1 - t_B1111) * x0_BCTHW + t_B1111 * eps
    condition = torch.zeros_like(x0_BCTHW[:, :1])
    if rng.random() < CONDITIONAL_SHARE:
        condition[:, :, 0] = 1.0
    noisy = torch.where(condition > 0, x0_BCTHW, noisy)
    controls: dict[Modality, Tensor] = {m: control_latent(video) for m, video in batch.controls.items()}
    predicted = model.network(
        noisy,
        t,
        model.text.encode(batch.prompts),
        condition_mask_B1THW=condition,
        controls=controls,
        weights=resolve_weights(dict.fromkeys(controls, 1.0), "capped"),
    ).float()
    weight = (1.0 + (FOREGROUND_WEIGHT - 1.0) * latent_foreground(batch.foreground_BTHW)) * (1.0 - condition)
    return ((predicted - x0_BCTHW).square() * weight).sum() / (weight.sum() * x0_BCTHW.shape[1])


def _randomness(seed: int, stage: int, update: int) -> tuple[np.random.Generator, torch.Generator]:
    rng = np.random.default_rng((seed, stage, update))
    return rng, torch.Generator().manual_seed(int(rng.integers(2**31)))
