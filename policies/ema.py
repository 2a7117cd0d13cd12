"""Exponential moving average of a policy's weights: the average acts, the raw weights train."""

from __future__ import annotations

import torch


def ema_decay(update: int, power: float = 0.75, max_decay: float = 0.9999) -> float:
    """Return the decay at an update (the first is 1): 1 - (1 + update)^-power, bounded.

    The warm-up and the numbers are those of Chi et al. 2023: early averages forget the random initial weights.
    """
    return float(min(1.0 - (1.0 + update) ** -power, max_decay))


@torch.no_grad()
def update_ema(average: list[torch.Tensor], weights: list[torch.Tensor], decay: float) -> None:
    """Move `average` towards `weights` in place: average = decay average + (1 - decay) weights."""
    torch._foreach_lerp_(average, weights, 1.0 - decay)
