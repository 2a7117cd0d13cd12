"""A stand-in for Isaac Sim's scripted controller of the Franka."""

from __future__ import annotations

from typing import Any

import numpy as np

from isaac_ext.franka import CUBE, FRONT, WRIST

CLASS = {
    "5.1": "isaacsim.robot.manipulators.examples.franka.FrankaPickPlace",
    "6.0": "isaacsim.robot.experimental.manipulators.examples.franka.FrankaPickPlace",
}
TARGET = np.array([0.0, 0.5])


class Controller:
    """Stand in for Isaac Sim's: some steps long, it takes the cube to the target at all seeds but the unlucky."""

    def __init__(self, unlucky: tuple[int, ...] = ()) -> None:
        self.unlucky = unlucky
        self.resets: list[np.ndarray] = []
        self.steps = 0

    def add_to(self, kit: Any) -> None:
        name = CLASS[kit.version]
        kit.behaviour[f"{name}.reset"] = lambda owner, cube_position=None, **_: self.reset(cube_position)
        kit.behaviour[f"{name}.forward"] = lambda owner, *_: self.forward()
        kit.behaviour[f"{name}.is_done"] = lambda owner: self.steps >= 5
        kit.behaviour[f"{name}.cube"] = lambda owner: self.cube(kit)
        for prim in (FRONT, WRIST):
            kit.world.stage.RemovePrim(prim)

    def reset(self, cube: np.ndarray) -> None:
        self.resets.append(cube)
        self.steps = 0

    def forward(self) -> bool:
        self.steps += 1
        return True

    def cube(self, kit: Any) -> Any:
        lucky = len(self.resets) - 1 not in self.unlucky
        made = kit._class("isaacsim.core.experimental.prims.RigidPrim")([CUBE])
        place = [*(TARGET if lucky else TARGET + 0.4), 0.03]
        array = kit._class("warp.array")()
        array.__dict__["values"] = np.array([place])
        made.__dict__["get_world_poses"] = lambda: (array, array)
        return made
