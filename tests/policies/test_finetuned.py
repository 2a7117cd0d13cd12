"""The fine-tuned policy: like the cloned one before the first update, and saved with what it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.checkpoint import Finetuning, PolicyRecord, load_policy, save_record, save_weights
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig
from policies.finetuned import FinetunedPolicy
from policies.policy import PolicySpec

DDPM = DiffusionPolicyConfig(
    observation_frames=1,
    horizon=4,
    action_chunk=4,
    unet_widths=(8, 16),
    training_denoise_steps=10,
    denoise_steps=5,
    sampler="ddpm",
)
DDIM = replace(DDPM, sampler="ddim")
SPEC = PolicySpec({"goal": [2]}, action_dim=3, step_hz=20.0, observation_frames=1, action_chunk=4)


def _policy(config: DiffusionPolicyConfig, seed: int = 0) -> DiffusionPolicy:
    torch.manual_seed(seed)
    return DiffusionPolicy(config, SPEC)


def _acts(policy: DiffusionPolicy | FinetunedPolicy) -> np.ndarray:
    observations = {"goal": np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 1, 2)}
    return policy.act(observations, [np.random.default_rng(seed) for seed in range(3)])


@pytest.mark.parametrize("config", [DDPM, DDIM], ids=["ddpm", "ddim"])
@pytest.mark.parametrize("tuned", [1, 3, 5])
def test_before_the_first_update_it_acts_like_the_cloned_policy(config: DiffusionPolicyConfig, tuned: int) -> None:
    cloned = _policy(config)
    np.testing.assert_array_equal(_acts(FinetunedPolicy(cloned, tuned)), _acts(cloned))


@pytest.mark.parametrize("config", [DDPM, DDIM], ids=["ddpm", "ddim"])
def test_the_copy_runs_the_last_denoise_steps_and_the_cloned_policy_the_first(config: DiffusionPolicyConfig) -> None:
    policy = FinetunedPolicy(_policy(config), 3)
    calls: list[tuple[str, int]] = []
    for name in ("cloned", "tuned"):
        network = getattr(policy, name).unet
        network.register_forward_pre_hook(lambda _, given, name=name: calls.append((name, int(given[1][0]))))
    _acts(policy)
    expected = [9, 7, 5, 3, 1] if config is DDIM else list(range(9, -1, -1))
    assert [step for _, step in calls] == expected
    assert [name for name, _ in calls] == ["cloned"] * (len(expected) - 3) + ["tuned"] * 3


def test_tuning_the_copy_leaves_the_cloned_policy_alone() -> None:
    cloned = _policy(DDIM)
    before = _acts(cloned)
    policy = FinetunedPolicy(cloned, 3)
    with torch.no_grad():
        for parameter in policy.tuned.parameters():
            parameter.mul_(1.5)
    np.testing.assert_array_equal(_acts(cloned), before)
    assert not np.array_equal(_acts(policy), before)
    assert not any(parameter.requires_grad for parameter in policy.cloned.parameters())


@pytest.mark.parametrize("tuned", [2, 5])
def test_saved_policy_acts_the_same(tmp_path: Path, tuned: int) -> None:
    policy = FinetunedPolicy(_policy(DDIM), tuned)
    policy.tuned.load_state_dict(_policy(DDIM, seed=1).state_dict())
    save_record(tmp_path, PolicyRecord(policy=DDIM, spec=SPEC, finetuning=Finetuning(tuned, "reach", first_seed=50)))
    save_weights(tmp_path, policy, 7, resets=3)
    loaded = load_policy(tmp_path, torch.device("cpu"))
    np.testing.assert_array_equal(_acts(loaded.policy), _acts(policy))
    assert loaded.updates == 7
    assert loaded.seen_seeds == {50, 51, 52}
    assert any(name.startswith("cloned.") for name in policy.saved_tensors()) == (tuned < 5)
