"""The noise schedule agrees with diffusers, an independent implementation of the same papers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from policies.schedule import NoiseSchedule, Prediction

ORACLE_PREDICTION = {"epsilon": "epsilon", "v": "v_prediction"}
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v")


def _arrays(count: int, seed: int = 0, batch: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 16, 7, generator=generator, dtype=torch.float64) for _ in range(count)]


def _ddpm(prediction: Prediction) -> DDPMScheduler:
    return DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", prediction_type=ORACLE_PREDICTION[prediction])


def test_alpha_bars_equal_the_published_schedule() -> None:
    # diffusers keeps its tables in float32
    np.testing.assert_allclose(NoiseSchedule(100).alpha_bars, _ddpm("epsilon").alphas_cumprod.double(), rtol=2e-5)


def test_noising_and_velocity_equal_the_oracle() -> None:
    clean, noise = _arrays(2)
    steps = torch.tensor([0, 41, 99])
    schedule, oracle = NoiseSchedule(100, "v"), _ddpm("v")
    oracle.alphas_cumprod = schedule.alpha_bars
    torch.testing.assert_close(schedule.add_noise(clean, noise, steps), oracle.add_noise(clean, noise, steps))
    torch.testing.assert_close(schedule.target(clean, noise, steps), oracle.get_velocity(clean, noise, steps))


def _ddim(schedule: NoiseSchedule, count: int) -> DDIMScheduler:
    oracle = DDIMScheduler(
        100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=ORACLE_PREDICTION[schedule.prediction],
        timestep_spacing="trailing",
    )
    oracle.alphas_cumprod = schedule.alpha_bars
    oracle.set_timesteps(count)
    return oracle


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("count", [1, 4, 10, 20, 100])  # of other counts diffusers steps to a neighbouring time
def test_ddim_sampling_equals_the_oracle_in_float64(prediction: Prediction, count: int) -> None:
    schedule = NoiseSchedule(100, prediction)
    oracle = _ddim(schedule, count)
    sample = expected = _arrays(1)[0]
    for step, following in pairwise([*schedule.inference_steps(count), -1]):
        output = torch.sin(3 * sample) + 0.01 * step  # any function of the sample serves as a network
        sample, std = schedule.ddim_mean_and_std(sample, output, step, following)
        assert std == 0
        expected = oracle.step(output, step, expected).prev_sample
        torch.testing.assert_close(sample, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_noise_equals_the_oracle_in_float64(prediction: Prediction, eta: float) -> None:
    schedule = NoiseSchedule(100, prediction)
    oracle = _ddim(schedule, 5)
    noisy, output, noise = _arrays(3)
    for step, following in pairwise([*schedule.inference_steps(5), -1]):
        mean, std = schedule.ddim_mean_and_std(noisy, output, step, following, eta)
        expected = oracle.step(output, step, noisy, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(mean + std * noise, expected, rtol=1e-10, atol=1e-10)
        assert (std > 0) == (following >= 0)


def test_ddim_with_all_noise_is_ddpm_on_neighbouring_steps() -> None:
    schedule = NoiseSchedule(100)
    noisy, clean = _arrays(2)
    clean = clean.clamp(-1, 1)
    signal, spread = schedule.alpha_bars[50].sqrt(), (1 - schedule.alpha_bars[50]).sqrt()
    output = (noisy - signal * clean) / spread  # of a network that knows the clean sample, which is not clipped then
    mean, std = schedule.ddim_mean_and_std(noisy, output, 50, 49, eta=1.0)
    expected, expected_std = schedule.ddpm_mean_and_std(noisy, output, 50)
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-10)
    assert std == pytest.approx(expected_std, rel=1e-10)


@pytest.mark.parametrize("count", [1, 3, 8, 10, 16, 100])
def test_inference_steps_equal_the_oracles_trailing_ones(count: int) -> None:
    schedule = NoiseSchedule(100)
    assert schedule.inference_steps(count) == _ddim(schedule, count).timesteps.tolist()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("step", [0, 1, 50, 99])
def test_ddpm_mean_and_variance_equal_the_oracle_in_float64(prediction: Prediction, step: int) -> None:
    schedule, oracle = NoiseSchedule(100, prediction), _ddpm(prediction)
    oracle.alphas_cumprod, oracle.alphas = schedule.alpha_bars, 1.0 - schedule.betas
    oracle.betas, oracle.one = schedule.betas, torch.tensor(1.0, dtype=torch.float64)
    sample, output = _arrays(2)
    mean, std = schedule.ddpm_mean_and_std(sample, output, step)
    drawn = oracle.step(output, step, sample, generator=torch.Generator().manual_seed(7)).prev_sample
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    # diffusers bounds the variance of step 0 to 1e-20 and adds no noise there.
    torch.testing.assert_close(mean + (std * noise if step > 0 else 0.0), drawn, rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 2**31), step=st.integers(0, 90), prediction=st.sampled_from(PREDICTIONS))
def test_the_right_prediction_gives_the_clean_sample_back(seed: int, step: int, prediction: Prediction) -> None:
    schedule = NoiseSchedule(100, prediction)
    clean, noise = _arrays(2, seed, batch=1)
    clean = clean.clamp(-1, 1)
    steps = torch.tensor([step])
    noisy, target = schedule.add_noise(clean, noise, steps), schedule.target(clean, noise, steps)
    given_back, _ = schedule.ddim_mean_and_std(noisy, target, step, -1)
    torch.testing.assert_close(given_back, clean, rtol=1e-6, atol=1e-6)


@given(count=st.integers(1, 100))
def test_inference_starts_at_the_noisiest_step_and_goes_down(count: int) -> None:
    steps = NoiseSchedule(100).inference_steps(count)
    assert len(steps) == count
    assert steps[0] == 99
    assert all(earlier > later >= 0 for earlier, later in pairwise(steps))


def test_more_denoise_steps_than_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 to 100, got 101"):
        NoiseSchedule(100).inference_steps(101)
