"""The Franka's pick-and-place as a policy acts in it, inside Isaac Sim; the engine's process asks, this answers."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError
from isaac_ext import kit, wire
from isaac_ext.appearance import AppearanceLayer
from isaac_ext.capture import PassCapture, PassFrame
from isaac_ext.demo import observations, state_parts
from isaac_ext.franka import CUBE, FRONT, HAND, ROBOT, SETTLE_UPDATES, TARGET_M, WRIST, FrankaConfig, build, cube_start
from isaac_ext.recorder_config import camera_names, whole_ratio
from isaac_ext.roles import StageRoles
from isaac_ext.stage import BodyPoses, body_paths, is_under
from isaac_ext.tape import TapeRows

HORIZON_S = 10.0
WARM_UP_FRAMES = 3


class FrankaArena:
    """Hold the scene and act in it; actions are position targets of all joints, as the recorder writes them."""

    def __init__(self, config: FrankaConfig) -> None:
        """Take the config; `open` builds the scene."""
        self.config = config
        self.horizon = round(HORIZON_S * config.control_hz)
        self._steps = 0

    async def open(self) -> None:
        """Build the scene and render products."""
        self._controller = await build(self.config)
        self._stage = kit.stage()
        self._roles = StageRoles(self._stage, robot=[ROBOT], manipulated=[CUBE])
        self._bodies_paths = body_paths(self._stage)
        self._looks = AppearanceLayer(self._stage)
        size = (self.config.height, self.config.width)
        self._capture = PassCapture(
            self._stage, camera_names([FRONT, WRIST]), size, self._roles, self.config.rt_subframes
        )
        self._physics_steps = 0
        self._callback = kit.on_physics_pre_step(self._count)

    def close(self) -> None:
        """Give everything back."""
        kit.remove_callback(self._callback)
        self._capture.close()
        self._looks.close()

    def look(self, light_factor: float, light_rgb: list[float] | None, paint: Mapping[str, list[float]]) -> None:
        """Change what the cameras see, from the authored look.

        Args:
            light_factor: of every light's intensity.
            light_rgb: colour of every light, or None for its own.
            paint: `robot`, `manipulated` or `scene` -> linear rgb of a new surface.

        Raises:
            InputError: another word, or nothing of that kind on the stage.
        """
        self._looks.begin()
        if light_factor != 1.0:
            self._looks.scale_lights(light_factor)
        if light_rgb is not None:
            self._looks.tint_lights((light_rgb[0], light_rgb[1], light_rgb[2]))
        paths = {"robot": [ROBOT], "manipulated": [CUBE], "scene": self._scene_paths()}
        for word, rgb in paint.items():
            if not paths.get(word):
                raise InputError(f"look: {word!r} is none of {', '.join(paths)}, or the stage has none of it")
            self._looks.paint(paths[word], (rgb[0], rgb[1], rgb[2]))

    async def reset(self, seed: int) -> None:
        """Start the episode of a seed: the start of the demo of that seed, under any look."""
        kit.stop()
        await kit.next_update()
        kit.play()
        await kit.next_update()
        self._robot, self._bodies = kit.Robot(ROBOT), kit.Bodies(self._bodies_paths)
        self._physics_per_control = whole_ratio(kit.physics_hz(), self.config.control_hz)
        self._controller.reset(cube_position=cube_start(self.config, seed))
        for _ in range(SETTLE_UPDATES):
            await kit.next_update()
        self._steps = 0
        await self._capture.begin_episode(WARM_UP_FRAMES)

    async def step(self, targets: np.ndarray) -> None:
        """Follow position targets (j,) for one control step.

        Raises:
            InputError: another number of targets, or one that is not finite.
        """
        joints = len(self._robot.joint_names)
        if targets.shape != (joints,) or not np.isfinite(targets).all():
            raise InputError(f"action: expected {joints} finite position targets, got {targets.tolist()}")
        self._robot.set_targets(targets)
        until = self._physics_steps + self._physics_per_control
        while self._physics_steps < until:
            await kit.next_update()
        self._steps += 1

    async def observe(self) -> tuple[dict[str, np.ndarray], dict[str, PassFrame]]:
        """Return the low-dimensional observations, float32 (d,), and the passes of each camera."""
        positions, quats = self._bodies.poses()
        rows = TapeRows(self._robot.joint_names, self._bodies_paths)
        rows.add(
            0, self._robot.positions(), self._robot.velocities(), self._robot.targets(), BodyPoses(positions, quats)
        )
        tape = rows.tape(step_hz=self.config.control_hz, seed=0, episode_id="", task="", instruction="", success=False)
        low = observations(tape, HAND, [CUBE], 1.0)
        return {name: array[0] for name, array in low.items()}, await self._capture.frame()

    def state(self) -> np.ndarray:
        """Return joints, their velocities and body poses, float64 (s,), as the recorder writes them."""
        bodies = BodyPoses(*self._bodies.poses())
        return np.concatenate([self._robot.positions(), self._robot.velocities(), bodies.flat()])

    async def set_state(self, state: np.ndarray) -> None:
        """Put joints and objects where a state has them, at rest; PhysX goes on from there alike, not bit for bit."""
        positions, velocities, bodies = state_parts(state, len(self._robot.joint_names))
        self._robot.set_state(positions, velocities)
        self._robot.set_targets(positions)
        free = [index for index, path in enumerate(self._bodies_paths) if not is_under(path, ROBOT)]
        kit.Bodies([self._bodies_paths[index] for index in free]).put(bodies.positions[free], bodies.quats_wxyz[free])

    def success(self) -> bool:
        """Tell whether the cube lies at the target."""
        positions, _ = self._bodies.poses()
        cube = positions[self._bodies_paths.index(CUBE)]
        return bool(np.hypot(*(cube[:2] - np.array(TARGET_M[:2]))) <= self.config.target_tolerance_m)

    def labels(self) -> dict[str, list[str]]:
        """Return instance id -> name, class and role of what was seen in this episode."""
        return {
            str(number): [label.name, label.class_name, label.role] for number, label in self._capture.labels().items()
        }

    @property
    def truncated(self) -> bool:
        """Whether the horizon is reached."""
        return self._steps >= self.horizon

    def _count(self) -> None:
        self._physics_steps += 1

    def _scene_paths(self) -> list[str]:
        from pxr import UsdGeom, UsdLux

        world = self._stage.GetPrimAtPath("/World")
        return [
            str(prim.GetPath())
            for prim in world.GetChildren()
            if str(prim.GetPath()) not in (ROBOT, CUBE)
            and not prim.IsA(UsdGeom.Camera)
            and not prim.HasAPI(UsdLux.LightAPI)
            and prim.IsA(UsdGeom.Imageable)
        ]


async def serve(arena: FrankaArena, connection: socket.socket) -> None:
    """Answer the engine's process until it says `close` or goes away.

    What the engine asked wrongly is answered with its line; the arena stays as it was.
    """
    await arena.open()
    try:
        while True:
            try:
                head, arrays = wire.receive(connection)
            except ConnectionError:
                return
            if head["ask"] == "close":
                return
            try:
                await _answer(arena, connection, head, arrays)
            except InputError as error:
                wire.send(connection, {"error": str(error)})
    finally:
        arena.close()


async def _answer(
    arena: FrankaArena, connection: socket.socket, head: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    ask = head["ask"]
    if ask == "look":
        arena.look(float(head["light_factor"]), head["light_rgb"], head["paint"])
        wire.send(connection, {})
    elif ask == "state":
        wire.send(connection, {}, {"state": arena.state()})
    elif ask in ("reset", "step", "set_state", "observe"):
        if ask == "reset":
            await arena.reset(int(head["seed"]))
        elif ask == "step":
            await arena.step(arrays["action"])
        elif ask == "set_state":
            await arena.set_state(arrays["state"])
        low, frames = await arena.observe()
        sent = {f"low/{name}": array for name, array in low.items()}
        for camera, frame in frames.items():
            sent |= {f"pass/{camera}/{name}": array for name, array in vars(frame).items()}
        told = {"success": arena.success(), "truncated": arena.truncated, "labels": arena.labels()}
        wire.send(connection, {**told, "horizon": arena.horizon}, sent)
    else:
        raise InputError(f"Isaac Sim bridge: {ask!r} is nothing that can be asked")
