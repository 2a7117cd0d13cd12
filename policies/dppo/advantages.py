"""Advantages over action chunks (Schulman et al. 2016), and rewards brought to one scale.

Legend: S action chunks in time, E environments.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

REWARD_BOUND = 10.0
"""Scaled rewards are cut here, as published."""


def generalized_advantages(
    rewards_SE: Float64[np.ndarray, "s e"],
    values_SE: Float32[np.ndarray, "s e"],
    next_values_SE: Float32[np.ndarray, "s e"],
    terminated_SE: Bool[np.ndarray, "s e"],
    ended_SE: Bool[np.ndarray, "s e"],
    usable_SE: Bool[np.ndarray, "s e"],
    *,
    discount: float,
    gae_lambda: float,
) -> tuple[Float32[np.ndarray, "s e"], Float32[np.ndarray, "s e"]]:
    """Return advantages and returns; nothing flows from one episode into the one before it.

    Args:
        rewards_SE: of each action chunk.
        values_SE: of the observation that the chunk was chosen from.
        next_values_SE: of the observation after the chunk, in the same episode: where it was truncated, of the
            observation that it ended with. Where it terminated the value is 0, whatever stands here.
        terminated_SE: the task was fulfilled; no reward comes after.
        ended_SE: terminated, truncated or crashed: the next row is of another episode.
        usable_SE: False where the simulator broke down: such a chunk says nothing of those before it.
        discount: per action chunk.
        gae_lambda: 0 for one-chunk estimates, 1 for whole episodes.
    """
    deltas = rewards_SE + discount * np.where(terminated_SE, 0.0, next_values_SE) - values_SE
    deltas = np.where(usable_SE, deltas, 0.0)
    advantages = np.empty_like(rewards_SE)
    following = np.zeros(rewards_SE.shape[1])
    for row in reversed(range(len(rewards_SE))):
        following = deltas[row] + discount * gae_lambda * np.where(ended_SE[row], 0.0, following)
        advantages[row] = following
    return advantages.astype(np.float32), (advantages + values_SE).astype(np.float32)


class RewardScale:
    """Divide rewards by the running standard deviation of discounted returns (Engstrom et al. 2020, appendix A.1).

    Args:
        discount: per action chunk.
    """

    def __init__(self, discount: float) -> None:
        self.discount = discount
        # The first batch outweighs this, as published; the variance is 1 until then.
        self.mean, self.variance, self.count = 0.0, 1.0, 1e-4

    def update(self, rewards_SE: Float64[np.ndarray, "s e"], ended_SE: Bool[np.ndarray, "s e"]) -> None:
        """Take in the rewards of an iteration, whose first row begins new episodes."""
        returns = np.empty_like(rewards_SE)
        running = np.zeros(rewards_SE.shape[1])
        for row, rewards in enumerate(rewards_SE):
            running = rewards + self.discount * running
            returns[row] = running
            running = np.where(ended_SE[row], 0.0, running)
        # Chan et al. 1979: moments of two samples together.
        count = self.count + returns.size
        difference = float(returns.mean()) - self.mean
        squares = self.variance * self.count + float(returns.var()) * returns.size
        squares += difference**2 * self.count * returns.size / count
        self.mean += difference * returns.size / count
        self.variance = squares / count
        self.count = count

    def scaled(self, rewards_SE: Float64[np.ndarray, "s e"]) -> Float64[np.ndarray, "s e"]:
        """Return rewards in units of that standard deviation, cut to +-10."""
        return np.clip(rewards_SE / np.sqrt(self.variance + 1e-8), -REWARD_BOUND, REWARD_BOUND)
