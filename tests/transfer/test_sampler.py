from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from cosmos_engine.transfer.flow import (
    ConditionalFrames,
    Schedule,
    VelocityField,
    distilled_schedule,
    flow_schedule,
)
from cosmos_engine.transfer.sampler import SOLVERS, Solver, sample

SHAPE = (2, 3, 2, 2, 2)
MEAN, DEVIATION = 0.4, 0.5


def draw(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread(t: float) -> float:
    """Standard deviation of x_t when x0 ~ N(MEAN, DEVIATION^2)."""
    return math.hypot((1 - t) * DEVIATION, t)


def gaussian_velocity(x: Tensor, t: float) -> Tensor:
    """The exact velocity of the flow from N(0, 1) to N(MEAN, DEVIATION^2): linear in x."""
    slope = (t - (1 - t) * DEVIATION**2) / spread(t) ** 2
    return slope * (x - (1 - t) * MEAN) - MEAN


def gaussian_endpoint(x: Tensor, t: float) -> Tensor:
    """Where that flow takes x at time t by time 0, in closed form."""
    return MEAN + DEVIATION * (x - (1 - t) * MEAN) / spread(t)


def endpoint_error(solver: Solver, steps: int) -> float:
    schedule, noise = flow_schedule(steps), draw(0)
    got = sample(VelocityField(gaussian_velocity, noise), schedule, solver)
    return (got - gaussian_endpoint(noise, schedule.sigmas[0])).abs().max().item()


@pytest.mark.parametrize(("solver", "order", "error"), [("unipc", 2, 3e-4), ("euler", 1, 1e-2)])
def test_linear_field_is_integrated_to_its_closed_form(solver: Solver, order: int, error: float) -> None:
    coarse, fine = endpoint_error(solver, 140), endpoint_error(solver, 560)
    assert fine < error
    assert fine < coarse / 4**order * 1.5  # four times the denoise steps; 1.5 for terms of higher order


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_known_clean_latent_is_reached_exactly(solver: Solver) -> None:
    noise, clean = draw(0), draw(1)
    schedule = distilled_schedule() if solver == "distilled" else flow_schedule(4)
    for prediction, network in (("x0", lambda x, t: clean), ("velocity", lambda x, t: noise - clean)):
        got = sample(VelocityField(network, noise, prediction), schedule, solver)
        # Sampling starts at schedule.sigmas[0] = 0.9998 with the noise of time 1, which leaves 0.0002 of it.
        torch.testing.assert_close(got, clean, rtol=0, atol=0.002 if prediction == "velocity" else 1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 35])
def test_unipc_equals_diffusers_on_the_same_sigmas(steps: int) -> None:
    schedule, noise = flow_schedule(steps), draw(0)

    def velocity(x: Tensor, t: float) -> Tensor:
        return torch.sin(3 * x) * (1 + t) - 0.3 * x.roll(1, 0) + t**2

    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2, solver_type="bh2"
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor(schedule.sigmas, dtype=torch.float64)
    scheduler.timesteps = torch.arange(steps, 0, -1)
    scheduler.set_begin_index(0)
    expected = noise
    for timestep, sigma in zip(scheduler.timesteps, schedule.sigmas, strict=False):
        expected = scheduler.step(velocity(expected, sigma), timestep, expected).prev_sample
    got = sample(VelocityField(velocity, noise), schedule)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)  # diffusers rounds a constant of its own to float32


def test_distilled_sampling_equals_the_published_loop_on_the_circle() -> None:
    noise = draw(0)

    def velocity(x: Tensor, t: float) -> Tensor:
        return torch.cos(2 * x) + t

    x = noise
    angles = (math.pi / 2, math.atan(15), math.atan(5), math.atan(5 / 3), 0.0)
    for angle, following in itertools.pairwise(angles):
        scale = math.cos(angle) + math.sin(angle)
        seen, time = x / scale, math.sin(angle) / scale
        clean = x / scale - time * velocity(seen, time)
        x = math.cos(following) * clean + math.sin(following) * noise
    torch.testing.assert_close(sample(VelocityField(velocity, noise), distilled_schedule(), "distilled"), x)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_conditional_frames_come_out_as_given(solver: Solver) -> None:
    noise, given = draw(0), draw(1)
    mask = torch.zeros(1, 1, 2, 1, 1)
    mask[:, :, 0] = 1
    schedule = distilled_schedule() if solver == "distilled" else flow_schedule(10)
    field = VelocityField(lambda x, t: torch.sin(x), noise, frames=ConditionalFrames(given, mask))
    got = sample(field, schedule, solver)
    torch.testing.assert_close(got[:, :, 0], given[:, :, 0], rtol=0, atol=0.002)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_network_is_told_the_schedules_timesteps_once_each(solver: Solver) -> None:
    schedule = flow_schedule(5, integer_timesteps=True)
    told: list[float] = []

    def denoise(x: Tensor, timestep: float) -> Tensor:
        told.append(timestep)
        return x

    done: list[int] = []
    sample(VelocityField(denoise, draw(0)), schedule, solver, done.append)
    assert tuple(told) == schedule.timesteps
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sigmas", [(1.0,), (0.5, 0.6, 0.0), (1.2, 0.0), (0.5, 0.1)])
def test_schedule_must_fall_to_zero(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fall"):
        Schedule(sigmas, sigmas[:-1])


def test_unipc_refuses_a_start_at_pure_noise() -> None:
    with pytest.raises(ValueError, match="sigma 1"):
        sample(VelocityField(lambda x, t: x, draw(0)), distilled_schedule(), "unipc")
