"""A look: what a shift changes about a scene, in numbers and file names. The engine draws it, Isaac Sim shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cosmos_engine.errors import InputError

RGB = tuple[float, float, float]
"""Linear light, 0..1, which USD wants."""
XYZ = tuple[float, float, float]

PLACES = ("table", "robot", "object", "wall", "floor")
SHAPES = ("box", "can", "ball")


@dataclass(frozen=True)
class Surface:
    """Describe a surface.

    Attributes:
        rgb: its colour, where it has no texture.
        roughness: 0 is a mirror, 1 is matt.
        texture: an image file, sRGB, in place of the colour; it is projected onto what it covers.
        tile_m: metres that the image covers before it repeats.
        in_world: whether the projection stays in the world, which suits what stands still, or goes along with each
            part, which suits a robot.
    """

    rgb: RGB = (0.5, 0.5, 0.5)
    roughness: float = 0.6
    texture: str = ""
    tile_m: float = 1.0
    in_world: bool = True


@dataclass(frozen=True)
class Bystander:
    """Describe an object that stands about and is only seen: a distractor.

    Attributes:
        shape: "box", "can" (upright cylinder) or "ball".
        rgb: its colour.
        position_m: of its centre, in the world.
        yaw_rad: turn about the vertical.
        size_m: extents along its own x, y and z.
    """

    shape: str
    rgb: RGB
    position_m: XYZ
    yaw_rad: float
    size_m: XYZ


@dataclass(frozen=True)
class SceneLook:
    """Hold everything that a shift changes in the scene; the defaults change nothing.

    Attributes:
        light_factor: of every light's intensity.
        light_rgb: colour of every light, or None for its own.
        surfaces: a word in `PLACES` -> what it is covered with. Walls and floor are not there without.
        camera_move_m: way of the external camera, in the world.
        camera_turn_rad: its turn about its own centre: axis, in the world, times angle.
        bystanders: what stands about.

    Raises:
        InputError: a place or a shape that there is not.
    """

    light_factor: float = 1.0
    light_rgb: RGB | None = None
    surfaces: Mapping[str, Surface] = field(default_factory=dict)
    camera_move_m: XYZ = (0.0, 0.0, 0.0)
    camera_turn_rad: XYZ = (0.0, 0.0, 0.0)
    bystanders: tuple[Bystander, ...] = ()

    def __post_init__(self) -> None:
        for known, asked in ((PLACES, self.surfaces), (SHAPES, [seen.shape for seen in self.bystanders])):
            for word in asked:
                if word not in known:
                    raise InputError(f"look: {word!r} is none of {', '.join(known)}")

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> SceneLook:
        """Read what `dataclasses.asdict` made of a look and JSON brought.

        Raises:
            InputError: it does not describe a look.
        """
        try:
            values = _with_tuples(message)
            values["surfaces"] = {place: Surface(**_with_tuples(told)) for place, told in values["surfaces"].items()}
            values["bystanders"] = tuple(Bystander(**_with_tuples(told)) for told in values["bystanders"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"look: no look: {error}") from error


def _with_tuples(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
