"""The losses of DPPO: PPO's clipped objective over pairs of environment step and denoise step (Ren et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from policies.dppo.config import DppoConfig


@dataclass(frozen=True)
class PolicyLoss:
    """Hold the loss and what it tells of the update: how far the policy has moved, and the share of clipped pairs."""

    loss: Float[torch.Tensor, ""]
    kl: float
    clipped: float


def clip_range(index_B: Int[torch.Tensor, " b"], config: DppoConfig) -> Float[torch.Tensor, " b"]:
    """Return PPO's clip at these tuned denoise steps (0: the noisiest), growing exponentially to the last one."""
    if config.tuned_denoise_steps == 1:
        return torch.full(index_B.shape, config.clip_last, device=index_B.device)
    progress_B = index_B.float() / (config.tuned_denoise_steps - 1)
    growth_B = torch.expm1(config.clip_rate * progress_B) / math.expm1(config.clip_rate)
    return config.clip_noisiest + (config.clip_last - config.clip_noisiest) * growth_B


def normalized_advantages(
    advantages_B: Float[torch.Tensor, " b"], index_B: Int[torch.Tensor, " b"], config: DppoConfig
) -> Float[torch.Tensor, " b"]:
    """Return a minibatch's advantages with mean 0 and deviation 1, discounted by the denoise steps that follow."""
    centred_B = advantages_B - advantages_B.mean()
    # The population's deviation: of a minibatch of one pair it is 0, and the sample's would be NaN.
    normalized_B = centred_B / (advantages_B.std(correction=0) + 1e-8)
    return normalized_B * config.denoise_discount ** (config.tuned_denoise_steps - 1 - index_B)


def policy_loss(
    log_probs_B: Float[torch.Tensor, " b"],
    old_log_probs_B: Float[torch.Tensor, " b"],
    advantages_B: Float[torch.Tensor, " b"],
    index_B: Int[torch.Tensor, " b"],
    config: DppoConfig,
) -> PolicyLoss:
    """Return PPO's clipped loss (Schulman et al. 2017, equation 7), each pair clipped at its denoise step's range.

    Args:
        log_probs_B: of the tuned policy; carries the gradient.
        old_log_probs_B: when the pairs were collected.
        advantages_B: of `normalized_advantages`.
        index_B: tuned denoise steps, 0 the noisiest.
        config: clips.
    """
    log_ratio_B = log_probs_B - old_log_probs_B
    ratio_B, clip_B = log_ratio_B.exp(), clip_range(index_B, config)
    clipped_B = torch.minimum(torch.maximum(ratio_B, 1.0 - clip_B), 1.0 + clip_B)
    loss = -torch.minimum(advantages_B * ratio_B, advantages_B * clipped_B).mean()
    with torch.no_grad():
        kl = (ratio_B - 1.0 - log_ratio_B).mean().item()  # unbiased and never negative (Schulman 2020)
        clipped = ((ratio_B - 1.0).abs() > clip_B).float().mean().item()
    return PolicyLoss(loss, kl, clipped)
