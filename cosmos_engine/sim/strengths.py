"""How strong the shifts are: the config `configs/shifts/*.yaml`, read in structured mode.

A range is a list of two numbers, least and greatest; every trial draws from it, uniformly. The defaults come from
`ranges.py`, where they stand beside what training draws from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim import ranges
from cosmos_engine.sim.look import MAX_DISTRACTORS
from cosmos_engine.sim.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES


@dataclass(frozen=True)
class LightIntensity:
    """Brightness of a level white surface: half of the trials dim, half bright."""

    dim_level: list[float] = field(default_factory=lambda: [*ranges.SHIFT_DIM_LEVEL])
    bright_level: list[float] = field(default_factory=lambda: [*ranges.SHIFT_BRIGHT_LEVEL])


@dataclass(frozen=True)
class LightColor:
    """Colour of all lights in mired (1e6 / kelvin): half of the trials cool, half warm."""

    cool_mired: list[float] = field(default_factory=lambda: [*ranges.SHIFT_COOL_MIRED])
    warm_mired: list[float] = field(default_factory=lambda: [*ranges.SHIFT_WARM_MIRED])


@dataclass(frozen=True)
class Texture:
    """Patterns of a surface; `scale` is their frequency relative to the family's usual one."""

    families: list[str] = field(default_factory=lambda: sorted(HELD_OUT_FAMILIES))
    scale: list[float] = field(default_factory=lambda: [0.6, 1.8])


@dataclass(frozen=True)
class ObjectColor:
    """Degrees by which the objects' hue is turned, either way."""

    hue_turn_deg: list[float] = field(default_factory=lambda: [*ranges.SHIFT_HUE_TURN_DEG])


@dataclass(frozen=True)
class Distractors:
    """How many objects stand about, how long and wide, and how high: no higher than the hand passes."""

    count: list[int] = field(default_factory=lambda: [*ranges.SHIFT_DISTRACTORS])
    size_cm: list[float] = field(default_factory=lambda: [5.0, 8.0])
    height_cm: list[float] = field(default_factory=lambda: [4.0, 5.5])


@dataclass(frozen=True)
class CameraPose:
    """Turn about a random axis, and way in a random direction, of the external camera."""

    turn_deg: list[float] = field(default_factory=lambda: [*ranges.SHIFT_CAMERA_TURN_DEG])
    move_cm: list[float] = field(default_factory=lambda: [*ranges.SHIFT_CAMERA_MOVE_CM])


@dataclass(frozen=True)
class CameraNoise:
    """Magnitudes of the sensor's faults, as `ranges.py` states them; exposure and white balance go either way."""

    blur_px: list[float] = field(default_factory=lambda: [*ranges.SHIFT_BLUR_PX])
    exposure_stops: list[float] = field(default_factory=lambda: [*ranges.SHIFT_EXPOSURE_STOPS])
    white_balance_stops: list[float] = field(default_factory=lambda: [*ranges.SHIFT_WHITE_BALANCE_STOPS])
    noise_levels: list[float] = field(default_factory=lambda: [*ranges.SHIFT_NOISE_LEVELS])


