"""The network stage: flow matching on the frozen codec's latents, of base and branches or of one branch alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cosmos_engine.controls import Modality
from cosmos_engine.data import write_file
from cosmos_engine.processes import Processes
from cosmos_engine.transfer.codec import SPATIAL_STRIDE, control_latent, grouped_frames
from cosmos_engine.transfer.control_weights import resolve_weights
from cosmos_engine.transfer.guided_codec import CODE_CHANNELS, LOCAL_CHANNELS
from cosmos_engine.transfer.model import TransferModel
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.parts import PARTS
from cosmos_engine.transfer.segments import latent_frames
from cosmos_engine.transfer.tiny import TinyModel
from cosmos_engine.transfer.training.batch import Batch
from cosmos_engine.transfer.training.config import FlowConfig, NetworkStageConfig
from cosmos_engine.transfer.training.energy_score import energy_score
from cosmos_engine.transfer.training.sheet import sample_sheet
from cosmos_engine.transfer.training.stage import Stage
from cosmos_engine.transfer.training.stream import BatchSource, Drawn, Noise

PURE_NOISE_SPAN = 0.02  # flow times above 1 less this count as pure noise


def train_network(
    model: TinyModel, source: BatchSource, config: NetworkStageConfig, out: Path, branch: Modality | None = None
) -> None:
    """Train network and branches on the frozen codec's latents and text encoder's tokens.

    Args:
        model: in place.
        source: of batches.
        config: of the stage.
        out: the run's folder.
        branch: trained alone, everything else frozen.
    """
    processes = source.processes
    model.codec.eval().requires_grad_(False)
    model.text.eval().requires_grad_(False)
    network = model.network.requires_grad_(branch is None)
    trained: nn.Module = network if branch is None else network.branch(branch).requires_grad_(True)
    stage = Stage("network" if branch is None else f"branch_{branch}", trained, config, out, processes)
    with source.stream(2, config) as stream:

        def loss(update: int) -> Tensor:
            drawn = stream[update]
            with source.autocast():
                with torch.no_grad():
                    x0 = model.codec.encode(drawn.batch.rgb_BCTHW).float()
                begins = config.energy_after * config.updates
                if config.energy and update >= begins and drawn.rng.random() < config.energy:
                    return energy_loss(model, x0, drawn, config, processes)
                return flow_matching_loss(model, x0, drawn, config, processes)

        def draw_samples(updates: int) -> None:
            shown = TransferModel(_averaged(network, stage.average, branch), model.codec, model.text)
            controls = () if branch is None else (branch,)
            sheet = sample_sheet(shown, source.pool, processes.device, controls)
            write_file(out / f"{stage.name}_{updates:06d}.png", sheet)

        stage.run(loss, draw_samples)


def flow_matching_loss(
    model: TinyModel, x0_BCTHW: Tensor, drawn: Drawn, config: FlowConfig, processes: Processes
) -> Tensor:
    """Return the error of the network's x0 at a draw of flow times."""
    noisy = draw_noisy(x0_BCTHW, drawn, config)
    clean = predicted(model, noisy.latent_BCTHW, noisy.t_B, noisy.condition_B1THW, drawn.batch)
    return latent_error(clean, x0_BCTHW, drawn.batch, noisy.condition_B1THW, processes)


def energy_loss(
    model: TinyModel, x0_BCTHW: Tensor, drawn: Drawn, config: NetworkStageConfig, processes: Processes
) -> Tensor:
    """Return the energy score of two draws from pure noise, weighted as `latent_error`."""
    t = 1.0 - PURE_NOISE_SPAN * drawn.noise.uniform(x0_BCTHW.shape[0])
    condition = _condition(x0_BCTHW, drawn.rng, config)
    first, second = (
        predicted(model, _noisy(x0_BCTHW, drawn.noise.normal(*x0_BCTHW.shape), t, condition), t, condition, drawn.batch)
        for _ in range(2)
    )
    weight = latent_weight(drawn.batch, condition)
    return energy_score(first, second, x0_BCTHW, weight, processes.mean(weight.mean()))


@dataclass(frozen=True)
class NoisyLatent:
    """Latents on their way from noise.

    Attributes:
        latent_BCTHW: noisy, but for the frames that are given.
        t_B: flow times in [0, 1].
        condition_B1THW: 1 where the latent is given.
    """

    latent_BCTHW: Tensor
    t_B: Tensor
    condition_B1THW: Tensor


