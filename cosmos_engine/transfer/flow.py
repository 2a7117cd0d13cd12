"""Rectified flow: times, noise, and what conditional and guided frames do to an evaluation.

x_t = (1 - t) x0 + t eps and v = eps - x0 (Liu et al. 2022), t from 1 (noise) to 0 (clean). sigma is t.
Shapes: B batch, C channels, T frames, H rows, W columns of the latent.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_engine.transfer.config import Prediction

# (noisy latent, flow time) -> what the network predicts; knows its own text, controls and masks.
Denoise: TypeAlias = Callable[[Tensor, float], Tensor]

TRAIN_TIMESTEPS = 1000
# Angles of the distilled checkpoint (NVIDIA's `selected_sampling_time`): sigma / (1 - sigma) = inf, 15, 5, 5/3.
DISTILLED_ANGLES_RAD = (math.pi / 2, math.atan(15), math.atan(5), math.atan(5 / 3))
MAX_SEGMENT_SEED = 1_000_000


@dataclass(frozen=True)
class Schedule:
    """The flow times of a sampling run.

    Attributes:
        sigmas: n + 1 falling times; the last is 0, where nothing is evaluated.
        timesteps: n times as the network is told them, equal to the sigmas or rounded.
    """

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]

    def __post_init__(self) -> None:
        falling = all(first > second for first, second in itertools.pairwise(self.sigmas))
        if not falling or len(self.sigmas) < 2 or self.sigmas[0] > 1 or self.sigmas[-1] != 0:
            raise ValueError(f"sigmas must fall from at most 1 to 0, got {self.sigmas}")
        if len(self.timesteps) != len(self.sigmas) - 1:
            raise ValueError(f"{len(self.sigmas) - 1} evaluations need as many timesteps, got {len(self.timesteps)}")

    @property
    def steps(self) -> int:
        """Denoise steps."""
        return len(self.timesteps)


def flow_schedule(steps: int, shift: float = 5.0, *, integer_timesteps: bool = False) -> Schedule:
    """Return evenly spaced times u shifted towards noise, s u / (1 + (s - 1) u) (Esser et al. 2024, eq. 23).

    u falls from 0.999, as in NVIDIA's FlowUniPC: t = 1 would put the solver's log signal-to-noise at minus infinity.

    Args:
        steps: denoise steps, at least 1.
        shift: s above.
        integer_timesteps: tell the network floor(1000 t) / 1000, as the 2B was trained; the solver keeps exact times.
    """
    if steps < 1 or shift <= 0:
        raise ValueError(f"a schedule needs steps >= 1 and shift > 0, got {steps} and {shift}")
    u = np.linspace(1.0 - 1.0 / TRAIN_TIMESTEPS, 0.0, steps + 1)[:-1]
    sigmas = [float(sigma) for sigma in shift * u / (1.0 + (shift - 1.0) * u)]
    told = [math.floor(sigma * TRAIN_TIMESTEPS) / TRAIN_TIMESTEPS for sigma in sigmas] if integer_timesteps else sigmas
    return Schedule((*sigmas, 0.0), tuple(told))


def distilled_schedule(steps: int = len(DISTILLED_ANGLES_RAD)) -> Schedule:
    """Return the flow times of the distilled checkpoint: tan(angle) = sigma / (1 - sigma) at its first `steps` angles.

    Raises:
        ValueError: more steps than the checkpoint was distilled for.
    """
    if not 1 <= steps <= len(DISTILLED_ANGLES_RAD):
        raise ValueError(f"the distilled checkpoint takes 1 to {len(DISTILLED_ANGLES_RAD)} denoise steps, got {steps}")
    sigmas = tuple(math.sin(angle) / (math.sin(angle) + math.cos(angle)) for angle in DISTILLED_ANGLES_RAD[:steps])
    return Schedule((*sigmas, 0.0), sigmas)


def segment_seeds(seed: int, segments: int) -> tuple[int, ...]:
    """Return one seed per segment: each is drawn by Python's generator from the one before, as in NVIDIA's pipeline."""
    seeds = []
    for _ in range(segments):
        seed = random.Random(seed).randint(0, MAX_SEGMENT_SEED)
        seeds.append(seed)
    return tuple(seeds)


def gaussian_noise(
    seeds: Sequence[int], shape: tuple[int, int, int, int], device: torch.device | str = "cpu"
) -> Float[Tensor, "b c t h w"]:
    """Draw float32 noise, one sample per seed, the same on every device and whatever else is in the batch.

    Args:
        seeds: each in [0, 2^32).
        shape: (C, T, H, W) of one sample.
    """
    drawn = [np.random.RandomState(seed).standard_normal(shape).astype(np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).to(device)


@dataclass(frozen=True)
class ConditionalFrames:
    """Frames that are given: they replace the noisy ones in the network's input.

    Attributes:
        latent: the clean latent; its other frames are not read.
        mask: 1 at given frames, else 0.
    """

    latent: Float[Tensor, "b c t h w"]
    mask: Float[Tensor, "#b 1 t #h #w"]


@dataclass(frozen=True)
class GuidedRegion:
    """A region that early denoise steps see as it is in the source video, so that it keeps its content.

    Attributes:
        latent: the source's clean latent.
        mask: 1 where the source is kept, 0 where not; between them a blend.
        last_step: index of the last denoise step that is guided.
    """

    latent: Float[Tensor, "b c t h w"]
    mask: Float[Tensor, "#b 1 t h w"]
    last_step: int = 25


@dataclass(frozen=True)
class VelocityField:
    """The velocity of the flow as a sampler sees it: guidance, conditional frames and guided regions included.

    Attributes:
        conditional: the network under the prompt.
        noise: the initial noise of the run.
        prediction: what the network predicts.
        unconditional: the network under the negative or empty prompt, the controls the same; not evaluated at
            guidance 0.
        guidance: g in v = v_cond + g (v_cond - v_uncond); a classifier-free guidance scale of g + 1.
        frames: conditional frames.
        region: guided region.
    """

    conditional: Denoise
    noise: Float[Tensor, "b c t h w"]
    prediction: Prediction = "velocity"
    unconditional: Denoise | None = None
    guidance: float = 0.0
    frames: ConditionalFrames | None = None
    region: GuidedRegion | None = None

    def __post_init__(self) -> None:
        if self.guidance != 0 and self.unconditional is None:
            raise ValueError(f"guidance {self.guidance} needs an unconditional prediction")

    def __call__(
        self, x: Float[Tensor, "b c t h w"], sigma: float, timestep: float, step: int
    ) -> Float[Tensor, "b c t h w"]:
        """Evaluate at noisy latent x of time sigma, which the network is told as `timestep`."""
        seen = self.network_input(x, sigma, step)
        velocity = self._velocity(self.conditional, seen, sigma, timestep)
        if self.guidance != 0 and self.unconditional is not None:
            unguided = self._velocity(self.unconditional, seen, sigma, timestep)
            velocity = velocity + self.guidance * (velocity - unguided)
        if self.frames is not None:
            velocity = torch.lerp(velocity, self.noise - self.frames.latent, self.frames.mask.to(velocity.dtype))
        return velocity

    def network_input(self, x: Float[Tensor, "b c t h w"], sigma: float, step: int) -> Float[Tensor, "b c t h w"]:
        """Return what the network is shown in place of x; the sampler goes on from x itself."""
        if self.region is not None and step <= self.region.last_step:
            source = torch.lerp(self.region.latent, self.noise, sigma)
            x = torch.lerp(x, source, self.region.mask.to(x.dtype))
        if self.frames is not None:
            x = torch.lerp(x, self.frames.latent, self.frames.mask.to(x.dtype))
        return x

    def _velocity(self, denoise: Denoise, seen: Tensor, sigma: float, timestep: float) -> Tensor:
        predicted = denoise(seen, timestep).to(seen.dtype)
        return predicted if self.prediction == "velocity" else (seen - predicted) / sigma
