"""The denoising of one action sequence as a chain of Gaussian decisions (Ren et al. 2024, section 4).

Legend: B batch, P horizon positions, A action, N denoise steps of the chain, K of them tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int

from policies.schedule import NoiseSchedule

# Log-probabilities per number of the action are cut to this range before they are averaged, as published: an outlier
# in one number must not decide the ratio of all.
LOG_PROB_RANGE = (-5.0, 2.0)


@dataclass(frozen=True)
class Chains:
    """Hold sampled chains: `samples[:, i]` is what the i-th tuned denoise step started from, the last is the action."""

    samples_BKPA: Float[torch.Tensor, "b k_plus_1 p a"]
    log_probs_BK: Float[torch.Tensor, "b k"]

    @property
    def actions_BPA(self) -> Float[torch.Tensor, "b p a"]:
        """The normalised actions that the chains end with."""
        return self.samples_BKPA[:, -1]


class DenoisingChain:
    """Hold the tables of a chain that explores: the mean and spread of every denoise step, noisiest first.

    Args:
        schedule: the policy's.
        sampler: "ddpm" takes every denoise step of the schedule; "ddim" `denoise_steps` of them.
        denoise_steps: N.
        eta: of DDIM: 0 is deterministic up to the floor, 1 has DDPM's noise (Song et al. 2021, equation 16).
        min_std: floor of the standard deviations.

    Raises:
        ValueError: if the sampler cannot take so many denoise steps.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        sampler: Literal["ddpm", "ddim"],
        denoise_steps: int,
        *,
        eta: float = 1.0,
        min_std: float = 0.1,
    ) -> None:
        if sampler == "ddpm" and denoise_steps != schedule.step_count:
            raise ValueError(f"DDPM: expected {schedule.step_count} denoise steps, got {denoise_steps}")
        self.schedule = schedule
        self.steps = schedule.inference_steps(denoise_steps)
        steps_N = torch.tensor(self.steps)
        alpha_bar = schedule.alpha_bars[steps_N]
        next_alpha_bar = torch.cat([alpha_bar[1:], torch.ones(1, dtype=torch.float64)])
        # Song et al. 2021, equation 16; with eta 1 on neighbouring denoise steps it is DDPM's posterior deviation.
        std = (1.0 - next_alpha_bar) / (1.0 - alpha_bar) * (1.0 - alpha_bar / next_alpha_bar)
        self._is_ddpm = sampler == "ddpm"
        if self._is_ddpm:  # Ho et al. 2020, equation 7: in clean and noisy samples
            std = std.sqrt()
            clean_weight = next_alpha_bar.sqrt() * (1.0 - alpha_bar / next_alpha_bar) / (1.0 - alpha_bar)
            other_weight = (alpha_bar / next_alpha_bar).sqrt() * (1.0 - next_alpha_bar) / (1.0 - alpha_bar)
        else:  # Song et al. 2021, equation 12: in clean samples and noise
            std = eta * std.sqrt()
            clean_weight = next_alpha_bar.sqrt()
            other_weight = (1.0 - next_alpha_bar - std.square()).clamp(min=0.0).sqrt()
        self._steps_N = steps_N
        self._weights_N2 = torch.stack([clean_weight, other_weight], dim=-1)
        self._stds_N = std.clamp(min=min_std)

    def __len__(self) -> int:
        return len(self.steps)

    def step_of(self, index_B: Int[torch.Tensor, " b"]) -> Int[torch.Tensor, " b"]:
        """Return the schedule's denoise steps at these places of the chain (0: the noisiest)."""
        return self._steps_N.to(index_B.device)[index_B]

    def mean_and_std(
        self,
        noisy_BPA: Float[torch.Tensor, "b p a"],
        output_BPA: Float[torch.Tensor, "b p a"],
        index_B: Int[torch.Tensor, " b"],
    ) -> tuple[Float[torch.Tensor, "b p a"], Float[torch.Tensor, "b 1 1"]]:
        """Return the Gaussian that the next samples are drawn from, float64, given the network's output."""
        clean_BPA, noise_BPA = self.schedule.clean_and_noise(noisy_BPA, output_BPA, self.step_of(index_B))
        other_BPA = noisy_BPA.double() if self._is_ddpm else noise_BPA
        clean_weight, other_weight = self._weights_N2.to(index_B.device)[index_B][:, :, None, None].unbind(1)
        return clean_weight * clean_BPA + other_weight * other_BPA, self._stds_N.to(index_B.device)[index_B][
            :, None, None
        ]

    @torch.no_grad()
    def sample(
        self,
        predict: Callable[[torch.Tensor, int], torch.Tensor],
        draw: Callable[[], Float[torch.Tensor, "b p a"]],
        *,
        tuned: int,
        executed: slice,
    ) -> Chains:
        """Sample one chain per row and keep its last `tuned` denoise steps.

        Args:
            predict: (samples, place in the chain) -> the network's output.
            draw: returns standard normal noise for all rows.
            tuned: K.
            executed: horizon positions whose log-probabilities count.
        """
        sample_BPA = draw()
        kept, log_probs = [sample_BPA], []
        for place in range(len(self)):
            index_B = torch.full((len(sample_BPA),), place, device=sample_BPA.device)
            mean_BPA, std_B11 = self.mean_and_std(sample_BPA, predict(sample_BPA, place), index_B)
            # The sample that is kept is the rounded one, and its log-probability is of just that sample.
            sample_BPA = (mean_BPA + std_B11 * draw().double()).to(sample_BPA.dtype)
            if place >= len(self) - tuned:
                log_probs.append(mean_log_prob(sample_BPA, mean_BPA, std_B11, executed))
                kept.append(sample_BPA)
            else:
                kept = [sample_BPA]
        return Chains(torch.stack(kept, dim=1), torch.stack(log_probs, dim=1))


def mean_log_prob(
    sample_BPA: Float[torch.Tensor, "b p a"],
    mean_BPA: Float[torch.Tensor, "b p a"],
    std_B11: Float[torch.Tensor, "b 1 1"],
    executed: slice,
) -> Float[torch.Tensor, " b"]:
    """Return the log-probability of each row, averaged over the executed numbers (hence the small clips), float32."""
    standard = (sample_BPA.double() - mean_BPA) / std_B11
    log_prob_BPA = -0.5 * standard.square() - std_B11.log() - 0.5 * math.log(2.0 * math.pi)
    low, high = LOG_PROB_RANGE
    return log_prob_BPA[:, executed].clamp(low, high).mean(dim=(1, 2)).float()
