"""A fine-tuned diffusion policy: the cloned one runs the first denoise steps of a chain, its tuned copy the last.

Legend: B batch, P horizon positions, A action, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from policies.policy import PolicySpec


class FinetunedPolicy(nn.Module):
    """Own a cloned policy and the copy of it that reinforcement tunes; before the first update both act alike.

    Args:
        cloned: a policy whose sampler is the one to act with; it is frozen here.
        tuned_denoise_steps: the last ones of a chain, which the copy runs; 1 to all.
    """

    def __init__(self, cloned: DiffusionPolicy, tuned_denoise_steps: int) -> None:
        super().__init__()
        self.cloned = cloned.requires_grad_(False).eval()
        self.tuned = copy.deepcopy(self.cloned)
        self.tuned_denoise_steps = tuned_denoise_steps
        count = self.config.inference_denoise_steps
        self.chain_steps = cloned.schedule.inference_steps(count)
        self._tuned_steps = frozenset(self.chain_steps[count - tuned_denoise_steps :])

    @property
    def config(self) -> DiffusionPolicyConfig:
        """The sizes of both policies."""
        return self.cloned.config

    @property
    def spec(self) -> PolicySpec:
        """What the policy sees and does."""
        return self.cloned.spec

    @property
    def is_mixed(self) -> bool:
        """Whether the cloned policy runs any denoise step."""
        return len(self._tuned_steps) < len(self.chain_steps)

    def saved_tensors(self) -> dict[str, torch.Tensor]:
        """Return what acting needs: the cloned policy's weights only where it runs a denoise step."""
        return {
            name: tensor for name, tensor in self.state_dict().items() if self.is_mixed or name.startswith("tuned.")
        }

    @torch.no_grad()
    def act(
        self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]
    ) -> Float32[np.ndarray, "b chunk a"]:
        """Return the action chunk to execute without exploring; see `Policy.act`."""
        images, low_dim = self.tuned.prepared(observations)
        tuned_BD = self.tuned.observe(images, low_dim)
        cloned_BD = self.cloned.observe(images, low_dim) if self.is_mixed else tuned_BD

        def predict(sample_BPA: torch.Tensor, step: int) -> torch.Tensor:
            network, observation_BD = (self.tuned, tuned_BD) if step in self._tuned_steps else (self.cloned, cloned_BD)
            steps_B = torch.full((len(sample_BPA),), step, dtype=torch.int64, device=sample_BPA.device)
            return network.unet(sample_BPA, steps_B, observation_BD)

        return self.tuned.executed(self.tuned.denoise(tuned_BD, rngs, predict))