def draw_noisy(x0_BCTHW: Tensor, drawn: Drawn, config: FlowConfig) -> NoisyLatent:
    """Draw noise and flow times: near pure noise for a share of the clips, else even and shifted."""
    B = x0_BCTHW.shape[0]
    u = drawn.noise.uniform(B)
    shifted = config.shift * u / (1 + (config.shift - 1) * u)
    near = 1.0 - PURE_NOISE_SPAN * u
    t = torch.where(drawn.noise.uniform(B) < config.pure_noise, near, shifted)
    condition = _condition(x0_BCTHW, drawn.rng, config)
    return NoisyLatent(_noisy(x0_BCTHW, drawn.noise.normal(*x0_BCTHW.shape), t, condition), t, condition)


def latent_error(
    clean_BCTHW: Tensor, x0_BCTHW: Tensor, batch: Batch, condition_B1THW: Tensor, processes: Processes
) -> Tensor:
    """Return the mean squared error of a predicted clean latent, each number counted as `latent_weight` says."""
    weight = latent_weight(batch, condition_B1THW)
    return ((clean_BCTHW - x0_BCTHW).square() * weight).mean() / processes.mean(weight.mean())


def latent_weight(batch: Batch, condition_B1THW: Tensor) -> Float[Tensor, "b c t h w"]:
    """Return how much each number of a latent counts.

    What a cell says of a part counts by the square of the part's share of it, as when the decoder pools styles; all
    parts that are in the picture count alike, however small. Frames that are given do not count.
    """
    is_part = F.one_hot(batch.parts_BTHW.long(), len(PARTS)).movedim(-1, 1).float()
    shares_BKThw = F.avg_pool3d(is_part, (1, SPATIAL_STRIDE, SPATIAL_STRIDE))
    weight_BKLhw = grouped_frames(shares_BKThw).mean(2).transpose(1, 2).square() * (1.0 - condition_B1THW)
    cells = weight_BKLhw[0, 0].numel()
    weight_BKLhw = weight_BKLhw * cells / weight_BKLhw.sum((2, 3, 4), keepdim=True).clamp(min=1.0)
    of_parts = weight_BKLhw.repeat_interleave(CODE_CHANNELS, dim=1)
    everywhere = (1.0 - condition_B1THW).expand(len(of_parts), LOCAL_CHANNELS, *of_parts.shape[2:])
    return torch.cat([of_parts, everywhere], dim=1)


def predicted_from_noise(model: TinyModel, batch: Batch, noise: Noise) -> Tensor:
    """Return the network's clean latent from pure noise under the batch's controls and prompts."""
    B, _, T, H, W = batch.rgb_BCTHW.shape
    cells = (latent_frames(T), H // SPATIAL_STRIDE, W // SPATIAL_STRIDE)
    eps = noise.normal(B, model.network.config.latent_channels, *cells)
    return predicted(model, eps, eps.new_ones(B), eps.new_zeros(1, 1, *cells), batch)


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


def _condition(x0_BCTHW: Tensor, rng: np.random.Generator, config: FlowConfig) -> Tensor:
    """Return 1 where the latent is given: nowhere, or in the first frame."""
    condition = torch.zeros_like(x0_BCTHW[:, :1])
    if rng.random() < config.conditional and x0_BCTHW.shape[2] > 1:
        condition[:, :, 0] = 1.0
    return condition


def _noisy(x0_BCTHW: Tensor, eps_BCTHW: Tensor, t_B: Tensor, condition_B1THW: Tensor) -> Tensor:
    t_B1111 = t_B.view(-1, 1, 1, 1, 1)
    noisy = (1 - t_B1111) * x0_BCTHW + t_B1111 * eps_BCTHW
    return torch.where(condition_B1THW > 0, x0_BCTHW, noisy)


def _averaged(network: TransferNetwork, average: nn.Module, branch: Modality | None) -> TransferNetwork:
    """Return the network as it would end now."""
    if branch is None:
        assert isinstance(average, TransferNetwork)
        return average
    ended = copy.deepcopy(network)
    ended.branches[branch] = average
    return ended
