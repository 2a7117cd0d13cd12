"""Chains: the means and spreads of both samplers, and log-probabilities that a closed form confirms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from policies.dppo.chain import LOG_PROB_RANGE, DenoisingChain, mean_log_prob
from policies.schedule import NoiseSchedule

EVERYTHING = slice(None)


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_ddpm_chain_is_the_schedules_posterior(prediction: str) -> None:
    schedule = NoiseSchedule(20, prediction)  # type: ignore[arg-type]
    chain = DenoisingChain(schedule, "ddpm", 20, min_std=1e-12)
    noisy, output = _noise(20, 4, 3), _noise(20, 4, 3, seed=1)
    means, stds = chain.mean_and_std(noisy, output, torch.arange(20))
    for place, step in enumerate(reversed(range(20))):
        mean, std = schedule.ddpm_mean_and_std(noisy[place : place + 1], output[place : place + 1], step)
        torch.testing.assert_close(means[place : place + 1], mean)
        assert stds[place].item() == pytest.approx(max(std, 1e-12), rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_chain_takes_the_schedules_denoise_steps(eta: float) -> None:
    schedule = NoiseSchedule(100)
    chain = DenoisingChain(schedule, "ddim", 5, eta=eta, min_std=1e-12)
    noisy, output = _noise(5, 4, 3), _noise(5, 4, 3, seed=1)
    means, stds = chain.mean_and_std(noisy, output, torch.arange(5))
    assert chain.steps == [99, 79, 59, 39, 19]
    for place, (step, after) in enumerate(zip(chain.steps, [*chain.steps[1:], -1], strict=True)):
        one = slice(place, place + 1)
        mean, std = schedule.ddim_mean_and_std(noisy[one], output[one], step, after, eta)
        torch.testing.assert_close(means[one], mean)
        assert stds[place].item() == pytest.approx(max(std, 1e-12), rel=1e-6)


def test_ddim_with_eta_one_on_all_denoise_steps_is_ddpm() -> None:
    """Song et al. 2021, section 4.1; the means agree where no predicted sample is clipped."""
    schedule = NoiseSchedule(12)
    ddim = DenoisingChain(schedule, "ddim", 12, eta=1.0, min_std=1e-12)
    ddpm = DenoisingChain(schedule, "ddpm", 12, min_std=1e-12)
    places = torch.arange(12)
    clean, noise = 0.3 * _noise(12, 4, 3).clamp(-2, 2), _noise(12, 4, 3, seed=1)
    noisy = schedule.add_noise(clean, noise, ddim.step_of(places))
    for ours, theirs in zip(
        ddim.mean_and_std(noisy, noise, places), ddpm.mean_and_std(noisy, noise, places), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_spread_is_floored_at_every_denoise_step() -> None:
    chain = DenoisingChain(NoiseSchedule(20), "ddpm", 20, min_std=0.1)
    _, stds = chain.mean_and_std(_noise(20, 1, 1), _noise(20, 1, 1), torch.arange(20))
    assert stds.min() == 0.1
    assert stds.max() > 0.1
    assert stds[-1] == 0.1  # the last one has no noise of its own


def test_log_probabilities_of_a_chain_are_those_of_its_joint_gaussian() -> None:
    """With a network that is linear in its input, x_1..x_K given x_0 are jointly Gaussian: one density, not K."""
    schedule = NoiseSchedule(20, clip=1e9)  # nothing is clipped: the chain stays linear
    chain = DenoisingChain(schedule, "ddim", 5, eta=1.0, min_std=0.3)
    slope = 0.4
    # A wide range of outcomes without the cut: the closed form knows no cut.
    start = torch.zeros(1, 1, 1, dtype=torch.float64) + 0.5
    draws = iter([start, *[_noise(1, 1, 1, seed=seed).clamp(-1.0, 1.0) for seed in range(5)]])
    chains = chain.sample(lambda sample, _place: slope * sample, lambda: next(draws), tuned=5, executed=EVERYTHING)
    path = chains.samples_BKPA[0, :, 0, 0].numpy()
    assert (chains.log_probs_BK > LOG_PROB_RANGE[0]).all()

    gains, spreads = [], []
    alpha_bars = [float(schedule.alpha_bars[step]) for step in chain.steps] + [1.0]
    for alpha_bar, after in pairwise(alpha_bars):
        sigma = math.sqrt((1 - after) / (1 - alpha_bar) * (1 - alpha_bar / after))
        clean = (1 - math.sqrt(1 - alpha_bar) * slope) / math.sqrt(alpha_bar)
        gains.append(math.sqrt(after) * clean + math.sqrt(max(0.0, 1 - after - sigma**2)) * slope)
        spreads.append(max(sigma, 0.3))
    # x = G x + s z + g_0 x_0 e_1, so that x has mean (1 - G)^-1 g_0 x_0 e_1 and covariance (1 - G)^-1 S^2 (1 - G)^-T.
    inverse = np.linalg.inv(np.eye(5) - np.diag(gains[1:], -1))
    mean = inverse @ np.array([gains[0] * path[0], 0, 0, 0, 0])
    covariance = inverse @ np.diag(np.square(spreads)) @ inverse.T
    joint = torch.distributions.MultivariateNormal(torch.tensor(mean), torch.tensor(covariance))
    assert chains.log_probs_BK.double().sum().item() == pytest.approx(
        joint.log_prob(torch.tensor(path[1:])).item(), rel=1e-5
    )


def test_log_probability_is_averaged_over_what_is_executed() -> None:
    sample, mean = 0.2 * _noise(3, 4, 2), 0.2 * _noise(3, 4, 2, seed=1)
    std = torch.full((3, 1, 1), 0.5, dtype=torch.float64)
    oracle = torch.distributions.Normal(mean, std).log_prob(sample)[:, 1:3].mean(dim=(1, 2))
    torch.testing.assert_close(mean_log_prob(sample, mean, std, slice(1, 3)).double(), oracle, rtol=1e-6, atol=1e-6)


def test_one_number_far_off_counts_at_most_the_bound() -> None:
    mean, std = torch.zeros(1, 1, 2, dtype=torch.float64), torch.full((1, 1, 1), 0.1, dtype=torch.float64)
    near = math.log(1 / (0.1 * math.sqrt(2 * math.pi)))
    log_prob = mean_log_prob(torch.tensor([[[0.0, 50.0]]]), mean, std, EVERYTHING)
    assert log_prob.item() == pytest.approx((near - 5.0) / 2)


@pytest.mark.parametrize("tuned", [1, 3, 5])
def test_the_last_denoise_steps_are_kept(tuned: int) -> None:
    chain = DenoisingChain(NoiseSchedule(20), "ddim", 5)
    seen: list[torch.Tensor] = []

    def predict(sample: torch.Tensor, place: int) -> torch.Tensor:
        seen.append(sample)
        return sample * 0.5

    seeds = iter(range(9))
    chains = chain.sample(predict, lambda: _noise(2, 4, 3, seed=next(seeds)).float(), tuned=tuned, executed=EVERYTHING)
    assert chains.samples_BKPA.shape == (2, tuned + 1, 4, 3)
    assert chains.log_probs_BK.shape == (2, tuned)
    assert chains.log_probs_BK.isfinite().all()
    for kept, started in zip(chains.samples_BKPA.unbind(1), seen[-tuned:], strict=False):
        assert torch.equal(kept, started)
    assert torch.equal(chains.actions_BPA, chains.samples_BKPA[:, -1])


def test_ddpm_takes_every_denoise_step() -> None:
    with pytest.raises(ValueError, match="expected 20 denoise steps, got 10"):
        DenoisingChain(NoiseSchedule(20), "ddpm", 10)
