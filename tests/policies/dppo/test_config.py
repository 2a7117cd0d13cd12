"""The numbers of DPPO: presets that fit, and one line for numbers that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cosmos_engine.config import config_folder, load_config
from cosmos_engine.errors import InputError
from policies.diffusion import DiffusionPolicyConfig
from policies.dppo.config import DppoConfig, check_dppo_config, sampling_config
from policies.training import TrainConfig


@pytest.mark.parametrize("file", sorted(config_folder().glob("dppo/*.yaml")), ids=lambda file: file.stem)
def test_shipped_configs_fit(file: object) -> None:
    check_dppo_config(load_config(DppoConfig, str(file)))


def test_a_tuned_policy_acts_with_the_configured_noise() -> None:
    policy = DiffusionPolicyConfig(training_denoise_steps=20, eta=0.3)
    assert sampling_config(policy, load_config(DppoConfig, "dppo/cpu")).eta == 1.0
    assert sampling_config(policy, load_config(DppoConfig, "dppo/image")).eta == 0.0


def test_published_presets() -> None:
    """Ren et al. 2024 and the authors' configs for robomimic's lift."""
    state, image = load_config(DppoConfig, "dppo/state"), load_config(DppoConfig, "dppo/image")
    assert (state.sampler, state.denoise_steps, state.tuned_denoise_steps) == ("ddpm", 20, 10)
    assert (image.sampler, image.denoise_steps, image.tuned_denoise_steps, image.eta) == ("ddim", 5, 5, 1.0)
    # 72 of 81 iterations train: 4.3 million control steps in action chunks of 4.
    assert state.iterations * state.environments * state.chunks_per_iteration * 4 == 4_320_000


def test_state_preset_fits_the_policy_that_it_names() -> None:
    policy = load_config(TrainConfig, "train/state").policy
    tuned = sampling_config(policy, load_config(DppoConfig, "dppo/state"))
    assert tuned == replace(policy, denoise_steps=20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environments": 0}, "environments: expected at least 1, got 0"),
        ({"min_std": 0.0}, "min_std: expected a positive number, got 0.0"),
        ({"actor_learning_rate": float("nan")}, "actor_learning_rate: expected a positive number, got nan"),
        ({"discount": 1.5}, "discount: expected 0 to 1, got 1.5"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"tuned_denoise_steps": 21}, "tuned_denoise_steps: expected 1 to denoise_steps 20, got 21"),
        ({"clip_noisiest": 0.1}, "expected 0 < clip_noisiest <= clip_last < 1, got 0.1 and 0.01"),
        ({"whole_chains": True, "pairs_at_once": 4}, "expected at least tuned_denoise_steps 10 with whole_chains"),
        ({"evaluation_seed": 10_000_001}, "evaluation_seed: 10000001 and its trials may be among the resets"),
        ({"evaluation_seed": 9_999_999}, "evaluation_seed: 9999999 and its trials may be among the resets"),
    ],
)
def test_numbers_out_of_range_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_dppo_config(replace(DppoConfig(), **change))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_policy_with_other_denoise_steps_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"DDPM takes all 100 .* got 20; take sampler=ddim, or train a policy with"):
        sampling_config(DiffusionPolicyConfig(), DppoConfig())
    with pytest.raises(InputError, match="denoise_steps: expected at most 100"):
        sampling_config(DiffusionPolicyConfig(), DppoConfig(sampler="ddim", denoise_steps=101))
