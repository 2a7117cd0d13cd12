"""Record demos of the scripted experts on the table-top: states first, render passes on replay of those states."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cosmos_engine.data import CameraPasses, Episode, Recording, RecordingWriter
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import CameraFrame
from cosmos_engine.sim.experts import Expert
from cosmos_engine.sim.scene import CAMERAS
from cosmos_engine.sim.tabletop import TabletopEnvironment

SOURCE = "embedded-mujoco"
_GYM_ENV_TYPE = 2  # robomimic.envs.env_base.EnvType.GYM_TYPE
_HOLD_STEPS = 5
"""Control steps that success must last; a demo ends with them, so that a policy learns to stay."""
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


def record_demos(config: RecordConfig, out: str | Path) -> RecordSummary:
    """Record demos until the folder `out` holds `config.episodes` of them; only successful ones are kept.

    A demo follows from its seed and the config alone. Called again, it goes on after the last recorded seed; whatever
    stops it, the folder holds whole episodes only.

    Raises:
        InputError: unknown task or camera, no GL, a folder that holds something else or a recording made with another
            config, or an expert that fails again and again under `config.action_noise`.
    """
    environment = TabletopEnvironment(config.task, cameras=config.cameras, image_size=config.image_size, render=False)
    env_args = _env_args(config, environment)
    failed_seeds: list[int] = []
    demos, control_steps, failures_in_a_row = 0, 0, 0
    try:
        with RecordingWriter(out, env_args) as writer, _progress(config, len(writer)) as bar:
            seed = max(Recording(out).seeds(), default=config.seed - 1) + 1
            while len(writer) < config.episodes:
                episode = record_demo(environment, seed, config.action_noise, env_args)
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
                seed += 1
    finally:
        environment.close()
    return RecordSummary(demos, control_steps, tuple(failed_seeds))


def record_demo(
    environment: TabletopEnvironment, seed: int, action_noise: float, env_args: dict[str, Any]
) -> Episode | None:
    """Act one seeded episode with the expert and render it; None if the expert failed.

    The episode's id is made from `env_args` and the seed, so that the same command records the same bytes.
    """
    # The second word keeps the noise apart from the start, which is drawn from the seed itself.
    expert = Expert(environment.task, action_noise=action_noise, rng=np.random.default_rng((seed, 1)))
    observation = environment.reset(seed)
    states, observations, actions, rewards = [], [], [], []
    held = 0
    for _ in range(environment.horizon):
        states.append(environment.get_state())
        observations.append({name: value for name, value in observation.items() if value.ndim == 1})
        actions.append(expert.act(environment))
        result = environment.step(actions[-1])
        rewards.append(result.reward)
        observation = result.observation
        held = held + 1 if result.terminated else 0
        if held == _HOLD_STEPS:
            break
    if held < _HOLD_STEPS:
        return None
    identity = f"{SOURCE} {json.dumps(env_args, sort_keys=True)} {seed}"
    return Episode(
        actions=np.stack(actions),
        states=np.stack(states),
        rewards=np.array(rewards, dtype=np.float32),
        dones=np.arange(len(actions)) == len(actions) - 1,
        observations={name: np.stack([frame[name] for frame in observations]) for name in observations[0]},
        cameras=render_states(environment, states),
        labels=environment.labels,
        success=True,
        seed=seed,
        step_hz=environment.step_hz,
        episode_id=str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        source=SOURCE,
        task=environment.task,
        instruction=environment.instruction,
    )


def render_states(environment: TabletopEnvironment, states: Sequence[np.ndarray]) -> dict[str, CameraPasses]:
    """Return the passes of every camera of the environment over recorded states, in its present appearance."""
    frames: dict[str, list[CameraFrame]] = {camera: [] for camera in environment.camera_names}
    for state in states:
        environment.set_state(state)
        for camera, of_camera in frames.items():
            of_camera.append(environment.render_passes(camera))
    return {
        camera: CameraPasses(
            rgb=np.stack([frame.rgb for frame in of_camera]),
            depth_m=np.stack([frame.depth_m for frame in of_camera]),
            instance=np.stack([frame.instance for frame in of_camera]),
            intrinsics_px=of_camera[0].intrinsics_px,
            world_from_camera=np.stack([frame.world_from_camera for frame in of_camera]),
        )
        for camera, of_camera in frames.items()
    }


def _env_args(config: RecordConfig, environment: TabletopEnvironment) -> dict[str, Any]:
    """Describe the environment as robomimic does, with all that the demos follow from but their number."""
    kwargs = asdict(config)
    del kwargs["episodes"], kwargs["task"]
    kwargs |= {"horizon": environment.horizon, "step_hz": environment.step_hz}
    return {"env_name": config.task, "type": _GYM_ENV_TYPE, "env_kwargs": kwargs}


def _progress(config: RecordConfig, recorded: int) -> tqdm[Any]:
    return tqdm(total=config.episodes, initial=recorded, desc=f"record {config.task}", unit="demo")
