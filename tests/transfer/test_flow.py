from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosmos_engine.transfer.flow import (
    ConditionalFrames,
    GuidedRegion,
    VelocityField,
    distilled_schedule,
    flow_schedule,
    gaussian_noise,
    segment_seeds,
)

SHAPE = (1, 2, 3, 4, 4)


def draw(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(steps=st.integers(1, 100), shift=st.floats(0.5, 12))
def test_schedule_inverts_to_even_times(steps: int, shift: float) -> None:
    sigmas = np.array(flow_schedule(steps, shift).sigmas)
    even = sigmas / (shift - (shift - 1) * sigmas)
    np.testing.assert_allclose(even, np.linspace(0.999, 0, steps + 1), atol=1e-12)


@pytest.mark.parametrize("steps", range(1, 101))
def test_schedule_of_the_2b_is_nvidias(steps: int) -> None:
    # FlowUniPCMultistepScheduler(1000, shift=1).set_timesteps(steps, shift=5), which rounds to float32 and truncates.
    first = float(np.float32(1 - 1 / 1000))
    u = np.linspace(first, 0, steps + 1)[:-1]
    sigmas = 5 * u / (1 + 4 * u)
    schedule = flow_schedule(steps, integer_timesteps=True)
    np.testing.assert_allclose(schedule.sigmas, np.append(sigmas, 0), atol=1e-7)
    np.testing.assert_array_equal(np.round(1000 * np.array(schedule.timesteps)), (sigmas * 1000).astype(np.int64))


def test_distilled_times_are_the_published_angles() -> None:
    np.testing.assert_allclose(distilled_schedule().sigmas, (1, 15 / 16, 5 / 6, 5 / 8, 0), rtol=1e-12)
    with pytest.raises(ValueError, match="1 to 4"):
        distilled_schedule(5)


@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3))
def test_noise_of_a_seed_does_not_depend_on_the_batch(seeds: list[int]) -> None:
    together = gaussian_noise(seeds, (2, 1, 3, 3))
    assert together.dtype == torch.float32
    for seed, sample in zip(seeds, together, strict=True):
        assert torch.equal(gaussian_noise([seed], (2, 1, 3, 3))[0], sample)


def test_noise_is_numpys_legacy_generator() -> None:
    expected = np.random.RandomState(7).standard_normal((2, 1, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(gaussian_noise([7], (2, 1, 2, 2))[0].numpy(), expected)


def test_each_segment_has_a_seed_of_its_own_and_the_first_ones_do_not_depend_on_the_count() -> None:
    seeds = segment_seeds(2025, 5)
    assert len(set(seeds)) == 5
    assert segment_seeds(2025, 3) == seeds[:3]
    assert segment_seeds(2026, 3) != seeds[:3]


def test_x0_and_velocity_predictions_are_one_field() -> None:
    noise, x, clean, sigma = draw(0), draw(1), draw(2), 0.7
    as_x0 = VelocityField(lambda seen, t: clean, noise, "x0")
    as_velocity = VelocityField(lambda seen, t: (seen - clean) / sigma, noise)
    torch.testing.assert_close(as_x0(x, sigma, sigma, 0), as_velocity(x, sigma, sigma, 0))


def test_guidance_extrapolates_from_the_unconditional_prediction() -> None:
    noise, x, conditional, unconditional = draw(0), draw(1), draw(2), draw(3)
    field = VelocityField(lambda seen, t: conditional, noise, unconditional=lambda seen, t: unconditional, guidance=3.0)
    torch.testing.assert_close(field(x, 0.5, 0.5, 0), 4 * conditional - 3 * unconditional)


def test_guidance_zero_evaluates_once() -> None:
    def never(seen: Tensor, timestep: float) -> Tensor:
        raise AssertionError("the unconditional network must not run")

    field = VelocityField(lambda seen, t: 2 * seen, draw(0), unconditional=never, guidance=0.0)
    torch.testing.assert_close(field(draw(1), 0.5, 0.5, 0), 2 * draw(1))


def test_guidance_needs_something_to_lead_away_from() -> None:
    with pytest.raises(ValueError, match="guidance"):
        VelocityField(lambda seen, t: seen, draw(0), guidance=1.0)


def test_network_sees_conditional_frames_clean_and_their_velocity_is_exact() -> None:
    noise, x, given = draw(0), draw(1), draw(2)
    mask = torch.zeros(1, 1, 3, 1, 1)
    mask[:, :, 0] = 1
    inputs: list[Tensor] = []

    def denoise(seen: Tensor, timestep: float) -> Tensor:
        inputs.append(seen)
        return torch.full_like(seen, 9.0)

    velocity = VelocityField(denoise, noise, frames=ConditionalFrames(given, mask))(x, 0.5, 0.5, 0)
    assert torch.equal(inputs[0][:, :, 0], given[:, :, 0])
    assert torch.equal(inputs[0][:, :, 1:], x[:, :, 1:])
    assert torch.equal(velocity[:, :, 0], (noise - given)[:, :, 0])
    assert bool((velocity[:, :, 1:] == 9.0).all())


def test_guided_region_is_the_source_at_the_same_noise_until_the_threshold() -> None:
    noise, x, source = draw(0), draw(1), draw(2)
    mask = torch.zeros(1, 1, 3, 4, 4, dtype=torch.float64)
    mask[..., :2] = 1
    field = VelocityField(lambda seen, t: seen, noise, region=GuidedRegion(source, mask, last_step=4))
    guided = field.network_input(x, 0.25, 4)
    torch.testing.assert_close(guided[..., :2], (0.75 * source + 0.25 * noise)[..., :2])
    assert torch.equal(guided[..., 2:], x[..., 2:])
    assert torch.equal(field.network_input(x, 0.25, 5), x)
