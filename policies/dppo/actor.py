"""The policy while it is tuned: it samples chains that explore, and gives log-probabilities with their gradient.

Legend: B batch, P horizon positions, A action, D features, K tuned denoise steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8

from policies.dppo.chain import Chains, DenoisingChain, mean_log_prob
from policies.dppo.config import DppoConfig
from policies.finetuned import FinetunedPolicy

Images = Mapping[str, UInt8[torch.Tensor, "b t y x 3"]]
LowDim = Mapping[str, Float32[torch.Tensor, "b t _"]]


class Actor:
    """Sample from a policy in tuning, and judge what was sampled.

    Images are cropped at the centre, as when acting: with random crops the policy that is updated would not be the
    one that collected, and the ratios of PPO would start far outside its small clips.

    Args:
        policy: on its device.
        config: the chain's numbers.
    """

    def __init__(self, policy: FinetunedPolicy, config: DppoConfig) -> None:
        self.policy = policy
        self.config = config
        self.chain = DenoisingChain(
            policy.cloned.schedule, config.sampler, config.denoise_steps, eta=config.eta, min_std=config.min_std
        )
        self._first_tuned = config.denoise_steps - config.tuned_denoise_steps

    @torch.no_grad()
    def sample(self, images: Images, low_dim: LowDim, rng: np.random.Generator) -> Chains:
        """Return one exploring chain per row; each observation is encoded once."""
        tuned_BD = self.policy.tuned.observe(images, low_dim)
        cloned_BD = self.policy.cloned.observe(images, low_dim) if self.policy.is_mixed else tuned_BD
        return self._sampled(cloned_BD, tuned_BD, rng, self._first_tuned)

    def log_probs(
        self,
        observation_BD: Float[torch.Tensor, "b d"],
        noisy_BPA: Float[torch.Tensor, "b p a"],
        next_BPA: Float[torch.Tensor, "b p a"],
        index_B: Int[torch.Tensor, " b"],
    ) -> Float[torch.Tensor, " b"]:
        """Return the log-probability of denoise steps as the tuned policy has it.

        Args:
            observation_BD: of the tuned policy.
            noisy_BPA: where each denoise step started.
            next_BPA: where it went.
            index_B: which of the tuned denoise steps it was, 0 the noisiest.
        """
        place_B = index_B + self._first_tuned
        output_BPA = self.policy.tuned.unet(noisy_BPA, self.chain.step_of(place_B), observation_BD)
        mean_BPA, std_B11 = self.chain.mean_and_std(noisy_BPA, output_BPA, place_B)
        return mean_log_prob(next_BPA, mean_BPA, std_B11, self.policy.config.executed)

    def cloned_log_probs(
        self,
        images: Images,
        low_dim: LowDim,
        observation_BD: Float[torch.Tensor, "b d"],
        index_B: Int[torch.Tensor, " b"],
        rng: np.random.Generator,
    ) -> Float[torch.Tensor, " b"]:
        """Return the log-probability of what the cloned policy does at a denoise step of a chain of its own.

        Its mean over the tuned denoise steps is the cloning term (Ren et al. 2024, appendix; Xing et al. 2024, eq. 2).
        """
        with torch.no_grad():
            cloned_BD = self.policy.cloned.observe(images, low_dim)
            samples_BKPA = self._sampled(cloned_BD, cloned_BD, rng, len(self.chain)).samples_BKPA
        rows_B = torch.arange(len(index_B), device=index_B.device)
        return self.log_probs(observation_BD, samples_BKPA[rows_B, index_B], samples_BKPA[rows_B, index_B + 1], index_B)

    def _sampled(
        self, cloned_BD: torch.Tensor, tuned_BD: torch.Tensor, rng: np.random.Generator, first_tuned: int
    ) -> Chains:
        """Sample chains whose denoise steps from place `first_tuned` on are the tuned policy's."""
        sizes = (len(cloned_BD), self.policy.config.horizon, self.policy.spec.action_dim)

        def draw() -> torch.Tensor:
            noise = rng.standard_normal(sizes, dtype=np.float32).clip(-self.config.noise_clip, self.config.noise_clip)
            return torch.from_numpy(noise).to(cloned_BD.device)

        def predict(sample_BPA: torch.Tensor, place: int) -> torch.Tensor:
            policy, observation_BD = (
                (self.policy.tuned, tuned_BD) if place >= first_tuned else (self.policy.cloned, cloned_BD)
            )
            return policy.unet(sample_BPA, self._steps(place, len(sample_BPA)), observation_BD)

        return self.chain.sample(
            predict, draw, tuned=self.config.tuned_denoise_steps, executed=self.policy.config.executed
        )

    def _steps(self, place: int, rows: int) -> torch.Tensor:
        return torch.full((rows,), self.chain.steps[place], device=self.policy.cloned.device)
