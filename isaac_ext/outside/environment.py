"""Isaac Sim's Franka as an `Environment`, in the engine's process: Isaac Sim runs beside it and answers on a socket."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from cosmos_engine.config import nearest
from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import CameraFrame, Environment, Observation, StepResult
from cosmos_engine.sim.sensor import SensorModel
from cosmos_engine.sim.shifts import SHIFTS
from cosmos_engine.sim.strengths import ShiftStrengths
from isaac_ext import wire
from isaac_ext.engine import engine_environment
from isaac_ext.franka import FrankaConfig
from isaac_ext.outside.isaac_sim import IsaacSim
from isaac_ext.outside.layout import bring_h5py, install, this_python
from isaac_ext.outside.shifts import drawn_look
from policies.policy import PolicySpec

_START_S = 900.0
"""Isaac Sim's first start compiles shaders, which takes minutes."""
_END_S = 60.0


class IsaacEnvironment:
    """Act in an Isaac Sim that was started for it; implements `Environment`.

    Actions are position targets of all joints in radians and metres, as the recorder of `isaac_ext` writes them, not
    numbers in [-1, 1]. `set_state` puts joints and objects back at rest: PhysX then goes on alike, not bit for bit.
    """

    def __init__(self, connection: socket.socket, config: FrankaConfig, stack: ExitStack) -> None:
        """Take a connection on which `isaac_ext.arena.serve` answers; `start` makes one.

        Args:
            connection: a connected socket.
            config: what the other side was started with.
            stack: is closed with the environment: the other side's process, if it is ours.

        Raises:
            InputError: the scene cannot be built.
            OSError: Isaac Sim has gone; so does every method that asks it, which a benchmark counts as a crash.
        """
        self._connection = connection
        self._config = config
        self._stack = stack
        self._closed = False
        self._textures = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cosmos_engine_textures_")))
        self._sensor: SensorModel | None = None
        self._control_step = 0
        self._labels: dict[int, InstanceLabel] = {}
        self._low, self._passes = self._seen(self._ask({"ask": "reset", "seed": config.seed}))

    @staticmethod
    def start(isaac: IsaacSim, config: FrankaConfig) -> IsaacEnvironment:
        """Start Isaac Sim without a window and wait until its scene is there.

        Raises:
            InputError: it cannot be started, ended, or did not answer within 15 minutes.
        """
        isaac.check()
        token = secrets.token_hex(16)
        with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as server:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cosmos_engine_")))
            extension = install(scratch, this_python())
            bring_h5py(isaac, extension)
            options = {"port": server.getsockname()[1], "token": token, "demos": asdict(config)}
            file = scratch / "options.json"
            file.write_text(json.dumps(options), encoding="utf-8")
            file.chmod(0o600)
            process = subprocess.Popen(
                [str(isaac.python), "-m", "isaac_ext.headless", "serve", str(file)],
                env=engine_environment(os.environ) | {"PYTHONPATH": str(extension)},
            )
            stack.callback(_end, process)
            try:
                made = IsaacEnvironment(_accepted(server, process, token), config, stack)
            except OSError as error:
                raise InputError(f"Isaac Sim ended before its scene was there: {error}") from error
            made._stack = stack.pop_all()
            return made

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._config.task

    @property
    def instruction(self) -> str:
        """The task in words."""
        return self._config.instruction

    @property
    def step_hz(self) -> float:
        """Control steps a second."""
        return self._config.control_hz

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self._passes)

    @property
    def action_dim(self) -> int:
        """Joints, each with a target."""
        return len(self._low["robot0_joint_pos"])

    @property
    def horizon(self) -> int:
        """Control steps after which an episode is cut off."""
        return self._horizon

    @property
    def labels(self) -> Mapping[int, InstanceLabel]:
        """What the instance ids of this episode stand for, as far as they were seen."""
        return dict(self._labels)

    @property
    def observation_spec(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every observation."""
        return {name: tuple(array.shape) for name, array in self.observe().items()}

    def reset(self, seed: int) -> Observation:
        """Start the episode of a seed."""
        self._control_step = 0
        return self._take({"ask": "reset", "seed": seed})

    def step(self, action: Float32[np.ndarray, " a"]) -> StepResult:
        """Follow targets for one control step; the reward is 1 where the cube lies at the target."""
        self._control_step += 1
        observation = self._take({"ask": "step"}, {"action": np.asarray(action, np.float64)})
        return StepResult(observation, float(self._success), self._success, self._truncated and not self._success)

    def observe(self) -> Observation:
        """Return what was last seen."""
        return {**self._low, **{f"{camera}_image": frame.rgb for camera, frame in self._passes.items()}}

    def render_passes(self, camera: str) -> CameraFrame:
        """Return the passes of the present state.

        Raises:
            InputError: no such camera.
        """
        if camera not in self._passes:
            raise InputError(f"camera {camera!r}: unknown{nearest(camera, self._passes)}")
        return self._passes[camera]

    def get_state(self) -> Float64[np.ndarray, " s"]:
        """Return joints, velocities and body poses."""
        return self._ask({"ask": "state"})[1]["state"]

    def set_state(self, state: Float64[np.ndarray, " s"]) -> None:
        """Go back to a state, at rest."""
        self._take({"ask": "set_state"}, {"state": state})

    def success(self) -> bool:
        """Tell whether the cube lies at the target."""
        return self._success

    def look(self, shift: str, seed: int, strengths: ShiftStrengths) -> None:
        """Give the scene the look of a shift, drawn from a seed; it shows from the next reset or step on.

        Raises:
            InputError: no such shift, or the stage has nothing of the kind that it changes.
        """
        look, sensor = drawn_look(shift, seed, strengths, self._config, self._textures)
        self._ask({"ask": "look", "look": asdict(look)})
        self._sensor = sensor

    def close(self) -> None:
        """End Isaac Sim; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):  # it may have gone already
            wire.send(self._connection, {"ask": "close"})
        self._connection.close()
        self._stack.close()

    def _take(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> Observation:
        self._low, self._passes = self._seen(self._ask(head, arrays))
        return self.observe()

    def _ask(
        self, head: dict[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        wire.send(self._connection, head, arrays)
        answer, sent = wire.receive(self._connection)
        if "error" in answer:
            raise InputError(str(answer["error"]))
        return answer, sent

    def _seen(
        self, answer: tuple[dict[str, Any], dict[str, np.ndarray]]
    ) -> tuple[dict[str, np.ndarray], dict[str, CameraFrame]]:
        told, arrays = answer
        self._success, self._truncated = bool(told["success"]), bool(told["truncated"])
        self._horizon = int(told["horizon"])
        self._labels = {int(number): InstanceLabel(*label) for number, label in told["labels"].items()}
        low = {name.removeprefix("low/"): array for name, array in arrays.items() if name.startswith("low/")}
        passes: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            if name.startswith("pass/"):
                _, camera, kind = name.split("/")
                passes.setdefault(camera, {})[kind] = array
        frames = {camera: CameraFrame(**frame) for camera, frame in passes.items()}
        return low, {camera: self._sensed(frame, index) for index, (camera, frame) in enumerate(frames.items())}

    def _sensed(self, frame: CameraFrame, camera: int) -> CameraFrame:
        """Return a frame as the look's sensor sees it."""
        if self._sensor is None:
            return frame
        rng = self._sensor.frame_rng(camera, self._control_step)
        return replace(frame, rgb=self._sensor.developed(frame.rgb, rng))


class IsaacArena:
    """Isaac Sim as the benchmark's `Arena`: one environment, all shifts."""

    shifts: tuple[str, ...] = tuple(SHIFTS)

    def __init__(self, isaac: IsaacSim, config: FrankaConfig, strengths: ShiftStrengths) -> None:
        """Take what `make` starts, and the strengths of the shifts."""
        self._isaac = isaac
        self._config = config
        self._strengths = strengths

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._config.task

    def make(self) -> Environment:
        """Start Isaac Sim."""
        return IsaacEnvironment.start(self._isaac, self._config)

    def prepare(self, environment: Environment, shift: str, seed: int) -> None:
        """Give the environment the look that it has under a shift in the trial of that seed."""
        assert isinstance(environment, IsaacEnvironment)
        environment.look(shift, seed, self._strengths)


def as_seen_by(spec: PolicySpec, scene: FrankaConfig) -> FrankaConfig:
    """Return a scene whose cameras and control steps are as a policy knows them; `check_environment` does the rest."""
    height, width = next(((shape[0], shape[1]) for shape in spec.images.values()), (scene.height, scene.width))
    return replace(scene, height=height, width=width, control_hz=spec.step_hz)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was asked to end, or that was not and is ended."""
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _accepted(server: socket.socket, process: subprocess.Popen[bytes], token: str) -> socket.socket:
    """Wait for the process to call, and check that it is the one that was started."""
    server.settimeout(1.0)
    for _ in range(round(_START_S)):
        try:
            connection, _ = server.accept()
        except TimeoutError:
            if process.poll() is not None:
                raise InputError(f"Isaac Sim ended with exit code {process.returncode} before it answered") from None
            continue
        connection.settimeout(None)
        if wire.receive(connection)[0].get("token") == token:
            return connection
        connection.close()
    raise InputError(f"Isaac Sim did not answer within {_START_S:.0f} s")
