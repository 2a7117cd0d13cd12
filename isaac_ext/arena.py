"""The Franka's pick-and-place as a policy acts in it, inside Isaac Sim; the engine's process asks, this answers."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError
from isaac_ext import kit, wire
from isaac_ext.appearance import AppearanceLayer
from isaac_ext.capture import PassCapture, PassFrame
from isaac_ext.demo import observations, state_parts
from isaac_ext.franka import CUBE, FRONT, HAND, ROBOT, SETTLE_UPDATES, TARGET_M, WRIST, FrankaConfig, build, cube_start
from isaac_ext.look import XYZ, SceneLook
from isaac_ext.recorder_config import camera_names, whole_ratio
from isaac_ext.roles import StageRoles
from isaac_ext.stage import BodyPoses, body_paths, is_under
from isaac_ext.tape import TapeRows

HORIZON_S = 10.0
WARM_UP_FRAMES = 3
# A shift of the background puts a floor around the work area and two walls behind it, as the front camera looks: the
# scene has neither, its one ground is what the table-top's table is. The robot reaches 0.85 m; the floor lies higher by
# what RTX needs to tell the two apart.
_WORK_AREA_M = ((-0.5, 0.9), (-0.7, 0.9))
_ROOM_M = ((-1.6, 2.6), (-1.8, 2.6))
_WALL_M, _FLOOR_M = 2.0, 0.002


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

    def look(self, look: SceneLook) -> None:
        """Change what the cameras see, from the authored look; where that fails the authored look is left.

        Raises:
            InputError: nothing of a kind that the look changes is on the stage.
        """
        self._looks.begin()
        try:
            self._show(look)
        except InputError:
            self._looks.begin()
            raise

    def _show(self, look: SceneLook) -> None:
        if look.light_factor != 1.0:
            self._looks.scale_lights(look.light_factor)
        if look.light_rgb is not None:
            self._looks.tint_lights(look.light_rgb)
        paths = {"robot": [ROBOT], "object": [CUBE], "table": self._scene_paths()}
        quads = {"floor": _floor_quads(), "wall": _wall_quads()}
        for place, surface in look.surfaces.items():
            if place in quads:
                self._looks.put_up(place, quads[place], surface)
            elif paths[place]:
                self._looks.cover(paths[place], surface)
            else:
                raise InputError(f"look: the stage has no {place}")
        if any(look.camera_move_m) or any(look.camera_turn_rad):
            self._looks.move_camera(FRONT, look.camera_move_m, look.camera_turn_rad)
        for seen in look.bystanders:
            self._looks.stand(seen)

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


def _floor_quads() -> list[list[XYZ]]:
    """Return the floor around the work area: four strips, corners anticlockwise from above, metres."""
    (x_min, x_max), (y_min, y_max) = _WORK_AREA_M
    (x_first, x_last), (y_first, y_last) = _ROOM_M
    strips = (
        (x_first, x_min, y_first, y_last),
        (x_max, x_last, y_first, y_last),
        (x_min, x_max, y_first, y_min),
        (x_min, x_max, y_max, y_last),
    )
    return [
        [(left, low, _FLOOR_M), (right, low, _FLOOR_M), (right, high, _FLOOR_M), (left, high, _FLOOR_M)]
        for left, right, low, high in strips
    ]


def _wall_quads() -> list[list[XYZ]]:
    """Return the walls behind the robot and at the side that the front camera looks to, metres."""
    (x_first, x_last), (y_first, y_last) = _ROOM_M
    return [
        [(x_first, y_first, 0.0), (x_first, y_last, 0.0), (x_first, y_last, _WALL_M), (x_first, y_first, _WALL_M)],
        [(x_last, y_first, 0.0), (x_first, y_first, 0.0), (x_first, y_first, _WALL_M), (x_last, y_first, _WALL_M)],
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
        arena.look(SceneLook.from_message(head["look"]))
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
