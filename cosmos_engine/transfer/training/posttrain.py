"""Post-train a Transfer2.5 network on pairs of controls and looks: codec, text encoder, then the network."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosmos_engine.controls import ControlClip, Modality, Recipe, depth_control, edge_control, seg_control
from cosmos_engine.data import write_file
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, GuidedCodec, control_latent
from cosmos_engine.transfer.control_weights import resolve_weights
from cosmos_engine.transfer.prompt import scene_prompt
from cosmos_engine.transfer.segments import latent_frames
from cosmos_engine.transfer.tiny import TinyModel, save_tiny
from cosmos_engine.transfer.training.batch import Batch, draw_batch, latent_foreground
from cosmos_engine.transfer.training.clips import ClipPool, ClipPoolConfig, TrainingClip, render_clips
from cosmos_engine.transfer.training.stage import Stage, StageConfig
from cosmos_engine.transfer.training.text_stage import train_text
from cosmos_engine.transfer.transfer25 import Transfer25

HELD_OUT_SHARE = 0.02  # clips at the end of the pool that no update sees; sample sheets show them
FOREGROUND_WEIGHT = 5.0  # weight of robot and objects in the loss; they are few pixels, and a demo lives in them
TIMESTEP_SHIFT = 5.0
# Share of clips at times in [0.98, 1]. Latents of a table-top are smooth: below that, averaging out the noise already
# shows the look, and a network trained with the shift alone learnt to denoise and never looked at its controls.
PURE_NOISE_SHARE = 0.85
LATENT_NOISE = 0.15  # noise on the codec's latents in training, so that the decoder forgives the network's errors
CONDITIONAL_SHARE = 0.3  # share of batches whose first latent frame is given, as in every segment but the first


def _codec_stage() -> StageConfig:
    return StageConfig(updates=440, batch=8, frames=9, rate=2e-3, ema=0.98)


def _text_stage() -> StageConfig:
    return StageConfig(updates=500, batch=128, rate=2e-3, ema=0.98)


def _network_stage() -> StageConfig:
    return StageConfig(updates=1000, batch=16, frames=9, rate=1e-3, ema=0.99, save_every=100)


def _decoder_stage() -> StageConfig:
    return StageConfig(updates=300, batch=8, frames=9, rate=1e-3, ema=0.98, save_every=50)


@dataclass(frozen=True)
class PosttrainConfig:
    """What `cosmos-engine posttrain` does: pairs to render, and the four stages."""

    clips: ClipPoolConfig = field(default_factory=ClipPoolConfig)
    codec: StageConfig = field(default_factory=_codec_stage)
    text: StageConfig = field(default_factory=_text_stage)
    network: StageConfig = field(default_factory=_network_stage)
    decoder: StageConfig = field(default_factory=_decoder_stage)


def posttrain(out: Path, config: PosttrainConfig, clips: Path | None = None) -> Path:
    """Render pairs, train codec and network of size tiny, and write the checkpoint; resumes what was stopped.

    Args:
        out: the run's folder: `clips/` (unless given), a checkpoint a stage, `log.jsonl`, sample sheets, the result.
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
    train_decoder(model, pool, config.decoder, out)
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
    shown = TinyModel(model.network.config)
    for name, part in (("network", stage.average), ("codec", model.codec), ("text", model.text)):
        shown.add_module(name, part)

    def loss(update: int) -> Tensor:
        rng, noise = _randomness(config.seed, 2, update)
        batch = draw_batch(pool, training_indices(pool), config.batch, config.frames, rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                x0 = model.codec.encode(batch.rgb_BCTHW).float()
            return flow_matching_loss(model, x0, batch, rng, noise)

    def draw_samples(updates: int) -> None:
        write_file(out / f"samples_{updates:06d}.png", sample_sheet(shown, pool))

    stage.run(loss, draw_samples)


def sample_sheet(model: TinyModel, pool: ClipPool, clips: int = 4, frames: int = 5) -> bytes:
    """Return a PNG of held-out clips: the true render, and what the model makes of its controls and prompt."""
    generator = Transfer25("transfer25-tiny", model)
    rows: dict[str, np.ndarray] = {}
    for index in held_out_indices(pool)[:clips]:
        source = pool.clip(index)
        prompt = scene_prompt(source.words, np.random.default_rng(index))
        (made,) = generator.generate([clip_controls(source)], [prompt], [index])
        rows |= {f"clip {index}": source.rgb, f"{index} made": made[0]}
    return contact_sheet(rows, frames)


def clip_controls(clip: TrainingClip) -> ControlClip:
    """Return a training clip with the controls of the default recipe."""
    controls: dict[Modality, np.ndarray] = {
        "edge": edge_control(clip.rgb),
        "depth": depth_control(clip.depth_m),
        "seg": seg_control(clip.instance, 0),
    }
    return ControlClip(clip.rgb, controls, Recipe().weights)


def train_decoder(model: TinyModel, pool: ClipPool, config: StageConfig, out: Path) -> None:
    """Train the codec's decoder to draw true renders from what the network predicts in one denoise step.

    Predicted latents are smoother than encoded ones; a decoder that has seen them takes contours from the controls.
    The encoder stays, so the network's latents keep their meaning.
    """
    codec = model.codec
    codec.requires_grad_(True)
    for part in (codec.encoder, codec.group, codec.group_coarse):
        part.requires_grad_(False)
    model.network.eval().requires_grad_(False)
    model.text.eval().requires_grad_(False)
    stage = Stage("decoder", codec, config, out)

    def loss(update: int) -> Tensor:
        rng, noise = _randomness(config.seed, 3, update)
        batch = draw_batch(pool, training_indices(pool), config.batch, config.frames, rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latent = predicted_from_noise(model, batch, noise)
            rebuilt = codec.decode(latent, batch.controls).float()
        return reconstruction_loss(rebuilt, batch)

    stage.run(loss)


def predicted_from_noise(model: TinyModel, batch: Batch, noise: torch.Generator) -> Tensor:
    """Return the network's clean latent from pure noise under the batch's controls and prompts."""
    B, _, T, H, W = batch.rgb_BCTHW.shape
    cells = (latent_frames(T), H // SPATIAL_STRIDE, W // SPATIAL_STRIDE)
    eps = torch.randn(B, model.network.config.latent_channels, *cells, generator=noise)
    return predicted(model, eps, torch.ones(B), torch.zeros(1, 1, *cells), batch)


def predicted(model: TinyModel, noisy_BCTHW: Tensor, t_B: Tensor, condition_B1THW: Tensor, batch: Batch) -> Tensor:
    """Return the network's clean latent under the batch's controls, all of weight 1 and capped, and its prompts."""
    controls = {modality: control_latent(video) for modality, video in batch.controls.items()}
    return model.network(
        noisy_BCTHW,
        t_B,
        model.text.encode(batch.prompts),
        condition_mask_B1THW=condition_B1THW,
        controls=controls,
        weights=resolve_weights(dict.fromkeys(controls, 1.0), "capped"),
    ).float()


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
    clean = predicted(model, noisy, t, condition, batch)
    weight = (1.0 + (FOREGROUND_WEIGHT - 1.0) * latent_foreground(batch.foreground_BTHW)) * (1.0 - condition)
    return ((clean - x0_BCTHW).square() * weight).sum() / (weight.sum() * x0_BCTHW.shape[1])


def _randomness(seed: int, stage: int, update: int) -> tuple[np.random.Generator, torch.Generator]:
    rng = np.random.default_rng((seed, stage, update))
    return rng, torch.Generator().manual_seed(int(rng.integers(2**31)))
