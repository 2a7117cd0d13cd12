"""Scripted pick-and-place demos of a Franka, recorded without a window: Isaac Sim's own controller, our recorder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError
from isaac_ext import kit
from isaac_ext.appearance import AppearanceLayer
from isaac_ext.recorder import DemoRecorder
from isaac_ext.recorder_config import RecorderConfig
from isaac_ext.stage import ROLE_TAXONOMY, set_label

ROBOT, CUBE, HAND = "/World/robot", "/World/Cube", "/World/robot/panda_hand"
FRONT, WRIST = "/World/front", f"{HAND}/wrist"
# Isaac Sim's phases: reach, lower, grasp, lift, carry, let go, leave; 60, 40, 20, 40, 80, 20, 20 updates of 1/60 s.
_PHASES_S = (1.0, 0.667, 0.333, 0.667, 1.333, 0.333, 0.333)
_CUBE_Z_M = 0.0258
TARGET_M = (0.0, 0.5, 0.14)
SETTLE_UPDATES = 30
_FAILURES_IN_A_ROW = 20


@dataclass(frozen=True)
class FrankaConfig:
    """Say which demos to record: `demos` in the YAML file of `isaac generate`."""

    folder: str = ""
    """Of the recording; `isaac generate` puts it into its own folder where this is empty."""
    episodes: int = 10
    seed: int = 0
    task: str = "pick_place"
    instruction: str = "pick up the blue cube and put it down at the target"
    height: int = 256
    width: int = 256
    control_hz: float = 20.0
    mode: str = "replay"
    rt_subframes: int = 4
    cube_x_m: list[float] = field(default_factory=lambda: [0.4, 0.6])
    """Least and greatest start of the cube, as `cube_y_m`."""
    cube_y_m: list[float] = field(default_factory=lambda: [-0.2, 0.2])
    target_tolerance_m: float = 0.1
    """Distance in the plane from the target within which the cube must lie for a success."""
    randomize_light: bool = False
    """Scale all lights by 0.5 to 1.5, drawn for each episode from its seed; off: the engine varies looks, better."""

    def __post_init__(self) -> None:
        """Raise InputError for a number out of range."""
        if self.episodes < 1:
            raise InputError(f"episodes: expected at least 1, got {self.episodes}")
        if self.seed < 0:
            raise InputError(f"seed: expected at least 0, got {self.seed}")
        for name in ("cube_x_m", "cube_y_m"):
            limits = getattr(self, name)
            if len(limits) != 2 or not limits[0] <= limits[1]:
                raise InputError(f"{name}: expected [least, greatest], got {limits}")

    def recorder_config(self) -> RecorderConfig:
        """Return how the demos are recorded."""
        return RecorderConfig(
            folder=self.folder,
            cameras=(FRONT, WRIST),
            robot=ROBOT,
            manipulated=(CUBE,),
            end_effector=HAND,
            task=self.task,
            instruction=self.instruction,
            height=self.height,
            width=self.width,
            control_hz=self.control_hz,
            mode=self.mode,
            rt_subframes=self.rt_subframes,
        )


async def record_demos(config: FrankaConfig, say: Any = print) -> int:
    """Record until the folder holds `config.episodes` demos; only successful ones are kept.

    Called again it goes on after the last recorded seed; what an earlier run only had the states of is rendered first.

    Args:
        config: what to record.
        say: is told a line for each demo.

    Returns:
        the number of demos in the folder.

    Raises:
        InputError: the folder cannot be written, holds something else, or the controller fails again and again.
    """
    controller = await build(config)
    stage = kit.stage()
    recorder = DemoRecorder(config.recorder_config(), say)
    looks = AppearanceLayer(stage)
    try:
        for index in await recorder.render_pending():
            say(f"demo {index}: rendered from kept states")
        seed = next_seed(Path(config.folder), recorder.episodes, config.seed)
        failures = 0
        while recorder.episodes < config.episodes:
            looks.begin()
            if config.randomize_light:
                looks.scale_lights(float(np.random.default_rng((seed, 1)).uniform(0.5, 1.5)))
            if await _act(config, controller, recorder, seed):
                index = await recorder.stop(success=True)
                say(f"demo {index}: seed {seed}, {recorder.episodes} of {config.episodes}")
                failures = 0
            else:
                recorder.discard()
                failures += 1
                say(f"seed {seed}: the controller failed; not kept")
                if failures == _FAILURES_IN_A_ROW:
                    raise InputError(f"the controller failed at {failures} seeds in a row, the last was {seed}")
            kit.stop()
            await kit.next_update()
            seed += 1
        return recorder.episodes
    finally:
        looks.close()
        recorder.close()


async def build(config: FrankaConfig) -> Any:
    """Build the scene on a new stage, labelled and with its two cameras, and return its controller."""
    kit.new_stage()
    await kit.next_update()
    controller = kit.franka_pick_place(_phases(config.control_hz))
    controller.setup_scene(cube_initial_position=np.array([0.5, 0.0, _CUBE_Z_M]), target_position=np.array(TARGET_M))
    stage = kit.stage()
    _add_cameras(stage)
    set_label(stage, ROBOT, "robot")
    set_label(stage, CUBE, "cube")
    set_label(stage, CUBE, "manipulated", ROLE_TAXONOMY)
    return controller


def cube_start(config: FrankaConfig, seed: int) -> np.ndarray:
    """Return where the cube starts in the episode of a seed, metres (3,)."""
    rng = np.random.default_rng(seed)
    (least_x, greatest_x), (least_y, greatest_y) = config.cube_x_m, config.cube_y_m
    return np.array([rng.uniform(least_x, greatest_x), rng.uniform(least_y, greatest_y), _CUBE_Z_M])


def next_seed(folder: Path, episodes: int, first: int) -> int:
    """Return the seed after that of the last recorded demo, or the first."""
    from cosmos_engine.data.episode_file import read_header
    from cosmos_engine.data.recording import episode_path

    return read_header(episode_path(folder, episodes - 1)).seed + 1 if episodes else first


async def _act(config: FrankaConfig, controller: Any, recorder: DemoRecorder, seed: int) -> bool:
    """Act one demo while recording; say whether the cube lies at the target."""
    kit.play()
    await kit.next_update()
    controller.reset(cube_position=cube_start(config, seed))
    for _ in range(SETTLE_UPDATES):
        await kit.next_update()
    await recorder.start(seed)
    while recorder.state == "recording" and not controller.is_done():
        # Targets are set where a control step begins and held until the next: an action is then all that was commanded.
        if recorder.at_control_step:
            controller.forward()
        await kit.next_update()
    for _ in range(SETTLE_UPDATES):
        await kit.next_update()
    if recorder.state != "recording":
        raise InputError(f"seed {seed}: recording ended before the demo did; was the timeline stopped?")
    position = controller.cube.get_world_poses()[0].numpy()[0]
    return bool(np.hypot(*(position[:2] - np.array(TARGET_M[:2]))) <= config.target_tolerance_m)


def _phases(control_hz: float) -> list[int]:
    return [max(1, round(seconds * control_hz)) for seconds in _PHASES_S]


def _add_cameras(stage: Any) -> None:
    from pxr import Gf, UsdGeom

    front = UsdGeom.Camera.Define(stage, FRONT)
    view = Gf.Matrix4d().SetLookAt(Gf.Vec3d(1.5, 0.9, 0.9), Gf.Vec3d(0.3, 0.15, 0.15), Gf.Vec3d(0, 0, 1))
    UsdGeom.Xformable(front).MakeMatrixXform().Set(view.GetInverse())
    wrist = UsdGeom.Camera.Define(stage, WRIST)
    # The hand's z points to the fingertips; a USD camera looks along its own -z.
    turn = Gf.Matrix4d().SetRotate(Gf.Rotation(Gf.Vec3d(1, 0, 0), 180.0))
    UsdGeom.Xformable(wrist).MakeMatrixXform().Set(turn * Gf.Matrix4d().SetTranslate(Gf.Vec3d(0.07, 0.0, 0.0)))
    for camera, focal in ((front, 24.0), (wrist, 12.0)):
        camera.CreateFocalLengthAttr(focal)
        camera.CreateHorizontalApertureAttr(20.955)
        camera.CreateClippingRangeAttr(Gf.Vec2f(0.01, 100.0))
