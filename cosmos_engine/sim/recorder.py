"""Record demos of the scripted experts on the table-top."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cosmos_engine.data import Episode, Recording, RecordingWriter
from cosmos_engine.errors import InputError
from cosmos_engine.sim.demo import record_demo
from cosmos_engine.sim.demo_crew import DemoCrew, process_crew, ray_crew
from cosmos_engine.sim.scene import CAMERAS
from cosmos_engine.sim.tabletop import TabletopEnvironment

_GYM_ENV_TYPE = 2  # robomimic.envs.env_base.EnvType.GYM_TYPE
_FAILURES_IN_A_ROW = 20


@dataclass(frozen=True)
class RecordConfig:
    """Say what to record.

    `episodes` is the number of demos that the recording shall hold; `seed` that of the first reset, from which seeds
    count up; `action_noise` the standard deviation of the noise on the expert's actions, in [-1, 1] units.
    """

    task: str = "lift"
    episodes: int = 50
    seed: int = 0
    image_size: int = 128
    cameras: list[str] = field(default_factory=lambda: list(CAMERAS))
    action_noise: float = 0.02

    def __post_init__(self) -> None:
        """Raise InputError for a number out of range; task and cameras are checked by the environment."""
        if self.episodes < 1:
            raise InputError(f"episodes: expected at least 1, got {self.episodes}")
        if self.seed < 0:
            raise InputError(f"seed: expected at least 0, got {self.seed}")
        if not 0 <= self.action_noise <= 1:
            raise InputError(f"action_noise: expected a number in [0, 1], got {self.action_noise}")
        if not self.cameras:
            raise InputError("cameras: expected at least one")


@dataclass(frozen=True)
class RecordSummary:
    """Tell what one call of `record_demos` added, and at which seeds the expert failed."""

    demos: int
    control_steps: int
    failed_seeds: tuple[int, ...]


def record_demos(
    config: RecordConfig, out: str | Path, workers: int | None = None, ray: str | None = None
) -> RecordSummary:
    """Record demos until the folder `out` holds `config.episodes` of them; only successful ones are kept.

    A demo follows from its seed and the config alone, whoever makes it. Called again, it goes on after the last
    recorded seed; whatever stops it, the folder holds whole episodes only.

    Args:
        config: what to record.
        out: folder of the recording.
        workers: processes that make demos; None for this one alone, with `ray` for one on every core of the cluster.
        ray: address of a Ray cluster, as `cluster.connected` takes it; None for this machine without Ray.

    Raises:
        InputError: unknown task or camera, no GL, a folder that holds something else or a recording made with another
            config, an expert that fails again and again under `config.action_noise`, or a worker that was ended.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers: expected 1 or more, got {workers}")
    environment = TabletopEnvironment(config.task, cameras=config.cameras, image_size=config.image_size, render=False)
    env_args = _env_args(config, environment)
    failed_seeds: list[int] = []
    demos, control_steps, failures_in_a_row = 0, 0, 0
    with (
        closing(environment),
        _crew(config, environment, env_args, workers, ray) as crew,
        RecordingWriter(out, env_args) as writer,
        _progress(config, len(writer)) as bar,
    ):
        recorded = Recording(out)
        first_seed = recorded.header(len(recorded) - 1).seed + 1 if len(recorded) else config.seed
        for seed, episode in crew.demos(first_seed, lambda: config.episodes - len(writer)):
            if episode is None:
                failed_seeds.append(seed)
                failures_in_a_row += 1
                bar.set_postfix(failures=len(failed_seeds))
            else:
                writer.append(episode)
                demos, control_steps, failures_in_a_row = demos + 1, control_steps + episode.length, 0
                bar.update()
            if failures_in_a_row == _FAILURES_IN_A_ROW:
                raise InputError(
                    f"task {config.task!r}: the expert failed at {_FAILURES_IN_A_ROW} seeds in a row; "
                    f"expected less action_noise than {config.action_noise}"
                )
    return RecordSummary(demos, control_steps, tuple(failed_seeds))


def _crew(
    config: RecordConfig,
    environment: TabletopEnvironment,
    env_args: dict[str, Any],
    workers: int | None,
    ray: str | None,
) -> AbstractContextManager[DemoCrew]:
    """Return who makes the demos."""
    make = functools.partial(_demo, config, env_args)
    if ray is not None:
        return ray_crew(make, ray, workers)
    if workers is not None and workers > 1:
        return process_crew(make, workers)
    return nullcontext(DemoCrew(int, lambda seed: record_demo(environment, seed, config.action_noise, env_args)))


def _demo(config: RecordConfig, env_args: dict[str, Any], seed: int) -> Episode | None:
    """Make a demo in a worker's process, which keeps its environment for the next one."""
    environment = _opened(config.task, tuple(config.cameras), config.image_size)
    return record_demo(environment, seed, config.action_noise, env_args)


@functools.lru_cache(maxsize=1)
def _opened(task: str, cameras: tuple[str, ...], image_size: int) -> TabletopEnvironment:
    return TabletopEnvironment(task, cameras=cameras, image_size=image_size, render=False)


def _env_args(config: RecordConfig, environment: TabletopEnvironment) -> dict[str, Any]:
    """Describe the environment as robomimic does, with all that the demos follow from but their number."""
    kwargs = asdict(config)
    del kwargs["episodes"], kwargs["task"]
    kwargs |= {"horizon": environment.horizon, "step_hz": environment.step_hz}
    return {"env_name": config.task, "type": _GYM_ENV_TYPE, "env_kwargs": kwargs}


def _progress(config: RecordConfig, recorded: int) -> tqdm[Any]:
    return tqdm(total=config.episodes, initial=recorded, desc=f"record {config.task}", unit="demo")
