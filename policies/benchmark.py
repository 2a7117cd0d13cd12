"""The benchmark: policies x shifts, the same starts for all, success rates with their intervals."""

from __future__ import annotations

import json
import math
import platform
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from tqdm import tqdm

import cosmos_engine
from cosmos_engine.config import nearest
from cosmos_engine.data.atomic import make_folder, remove_temporaries, write_file
from cosmos_engine.data.lock import take_folder
from cosmos_engine.errors import InputError
from cosmos_engine.report.video import encode_mp4
from cosmos_engine.sim.environment import Environment
from cosmos_engine.sim.strengths import ShiftStrengths
from policies.benchmark_result import with_pairs, write_result
from policies.intervals import confidence_sequence_95, wilson_95
from policies.policy import Policy, check_environment
from policies.rollout import EnvironmentPool, Outcome, Trial, run_trials
from policies.side_by_side import side_by_side
from policies.stopping import decisive_trials

BENCHMARK_SCHEMA = 1


@dataclass(frozen=True)
class BenchmarkConfig:
    """Configure a benchmark."""

    trials: int = 50
    first_seed: int = 1_000_000  # trials take this seed and the following; far from those that demos are recorded with
    environments: int = 8  # acting side by side; bounded by memory, not by cores
    videos: int = 2  # rollouts filmed per cell, of successes and failures at most half each
    camera: str = "agentview"  # filmed
    stop_half_width: float | None = None  # a cell may end once its rate is known so well; none: all trials
    shifts: ShiftStrengths = field(default_factory=ShiftStrengths)  # of the embedded table-top


@runtime_checkable
class Arena(Protocol):
    """Bring the environments and their shifts; the command line has one for the embedded table-top."""

    @property
    def task(self) -> str: ...

    @property
    def shifts(self) -> tuple[str, ...]:
        """Names of all shifts."""
        ...

    def make(self) -> Environment:
        """Build an environment."""
        ...

    def prepare(self, environment: Environment, shift: str, seed: int) -> None:
        """Give the environment the appearance that it has under a shift in the trial of that seed."""
        ...


@dataclass(frozen=True)
class Contestant:
    """Hold a policy under the name that it has in the table."""

    name: str
    policy: Policy
    checkpoint: str
    weights_sha256: str
    demo_seeds: frozenset[int]


def choose_shifts(text: str, known: Sequence[str]) -> list[str]:
    """Return the shifts that a comma-separated list names; "all" means each of them (no shift has that name).

    Raises:
        InputError: names an unknown shift and the nearest known one.
    """
    if text == "all":
        return list(known)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"shifts: expected names separated by commas, or all; got {text!r}{nearest('', known)}")
    for name in names:
        if name not in known:
            raise InputError(f"shift {name!r}: unknown{nearest(name, known)}")
    return list(dict.fromkeys(names))


def run_benchmark(
    contestants: Sequence[Contestant],
    arena: Arena,
    shifts: Sequence[str],
    config: BenchmarkConfig,
    out: Path,
    workers: int = 1,
) -> dict[str, Any]:
    """Run every policy under every shift, on the same seeds, and write the result and videos under `out`.

    A finished cell is kept: the same command goes on with the missing ones. Policies are compared with the first one.

    Args:
        contestants: the policies.
        arena: brings environments and shifts.
        shifts: names of the arena's.
        config: everything else.
        out: folder of the results; made if missing.
        workers: processes, each with a cell at a time; what a policy does in a cell does not depend on them. More than
            one want contestants and an arena that can be pickled.

    Returns:
        The content of result.json.

    Raises:
        InputError: if a policy does not fit the environment, was trained on a trial's start, `out` holds cells of
            another benchmark, or a worker was ended from outside.
    """
    seeds = range(config.first_seed, config.first_seed + config.trials)
    _check(contestants, seeds, config)
    lock = take_folder(out)
    try:
        for folder in (out / "cells", out / "videos"):
            make_folder(folder)
            remove_temporaries(folder)
        missing = [
            (index, shift)
            for index, contestant in enumerate(contestants)
            for shift in shifts
            if not _is_done(_cell_path(out, contestant, shift), _identity(contestant, arena, shift, config))
        ]
        open_bench = partial(_Bench, tuple(contestants), arena, seeds, config, out)
        if missing and workers == 1:
            with closing(open_bench()) as bench:
                for cell in missing:
                    bench.do(cell)
        elif missing:
            with closing(side_by_side(open_bench, missing, workers)) as done:  # whatever ends this stops the workers
                for _ in tqdm(done, total=len(missing), desc="benchmark", unit="cell"):
                    pass
        cells = [
            json.loads(_cell_path(out, contestant, shift).read_text(encoding="utf-8"))["cell"]
            for contestant in contestants
            for shift in shifts
        ]
        result = {
            "schema": BENCHMARK_SCHEMA,
            "kind": "cosmos-engine/benchmark",
            "task": arena.task,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "config": asdict(config),
            "cells": with_pairs(cells),
        }
        write_result(result, out)
    finally:
        lock.release()
    return result


