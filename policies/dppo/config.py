"""The numbers of DPPO. Published values are those of the paper's robomimic experiments; configs/dppo holds presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cosmos_engine.errors import InputError
from policies.diffusion import DiffusionPolicyConfig


@dataclass(frozen=True)
class DppoConfig:
    """Configure a fine-tuning run. The defaults are the published ones for states (robomimic's lift)."""

    # The denoising process.
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    denoise_steps: int = 20  # of a chain; DDPM takes all training denoise steps of the policy
    tuned_denoise_steps: int = 10  # the last ones of a chain, which the tuned copy runs; the cloned policy the others
    eta: float = 1.0  # of DDIM while collecting: 0 adds no noise, 1 DDPM's
    acting_eta: float = 0.0  # of DDIM in evaluations and when the tuned policy acts later
    min_std: float = 0.1  # floor of every denoise step's standard deviation while collecting, and in log-probabilities
    noise_clip: float = 3.0  # standard deviations; noise beyond is cut while collecting

    # What is collected.
    environments: int = 50
    chunks_per_iteration: int = 300  # action chunks acted by every environment between two updates of the policy
    first_seed: int = 10_000_000  # resets count up from here; the benchmark's trials have seeds of their own

    # PPO.
    iterations: int = 72
    critic_warmup_iterations: int = 2  # in which only the critic learns
    epochs: int = 10
    minibatch_pairs: int = 7500  # pairs of environment step and denoise step per update
    pairs_at_once: int = 7500  # that fit into memory; an update adds up their gradients
    whole_chains: bool = False  # a minibatch holds all tuned denoise steps of an environment step, encoded once
    actor_learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-3
    critic_width: int = 256
    value_weight: float = 0.5
    discount: float = 0.999  # per action chunk
    gae_lambda: float = 0.95
    denoise_discount: float = 0.99
    clip_noisiest: float = 0.001  # PPO's clip at the noisiest tuned denoise step
    clip_last: float = 0.01  # and at the last, the only one if one is tuned
    clip_rate: float = 3.0  # how fast it grows in between
    target_kl: float = 1.0  # an iteration's updates end where the policy has moved further
    bc_weight: float = 0.0  # of the log-probability of what the cloned policy would have done

    # The run.
    evaluate_every: int = 10  # iterations; before the first and after the last in any case
    evaluation_trials: int = 50
    evaluation_seed: int = 2_000_000
    save_every: int = 1
    device: str = "auto"
    seed: int = 0

    @property
    def last_seed(self) -> int:
        """An upper bound of the seeds: an episode takes a chunk or more, and a next seed is always at hand."""
        return self.first_seed + self.environments * self.iterations * (self.chunks_per_iteration + 2)


def check_dppo_config(config: DppoConfig) -> None:
    """Make sure that the numbers are in their ranges and fit together.

    Raises:
        InputError: names the key that does not fit.
    """
    at_least_one = (
        *("environments", "chunks_per_iteration", "iterations", "epochs", "minibatch_pairs", "pairs_at_once"),
        *("critic_width", "evaluate_every", "evaluation_trials", "save_every"),
    )
    for key in at_least_one:
        if getattr(config, key) < 1:
            raise InputError(f"{key}: expected at least 1, got {getattr(config, key)}")
    positive = ("min_std", "noise_clip", "actor_learning_rate", "critic_learning_rate", "clip_rate", "target_kl")
    for key in positive:
        if not getattr(config, key) > 0:
            raise InputError(f"{key}: expected a positive number, got {getattr(config, key)}")
    for key in ("first_seed", "evaluation_seed", "seed", "critic_warmup_iterations", "bc_weight", "value_weight"):
        if not getattr(config, key) >= 0:
            raise InputError(f"{key}: expected at least 0, got {getattr(config, key)}")
    for key in ("eta", "acting_eta", "discount", "gae_lambda", "denoise_discount"):
        if not 0.0 <= getattr(config, key) <= 1.0:
            raise InputError(f"{key}: expected 0 to 1, got {getattr(config, key)}")
    if not 1 <= config.tuned_denoise_steps <= config.denoise_steps:
        raise InputError(
            f"tuned_denoise_steps: expected 1 to denoise_steps {config.denoise_steps}, got {config.tuned_denoise_steps}"
        )
    if not 0.0 < config.clip_noisiest <= config.clip_last < 1.0:
        raise InputError(
            f"clip_noisiest, clip_last: expected 0 < clip_noisiest <= clip_last < 1, "
            f"got {config.clip_noisiest} and {config.clip_last}"
        )
    if config.whole_chains and config.tuned_denoise_steps > min(config.minibatch_pairs, config.pairs_at_once):
        raise InputError(
            f"minibatch_pairs, pairs_at_once: expected at least tuned_denoise_steps {config.tuned_denoise_steps} "
            f"with whole_chains, got {config.minibatch_pairs} and {config.pairs_at_once}"
        )
    last_trial = config.evaluation_seed + config.evaluation_trials - 1
    if config.evaluation_seed < config.last_seed and last_trial >= config.first_seed:
        raise InputError(
            f"evaluation_seed: {config.evaluation_seed} and its trials may be among the resets of training, "
            f"{config.first_seed} to {config.last_seed}; choose another"
        )


def sampling_config(policy: DiffusionPolicyConfig, config: DppoConfig) -> DiffusionPolicyConfig:
    """Return the policy's config with the sampler that DPPO fine-tunes.

    Raises:
        InputError: if the policy was not trained with enough denoise steps for it.
    """
    trained = policy.training_denoise_steps
    if config.sampler == "ddpm" and config.denoise_steps != trained:
        raise InputError(
            f"denoise_steps: DDPM takes all {trained} training denoise steps of the policy, "
            f"got {config.denoise_steps}; take sampler=ddim, or train a policy with "
            f"policy.training_denoise_steps={config.denoise_steps}"
        )
    if config.denoise_steps > trained:
        raise InputError(f"denoise_steps: expected at most {trained}, the policy's own, got {config.denoise_steps}")
    return replace(policy, sampler=config.sampler, denoise_steps=config.denoise_steps, eta=config.acting_eta)