@dataclass(frozen=True)
class ShiftStrengths:
    """Hold the strength of every shift, under the shift's name; `everything` uses them all.

    Raises:
        InputError: a range that is none or leaves its limits, an unknown texture family; names the key.
    """

    light_intensity: LightIntensity = field(default_factory=LightIntensity)
    light_color: LightColor = field(default_factory=LightColor)
    background: Texture = field(default_factory=Texture)
    table_texture: Texture = field(default_factory=Texture)
    # Coarser: a pattern covers each of the robot's links on its own, and fine ones blend at a camera's distance.
    robot_texture: Texture = field(default_factory=lambda: Texture(scale=[0.3, 0.8]))
    object_color: ObjectColor = field(default_factory=ObjectColor)
    distractors: Distractors = field(default_factory=Distractors)
    camera_pose: CameraPose = field(default_factory=CameraPose)
    camera_noise: CameraNoise = field(default_factory=CameraNoise)

    def __post_init__(self) -> None:
        for key, (low, high) in LIMITS.items():
            values = self.range_of(key)
            if len(values) != 2 or not low <= values[0] <= values[1] <= high:
                raise InputError(f"{key}: expected two numbers in [{low}, {high}], the lower first, got {values}")
        for shift in TEXTURE_SHIFTS:
            families = getattr(self, shift).families
            if not families:
                raise InputError(f"{shift}.families: expected at least one")
            for family in families:
                if family not in FAMILIES:
                    raise InputError(f"{shift}.families: {family!r} is unknown{nearest(family, FAMILIES)}")

    def range_of(self, key: str) -> Sequence[int | float]:
        """Return one range, by its dotted key, such as "camera_pose.turn_deg"."""
        shift, _, name = key.partition(".")
        values: Sequence[int | float] = getattr(getattr(self, shift), name)
        return values

    def of(self, shift: str) -> dict[str, Any]:
        """Return, ready for JSON, all that the looks of one shift depend on beside the seed."""
        every: dict[str, Any] = dataclasses.asdict(self)
        return every if shift == "everything" else every.get(shift, {})


TEXTURE_SHIFTS = ("background", "table_texture", "robot_texture")
LIMITS: dict[str, tuple[float, float]] = {
    "light_intensity.dim_level": (0.05, 2),
    "light_intensity.bright_level": (0.05, 2),
    "light_color.cool_mired": (67, 660),
    "light_color.warm_mired": (67, 660),
    "background.scale": (0.1, 10),
    "table_texture.scale": (0.1, 10),
    "robot_texture.scale": (0.1, 10),
    "object_color.hue_turn_deg": (0, 180),
    "distractors.count": (1, MAX_DISTRACTORS),
    "distractors.size_cm": (1, 8),
    # The hand's underside stays above 6 cm when the fingers close on an object that lies on the table.
    "distractors.height_cm": (1, 5.5),
    "camera_pose.turn_deg": (0, 45),
    "camera_pose.move_cm": (0, 30),
    "camera_noise.blur_px": (0, 16),
    "camera_noise.exposure_stops": (0, 4),
    "camera_noise.white_balance_stops": (0, 2),
    "camera_noise.noise_levels": (0, 64),
}
"""What every range must stay in."""
TRAINING_RANGES: dict[str, tuple[float, float]] = {
    "light_intensity.dim_level": ranges.TRAINING_LEVEL,
    "light_intensity.bright_level": ranges.TRAINING_LEVEL,
    "light_color.cool_mired": ranges.TRAINING_MIRED,
    "light_color.warm_mired": ranges.TRAINING_MIRED,
    "object_color.hue_turn_deg": ranges.TRAINING_HUE_TURN_DEG,
    "distractors.count": ranges.TRAINING_DISTRACTORS,
    "camera_pose.turn_deg": ranges.TRAINING_CAMERA_TURN_DEG,
    "camera_pose.move_cm": ranges.TRAINING_CAMERA_MOVE_CM,
    "camera_noise.blur_px": ranges.TRAINING_BLUR_PX,
    "camera_noise.exposure_stops": ranges.TRAINING_EXPOSURE_STOPS,
    "camera_noise.white_balance_stops": ranges.TRAINING_WHITE_BALANCE_STOPS,
    "camera_noise.noise_levels": ranges.TRAINING_NOISE_LEVELS,
}
"""What training draws from, by the strength that must keep clear of it."""


def overlaps(strengths: ShiftStrengths) -> list[str]:
    """Return one line for every strength that reaches into what training draws from; none by default."""
    lines = []
    for key, (training_low, training_high) in TRAINING_RANGES.items():
        low, high = strengths.range_of(key)
        if low <= training_high and training_low <= high:
            lines.append(f"{key} [{low}, {high}] overlaps [{training_low}, {training_high}], which training draws from")
    for shift in TEXTURE_SHIFTS:
        shown = sorted(TRAINING_FAMILIES.intersection(getattr(strengths, shift).families))
        if shown:
            lines.append(f"{shift}.families: training draws from {', '.join(shown)} too")
    return lines
