"""Collect what an iteration learns from: every environment acts the same number of action chunks.

Legend: S action chunks in time, E environments, K tuned denoise steps, P horizon positions, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8

from cosmos_engine.errors import InputError
from cosmos_engine.sim.vector import VectorEnvironment, Window
from policies.diffusion import DiffusionPolicy
from policies.dppo.actor import Actor
from policies.dppo.critic import Critic


@dataclass(frozen=True)
class Collected:
    """Hold an iteration's experience; row s E + e of the tensors is chunk s of environment e.

    A chunk's window is stored once, whatever the number of denoise steps. `usable_SE` is False for chunks in which a
    simulator broke down. `control_steps` counts what was executed, `resets` the seeds that were taken.
    """

    images: dict[str, UInt8[torch.Tensor, "n t y x 3"]]
    low_dim: dict[str, Float32[torch.Tensor, "n t _"]]
    samples_NKPA: Float32[torch.Tensor, "n k_plus_1 p a"]
    log_probs_NK: Float32[torch.Tensor, "n k"]
    rewards_SE: Float64[np.ndarray, "s e"]
    values_SE: Float32[np.ndarray, "s e"]
    next_values_SE: Float32[np.ndarray, "s e"]
    terminated_SE: Bool[np.ndarray, "s e"]
    ended_SE: Bool[np.ndarray, "s e"]
    usable_SE: Bool[np.ndarray, "s e"]
    resets: int
    control_steps: int
    successes: int
    failures: int
    crashes: int


def collect(
    actor: Actor,
    critic: Critic,
    environments: VectorEnvironment,
    chunks: int,
    first_seed: int,
    rng: np.random.Generator,
    check: Callable[[], None] = lambda: None,
) -> Collected:
    """Act `chunks` action chunks in every environment, from new episodes on.

    An episode that ends makes place for the next seed. What comes back follows from the weights, `first_seed` and
    `rng` alone, whatever the number of workers.

    Args:
        actor: samples the chains.
        critic: gives the values.
        environments: all of them act.
        chunks: S.
        first_seed: of the resets; `resets` of the result says how many were used.
        rng: of the chains' noise.
        check: called before each action chunk; may raise to stop.

    Raises:
        InputError: if the policy's actions stop being finite.
    """
    slots = range(environments.count)
    seeds = iter(range(first_seed, 2**62))
    windows = environments.reset(slots, [next(seeds) for _ in slots])
    waiting = [next(seeds) for _ in slots]  # the seed that an environment takes when its episode ends
    resets = 2 * len(slots)
    shape = (chunks, len(slots))
    rewards, values, next_values = np.zeros(shape), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    terminated, ended, usable = np.zeros(shape, bool), np.zeros(shape, bool), np.ones(shape, bool)
    stored: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []
    samples, log_probs = [], []
    control_steps = successes = failures = crashes = 0
    observed = _prepared(actor.policy.tuned, windows)
    values[0] = _values(critic, *observed)
    for row in range(chunks):
        check()
        chains = actor.sample(*observed, rng)
        actions = actor.policy.tuned.executed(chains.actions_BPA)
        if not np.isfinite(actions).all():
            raise InputError("the policy's actions stopped being finite; try lower learning rates in another folder")
        results = environments.step(slots, actions, waiting)
        stored.append(tuple({name: tensor.cpu() for name, tensor in part.items()} for part in observed))  # type: ignore[arg-type]
        samples.append(chains.samples_BKPA.cpu())
        log_probs.append(chains.log_probs_BK.cpu())
        for slot, result in enumerate(results):
            rewards[row, slot] = result.reward
            terminated[row, slot], ended[row, slot] = result.terminated, result.ended
            usable[row, slot] = result.error is None
            control_steps += result.steps
            if result.ended:
                waiting[slot] = next(seeds)
                resets += 1
        successes += sum(result.terminated for result in results)
        failures += sum(result.truncated for result in results)
        crashes += sum(result.error is not None for result in results)
        observed = _prepared(actor.policy.tuned, [_window_after(result.window) for result in results])
        following = _values(critic, *observed)
        next_values[row] = following
        final = [(slot, result.final_window) for slot, result in enumerate(results) if result.final_window is not None]
        if final:
            ends = _prepared(actor.policy.tuned, [window for _, window in final])
            next_values[row, [slot for slot, _ in final]] = _values(critic, *ends)
        if row + 1 < chunks:
            values[row + 1] = following
    return Collected(
        images=_joined([images for images, _ in stored]),
        low_dim=_joined([low_dim for _, low_dim in stored]),
        samples_NKPA=torch.cat(samples),
        log_probs_NK=torch.cat(log_probs),
        rewards_SE=rewards,
        values_SE=values,
        next_values_SE=next_values,
        terminated_SE=terminated,
        ended_SE=ended,
        usable_SE=usable,
        resets=resets,
        control_steps=control_steps,
        successes=successes,
        failures=failures,
        crashes=crashes,
    )


def _window_after(window: Window | None) -> Window:
    assert window is not None  # every environment had a next seed
    return window


def _prepared(
    policy: DiffusionPolicy, windows: Sequence[Window]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return policy.prepared({name: np.stack([window[name] for window in windows]) for name in windows[0]})


@torch.no_grad()
def _values(critic: Critic, images: dict[str, torch.Tensor], low_dim: dict[str, torch.Tensor]) -> np.ndarray:
    return critic(images, low_dim).cpu().numpy()


def _joined(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
