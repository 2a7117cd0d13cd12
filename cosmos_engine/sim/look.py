"""A look: everything about what the cameras of a table-top see that is no physics.

An `Appearance` holds the surfaces and lights; a look adds where the external camera stands, what the sensors do to the
picture, and objects that are only seen. None of it is in the physics: the same seed and actions give the same states
under every look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Appearance
from cosmos_engine.sim.colors import COLORS
from cosmos_engine.sim.sensor import SensorModel

DistractorShape = Literal["box", "can", "ball"]

MAX_DISTRACTORS = 6


@dataclass(frozen=True)
class CameraOffset:
    """Say how far a camera is off its usual pose.

    Attributes:
        move_m: translation in metres, world frame.
        turn_rad: rotation vector (axis times angle) about the camera's own centre, world frame.
    """

    move_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Distractor:
    """Describe an object that stands on the table and is only seen: nothing touches it and it touches nothing.

    Attributes:
        shape: "box", "can" (upright cylinder) or "ball".
        color: a name in `COLORS`; distractors are plain.
        position_m: where it stands, x and y in the world frame.
        yaw_rad: turn about the vertical.
        size_m: extents along its own x, y and z; a can is as long as wide, a ball all three.

    Raises:
        InputError: unknown colour, a size that is not above 0 or does not suit the shape.
    """

    shape: DistractorShape
    color: str
    position_m: tuple[float, float]
    yaw_rad: float
    size_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise InputError(f"distractor color: {self.color!r} is unknown{nearest(self.color, COLORS)}")
        equal = {"box": 1, "can": 2, "ball": 3}[self.shape]
        if min(self.size_m) <= 0 or len(set(self.size_m[:equal])) > 1:
            raise InputError(f"distractor size_m: expected lengths above 0 that suit a {self.shape}, got {self.size_m}")

    @property
    def radius_m(self) -> float:
        """Radius of the upright cylinder around it."""
        length_m, width_m, _ = self.size_m
        return math.hypot(length_m, width_m) / 2 if self.shape == "box" else length_m / 2


@dataclass(frozen=True)
class Look:
    """Describe everything about what the cameras see, and nothing about the physics.

    Attributes:
        appearance: surfaces and lights.
        camera_offset: of the external camera; the hand's camera stays where it is on the hand.
        sensor: of all cameras; None is an ideal one.
        distractors: objects that are only seen.

    Raises:
        InputError: more than `MAX_DISTRACTORS` distractors.
    """

    appearance: Appearance
    camera_offset: CameraOffset = CameraOffset()
    sensor: SensorModel | None = None
    distractors: tuple[Distractor, ...] = ()

    def __post_init__(self) -> None:
        if len(self.distractors) > MAX_DISTRACTORS:
            raise InputError(f"look distractors: expected at most {MAX_DISTRACTORS}, got {len(self.distractors)}")
