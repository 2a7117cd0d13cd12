"""A study: training data x shifts. Its plan is a list of commands, each of which anyone can run by hand.

Recordings, datasets, policies and benchmarks lie under one folder:

    <task>/demos_50/                  recording
    <task>/<dataset>.zarr             dataset
    <task>/policies/<arm>_seed<n>/    policy
    <task>/benchmarks/<arm>_seed<n>/  benchmark
    done/<command>.json               written when a command has ended well; what it made may go once nothing needs it
    logs/<command>.log                what it said, where several run at once
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class StudyTask:
    """What a task needs beyond what all tasks get."""

    demos_times: int = 1  # every dataset has as many times the demos
    train: list[str] = field(default_factory=list)  # further words for `cosmos-engine train`
    benchmark: list[str] = field(default_factory=list)  # further words for `cosmos-engine benchmark`


@dataclass(frozen=True)
class StudyDataset:
    """How a dataset is made: demos, and variants of each."""

    demos: int = 50
    variants: int = 0
    augment: list[str] = field(default_factory=list)  # further words for `cosmos-engine augment`


@dataclass(frozen=True)
class StudyArm:
    """What the policies of an arm are trained on."""

    dataset: str = ""
    variants_per_demo: int | None = None  # none: all
    train: list[str] = field(default_factory=list)  # further words for `cosmos-engine train`


@dataclass(frozen=True)
class StudyConfig:
    """Configure a study."""

    tasks: dict[str, StudyTask] = field(default_factory=dict)
    datasets: dict[str, StudyDataset] = field(default_factory=dict)
    arms: dict[str, StudyArm] = field(default_factory=dict)
    reference: str = ""  # the arm that the others are compared with, trial by trial
    record: list[str] = field(default_factory=list)  # words for every `cosmos-engine record`
    train: list[str] = field(default_factory=list)  # words for every `cosmos-engine train`
    training_seeds: list[int] = field(default_factory=lambda: [0])
    benchmark: list[str] = field(default_factory=list)  # words for every `cosmos-engine benchmark`
    shifts: str = "all"
    trials: int = 100
    target_arm: str = ""  # the arm that `targets` are for
    targets: dict[str, float] = field(default_factory=dict)  # shift -> success rate to reach
    published: dict[str, float] = field(default_factory=dict)  # shift -> a success rate published elsewhere


@dataclass(frozen=True)
class StudyCommand:
    """One command of a study: what it is called, its words (those of the study's files are paths), what it writes."""

    name: str
    words: tuple[str | Path, ...]
    out: Path

    def needs(self, other: StudyCommand) -> bool:
        """Tell whether this command reads what another writes."""
        return other.out in self.words and other.out != self.out

    @property
    def line(self) -> str:
        """The command as one types it."""
        return shlex.join(("cosmos-engine", *map(str, self.words)))


def check_study(config: StudyConfig) -> None:
    """Make sure that a study's parts name each other.

    Raises:
        InputError: names the key, what was expected and what came.
    """
    for key in ("tasks", "datasets", "arms", "training_seeds"):
        if not getattr(config, key):
            raise InputError(f"study: {key}: expected at least one, got none")
    for name in [*config.datasets, *config.arms, *config.tasks]:
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"study: name {name!r}: expected letters, digits, '.', '_' and '-'")
    if len(set(config.training_seeds)) < len(config.training_seeds):
        raise InputError(f"study: training_seeds: expected each once, got {config.training_seeds}")
    for name, arm in config.arms.items():
        if arm.dataset not in config.datasets:
            hint = nearest(arm.dataset, config.datasets)
            raise InputError(f"study: arms.{name}.dataset {arm.dataset!r}: no such dataset{hint}")
    for key, arm_name in (("reference", config.reference), ("target_arm", config.target_arm)):
        if arm_name not in config.arms and (key == "reference" or arm_name or config.targets):
            raise InputError(f"study: {key} {arm_name!r}: no such arm{nearest(arm_name, config.arms)}")
    for key, dataset in config.datasets.items():
        if dataset.demos < 2 or dataset.variants < 0:
            raise InputError(
                f"study: datasets.{key}: expected at least 2 demos and 0 variants, got {dataset.demos} and "
                f"{dataset.variants}"
            )
    for key, task in config.tasks.items():
        if task.demos_times < 1:
            raise InputError(f"study: tasks.{key}.demos_times: expected at least 1, got {task.demos_times}")
    for shift, rate in (config.targets | config.published).items():
        if not 0.0 <= rate <= 1.0:
            raise InputError(f"study: rate of {shift}: expected 0 to 1, got {rate}")


def choose_tasks(config: StudyConfig, text: str | None) -> list[str]:
    """Return the tasks that a comma-separated list names; all without one.

    Raises:
        InputError: names a task that the study lacks.
    """
    if text is None:
        return list(config.tasks)
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    for name in chosen or [""]:
        if name not in config.tasks:
            raise InputError(f"--tasks {name!r}: not in the study{nearest(name, config.tasks)}")
    return chosen


def benchmark_folder(out: Path, task: str, arm: str, training_seed: int) -> Path:
    """Return the folder of one policy's benchmark."""
    return out / task / "benchmarks" / f"{arm}_seed{training_seed}"


def plan_study(config: StudyConfig, out: Path, tasks: Sequence[str]) -> list[StudyCommand]:
    """Return the commands of a study in the order of their need: those of the first arms' results come first."""
    return list({command.name: command for task in tasks for command in _task_commands(config, out, task)}.values())


def _task_commands(config: StudyConfig, out: Path, task: str) -> Iterator[StudyCommand]:
    of_task = config.tasks[task]
    for name, arm in config.arms.items():
        yield from _dataset_commands(config, arm.dataset, out, task)
        dataset = out / task / f"{arm.dataset}.zarr"
        for seed in config.training_seeds:
            policy = out / task / "policies" / f"{name}_seed{seed}"
            chosen = [] if arm.variants_per_demo is None else [f"variants_per_demo={arm.variants_per_demo}"]
            words: list[str | Path] = ["train", dataset, *config.train, *of_task.train, *arm.train, *chosen]
            words += [f"seed={seed}", "--out", policy]
            yield StudyCommand(f"train_{task}_{name}_seed{seed}", tuple(words), policy)
            folder = benchmark_folder(out, task, name, seed)
            words = ["benchmark", policy, "--task", task, "--shifts", config.shifts]
            words += ["--trials", str(config.trials), *config.benchmark, *of_task.benchmark, "--out", folder]
            yield StudyCommand(f"benchmark_{task}_{name}_seed{seed}", tuple(words), folder)


def _dataset_commands(config: StudyConfig, name: str, out: Path, task: str) -> Iterator[StudyCommand]:
    dataset = config.datasets[name]
    demos = dataset.demos * config.tasks[task].demos_times
    recording = out / task / f"demos_{demos}"
    words: list[str | Path] = ["record", "--task", task, "--episodes", str(demos), *config.record]
    words += ["--out", recording]
    yield StudyCommand(f"record_{task}_{demos}", tuple(words), recording)
    zarr = out / task / f"{name}.zarr"
    words = ["augment", recording, "--variants", str(dataset.variants), *dataset.augment, "--out", zarr]
    yield StudyCommand(f"augment_{task}_{name}", tuple(words), zarr)
