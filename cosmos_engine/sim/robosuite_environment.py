"""robosuite's tasks (Zhu et al. 2020; extra `robosuite`, version 1.5) as an `Environment`.

robosuite simulates and judges success; the pictures are drawn by our own renderer from its model, so depth is metres
along the optical axis, ids are instances and rows run from the top, whatever robosuite's own renderer does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from cosmos_engine.config import nearest
from cosmos_engine.data.episode import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.environment import CameraFrame, LazyObservation, Observation, StepResult
from cosmos_engine.sim.look import CameraOffset
from cosmos_engine.sim.renderer import Renderer
from cosmos_engine.sim.robosuite_instances import HIDDEN_GROUP, geom_instances, instance_labels

STEP_HZ = 20.0
ACTION_DIM = 7
_MODEL_SEED = 0
"""Seed of what robosuite draws when it builds a model, such as the size of lift's cube: the same in every episode."""
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_LOW_DIM = {
    "robot0_eef_pos": "robot0_eef_pos",
    "robot0_eef_quat": "robot0_eef_quat",
    "robot0_gripper_qpos": "robot0_gripper_qpos",
    "robot0_joint_pos": "robot0_joint_pos",
    "object": "object-state",
}


@dataclass(frozen=True)
class RobosuiteTask:
    """Say which of robosuite's environments a task is. `horizon` is robomimic's, in control steps."""

    environment: str
    instruction: str
    manipulated: tuple[str, ...]
    horizon: int = 400


ROBOSUITE_TASKS: Mapping[str, RobosuiteTask] = MappingProxyType(
    {
        "lift": RobosuiteTask("Lift", "lift the cube", ("cube",)),
        "stack": RobosuiteTask("Stack", "stack the small cube on the large cube", ("cubeA", "cubeB")),
        "can": RobosuiteTask("PickPlaceCan", "put the can into its bin", ("Can",)),
        "square": RobosuiteTask("NutAssemblySquare", "put the square nut on the square peg", ("SquareNut",)),
    }
)
CAMERAS = ("agentview", "robot0_eye_in_hand")


