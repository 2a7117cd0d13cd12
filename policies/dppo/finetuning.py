"""Fine-tune a cloned policy in an environment, resumable at any iteration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import cosmos_engine
from cosmos_engine.device import choose_device
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import Environment
from cosmos_engine.sim.vector import VectorEnvironment
from policies.checkpoint import Finetuning, LoadedPolicy, PolicyRecord, load_policy, save_record, save_weights
from policies.diffusion import DiffusionPolicy
from policies.dppo.actor import Actor
from policies.dppo.collection import collect
from policies.dppo.config import DppoConfig, check_dppo_config, sampling_config
from policies.dppo.evaluation import Evaluation, evaluate
from policies.dppo.learning import NotFiniteError, learn
from policies.dppo.state import STATE_FILE, DppoState
from policies.finetuned import FinetunedPolicy
from policies.interruption import deferred_interrupt
from policies.policy import PolicySpec, check_environment
from policies.run_folder import claim, truncate_log
from policies.training_state import update_rng

RUN_FILE = "dppo.yaml"
LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class _Run:
    """The identity of a run, the content of dppo.yaml: a folder resumes only the run that it holds."""

    config: DppoConfig = field(default_factory=DppoConfig)
    task: str = ""
    cloned_weights_sha256: str = ""


def finetune(
    cloned_folder: Path,
    out: Path,
    make_environment: Callable[[PolicySpec], Callable[[], Environment]],
    config: DppoConfig,
    workers: int | None = None,
) -> Path:
    """Fine-tune the policy in `cloned_folder`, or continue the run that `out` holds.

    Equal inputs give equal bytes, interrupted or not and whatever the number of workers. `out` gets policy.safetensors
    and policy.yaml (the policy, which `load_policy` reads), dppo_state.safetensors (to resume), dppo.yaml and
    log.jsonl. The bytes are those of one device and number of threads.

    Args:
        cloned_folder: a run of behaviour cloning.
        out: folder of the run; made if missing.
        make_environment: given what the policy sees and does, returns the function that builds one environment; it is
            pickled unless `workers` is 0.
        config: everything else.
        workers: processes that environments run in; None means one per core.

    Returns:
        `out`.

    Raises:
        InputError: on a policy, environment, config or folder that does not fit, and when a gradient stops being
            finite (the last saved state stays).
        KeyboardInterrupt: on Ctrl-C, after the state was saved.
    """
    check_dppo_config(config)
    loaded = load_policy(cloned_folder, choose_device(config.device))
    if not isinstance(loaded.policy, DiffusionPolicy):
        raise InputError(f"{cloned_folder}: is fine-tuned already; give the cloned policy that it was made from")
    policy = _prepared(loaded.policy, config)
    make = make_environment(policy.spec)
    task = _checked_task(cloned_folder.resolve().name, policy.spec, make)
    _check_seeds(loaded, config)
    lock = claim(out, RUN_FILE, _Run(config, task, loaded.weights_sha256))
    try:
        state = DppoState(policy, config)
        if (out / STATE_FILE).exists():
            state.load(out)
            save_weights(out, policy, state.iteration, state.resets)  # a kill may have come between state and weights
        else:
            save_record(out, _described(loaded, policy, task, config))
        truncate_log(out / LOG_FILE, "iteration", state.iteration)
        if state.iteration < config.iterations or evaluation_is_missing(out / LOG_FILE, state.iteration, config):
            with VectorEnvironment(
                make,
                config.environments,
                observations=list(policy.spec.observation_shapes),
                observation_frames=policy.spec.observation_frames,
                workers=workers,
            ) as environments:
                _Loop(state, Actor(policy, config), environments, out, config).run()
    finally:
        lock.release()
    return out


class _Loop:
    """Iterations of collecting and learning, with their saves and log lines."""

    def __init__(
        self, state: DppoState, actor: Actor, environments: VectorEnvironment, out: Path, config: DppoConfig
    ) -> None:
        self._state = state
        self._actor = actor
        self._environments = environments
        self._out = out
        self._config = config
        self._saved = state.iteration
        self._started = time.perf_counter()

    def run(self) -> None:
        state, config = self._state, self._config
        with (
            deferred_interrupt() as interrupted,
            tqdm(total=config.iterations, initial=state.iteration, desc="dppo", unit="iteration") as progress,
            (self._out / LOG_FILE).open("a", encoding="utf-8") as log,
        ):

            def write(line: dict[str, Any]) -> None:
                line["seconds"] = round(time.perf_counter() - self._started, 3)
                log.write(json.dumps(line) + "\n")
                log.flush()

            def check() -> None:
                """Stop while the state is whole: neither collecting nor evaluating changes it."""
                if interrupted():
                    if self._saved < state.iteration:
                        self._save()
                    raise KeyboardInterrupt

            def evaluate_if_due() -> None:
                if evaluation_is_missing(self._out / LOG_FILE, state.iteration, config):
                    evaluation = evaluate(self._actor.policy, self._environments, _evaluation_seeds(config), check)
                    write({"iteration": state.iteration} | evaluation.as_log("evaluation_"))
                    progress.set_postfix(evaluation=f"{evaluation.successes}/{config.evaluation_trials}")

            evaluate_if_due()
            while state.iteration < config.iterations:
                write(self._iterate(check))
                progress.update()
                if state.iteration % config.save_every == 0 or state.iteration == config.iterations:
                    self._save()
                check()
                evaluate_if_due()

    def _iterate(self, check: Callable[[], None]) -> dict[str, Any]:
        """Collect and learn once; returns the log line."""
        state, config = self._state, self._config
        rng = update_rng(config.seed, state.iteration + 1)
        first_seed = config.first_seed + state.resets
        chunks = config.chunks_per_iteration
        collected = collect(self._actor, state.critic, self._environments, chunks, first_seed, rng, check)
        try:
            learned = learn(state, self._actor, collected, config, rng)
        except NotFiniteError as error:
            raise InputError(
                f"{self._out}: the loss stopped being finite at iteration {state.iteration + 1}; the state of "
                f"iteration {self._saved} is kept; try lower learning rates in another folder"
            ) from error
        state.iteration += 1
        state.resets += collected.resets
        state.control_steps += collected.control_steps
        line: dict[str, Any] = {"iteration": state.iteration, "control_steps": state.control_steps}
        line |= Evaluation(collected.successes, collected.failures, collected.crashes).as_log()
        return line | {"reward_scale": state.reward_scale.variance**0.5} | asdict(learned)

    def _save(self) -> None:
        self._state.save(self._out)
        save_weights(self._out, self._state.policy, self._state.iteration, self._state.resets)
        self._saved = self._state.iteration


def evaluation_is_missing(log: Path, iteration: int, config: DppoConfig) -> bool:
    """Tell whether the policy after this iteration is to be evaluated and the log does not say how it did."""
    if iteration % config.evaluate_every != 0 and iteration != config.iterations:
        return False
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return not any(line["iteration"] == iteration and "evaluation_successes" in line for line in lines)


def _evaluation_seeds(config: DppoConfig) -> range:
    return range(config.evaluation_seed, config.evaluation_seed + config.evaluation_trials)


def _prepared(cloned: DiffusionPolicy, config: DppoConfig) -> FinetunedPolicy:
    """Return the policy to tune: the cloned one with the sampler that DPPO tunes."""
    policy = DiffusionPolicy(sampling_config(cloned.config, config), cloned.spec)
    policy.load_state_dict(cloned.state_dict())
    return FinetunedPolicy(policy.to(cloned.device), config.tuned_denoise_steps)


def _checked_task(name: str, spec: PolicySpec, make: Callable[[], Environment]) -> str:
    environment = make()
    try:
        check_environment(name, spec, environment)
        return environment.task
    finally:
        environment.close()


def _check_seeds(loaded: LoadedPolicy, config: DppoConfig) -> None:
    """Evaluation must not start where a demo did."""
    seen = loaded.seen_seeds.intersection(_evaluation_seeds(config))
    if seen:
        raise InputError(
            f"evaluation_seed: the policy was trained on {len(seen)} of the trials' starts (seed {min(seen)}); "
            "choose another"
        )


def _described(loaded: LoadedPolicy, policy: FinetunedPolicy, task: str, config: DppoConfig) -> PolicyRecord:
    return replace(
        loaded.record,
        policy=policy.config,
        tasks=sorted({*loaded.record.tasks, task}),
        finetuning=Finetuning(config.tuned_denoise_steps, task, config.first_seed, loaded.weights_sha256),
        versions={"cosmos-engine": cosmos_engine.__version__, "torch": torch.__version__},
    )