def summarize(
    contestant: Contestant, shift: str, trials: Sequence[Trial], videos: Sequence[str], *, sequential: bool = False
) -> dict[str, Any]:
    """Return the cell of one policy under one shift; rates are over finished trials and None without any.

    Of `sequential` trials, which could end as soon as their rate was known well enough, it has the interval for that.
    """
    finished = [trial for trial in trials if trial.outcome != "crash"]
    steps_to_success = [trial.steps for trial in finished if trial.outcome == "success"]
    successes = len(steps_to_success)
    interval = wilson_95(successes, len(finished))
    sequence = confidence_sequence_95(successes, len(finished)) if sequential else None
    return {
        "policy": contestant.name,
        "checkpoint": contestant.checkpoint,
        "weights_sha256": contestant.weights_sha256,
        "shift": shift,
        "trials": len(trials),
        "successes": successes,
        "crashes": len(trials) - len(finished),
        "success_rate": successes / len(finished) if finished else None,
        "wilson_95": list(interval) if interval else None,
        **({"sequence_95": list(sequence)} if sequence else {}),
        "mean_steps_to_success": float(np.mean(steps_to_success)) if steps_to_success else None,
        "outcomes": [
            {"seed": trial.seed, "outcome": trial.outcome, "steps": trial.steps}
            | ({"error": trial.error} if trial.error else {})
            for trial in sorted(trials, key=lambda trial: trial.seed)
        ],
        "videos": list(videos),
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "cosmos-engine": cosmos_engine.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


class _Bench:
    """Environments, and what runs a cell in them: a contestant's index and a shift.

    Raises:
        InputError: a contestant does not fit the environments, or these have no camera to film with.
    """

    def __init__(
        self, contestants: Sequence[Contestant], arena: Arena, seeds: range, config: BenchmarkConfig, out: Path
    ) -> None:
        self._contestants = contestants
        self._arena = arena
        self._seeds = seeds
        self._config = config
        self._out = out
        self._filmed = f"{config.camera}_image"
        self._pool = EnvironmentPool(arena.make, min(config.environments, config.trials))
        try:
            self._check(self._pool.environments[0])
        except InputError:
            self.close()
            raise

    def do(self, cell: tuple[int, str], check: Callable[[], None] = lambda: None) -> None:
        """Run the trials of a cell and write its file and videos."""
        index, shift = cell
        contestant, arena, config = self._contestants[index], self._arena, self._config
        filmed: Counter[Outcome] = Counter()

        def film(outcome: Outcome) -> bool:
            wanted = filmed.total() < config.videos and filmed[outcome] < math.ceil(config.videos / 2)
            filmed[outcome] += wanted
            return wanted

        running = run_trials(
            contestant.policy,
            self._pool,
            self._seeds,
            prepare=lambda environment, seed: arena.prepare(environment, shift, seed),
            film_camera=self._filmed if config.videos else None,
            film=film,
            check=check,
        )
        trials: list[Trial] = []
        with tqdm(running, total=len(self._seeds), desc=f"{contestant.name} {shift}", unit="trial") as progress:
            for trial in progress:
                trials.append(trial)
                progress.set_postfix(successes=sum(trial.outcome == "success" for trial in trials))
                if config.stop_half_width is None:
                    continue
                if decisive := decisive_trials(trials, self._seeds, config.stop_half_width):
                    trials = decisive
                    break
        videos = [self._write_video(contestant, shift, trial) for trial in trials if trial.frames]
        summary = summarize(contestant, shift, trials, sorted(videos), sequential=config.stop_half_width is not None)
        content = {"identity": _identity(contestant, arena, shift, config), "cell": summary}
        write_file(_cell_path(self._out, contestant, shift), json.dumps(content, indent=2).encode())

    def _write_video(self, contestant: Contestant, shift: str, trial: Trial) -> str:
        """Write the video of a filmed trial and return its path under the benchmark's folder."""
        path = f"videos/{contestant.name}_{shift}_{trial.seed}.mp4"
        write_file(self._out / path, encode_mp4(np.stack(trial.frames), contestant.policy.spec.step_hz))
        return path

    def close(self) -> None:
        """Free the environments."""
        self._pool.close()

    def _check(self, environment: Environment) -> None:
        for contestant in self._contestants:
            check_environment(contestant.name, contestant.policy.spec, environment)
        if self._config.videos and self._filmed not in environment.observation_spec:
            raise InputError(f"camera: environment {self._arena.task!r} gives no {self._filmed!r}")


def _check(contestants: Sequence[Contestant], seeds: range, config: BenchmarkConfig) -> None:
    for key, least in (("trials", 1), ("environments", 1), ("videos", 0), ("first_seed", 0)):
        if getattr(config, key) < least:
            raise InputError(f"{key}: expected at least {least}, got {getattr(config, key)}")
    if config.stop_half_width is not None and not 0.0 < config.stop_half_width < 0.5:
        raise InputError(f"stop_half_width: expected a number between 0 and 0.5, got {config.stop_half_width}")
    if not contestants:
        raise InputError("policies: expected at least one, the folder of a run")
    names = [contestant.name for contestant in contestants]
    for contestant in contestants:
        if names.count(contestant.name) > 1:
            raise InputError(f"policy name {contestant.name!r}: given twice; every policy needs a name of its own")
        if not re.fullmatch(r"[\w.-]+", contestant.name):
            raise InputError(f"policy name {contestant.name!r}: expected letters, digits, '.', '_' and '-'")
        seen = sorted(contestant.demo_seeds.intersection(seeds))
        if seen:
            raise InputError(
                f"policy {contestant.name}: was trained on {len(seen)} of the trials' starts (seed {seen[0]}); "
                f"choose another first_seed"
            )


def _identity(contestant: Contestant, arena: Arena, shift: str, config: BenchmarkConfig) -> dict[str, Any]:
    """What a cell's numbers depend on; the number of environments side by side is not part of it."""
    return {
        "task": arena.task,
        "policy": contestant.name,
        "weights_sha256": contestant.weights_sha256,
        "shift": shift,
        "strengths": config.shifts.of(shift),
        "trials": config.trials,
        "first_seed": config.first_seed,
        "videos": config.videos,
        "stop_half_width": config.stop_half_width,
        "camera": config.camera,
        "cosmos-engine": cosmos_engine.__version__,
    }


def _cell_path(out: Path, contestant: Contestant, shift: str) -> Path:
    return out / "cells" / f"{contestant.name}_{shift}.json"


def _is_done(path: Path, identity: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    try:
        there = json.loads(path.read_text(encoding="utf-8"))["identity"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a benchmark's cell; choose another --out") from error
    for key, value in identity.items():
        if there.get(key) != value:
            raise InputError(
                f"{path.parent.parent}: holds another benchmark: {key} is {there.get(key)} there and {value} here; "
                "choose another --out"
            )
    return True
