"""What an iteration changes: the tuned policy, the critic, their optimizers, the reward scale and the counters.

There is no random state to keep: iteration i draws everything from a generator seeded by (seed, i).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from cosmos_engine.errors import InputError
from policies.checkpoint import load_tensors, restore, save_tensors
from policies.dppo.advantages import RewardScale
from policies.dppo.config import DppoConfig
from policies.dppo.critic import Critic
from policies.finetuned import FinetunedPolicy

STATE_FILE = "dppo_state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # torch's names for AdamW's state


class DppoState:
    """Own everything that is saved between iterations.

    Args:
        policy: on its device, not tuned yet.
        config: learning rates and the critic's width; the critic's weights follow from its seed.
    """

    def __init__(self, policy: FinetunedPolicy, config: DppoConfig) -> None:
        self.policy = policy
        self.policy.tuned.requires_grad_(True)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.critic = Critic(policy.cloned, config.critic_width).to(policy.cloned.device)
        self.optimizers = {
            name: torch.optim.AdamW(self._module(name).parameters(), lr=rate, weight_decay=0.0, fused=True)
            for name, rate in (("tuned", config.actor_learning_rate), ("critic", config.critic_learning_rate))
        }
        self.reward_scale = RewardScale(config.discount)
        self.iteration = 0
        self.resets = 0  # seeds taken, from the first on
        self.control_steps = 0

    def apply(self, name: str) -> bool:
        """Make one update of "tuned" or "critic" from its gradients; returns False if they are not finite."""
        gradients = [parameter.grad for parameter in self._module(name).parameters() if parameter.grad is not None]
        finite = bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
        if finite:
            self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)
        return finite

    def save(self, folder: Path) -> None:
        """Write the state, replacing the last one."""
        scale = self.reward_scale
        tensors = {"reward_scale": torch.tensor([scale.mean, scale.variance, scale.count], dtype=torch.float64)}
        for kind, optimizer in self.optimizers.items():
            module = self._module(kind)
            tensors |= {f"{kind}.{name}": tensor for name, tensor in module.state_dict().items()}
            for name, parameter in module.named_parameters():
                for moment, tensor in optimizer.state.get(parameter, {}).items():
                    tensors[f"{kind}_{moment}.{name}"] = tensor
        counters = {"iteration": self.iteration, "resets": self.resets, "control_steps": self.control_steps}
        save_tensors(folder / STATE_FILE, tensors, counters)

    def load(self, folder: Path) -> None:
        """Continue from a state that `save` wrote.

        Raises:
            InputError: if the file is damaged or does not fit the policy.
        """
        path = folder / STATE_FILE
        tensors, counters = load_tensors(path)
        by_kind: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            by_kind.setdefault(kind, {})[name] = tensor
        for kind, optimizer in self.optimizers.items():
            module = self._module(kind)
            restore(module, by_kind.get(kind, {}), path)
            for name, parameter in module.named_parameters():
                if name in by_kind.get(f"{kind}_exp_avg", {}):
                    optimizer.state[parameter] = {
                        moment: by_kind[f"{kind}_{moment}"][name].to(parameter.device) for moment in _MOMENTS
                    }
        try:
            scale = self.reward_scale
            scale.mean, scale.variance, scale.count = tensors["reward_scale"].tolist()
            self.iteration, self.resets = counters["iteration"], counters["resets"]
            self.control_steps = counters["control_steps"]
        except KeyError as error:
            raise InputError(f"{path}: not a state of DPPO: {error} is missing") from error

    def _module(self, kind: str) -> nn.Module:
        return self.policy.tuned if kind == "tuned" else self.critic
