"""Collecting: true terminals, truncations worth what they ended with, one encoding per environment step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.sim.vector import VectorEnvironment
from policies.checkpoint import load_policy
from policies.diffusion import DiffusionPolicy
from policies.dppo.actor import Actor
from policies.dppo.collection import Collected, collect
from policies.dppo.config import DppoConfig, sampling_config
from policies.dppo.critic import Critic
from policies.finetuned import FinetunedPolicy

CONFIG = DppoConfig(denoise_steps=10, tuned_denoise_steps=4, device="cpu")


def _actor(folder: Path, config: DppoConfig = CONFIG) -> Actor:
    cloned = load_policy(folder, torch.device("cpu")).policy
    assert isinstance(cloned, DiffusionPolicy)
    policy = DiffusionPolicy(sampling_config(cloned.config, config), cloned.spec)
    policy.load_state_dict(cloned.state_dict())
    return Actor(FinetunedPolicy(policy, config.tuned_denoise_steps), config)


def _collected(actor: Actor, make: Callable[[], Any], *, count: int = 3, chunks: int = 12) -> Collected:
    torch.manual_seed(0)
    critic = Critic(actor.policy.cloned, 16)
    with VectorEnvironment(make, count, observations=list(actor.policy.spec.observation_shapes), workers=0) as pool:
        return collect(actor, critic, pool, chunks, 100, np.random.default_rng(0))


def test_ends_are_told_apart_and_counted(cloned: Path, aim: Callable[..., Any]) -> None:
    collected = _collected(_actor(cloned), aim, count=8, chunks=20)
    truncated = collected.ended_SE & ~collected.terminated_SE
    assert collected.successes == collected.terminated_SE.sum() > 0
    assert collected.failures == truncated.sum() > 0
    assert collected.crashes == 0
    assert collected.usable_SE.all()
    assert collected.control_steps == 8 * 20
    assert collected.resets == 2 * 8 + collected.ended_SE.sum()
    np.testing.assert_array_equal(collected.rewards_SE, collected.terminated_SE)


def test_a_truncated_episode_is_worth_what_it_ended_with(cloned: Path, aim: Callable[..., Any]) -> None:
    """The next observation is already the next episode's: its value must not stand in for the end's."""
    actor = _actor(cloned)
    collected = _collected(actor, aim, count=8, chunks=20)
    torch.manual_seed(0)
    critic = Critic(actor.policy.cloned, 16)
    goals = collected.low_dim["goal"].reshape(20, 8, 1, 1)
    chunks, environments = np.nonzero(collected.ended_SE & ~collected.terminated_SE)
    for chunk, environment in zip(chunks, environments, strict=True):
        end = {"goal": goals[chunk, environment][None], "attempts": torch.ones(1, 1, 1)}
        with torch.no_grad():
            worth = critic({}, end).item()
        assert collected.next_values_SE[chunk, environment] == pytest.approx(worth, abs=1e-6)
        if chunk + 1 < 20:
            assert collected.values_SE[chunk + 1, environment] != pytest.approx(worth, abs=1e-6)
    going_on = ~collected.ended_SE[:-1]
    np.testing.assert_array_equal(collected.next_values_SE[:-1][going_on], collected.values_SE[1:][going_on])


def test_crashed_chunks_are_not_usable(cloned: Path, aim: Callable[..., Any]) -> None:
    collected = _collected(_actor(cloned), partial(aim, crash_seeds=frozenset(range(100, 110))))
    assert collected.crashes == (~collected.usable_SE).sum() > 0
    assert collected.ended_SE[~collected.usable_SE].all()
    assert not collected.terminated_SE[~collected.usable_SE].any()


def test_the_same_seeds_and_generator_collect_the_same(cloned: Path, aim: Callable[..., Any]) -> None:
    first, second = _collected(_actor(cloned), aim), _collected(_actor(cloned), aim)
    assert torch.equal(first.samples_NKPA, second.samples_NKPA)
    assert torch.equal(first.low_dim["goal"], second.low_dim["goal"])


def test_each_environment_step_is_encoded_once_for_all_denoise_steps(
    cloned_from_images: Path, aim: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = _actor(cloned_from_images, DppoConfig(sampler="ddim", denoise_steps=5, tuned_denoise_steps=5))
    encoded: list[int] = []
    observe = DiffusionPolicy.observe

    def counted(policy: DiffusionPolicy, *arguments: Any) -> torch.Tensor:
        if policy is actor.policy.tuned or policy is actor.policy.cloned:
            encoded.append(len(arguments[0]["agentview_image"]))
        return observe(policy, *arguments)

    monkeypatch.setattr(DiffusionPolicy, "observe", counted)
    collected = _collected(actor, partial(aim, images=True))
    assert sum(encoded) == 3 * 12
    assert collected.images["agentview_image"].dtype == torch.uint8
    assert collected.samples_NKPA.shape == (36, 6, 1, 1)


def test_buffers_are_float32(cloned: Path, aim: Callable[..., Any]) -> None:
    collected = _collected(_actor(cloned), aim)
    for array in (collected.samples_NKPA, collected.log_probs_NK, *collected.low_dim.values()):
        assert array.dtype == torch.float32
    assert collected.values_SE.dtype == np.float32


def test_stored_log_probabilities_are_those_of_the_policy_as_it_is(cloned: Path, aim: Callable[..., Any]) -> None:
    """So the ratios of the first update are one."""
    actor = _actor(cloned)
    collected = _collected(actor, aim)
    for index in range(4):
        rows = torch.arange(36)
        log_probs = actor.log_probs(
            actor.policy.tuned.observe({}, collected.low_dim),
            collected.samples_NKPA[rows, index],
            collected.samples_NKPA[rows, index + 1],
            torch.full((36,), index),
        )
        torch.testing.assert_close(log_probs, collected.log_probs_NK[:, index], rtol=0, atol=1e-4)


def test_actions_that_are_not_finite_stop_the_run(cloned: Path, aim: Callable[..., Any]) -> None:
    actor = _actor(cloned)
    with torch.no_grad():
        next(actor.policy.tuned.unet.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="actions stopped being finite"):
        _collected(actor, aim)
