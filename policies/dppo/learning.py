"""One iteration's updates of the policy and of the critic, over minibatches of (environment step, denoise step) pairs.

Legend: N action chunks, M pairs of a minibatch, K tuned denoise steps, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from policies.dppo.actor import Actor
from policies.dppo.advantages import generalized_advantages
from policies.dppo.collection import Collected
from policies.dppo.config import DppoConfig
from policies.dppo.objective import normalized_advantages, policy_loss
from policies.dppo.state import DppoState


class NotFiniteError(ArithmeticError):
    """A loss or its gradient stopped being finite."""


@dataclass(frozen=True)
class Learned:
    """Tell of an iteration's updates; the policy's numbers are None where only the critic learned."""

    updates: int
    value_loss: float
    policy_loss: float | None
    kl: float | None
    clipped: float | None
    explained_variance: float | None  # of the returns, by the values when they were collected; None if all are equal


@dataclass(frozen=True)
class _Pairs:
    """Some pairs: action chunks and tuned denoise steps."""

    rows_M: Int64[np.ndarray, " m"]
    index_M: Int64[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.rows_M)

    def split(self, size: int) -> list[_Pairs]:
        """Return parts of at most `size` pairs."""
        return [
            _Pairs(self.rows_M[start : start + size], self.index_M[start : start + size])
            for start in range(0, len(self), size)
        ]


def learn(
    state: DppoState, actor: Actor, collected: Collected, config: DppoConfig, rng: np.random.Generator
) -> Learned:
    """Update the critic, and after its warm-up the policy, for the configured epochs.

    Args:
        state: changed in place.
        actor: of the state's policy.
        collected: with the weights as they are now.
        config: everything else.
        rng: orders the pairs.

    Raises:
        NotFiniteError: if a gradient stops being finite; the state is not to be saved then.
    """
    state.reward_scale.update(collected.rewards_SE, collected.ended_SE)
    advantages_SE, returns_SE = generalized_advantages(
        state.reward_scale.scaled(collected.rewards_SE),
        collected.values_SE,
        collected.next_values_SE,
        collected.terminated_SE,
        collected.ended_SE,
        collected.usable_SE,
        discount=config.discount,
        gae_lambda=config.gae_lambda,
    )
    update = _Update(state, actor, collected, advantages_SE.ravel(), returns_SE.ravel(), config, rng)
    rows_N = np.flatnonzero(collected.usable_SE)
    tunes = state.iteration >= config.critic_warmup_iterations
    losses: list[tuple[float, float, float, float]] = []
    moved_too_far = False
    for _ in range(config.epochs):
        for minibatch in _minibatches(rows_N, config, rng):
            losses.append(update.apply(minibatch, tunes=tunes))
            moved_too_far = losses[-1][2] > config.target_kl
            if moved_too_far:
                break
        if moved_too_far:
            break
    variance = float(returns_SE.ravel()[rows_N].var()) if len(rows_N) else 0.0
    residual = (returns_SE - collected.values_SE).ravel()[rows_N]
    means = np.mean(losses, axis=0) if losses else np.zeros(4)
    return Learned(
        updates=len(losses),
        value_loss=float(means[0]),
        policy_loss=float(means[1]) if tunes and losses else None,
        kl=float(means[2]) if tunes and losses else None,
        clipped=float(means[3]) if tunes and losses else None,
        explained_variance=1.0 - float(residual.var()) / variance if variance > 0 else None,
    )


def _minibatches(rows_N: Int64[np.ndarray, " n"], config: DppoConfig, rng: np.random.Generator) -> Iterator[_Pairs]:
    """Yield every pair of these chunks once, in minibatches of about the configured size."""
    if len(rows_N) == 0:
        return
    tuned = config.tuned_denoise_steps
    if config.whole_chains:
        shuffled = rng.permutation(rows_N)
        parts = max(1, round(len(shuffled) * tuned / config.minibatch_pairs))
        for rows in np.array_split(shuffled, min(parts, len(shuffled))):
            yield _Pairs(np.repeat(rows, tuned), np.tile(np.arange(tuned), len(rows)))
        return
    order = rng.permutation(len(rows_N) * tuned)
    parts = max(1, round(len(order) / config.minibatch_pairs))
    for part in np.array_split(order, min(parts, len(order))):
        yield _Pairs(rows_N[part // tuned], part % tuned)


class _Update:
    """The tensors of an iteration, and one update from some of its pairs."""

    def __init__(
        self,
        state: DppoState,
        actor: Actor,
        collected: Collected,
        advantages_N: Float32[np.ndarray, " n"],
        returns_N: Float32[np.ndarray, " n"],
        config: DppoConfig,
        rng: np.random.Generator,
    ) -> None:
        self._state = state
        self._actor = actor
        self._collected = collected
        self._advantages_N = torch.from_numpy(advantages_N)
        self._returns_N = torch.from_numpy(returns_N)
        self._config = config
        self._rng = rng
        self._device = actor.policy.cloned.device

    def apply(self, minibatch: _Pairs, *, tunes: bool) -> tuple[float, float, float, float]:
        """Update from a minibatch; returns value loss, policy loss, KL and clipped share."""
        config, total = self._config, np.zeros(4)
        index_M = torch.from_numpy(minibatch.index_M)
        advantages_M = normalized_advantages(self._advantages_N[minibatch.rows_M], index_M, config)
        done = 0
        size = config.pairs_at_once
        if config.whole_chains:  # so that no chain is cut
            size -= size % config.tuned_denoise_steps
        for part in minibatch.split(size):
            share = len(part) / len(minibatch)
            losses = [self._critic_backward(part, share)]
            if tunes:
                losses += self._actor_backward(part, advantages_M[done : done + len(part)].to(self._device), share)
            total[: len(losses)] += share * np.array(losses)
            done += len(part)
        if (
            not np.isfinite(total).all()
            or not self._state.apply("critic")
            or (tunes and not self._state.apply("tuned"))
        ):
            raise NotFiniteError
        return float(total[0]), float(total[1]), float(total[2]), float(total[3])

    def _critic_backward(self, part: _Pairs, share: float) -> float:
        """A chunk counts as often as it has pairs here, and is judged once."""
        rows, counts = np.unique(part.rows_M, return_counts=True)
        crops = torch.Generator().manual_seed(int(self._rng.integers(2**62)))
        values = self._state.critic(*self._observations(rows), crops)
        weights = torch.from_numpy(counts / len(part)).to(self._device, torch.float32)
        loss = 0.5 * (weights * (values - self._returns_N[rows].to(self._device)).square()).sum()
        (self._config.value_weight * share * loss).backward()
        return loss.item()

    def _actor_backward(self, part: _Pairs, advantages_M: torch.Tensor, share: float) -> list[float]:
        config, actor, collected = self._config, self._actor, self._collected
        tuned = config.tuned_denoise_steps
        rows = part.rows_M[::tuned] if config.whole_chains else part.rows_M
        images, low_dim = self._observations(rows)
        observation_MD = actor.policy.tuned.observe(images, low_dim)
        if config.whole_chains:
            observation_MD = observation_MD[:, None].expand(-1, tuned, -1).flatten(0, 1)
        index_M = torch.from_numpy(part.index_M).to(self._device)
        samples_NKPA = collected.samples_NKPA
        log_probs_M = actor.log_probs(
            observation_MD,
            samples_NKPA[part.rows_M, part.index_M].to(self._device),
            samples_NKPA[part.rows_M, part.index_M + 1].to(self._device),
            index_M,
        )
        old_log_probs_M = collected.log_probs_NK[part.rows_M, part.index_M].to(self._device)
        result = policy_loss(log_probs_M, old_log_probs_M, advantages_M, index_M, config)
        loss = result.loss
        if config.bc_weight > 0:
            every_pair = self._observations(part.rows_M) if config.whole_chains else (images, low_dim)
            cloned = actor.cloned_log_probs(*every_pair, observation_MD, index_M, self._rng)
            loss = loss - config.bc_weight * cloned.mean()
        (share * loss).backward()
        return [result.loss.item(), result.kl, result.clipped]

    def _observations(self, rows: Int64[np.ndarray, " m"]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        collected = self._collected
        return (
            {name: images[rows].to(self._device) for name, images in collected.images.items()},
            {name: vectors[rows].to(self._device) for name, vectors in collected.low_dim.items()},
        )
