"""Render the demos of a robomimic file anew, as a recording: every pass, from the states that the file holds."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from cosmos_engine.data import Episode, RecordingWriter
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import CameraFrame, stacked
from cosmos_engine.sim.robosuite_environment import CAMERAS, ROBOSUITE_TASKS, STEP_HZ, RobosuiteEnvironment

SOURCE = "robosuite"
_ROBOSUITE_ENV_TYPE = 1  # robomimic.envs.env_base.EnvType.ROBOSUITE_TYPE


@dataclass(frozen=True)
class RerenderConfig:
    """Say how the demos are rendered.

    `own_model` renders all demos with the model that robosuite builds today, for files of versions whose models it no
    longer reads; a cube is then a millimetre larger or smaller than it was.
    """

    image_size: int = 128
    cameras: list[str] = field(default_factory=lambda: list(CAMERAS))
    episodes: int | None = None  # the first ones; None: all
    own_model: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for a number out of range; cameras are checked by the environment."""
        if self.episodes is not None and self.episodes < 1:
            raise InputError(f"episodes: expected at least 1, got {self.episodes}")
        if not self.cameras:
            raise InputError("cameras: expected at least one")


def rerender(file: Path, out: Path, config: RerenderConfig) -> int:
    """Write the demos of a robomimic file of a robosuite task to the recording `out`; return how many it then holds.

    Actions, states and rewards are the file's, bit by bit; images, depth, ids, camera poses and observations are those
    of its states. Called again, it goes on after the last demo; whatever stops it, `out` holds whole episodes only.

    Raises:
        InputError: the file cannot be read, is of another simulator or task, lacks states, or holds a model that this
            robosuite cannot build; or `out` holds something else.
    """
    try:
        with h5py.File(file, "r") as content:
            return _rerender(content, file, out, config)
    except (OSError, KeyError) as error:
        raise InputError(f"{file}: not a robomimic file that can be read: {' '.join(str(error).split())}") from error


def _rerender(content: h5py.File, file: Path, out: Path, config: RerenderConfig) -> int:
    data = content["data"]
    task = _task(data, file)
    demos = sorted(data, key=lambda name: int(name.rpartition("_")[2]))[: config.episodes]
    for name in demos:
        if "states" not in data[name]:
            raise InputError(f"{file}: {name}: holds no states, from which alone it could be rendered")
    actions = hashlib.sha256(b"".join(np.ascontiguousarray(data[name]["actions"][:]).tobytes() for name in demos))
    kwargs = asdict(config) | {"step_hz": STEP_HZ, "demos_sha256": actions.hexdigest()}
    del kwargs["episodes"]
    env_args = {"env_name": f"robosuite_{task}", "type": _ROBOSUITE_ENV_TYPE, "env_kwargs": kwargs}
    environment = RobosuiteEnvironment(task, cameras=config.cameras, image_size=config.image_size, render=False)
    try:
        with RecordingWriter(out, env_args) as writer:
            model = ""
            done = len(writer)
            for index, name in enumerate(
                tqdm(demos[done:], desc=f"rerender {task}", initial=done, total=len(demos), unit="demo"), start=done
            ):
                demo = data[name]
                if not config.own_model and demo.attrs.get("model_file", "") not in ("", model):
                    model = str(demo.attrs["model_file"])
                    environment.load_model(model)
                writer.append(_episode(environment, demo, index, env_args))
            return len(writer)
    finally:
        environment.close()


def _task(data: h5py.Group, file: Path) -> str:
    env_args = json.loads(data.attrs["env_args"]) if "env_args" in data.attrs else {}
    name = str(env_args.get("env_name", ""))
    tasks = {known.environment: task for task, known in ROBOSUITE_TASKS.items()}
    if name not in tasks:
        raise InputError(f"{file}: env_args: env_name {name!r} is none of {', '.join(tasks)}")
    hz = float(env_args.get("env_kwargs", {}).get("control_freq", STEP_HZ))
    if hz != STEP_HZ:
        raise InputError(f"{file}: env_args: control_freq {hz:g}, expected {STEP_HZ:g}")
    return tasks[name]


def _episode(environment: RobosuiteEnvironment, demo: h5py.Group, index: int, env_args: Mapping[str, Any]) -> Episode:
    states = demo["states"][:].astype(np.float64)
    frames: dict[str, list[CameraFrame]] = {camera: [] for camera in environment.camera_names}
    observations: list[Mapping[str, np.ndarray]] = []
    success = False
    for state in states:
        environment.set_robomimic_state(state)
        observations.append(dict(environment.observe()))
        success = success or environment.success()
        for camera, of_camera in frames.items():
            of_camera.append(environment.render_passes(camera))
    rewards = demo["rewards"][:].astype(np.float32) if "rewards" in demo else np.zeros(len(states), np.float32)
    identity = f"{SOURCE} {json.dumps(env_args, sort_keys=True)} {index}"
    return Episode(
        actions=demo["actions"][:].astype(np.float32),
        states=states,
        rewards=rewards,
        dones=np.arange(len(states)) == len(states) - 1,
        observations={name: np.stack([frame[name] for frame in observations]) for name in observations[0]},
        cameras={camera: stacked(of_camera) for camera, of_camera in frames.items()},
        labels=environment.labels,
        success=success or bool((rewards > 0).any()),
        seed=index,
        step_hz=environment.step_hz,
        episode_id=str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        source=SOURCE,
        task=environment.task,
        instruction=environment.instruction,
    )
