"""Record demos while the timeline plays: states at every control step, passes live or from the states afterwards."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cosmos_engine.data.atomic import make_folder
from cosmos_engine.data.episode import CameraPasses
from cosmos_engine.errors import InputError
from isaac_ext import kit
from isaac_ext.capture import PassCapture, PassFrame, stacked
from isaac_ext.demo import end_effector_of, episode, observations
from isaac_ext.recorder_config import RecorderConfig, camera_names, whole_ratio
from isaac_ext.roles import StageRoles
from isaac_ext.stage import BodyPoses, PoseLayer, body_paths, check_prim, world_poses
from isaac_ext.tape import Tape, TapeRows

State = Literal["idle", "starting", "recording", "rendering"]
TAPES = ".tapes"
"""Folder in a recording for tapes whose passes are not rendered yet; readers of the recording do not see it."""
_UPDATES_TO_START = 2
"""Physics makes its views of robots and bodies in the first update of a playing timeline."""
GYM_ENV_TYPE = 2  # robomimic.envs.env_base.EnvType.GYM_TYPE, as Isaac Lab writes it


class DemoRecorder:
    """Record episodes one after another into one recording; owns render products and the folder until `close`.

    start -> recording -> stop (keeps) or discard (drops). Every method is called on Kit's main thread; `start` and
    `stop` are coroutines that leave it free.
    """

    def __init__(self, config: RecorderConfig, say: Callable[[str], None] = print) -> None:
        """Check config and stage, and take the folder.

        Args:
            config: what to record.
            say: is told, in a line each, what the user should know.

        Raises:
            InputError: no such camera or robot on the stage, no roles, a folder that cannot be written or is written by
                another.
        """
        # Imported late: h5py may come from `isaac install`, see `kit.add_packages`.
        check_h5py()
        from cosmos_engine.data.recording import RecordingWriter

        self.config = config
        self._say = say
        self._stage = kit.stage()
        self._cameras = camera_names(config.cameras)
        for path in config.cameras:
            check_prim(self._stage, path, "camera")
        chosen = (config.robot,) if config.robot else ()
        self._roles = StageRoles(self._stage, robot=chosen, manipulated=config.manipulated)
        self._robot_path = config.robot or self._roles.paths("robot")[0]
        self._bodies_paths = body_paths(self._stage)
        if not self._bodies_paths:
            raise InputError("bodies: the stage has no rigid body; is this the right stage?")
        self._end_effector = config.end_effector or end_effector_of(self._robot_path, self._bodies_paths)
        self._writer = RecordingWriter(Path(config.folder), self._env_args())
        self._tapes = Path(config.folder) / TAPES
        self._state: State = "idle"
        self._rows: TapeRows | None = None
        self._frames: dict[int, dict[str, PassFrame]] = {}
        self._capture: PassCapture | None = None
        self._callback: int | None = None
        self._physics_steps = 0
        self._physics_per_control = 1
        self._watch: Any = None
        self._failure: str = ""
        self._success = False
        self._seed = 0
        self._camera_poses: np.ndarray | None = None

    @property
    def state(self) -> State:
        """What the recorder is doing."""
        return self._state

    @property
    def steps(self) -> int:
        """Control steps of the episode in progress."""
        return len(self._rows) if self._rows is not None else 0

    @property
    def at_control_step(self) -> bool:
        """Whether the next physics step begins a control step: when a controller sets its targets."""
        return self._state == "recording" and self._physics_steps % self._physics_per_control == 0

    @property
    def episodes(self) -> int:
        """Episodes that the recording holds."""
        return len(self._writer)

    @property
    def pending(self) -> list[Path]:
        """Tapes whose passes are not rendered yet, oldest first."""
        return sorted(self._tapes.glob("*.npz")) if self._tapes.is_dir() else []

    async def start(self, seed: int = 0) -> None:
        """Begin an episode; the timeline is started if it does not play.

        Args:
            seed: written with the episode: what its start was drawn from, if anything.

        Raises:
            InputError: one is in progress already, or the physics rate is no multiple of the control rate.
        """
        if self._state != "idle":
            raise InputError(f"recorder: cannot start while {self._state}")
        self._state = "starting"
        try:
            if not kit.is_playing():
                kit.play()
            for _ in range(_UPDATES_TO_START):
                await kit.next_update()
            self._physics_per_control = whole_ratio(kit.physics_hz(), self.config.control_hz)
            try:
                self._robot = kit.Robot(self._robot_path)
                self._bodies = kit.Bodies(self._bodies_paths)
            except Exception as error:  # of many kinds, by version
                raise InputError(f"robot {self._robot_path!r}: physics has no articulation there: {error}") from error
            self._rows = TapeRows(self._robot.joint_names, self._bodies_paths)
            self._frames, self._failure, self._success, self._seed = {}, "", False, seed
            self._camera_poses = self._free_cameras()
            if self.config.mode == "live":
                await self._opened_capture().begin_episode(self.config.warm_up_frames)
            self._physics_steps = 0
            self._callback = kit.on_physics_pre_step(self._before_physics_step)
            if self.config.mode == "live":
                await self._live_frame()  # of the first row, before the next update steps physics
            self._state = "recording"
        except BaseException:
            self._end_sampling()
            self._state, self._rows = "idle", None
            raise
        self._watch = kit.run(self._watch_timeline())

    def mark_success(self, success: bool = True) -> None:
        """Say whether the episode in progress reached its goal.

        Raises:
            InputError: none is in progress.
        """
        if self._state != "recording":
            raise InputError("recorder: no episode is being recorded")
        self._success = success

    def discard(self) -> None:
        """Drop the episode in progress.

        Raises:
            InputError: none is in progress.
        """
        if self._state != "recording":
            raise InputError("recorder: no episode is being recorded")
        self._end_sampling()
        self._rows, self._frames, self._state = None, {}, "idle"

    async def stop(self, success: bool | None = None, on_frame: Callable[[int, int], None] | None = None) -> int:
        """End the episode, render its passes if they are not there yet, and add it to the recording.

        With `replay` the states are on disk before the first pass is rendered: whatever stops the rendering, the tape
        stays in `pending`, and `render_pending` goes on.

        Args:
            success: whether it reached its goal (default: what `mark_success` said).
            on_frame: is told how many frames of how many are rendered.

        Returns:
            the episode's number in the recording.

        Raises:
            InputError: none is in progress, nothing was recorded, or a pass could not be rendered.
        """
        if self._state != "recording":
            raise InputError("recorder: no episode is being recorded")
        rows, frames, failure = self._rows, self._frames, self._failure
        self._end_sampling()
        self._rows, self._frames, self._state = None, {}, "idle"
        assert rows is not None
        if failure and self.config.mode == "live":
            raise InputError(f"episode dropped: {failure}")
        tape = self._tape(rows, self._success if success is None else success)
        self._check_cameras_stayed()
        if self.config.mode == "live":
            assert self._capture is not None
            missing = [step for step in rows.steps if step not in frames]
            if missing:
                raise InputError(
                    f"episode dropped: {len(missing)} of {len(tape)} control steps fell between two updates of the "
                    "application; choose a lower control rate, or the mode 'replay'"
                )
            return await self._append(tape, [frames[step] for step in rows.steps])
        return await self._render(self._save(tape), tape, on_frame)

    async def render_pending(self, on_frame: Callable[[int, int], None] | None = None) -> list[int]:
        """Render and add the episodes that an earlier run only had the states of.

        Returns:
            their numbers in the recording.

        Raises:
            InputError: an episode is in progress, a tape does not fit the stage, or a pass could not be rendered.
        """
        if self._state != "idle":
            raise InputError(f"recorder: cannot render while {self._state}")
        return [await self._render(path, Tape.load(path), on_frame) for path in self.pending]

    def close(self) -> None:
        """Give folder and render products back; an episode in progress is kept as a tape if it can be."""
        if self._state == "recording":
            rows, success = self._rows, self._success
            self._end_sampling()
            if rows and self.config.mode == "replay":
                self._save(self._tape(rows, success))
            self._rows, self._state = None, "idle"
        if self._capture is not None:
            self._capture.close()
            self._capture = None
        self._writer.close()

    # Sampling

    def _before_physics_step(self) -> None:
        step = self._physics_steps
        self._physics_steps += 1
        if self._rows is None or self._failure or step % self._physics_per_control:
            return
        try:
            positions, quats = self._bodies.poses()
            self._rows.add(
                step,
                self._robot.positions(),
                self._robot.velocities(),
                self._robot.targets(),
                BodyPoses(positions, quats),
            )
        except Exception as error:  # Kit would only log it, sixty times a second.
            self._failure = f"the state could not be read: {error}"

    async def _watch_timeline(self) -> None:
        """Render live frames, and end the episode if the timeline is stopped under it."""
        rows = self._rows
        while self._state == "recording" and self._rows is rows:
            if kit.is_stopped() or self._failure:
                why = self._failure or "the timeline was stopped"
                try:
                    index = await self.stop()
                    self._say(f"{why}; episode {index} was kept up to there")
                except InputError as error:
                    self._say(f"{why}; {error}")
                return
            if self.config.mode == "live":
                await self._live_frame()
            await kit.next_update()

    async def _live_frame(self) -> None:
        step = self._physics_steps
        if step in self._frames or step % self._physics_per_control:
            return
        try:
            frame = await self._opened_capture().frame()
        except InputError as error:
            self._failure = str(error)
            return
        if self._physics_steps != step:
            self._failure = "physics went on while a frame was rendered; use the mode 'replay'"
            return
        self._frames[step] = frame

    def _end_sampling(self) -> None:
        if self._callback is not None:
            kit.remove_callback(self._callback)
            self._callback = None

    def _free_cameras(self) -> np.ndarray:
        """Return where cameras are that no body carries; they must stay, for a tape holds poses of bodies only."""
        carried = tuple(f"{body}/" for body in self._bodies_paths)
        free = [path for path in self.config.cameras if not path.startswith(carried)]
        return world_poses(self._stage, free).flat()

    def _check_cameras_stayed(self) -> None:
        now = self._free_cameras()
        if self.config.mode == "replay" and self._camera_poses is not None and not np.allclose(now, self._camera_poses):
            raise InputError("a camera was moved while recording; attach it to a body, or use the mode 'live'")

    # Rendering and writing

    async def _render(self, path: Path, tape: Tape, on_frame: Callable[[int, int], None] | None) -> int:
        missing = sorted(set(tape.body_paths) - set(self._bodies_paths))
        if missing:
            raise InputError(f"{path}: recorded on another stage: no body {missing[0]!r} here")
        self._state = "rendering"
        layer = None
        try:
            if not kit.is_stopped():
                kit.stop()
                await kit.next_update()
            layer = PoseLayer(self._stage, tape.body_paths)
            layer.show(tape.bodies(0))
            capture = self._opened_capture()
            await capture.begin_episode(self.config.warm_up_frames)
            frames = []
            for step in range(len(tape)):
                layer.show(tape.bodies(step))
                frames.append(await capture.frame())
                if on_frame is not None:
                    on_frame(step + 1, len(tape))
            index = await self._append(tape, frames)
            path.unlink()
            return index
        except InputError as error:
            raise InputError(f"{error} (the states are kept in {path})") from error
        finally:
            if layer is not None:
                layer.close()
            self._state = "idle"

    async def _append(self, tape: Tape, frames: Sequence[dict[str, PassFrame]]) -> int:
        assert self._capture is not None
        cameras: dict[str, CameraPasses] = {}
        for name in self._cameras:
            try:
                cameras[name] = stacked([frame[name] for frame in frames])
            except InputError as error:
                raise InputError(f"camera {name!r}: {error}") from error
        low = observations(tape, self._end_effector, self._roles.paths("manipulated"), _metres_per_unit(self._stage))
        made = episode(tape, low, cameras, self._capture.labels())
        # Compression takes seconds: not on the thread that draws the window.
        return await asyncio.get_running_loop().run_in_executor(None, self._writer.append, made)

    def _opened_capture(self) -> PassCapture:
        if self._capture is None:
            size = (self.config.height, self.config.width)
            self._capture = PassCapture(self._stage, self._cameras, size, self._roles, self.config.rt_subframes)
        return self._capture

    def _tape(self, rows: TapeRows, success: bool) -> Tape:
        return rows.tape(
            step_hz=self.config.control_hz,
            seed=self._seed,
            episode_id=str(uuid.uuid4()),
            task=self.config.task,
            instruction=self.config.instruction or self.config.task,
            success=success,
        )

    def _save(self, tape: Tape) -> Path:
        # After those that wait already: their names sort by the episode that they will be.
        path = self._tapes / f"{len(self._writer) + len(self.pending):06d}_{tape.episode_id}.npz"
        make_folder(path.parent)
        tape.save(path)
        return path

    def _env_args(self) -> dict[str, Any]:
        kwargs = asdict(self.config)
        for name in ("folder", "task", "instruction"):
            del kwargs[name]
        kwargs["cameras"], kwargs["manipulated"] = list(self.config.cameras), list(self.config.manipulated)
        return {"env_name": self.config.task, "type": GYM_ENV_TYPE, "env_kwargs": kwargs}


def check_h5py() -> None:
    """Raise InputError if there is no h5py whose HDF5 can write a recording (2.0; 1.14 writes wrong checksums)."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError("h5py is missing; run `cosmos-engine isaac install` and start Isaac Sim again") from error
    if h5py.version.hdf5_version_tuple < (2, 0, 0):
        raise InputError(
            f"h5py {h5py.__version__} is too old, expected 3.16 or later; run `cosmos-engine isaac install` and start "
            "Isaac Sim again"
        )


def _metres_per_unit(stage: Any) -> float:
    from pxr import UsdGeom

    return float(UsdGeom.GetStageMetersPerUnit(stage))
