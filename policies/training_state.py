"""What an update changes: raw weights, their average, the optimizer's moments and the number of updates done.

There is no random state to keep: update u draws everything from a generator seeded by (seed, u).
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch

from cosmos_engine.processes import Processes
from policies.checkpoint import load_tensors, restore, save_tensors
from policies.diffusion import DiffusionPolicy
from policies.ema import ema_decay, update_ema

STATE_FILE = "training_state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # torch's names for AdamW's state


def learning_rate_at(update: int, *, peak: float, warmup_updates: int, updates: int) -> float:
    """Return the learning rate of an update (the first is 1): linear warm-up, then half a cosine to zero."""
    if update <= warmup_updates:
        return peak * update / warmup_updates
    progress = (update - warmup_updates) / max(1, updates - warmup_updates)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def update_rng(seed: int, update: int) -> np.random.Generator:
    """Return the generator that all randomness of an update comes from."""
    return np.random.default_rng([seed, update])


class TrainingState:
    """Own a policy in training, its average and its optimizer.

    Args:
        policy: on its device, normalisers fitted.
        weight_decay: of AdamW; its betas (0.95, 0.999) are those of Chi et al. 2023.
        ema_max_decay: bound of the average's decay.
        processes: whose gradients are averaged; all hold the same state.
    """

    def __init__(
        self,
        policy: DiffusionPolicy,
        *,
        weight_decay: float,
        ema_max_decay: float,
        processes: Processes | None = None,
    ) -> None:
        self.policy = policy
        self.processes = processes or Processes()
        self.average = copy.deepcopy(policy).requires_grad_(False)
        self.ema_max_decay = ema_max_decay
        self.optimizer = torch.optim.AdamW(
            policy.parameters(), lr=0.0, betas=(0.95, 0.999), weight_decay=weight_decay, fused=True
        )
        self.update = 0

    def apply(self, loss: torch.Tensor, learning_rate: float) -> bool:
        """Make one update from a loss; returns False, and changes nothing, if its gradient is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average_gradients(self.policy.parameters())
        gradients = [parameter.grad for parameter in self.policy.parameters() if parameter.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            return False
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.update += 1
        decay = ema_decay(self.update, max_decay=self.ema_max_decay)
        update_ema(list(self.average.parameters()), list(self.policy.parameters()), decay)
        return True

    def save(self, folder: Path) -> None:
        """Write the state, replacing the last one."""
        tensors = {f"policy.{name}": tensor for name, tensor in self.policy.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for name, parameter in self.policy.named_parameters():
            for moment, tensor in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}.{name}"] = tensor
        save_tensors(folder / STATE_FILE, tensors, {"update": self.update})

    def load(self, folder: Path) -> None:
        """Continue from a state that `save` wrote.

        Raises:
            InputError: if the file is damaged or does not fit the policy.
        """
        path = folder / STATE_FILE
        tensors, state = load_tensors(path)
        by_kind: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in ("policy", "average", *_MOMENTS)}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            by_kind.setdefault(kind, {})[name] = tensor
        restore(self.policy, by_kind["policy"], path)
        restore(self.average, by_kind["average"], path)
        for name, parameter in self.policy.named_parameters():
            if name in by_kind["exp_avg"]:
                self.optimizer.state[parameter] = {
                    moment: by_kind[moment][name].to(parameter.device) for moment in _MOMENTS
                }
        self.update = int(state["update"])
