"""Samplers: from noise to a clean latent along a velocity field.

Shapes: B batch, C channels, T frames, H rows, W columns of the latent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_engine.transfer.flow import Schedule, VelocityField

Latent: TypeAlias = Float[Tensor, "b c t h w"]
Solver = Literal["unipc", "euler", "distilled"]
OnStep: TypeAlias = Callable[[int], None]


def sample(
    field: VelocityField, schedule: Schedule, solver: Solver = "unipc", on_step: OnStep | None = None
) -> Float[Tensor, "b c t h w"]:
    """Sample a clean latent from the field's noise.

    Args:
        field: the velocity, with guidance, conditional frames and guided regions.
        schedule: times to evaluate at; `distilled` wants those of `distilled_schedule`.
        solver: `unipc` (order 2, NVIDIA's default), `euler` (order 1) or `distilled` (few steps, each of which
            predicts the clean latent and puts the initial noise back).
        on_step: called with the index of each denoise step when it is done.

    Returns:
        The clean latent in the noise's dtype. Conditional frames come out as they were given, up to rounding.
    """
    return SOLVERS[solver](field, schedule, on_step or (lambda step: None))


def sample_euler(field: VelocityField, schedule: Schedule, on_step: OnStep) -> Float[Tensor, "b c t h w"]:
    """Integrate dx/dsigma = v by Euler's method."""
    x = field.noise
    for step, (timestep, sigma, next_sigma) in enumerate(_evaluations(schedule)):
        x = x + (next_sigma - sigma) * field(x, sigma, timestep, step)
        on_step(step)
    return x


def sample_distilled(field: VelocityField, schedule: Schedule, on_step: OnStep) -> Float[Tensor, "b c t h w"]:
    """Predict the clean latent, and put the initial noise back for the next time.

    NVIDIA's DMD2 checkpoint is sampled on the circle x = cos(a) x0 + sin(a) eps; its network sees
    x / (cos(a) + sin(a)), which is the straight line x_t at sigma = sin(a) / (cos(a) + sin(a)). So the same field
    serves, and no angle appears here.
    """
    x = field.noise
    for step, (timestep, sigma, next_sigma) in enumerate(_evaluations(schedule)):
        clean = field.network_input(x, sigma, step) - sigma * field(x, sigma, timestep, step)
        if field.frames is not None:
            clean = torch.lerp(clean, field.frames.latent, field.frames.mask.to(clean.dtype))
        x = torch.lerp(clean, field.noise, next_sigma)
        on_step(step)
    return x


def sample_unipc(field: VelocityField, schedule: Schedule, on_step: OnStep) -> Float[Tensor, "b c t h w"]:
    """Integrate by UniPC of order 2 with B(h) = e^h - 1 ("bh2") on clean-latent predictions (Zhao et al. 2023).

    Each denoise step first repeats the last interval, now knowing the prediction at its end (UniC), then extrapolates
    over the next one (UniP). The first and the last interval are of order 1, as in NVIDIA's FlowUniPC.
    """
    if schedule.sigmas[0] >= 1:
        raise ValueError("unipc cannot start at sigma 1, where its log signal-to-noise is minus infinity")
    x = start = field.noise
    clean: deque[Latent] = deque(maxlen=2)  # clean-latent predictions at the last two times, newest last
    interval: Interval | None = None
    for step, (timestep, sigma, _) in enumerate(_evaluations(schedule)):
        current = x - sigma * field(x, sigma, timestep, step)
        if interval is not None:
            x = interval.corrected(start, clean, current)
        clean.append(current)
        interval, start = Interval.after(schedule.sigmas, step), x
        x = interval.predicted(start, clean)
        on_step(step)
    return x


@dataclass(frozen=True)
class Interval:
    """One interval of UniPC, from time `step` to the next, in log signal-to-noise lambda = log((1 - sigma) / sigma).

    Attributes:
        length: h, the growth of lambda over the interval; infinite for the last one.
        noise_share: what is left of the noise, sigma at the end over sigma at the start.
        gain: (1 - sigma at the end) times (e^-h - 1).
        older: where the prediction before the start lies, in lengths of the interval (negative); None at order 1.
    """

    length: float
    noise_share: float
    gain: float
    older: float | None

    @classmethod
    def after(cls, sigmas: tuple[float, ...], step: int) -> Interval:
        """Return the interval that starts at `sigmas[step]`."""
        start, end = sigmas[step], sigmas[step + 1]
        length = log_snr(end) - log_snr(start)
        is_second_order = 0 < step < len(sigmas) - 2
        older = (log_snr(sigmas[step - 1]) - log_snr(start)) / length if is_second_order else None
        return cls(length, end / start, (1 - end) * math.expm1(-length), older)

    def predicted(self, start: Latent, clean: deque[Latent]) -> Latent:
        """Extrapolate to the end from the predictions up to the start (UniP)."""
        end = self.noise_share * start - self.gain * clean[-1]
        if self.older is None:
            return end
        return end - self.gain * 0.5 * (clean[-2] - clean[-1]) / self.older

    def corrected(self, start: Latent, clean: deque[Latent], current: Latent) -> Latent:
        """Integrate to the end again from the predictions up to the start and the one at the end (UniC)."""
        end = self.noise_share * start - self.gain * clean[-1]
        if self.older is None:
            return end - self.gain * 0.5 * (current - clean[-1])
        # Weights of both differences from two moment conditions (Zhao et al. 2023, eq. 5), phi functions of -h.
        phi_1 = math.expm1(-self.length) / -self.length - 1
        phi_2 = phi_1 / -self.length - 0.5
        moment_1 = phi_1 / math.expm1(-self.length)
        moment_2 = 2 * phi_2 / math.expm1(-self.length)
        older_weight = (moment_1 - moment_2) / (1 - self.older)
        current_weight = moment_1 - older_weight
        differences = older_weight * (clean[-2] - clean[-1]) / self.older + current_weight * (current - clean[-1])
        return end - self.gain * differences


def log_snr(sigma: float) -> float:
    """Return log((1 - sigma) / sigma); infinite at 0."""
    return math.log1p(-sigma) - math.log(sigma) if sigma > 0 else math.inf


def _evaluations(schedule: Schedule) -> list[tuple[float, float, float]]:
    return list(zip(schedule.timesteps, schedule.sigmas[:-1], schedule.sigmas[1:], strict=True))


SOLVERS: dict[Solver, Callable[[VelocityField, Schedule, OnStep], Latent]] = {
    "unipc": sample_unipc,
    "euler": sample_euler,
    "distilled": sample_distilled,
}
