"""The objective: the published clip schedule and discounts, and PPO's clipping by hand."""

from __future__ import annotations

import math

import pytest
import torch

from policies.dppo.config import DppoConfig
from policies.dppo.objective import clip_range, normalized_advantages, policy_loss

TEN = DppoConfig(tuned_denoise_steps=10)
ONE = DppoConfig(tuned_denoise_steps=1)


def test_clip_grows_exponentially_from_the_noisiest_denoise_step_to_the_last() -> None:
    clips = clip_range(torch.arange(10), TEN)
    assert clips[0].item() == pytest.approx(0.001)
    assert clips[9].item() == pytest.approx(0.01)
    expected = 0.001 + 0.009 * (math.exp(3 * 4 / 9) - 1) / (math.exp(3) - 1)
    assert clips[4].item() == pytest.approx(expected, rel=1e-5)
    # What is left after the base grows by the same factor, e^(3/9), once 1 is added back.
    growth = (clips - 0.001) / 0.009 * (math.exp(3) - 1) + 1
    torch.testing.assert_close(growth[1:] / growth[:-1], torch.full((9,), math.exp(1 / 3)), rtol=1e-4, atol=0.0)


def test_one_tuned_denoise_step_has_the_last_clip() -> None:
    assert clip_range(torch.zeros(3, dtype=torch.int64), ONE).tolist() == pytest.approx([0.01] * 3)


def test_advantages_are_normalized_then_discounted_by_what_follows() -> None:
    advantages = torch.tensor([1.0, 2.0, 3.0, 6.0])
    index = torch.tensor([9, 9, 0, 5])
    normalized = (advantages - 3.0) / math.sqrt((4 + 1 + 0 + 9) / 4)
    expected = normalized * torch.tensor([1.0, 1.0, 0.99**9, 0.99**4])
    torch.testing.assert_close(normalized_advantages(advantages, index, TEN), expected)


def test_a_minibatch_of_one_pair_is_finite() -> None:
    assert normalized_advantages(torch.tensor([3.0]), torch.tensor([0]), ONE).tolist() == [0.0]


def test_clipped_loss_by_hand() -> None:
    """Four ratios at the last denoise step, clip 0.01: within, above it with a gain, above it with a loss, below it."""
    ratios = torch.tensor([1.005, 1.5, 1.5, 0.5])
    advantages = torch.tensor([2.0, 2.0, -2.0, -2.0])
    log_probs = ratios.log().requires_grad_(True)
    result = policy_loss(log_probs, torch.zeros(4), advantages, torch.full((4,), 9), TEN)
    assert result.loss.item() == pytest.approx(-(2.01 + 2.02 - 3.0 - 1.98) / 4, rel=1e-5)
    assert result.clipped == 0.75
    assert result.kl == pytest.approx(float((ratios - 1 - ratios.log()).mean()), rel=1e-5)
    result.loss.backward()
    assert log_probs.grad is not None
    # Only what PPO has not clipped away moves the policy.
    assert (log_probs.grad != 0).tolist() == [True, False, True, False]


def test_noisier_denoise_steps_are_clipped_earlier() -> None:
    log_probs = torch.full((2,), math.log(1.005))
    result = policy_loss(log_probs, torch.zeros(2), torch.ones(2), torch.tensor([0, 9]), TEN)
    assert result.clipped == 0.5
