"""The embedded table-top: a MuJoCo environment that needs neither Isaac Sim nor a GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from cosmos_engine.config import nearest
from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Appearance, default_appearance
from cosmos_engine.sim.arm import FINGER_TRAVEL_M, HOME_RAD, JOINT_COUNT
from cosmos_engine.sim.environment import CameraFrame, LazyObservation, Observation, StepResult
from cosmos_engine.sim.look import Look
from cosmos_engine.sim.operational_space import ACTION_DIM, OperationalSpaceController
from cosmos_engine.sim.renderer import Renderer
from cosmos_engine.sim.scene import (
    AGENTVIEW,
    CAMERAS,
    PHYSICS_STEP_S,
    SceneObject,
    build_model,
    geom_instances,
    instance_labels,
)
from cosmos_engine.sim.tasks import ObjectState, Task, find_task, sample_start

STEP_HZ = 20.0
_PHYSICS_STEPS = round(1 / (STEP_HZ * PHYSICS_STEP_S))
_STATE = (
    mujoco.mjtState.mjSTATE_TIME
    | mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_WARMSTART
    | mujoco.mjtState.mjSTATE_CTRL
    | mujoco.mjtState.mjSTATE_USERDATA
)
"""Everything that the future depends on in this model; the solver's warm start makes replays bit-exact."""
_SETTLE_STEPS = 10
"""Control steps at reset in which the objects come to rest."""
_HOME_SPREAD_RAD = 0.02
"""Standard deviation of the arm's joints at reset, as in robosuite."""