class RobosuiteEnvironment:
    """Simulate one of robosuite's tasks with its Panda; implements `Environment`.

    Actions are float32 (7,), robosuite's default: translation and axis-angle rotation of the gripper, times 0.05 m and
    0.5 rad a control step, and the gripper (+1 closes). Observations are robosuite's under robomimic's names, refreshed
    at the end of the control step. The model is built once: episodes differ in poses, not in sizes.

    `light` scales the model's lights, `tint` colours them, and `camera_offset` moves the cameras that are fixed to the
    world; none of them touches the physics.

    Args:
        task: a name in `ROBOSUITE_TASKS`.
        cameras: cameras of the model to observe and render.
        image_size: height and width of every image in pixels.
        horizon: control steps after which an episode is truncated; None means the task's.
        render: whether observations hold images. `render_passes` works either way.

    Raises:
        InputError: robosuite is not installed, unknown task or camera, an image size or horizon below 1.
    """

    def __init__(
        self,
        task: str,
        *,
        cameras: Sequence[str] = CAMERAS,
        image_size: int = 128,
        horizon: int | None = None,
        render: bool = True,
    ) -> None:
        if task not in ROBOSUITE_TASKS:
            raise InputError(f"task {task!r}: unknown{nearest(task, ROBOSUITE_TASKS)}")
        if image_size < 1:
            raise InputError(f"image_size: expected at least 1 pixel, got {image_size}")
        if horizon is not None and horizon < 1:
            raise InputError(f"horizon: expected at least 1 control step, got {horizon}")
        self.light = 1.0
        self.tint: tuple[float, ...] = (1.0, 1.0, 1.0)
        self.camera_offset = CameraOffset()
        self._task_name = task
        self._task = ROBOSUITE_TASKS[task]
        self._cameras = tuple(cameras)
        self._image_size = image_size
        self._horizon = self._task.horizon if horizon is None else horizon
        self._render = render
        self._robosuite = _make(self._task.environment)
        self._renderer: Renderer | None = None
        self._adopt_model()
        for camera in self._cameras:
            if camera not in self._model_cameras:
                raise InputError(f"camera {camera!r}: unknown{nearest(camera, self._model_cameras)}")
        self._steps = 0
        self.reset(0)

    def _adopt_model(self) -> None:
        """Take the model that robosuite simulates at present."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None
        self._model: mujoco.MjModel = self._robosuite.sim.model._model
        self._data: mujoco.MjData = self._robosuite.sim.data._data
        # Collision shapes lie around the visual ones; which group a geom is in only matters to who draws it.
        self._model.geom_group[self._model.geom_group == 0] = HIDDEN_GROUP
        self._model.site_group[:] = HIDDEN_GROUP
        self._model_cameras = [self._model.camera(index).name for index in range(self._model.ncam)]
        objects = {item.name: item.root_body for item in self._robosuite.model.mujoco_objects}
        self._instances = instance_labels(self._model, objects, self._task.manipulated)
        self._geom_instance = geom_instances(self._model, self._instances)
        self._usual_lights = self._model.light_diffuse.copy(), self._model.vis.headlight.diffuse.copy()
        self._usual_ambients = self._model.light_ambient.copy(), self._model.vis.headlight.ambient.copy()

    @property
    def task(self) -> str:
        """Name of the task; unlike an embedded task's."""
        return f"robosuite_{self._task_name}"

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
        """Meaning of each instance id."""
        return self._instances.labels

    @property
    def observation_spec(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every array that `observe` returns."""
        spec = {name: value.shape for name, value in self._low_dim().items()}
        if self._render:
            spec |= {f"{camera}_image": (self._image_size, self._image_size, 3) for camera in self._cameras}
        return spec

    def reset(self, seed: int) -> Observation:
        """Start the episode that `seed` names."""
        # In place: robosuite's placement samplers share this generator.
        self._robosuite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self._robosuite.reset()
        self._steps = 0
        self._refresh()
        return self.observe()

    def step(self, action: Float32[np.ndarray, " a"]) -> StepResult:
        """Apply one action for one control step; the reward is 1 while the task is fulfilled."""
        action = np.asarray(action, np.float64)
        if action.shape != (ACTION_DIM,):
            raise InputError(f"action: expected {ACTION_DIM} numbers, got shape {action.shape}")
        self._robosuite.step(np.clip(action, -1.0, 1.0))
        self._steps += 1
        self._refresh()
        success = self.success()
        return StepResult(self.observe(), float(success), success, self._steps >= self._horizon and not success)

    def observe(self) -> Observation:
        """Return the observation of the present state; its images are drawn when they are first looked at."""
        images: dict[str, Callable[[], np.ndarray]] = {}
        if self._render:
            state = self.get_state()
            images = {f"{camera}_image": partial(self._image_of, camera, state) for camera in self._cameras}
        return LazyObservation(self._low_dim(), images)

    def render_passes(self, camera: str) -> CameraFrame:
        """Render rgb, depth in metres and instance ids of the present state.

        Raises:
            InputError: unknown camera, or no off-screen OpenGL.
        """
        if camera not in self._model_cameras:
            raise InputError(f"camera {camera!r}: unknown{nearest(camera, self._model_cameras)}")
        return self._drawing(camera).render(self._data, camera, self._geom_instance)

    def get_state(self) -> Float64[np.ndarray, " s"]:
        """Return everything that the future depends on: MuJoCo's state, the controller's and the control step."""
        physics = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, physics, _STATE)
        rest_rad, opening = self._controller_state()
        return np.concatenate([physics, rest_rad, opening, [self._steps]])

    def set_state(self, state: Float64[np.ndarray, " s"]) -> None:
        """Go back to a state that `get_state` returned.

        Raises:
            InputError: if its length is that of another task.
        """
        size = mujoco.mj_stateSize(self._model, _STATE)
        rest_rad, opening = self._controller_state()
        expected = size + len(rest_rad) + len(opening) + 1
        if state.shape != (expected,):
            raise InputError(f"state: expected {expected} numbers for task {self.task!r}, got shape {state.shape}")
        mujoco.mj_setState(self._model, self._data, np.ascontiguousarray(state[:size]), _STATE)
        robot = self._robosuite.robots[0]
        arm = robot.arms[0]
        robot.composite_controller.part_controllers[arm].initial_joint = state[size : size + len(rest_rad)].copy()
        robot.gripper[arm].current_action = state[size + len(rest_rad) : -1].copy()
        self._steps = int(state[-1])
        self._refresh()

    def set_robomimic_state(self, state: Float64[np.ndarray, " s"]) -> None:
        """Take the poses of a state as robomimic's files have it (time, joint positions, joint velocities).

        What happens next is not what happened there: such a state leaves out the solver's and the controller's.

        Raises:
            InputError: if its length is that of another model.
        """
        nq, nv = self._model.nq, self._model.nv
        if state.shape != (1 + nq + nv,):
            raise InputError(f"state: expected {1 + nq + nv} numbers for task {self.task!r}, got shape {state.shape}")
        self._data.time = state[0]
        self._data.qpos[:], self._data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
        self._refresh()

    def load_model(self, xml: str) -> None:
        """Simulate another model of the same task from now on, as robomimic's files hold one for each demo.

        Raises:
            InputError: if robosuite cannot build it.
        """
        try:
            with _quiet():
                self._robosuite.reset_from_xml_string(self._robosuite.edit_model_xml(xml))
        except (ValueError, KeyError, ElementTree.ParseError, mujoco.FatalError) as error:
            raise InputError(f"model_file: robosuite cannot build it: {' '.join(str(error).split())}") from error
        self._adopt_model()
        self._refresh()

    def success(self) -> bool:
        """Tell whether the present state fulfils the task, by robosuite's own test."""
        return bool(self._robosuite._check_success())

    def close(self) -> None:
        """Free the GL context and the simulation; the environment cannot be used afterwards."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._robosuite.close()

    def _refresh(self) -> None:
        """Bring poses and contacts up to date with the joints: a control step leaves them one physics step behind.

        This changes nothing that the future depends on: the next physics step does the same first.
        The controllers read them anew at the next control step, as after any other: a reset of robosuite's leaves them
        with readings from before its last change.
        """
        mujoco.mj_fwdPosition(self._model, self._data)
        for controller in self._robosuite.robots[0].composite_controller.part_controllers.values():
            controller.new_update = True

    def _controller_state(self) -> tuple[Float64[np.ndarray, " 7"], Float64[np.ndarray, " 2"]]:
        """Return what the controllers remember from step to step: the arm's rest posture, the gripper's command."""
        robot = self._robosuite.robots[0]
        arm = robot.arms[0]
        rest_rad = np.asarray(robot.composite_controller.part_controllers[arm].initial_joint, np.float64)
        # One number for both fingers after a reset, one for each after a step.
        return rest_rad, np.broadcast_to(np.asarray(robot.gripper[arm].current_action, np.float64), 2)

    def _low_dim(self) -> dict[str, Float32[np.ndarray, " d"]]:
        # Twice: what is relative to the gripper is computed before the gripper's pose, from that of the time before.
        self._robosuite._update_observables(force=True)
        there = self._robosuite._get_observations(force_update=True)
        return {name: np.asarray(there[theirs], np.float32) for name, theirs in _LOW_DIM.items()}

    def _image_of(self, camera: str, state: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
        now = self.get_state()
        moved = not np.array_equal(now, state)
        if moved:
            self.set_state(state)
        image = self._drawing(camera).rgb(self._data, camera)
        if moved:
            self.set_state(now)
        return image

    def _drawing(self, camera: str) -> Renderer:
        """Return the renderer, the model's lights and the camera brought to the present look."""
        if self._renderer is None:
            self._renderer = Renderer(self._model, height=self._image_size, width=self._image_size)
        if self._model.cam_bodyid[self._model.camera(camera).id] == 0:
            self._renderer.set_camera_offset(camera, self.camera_offset)
        self._set_lights()
        return self._renderer

    def _set_lights(self) -> None:
        scale = self.light * np.array(self.tint)
        headlight = self._model.vis.headlight
        self._model.light_diffuse[:], headlight.diffuse = self._usual_lights[0] * scale, self._usual_lights[1] * scale
        self._model.light_ambient[:] = self._usual_ambients[0] * scale
        headlight.ambient = self._usual_ambients[1] * scale


def _make(name: str) -> Any:
    """Build robosuite's environment without cameras of its own."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    with _quiet():
        try:
            import robosuite
        except ImportError as error:
            raise InputError(f"robosuite: needs the extra `robosuite` ({error})") from error
        return robosuite.make(
            name,
            robots="Panda",
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=True,
            reward_shaping=False,
            control_freq=STEP_HZ,
            ignore_done=True,
            hard_reset=False,
            seed=_MODEL_SEED,
        )


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep robosuite's greetings and warnings about its optional parts off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of all loggers: robosuite sets the level of its own as it is imported
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(before)