class TabletopEnvironment:
    """Simulate one table-top task; implements `Environment`.

    Actions are float32 (7,): translation and axis-angle rotation of the tool centre point in the world's axes, times
    0.05 m and 0.5 rad a control step, and the gripper (+1 closes). Observations have robomimic's names:
    `robot0_eef_pos` (m), `robot0_eef_quat` (xyzw), `robot0_gripper_qpos` (m), `robot0_joint_pos` (rad), `object` (for
    every object: position, quaternion xyzw, position relative to the tool centre point) and `<camera>_image`.

    The look, and the appearance that is a part of it, are values that may be set at any time; they never touch the
    physics, so that the same seed and actions give the same states in every look. An observation renders its images
    when they are first looked at, of the state and look that it was taken in; the first image opens a GL context.

    Args:
        task: a name in `TASKS`.
        cameras: the cameras to observe and render, among "agentview" and "robot0_eye_in_hand".
        image_size: height and width of every image in pixels.
        appearance: the looks; None means the task's default.
        horizon: control steps after which an episode is truncated; None means the task's.
        render: whether observations hold images. `render_passes` works either way.

    Raises:
        InputError: unknown task or camera, an image size or horizon below 1.
    """

    def __init__(
        self,
        task: str,
        *,
        cameras: Sequence[str] = CAMERAS,
        image_size: int = 128,
        appearance: Appearance | None = None,
        horizon: int | None = None,
        render: bool = True,
    ) -> None:
        self._task: Task = find_task(task)
        for camera in cameras:
            _check_camera(camera)
        if image_size < 1:
            raise InputError(f"image_size: expected at least 1 pixel, got {image_size}")
        if horizon is not None and horizon < 1:
            raise InputError(f"horizon: expected at least 1 control step, got {horizon}")
        self._cameras = tuple(cameras)
        self._image_size = image_size
        self._horizon = self._task.horizon if horizon is None else horizon
        self._render = render
        self._model = build_model(self._task.objects)
        self._data = mujoco.MjData(self._model)
        self._controller = OperationalSpaceController(self._model)
        self._tcp = self._model.site("tcp").id
        self._bodies = [self._model.body(item.name).id for item in self._task.objects]
        self._object_qpos = [int(self._model.joint(item.name).qposadr[0]) for item in self._task.objects]
        self._object_qvel = [int(self._model.joint(item.name).dofadr[0]) for item in self._task.objects]
        arm = int(self._model.joint("joint1").qposadr[0])
        self._arm_qpos = slice(arm, arm + JOINT_COUNT)
        self._finger_qpos = slice(arm + JOINT_COUNT, arm + JOINT_COUNT + 2)
        if appearance is None:
            appearance = default_appearance({item.name: item.color for item in self._task.objects})
        self.look = Look(appearance)
        self._gripper_geoms = np.array(
            [self._labels[int(instance)].name == "gripper" for instance in self._geom_instance], dtype=bool
        )
        self._renderer: Renderer | None = None
        self._shown: Look | None = None
        self.reset(0)

    @property
    def look(self) -> Look:
        """What the cameras see beside the physics; set it at any time."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        self._look = look
        self._geom_instance = geom_instances(self._model, self._task.objects, look.distractors)
        self._labels = MappingProxyType(instance_labels(self._task.objects, look.distractors))

    @property
    def appearance(self) -> Appearance:
        """Surfaces and lights of the look; setting them keeps the rest of the look."""
        return self._look.appearance

    @appearance.setter
    def appearance(self, appearance: Appearance) -> None:
        self.look = dataclasses.replace(self._look, appearance=appearance)

    @property
    def task(self) -> str:
        """Name of the task."""
        return self._task.name

    @property
    def instruction(self) -> str:
        """What to do, in words."""
        return self._task.instruction

    @property
    def step_hz(self) -> float:
        """Control steps a simulated second."""
        return STEP_HZ

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Cameras that are observed and can be rendered."""
        return self._cameras

    @property
    def action_dim(self) -> int:
        """Length of an action."""
        return ACTION_DIM

    @property
    def horizon(self) -> int:
        """Control steps after which an episode is truncated."""
        return self._horizon

    @property
    def labels(self) -> Mapping[int, InstanceLabel]:
        """Meaning of each instance id in the present look."""
        return self._labels

    @property
    def observation_spec(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every array that `observe` returns."""
        spec: dict[str, tuple[int, ...]] = {
            "robot0_eef_pos": (3,),
            "robot0_eef_quat": (4,),
            "robot0_gripper_qpos": (2,),
            "robot0_joint_pos": (JOINT_COUNT,),
            "object": (10 * len(self._bodies),),
        }
        if self._render:
            spec |= {f"{camera}_image": (self._image_size, self._image_size, 3) for camera in self._cameras}
        return spec

    @property
    def objects(self) -> Mapping[str, SceneObject]:
        """The free objects by name: shape, size, colour."""
        return {item.name: item for item in self._task.objects}

    @property
    def object_colors(self) -> Mapping[str, str]:
        """Named colour of every object, as the instruction means it; what appearances are drawn for."""
        return {item.name: item.color for item in self._task.objects}

    @property
    def tcp_position_m(self) -> Float64[np.ndarray, " 3"]:
        """Position of the tool centre point, world frame."""
        return self._data.site_xpos[self._tcp].copy()

    @property
    def commanded_position_m(self) -> Float64[np.ndarray, " 3"]:
        """Position of the tool centre point that the controller steers for, world frame."""
        return self._data.userdata[:3].copy()

    @property
    def commanded_quat_wxyz(self) -> Float64[np.ndarray, " 4"]:
        """Orientation of the tool centre point that the controller steers for, world frame."""
        return self._data.userdata[3:7].copy()

    def object_position_m(self, name: str) -> Float64[np.ndarray, " 3"]:
        """Return the position of an object's frame in the world."""
        return self._data.xpos[self._model.body(name).id].copy()

    def object_rotation(self, name: str) -> Float64[np.ndarray, "3 3"]:
        """Return the rotation matrix from an object's frame to the world."""
        return self._data.xmat[self._model.body(name).id].reshape(3, 3).copy()

    def reset(self, seed: int) -> Observation:
        """Start the episode that `seed` names: objects' places and yaws and the arm's posture, never the looks."""
        rng = np.random.default_rng(seed)
        starts = sample_start(self._task, rng)
        data = self._data
        mujoco.mj_resetData(self._model, data)
        data.qpos[self._arm_qpos] = np.array(HOME_RAD) + rng.normal(0, _HOME_SPREAD_RAD, JOINT_COUNT)
        data.qpos[self._finger_qpos] = data.ctrl[JOINT_COUNT:] = (FINGER_TRAVEL_M, -FINGER_TRAVEL_M)
        for item, address, (x_m, y_m, yaw_rad) in zip(self._task.objects, self._object_qpos, starts, strict=True):
            position_m = (x_m, y_m, item.rest_height_m)
            data.qpos[address : address + 7] = (*position_m, np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2))
        data.ctrl[:JOINT_COUNT] = data.qpos[self._arm_qpos]
        mujoco.mj_step(self._model, data, nstep=_SETTLE_STEPS * _PHYSICS_STEPS)
        data.time = 0
        self._refresh()
        self._controller.hold(data)
        return self.observe()

    def step(self, action: Float32[np.ndarray, " 7"]) -> StepResult:
        """Apply one action for one control step (50 ms). Values beyond [-1, 1] are clipped.

        Raises:
            InputError: an action of another length, or one that is not finite.
        """
        if action.shape != (ACTION_DIM,):
            raise InputError(f"action: expected {ACTION_DIM} numbers, got shape {action.shape}")
        # NaN compares false, and a NaN that reached the solver would silently reset the simulation.
        if not (np.abs(action) < np.inf).all():
            raise InputError(f"action: expected finite numbers, got {action.tolist()}")
        self._controller.command(self._data, action.clip(-1, 1))
        mujoco.mj_step(self._model, self._data, nstep=_PHYSICS_STEPS)
        self._refresh()
        succeeded = self.success()
        truncated = round(self._data.time * STEP_HZ) >= self._horizon and not succeeded
        return StepResult(self.observe(), float(succeeded), terminated=succeeded, truncated=truncated)

    def observe(self) -> Observation:
        """Return the observation of the present state; images where the environment renders."""
        data = self._data
        tcp_m = data.site_xpos[self._tcp]
        tcp_wxyz = np.empty(4)
        mujoco.mju_mat2Quat(tcp_wxyz, data.site_xmat[self._tcp])
        objects = np.empty((len(self._bodies), 10), dtype=np.float32)
        objects[:, :3] = data.xpos[self._bodies]
        objects[:, 3:7] = data.xquat[self._bodies][:, [1, 2, 3, 0]]
        objects[:, 7:] = data.xpos[self._bodies] - tcp_m
        observation = {
            "robot0_eef_pos": tcp_m.astype(np.float32),
            "robot0_eef_quat": tcp_wxyz[[1, 2, 3, 0]].astype(np.float32),
            "robot0_gripper_qpos": data.qpos[self._finger_qpos].astype(np.float32),
            "robot0_joint_pos": data.qpos[self._arm_qpos].astype(np.float32),
            "object": objects.reshape(-1),
        }
        if not self._render:
            return observation
        state, look = self.get_state(), self._look
        return LazyObservation(
            observation, {f"{camera}_image": partial(self._image_of, state, look, camera) for camera in self._cameras}
        )

    def render_passes(self, camera: str) -> CameraFrame:
        """Render rgb, depth and instance ids of the present state.

        Raises:
            InputError: a camera that this environment does not have, or no GL on this machine.
        """
        if camera not in self._cameras:
            raise InputError(f"camera {camera!r}: not in this environment{nearest(camera, self._cameras)}")
        frame = self._ready_renderer().render(self._data, camera, self._geom_instance)
        return dataclasses.replace(frame, rgb=self._sensed(frame.rgb, camera))

    def get_state(self) -> Float64[np.ndarray, " s"]:
        """Return everything that the future depends on: time, motion, solver warm start, servo and pose targets."""
        state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, state, _STATE)
        return state

    def set_state(self, state: Float64[np.ndarray, " s"]) -> None:
        """Go back to a state that `get_state` returned; what follows is the same, bit for bit.

        Raises:
            InputError: a state of another length, as from another task.
        """
        expected = mujoco.mj_stateSize(self._model, _STATE)
        if state.shape != (expected,):
            raise InputError(f"state: expected {expected} numbers for task {self.task!r}, got shape {state.shape}")
        mujoco.mj_setState(self._model, self._data, state, _STATE)
        self._refresh()

    def success(self) -> bool:
        """Tell whether the present state fulfils the task."""
        return self._task.succeeded(self._object_states())

    def close(self) -> None:
        """Free the GL context, if one was opened."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _refresh(self) -> None:
        """Bring poses and contacts up to the present state: `mj_step` leaves those of its last physics step's start."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)

    def _object_states(self) -> dict[str, ObjectState]:
        data = self._data
        pairs = data.contact.geom
        touching = pairs[self._gripper_geoms[pairs].any(axis=1)]
        touched = set(self._model.geom_bodyid[touching].ravel().tolist())
        return {
            item.name: ObjectState(
                position_m=data.xpos[body].copy(),
                speed_m_s=float(np.linalg.norm(data.qvel[velocity : velocity + 3])),
                touches_gripper=body in touched,
            )
            for item, body, velocity in zip(self._task.objects, self._bodies, self._object_qvel, strict=True)
        }

    def _image_of(self, state: Float64[np.ndarray, " s"], look: Look, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image of a state and a look; the present ones are as they were, bit for bit."""
        present, shown = self.get_state(), self._look
        moved = not np.array_equal(state, present)
        if moved:
            self.set_state(state)
        if look is not shown:
            self.look = look
        try:
            return self._sensed(self._ready_renderer().rgb(self._data, camera), camera)
        finally:
            if moved:
                self.set_state(present)
            if look is not shown:
                self.look = shown

    def _sensed(self, rgb: UInt8[np.ndarray, "h w 3"], camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return what the look's sensor makes of a rendered image; its noise follows from the time in the state."""
        sensor = self._look.sensor
        if sensor is None:
            return rgb
        return sensor.developed(rgb, sensor.frame_rng(CAMERAS.index(camera), round(self._data.time * STEP_HZ)))

    def _ready_renderer(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self._model, height=self._image_size, width=self._image_size)
            self._shown = None
        if self._shown is not self._look:
            self._renderer.set_appearance(self._look.appearance)
            self._renderer.set_camera_offset(AGENTVIEW, self._look.camera_offset)
            self._renderer.set_distractors(self._look.distractors)
            self._shown = self._look
            mujoco.mj_camlight(self._model, self._data)  # the lights' poses follow from the model
        return self._renderer


def _check_camera(name: str) -> None:
    if name not in CAMERAS:
        raise InputError(f"camera {name!r}: no such camera{nearest(name, CAMERAS)}")
