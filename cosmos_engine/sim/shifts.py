"""Shifts: named changes of what the cameras see, which a benchmark puts before a policy.

None touches the physics or the start of a trial, and none draws what training looks draw (`ranges.py`), so that a
policy's success under a shift, beside its success under `vanilla` from the same starts, is due to the look alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Material
from cosmos_engine.sim.colors import COLORS
from cosmos_engine.sim.look import CameraOffset, Distractor, DistractorShape, Look
from cosmos_engine.sim.ranges import TRAINING_LEVEL
from cosmos_engine.sim.sensor import sample_sensor
from cosmos_engine.sim.strengths import Distractors, ShiftStrengths, Texture

Shift = Callable[[Look, np.random.Generator, ShiftStrengths], Look]

KEEP_OUT_M = (0.19, 0.25)
"""Half length (x) and half width (y) of the rectangle about the world's origin where no distractor reaches: below
6 cm the experts' fingers and all objects, bowl included, stay within (0.16, 0.22)."""
STAND_X_M, STAND_Y_M = (-0.42, -0.05), (-0.37, 0.37)
"""Where distractors may reach on the table: before the robot's base, seen by the external camera, never between it
and the objects."""
_APART_M = 0.015
_UNLIKE_RGB = 0.45  # distance of named colours: orange is too near to red, teal to green, purple to blue
_PLACING_TRIES = 2000


def vanilla(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look as it is: what the policy's recordings look like."""
    return look


def light_intensity(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with all light dimmed or brightened alike: directions, colours and shadows stay."""
    chosen = strengths.light_intensity
    level = _drawn(rng, _one_of(rng, chosen.dim_level, chosen.bright_level))
    appearance = look.appearance
    factor = level / appearance.level()
    lights = tuple(
        dataclasses.replace(light, intensity=min(light.intensity * factor, 2.0)) for light in appearance.lights
    )
    return _with(look, lights=lights, ambient=min(appearance.ambient * factor, 1.0))


def light_color(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with all lights of one colour, cooler or warmer than any in training, equally bright."""
    chosen = strengths.light_color
    temperature_k = round(1e6 / _drawn(rng, _one_of(rng, chosen.cool_mired, chosen.warm_mired)), 1)
    lights = tuple(dataclasses.replace(light, temperature_k=temperature_k) for light in look.appearance.lights)
    return _with(look, lights=lights)


def background(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with wall and floor each in two colours of a held-out family, none of them an object's."""
    avoid = _object_colors(look)
    wall = _held_out(look.appearance.wall, rng, strengths.background, avoid)
    return _with(look, wall=wall, floor=_held_out(look.appearance.floor, rng, strengths.background, avoid))


def table_texture(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with a table in two colours of a held-out family.

    The colours are none of the objects' main colours: the shift asks about texture, not about camouflage.
    """
    avoid = _object_colors(look)
    return _with(look, table=_held_out(look.appearance.table, rng, strengths.table_texture, avoid))


def robot_texture(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with the robot's shell in two colours of a held-out family, none of them an object's.

    The joints and the fingertips stay dark, as they are in every training look.
    """
    avoid = _object_colors(look)
    return _with(look, robot=_held_out(look.appearance.robot, rng, strengths.robot_texture, avoid))


def object_color(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with every object's hue turned, a little less than to the next colour's name.

    The instruction names the colour, so the turned one is still nearest to that name: scarlet or crimson for red.
    """
    chosen = strengths.object_color.hue_turn_deg
    objects = {
        name: dataclasses.replace(material, hue_turn_deg=round(_drawn(rng, chosen) * rng.choice([-1, 1]), 3))
        for name, material in look.appearance.objects.items()
    }
    return _with(look, objects=objects)


def distractors(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with objects standing about, clear of where the task's objects and the gripper go.

    They are only seen. Their colours are unlike the objects' and not the table's: each instruction stays unambiguous.

    Raises:
        InputError: no room for so many of that size.
    """
    chosen = strengths.distractors
    objects = [np.array(COLORS[color]) for color in _object_colors(look)]
    table = look.appearance.table
    colors = [
        name
        for name, rgb in sorted(COLORS.items())
        if name not in (table.color, table.accent)
        and all(np.linalg.norm(rgb - other) >= _UNLIKE_RGB for other in objects)
    ]
    count = int(rng.integers(chosen.count[0], chosen.count[1], endpoint=True))
    placed: list[Distractor] = []
    for color in rng.choice(colors, size=count, replace=count > len(colors)).tolist():
        placed.append(_placed(color, placed, chosen, rng))
    return dataclasses.replace(look, distractors=tuple(placed))


def camera_pose(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with the external camera moved and turned, each in a random direction of space."""
    chosen = strengths.camera_pose
    x_m, y_m, z_m = (_drawn(rng, chosen.move_cm) / 100 * _direction(rng)).tolist()
    x_rad, y_rad, z_rad = (np.deg2rad(_drawn(rng, chosen.turn_deg)) * _direction(rng)).tolist()
    return dataclasses.replace(look, camera_offset=CameraOffset((x_m, y_m, z_m), (x_rad, y_rad, z_rad)))


def camera_noise(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look through blurred, noisy cameras of wrong exposure and white balance.

    Where the light is dimmer or brighter than in training, the exposure errs against it, as an automatic one would:
    both together would leave black or white pictures.
    """
    chosen = strengths.camera_noise
    sensor = sample_sensor(
        rng,
        blur_px=_pair(chosen.blur_px),
        exposure_stops=_pair(chosen.exposure_stops),
        white_balance_stops=_pair(chosen.white_balance_stops),
        noise_levels=_pair(chosen.noise_levels),
    )
    (low, high), level = TRAINING_LEVEL, look.appearance.level()
    if not low <= level <= high:
        stops = abs(sensor.exposure_stops) if level < low else -abs(sensor.exposure_stops)
        sensor = dataclasses.replace(sensor, exposure_stops=stops)
    return dataclasses.replace(look, sensor=sensor)


def everything(look: Look, rng: np.random.Generator, strengths: ShiftStrengths) -> Look:
    """Return the look with all shifts at once, each drawn anew."""
    for shift in SINGLE_SHIFTS.values():
        look = shift(look, rng, strengths)
    return look


SINGLE_SHIFTS: dict[str, Shift] = {
    "light_intensity": light_intensity,
    "light_color": light_color,
    "background": background,
    "table_texture": table_texture,
    "robot_texture": robot_texture,
    "object_color": object_color,
    "distractors": distractors,
    "camera_pose": camera_pose,
    "camera_noise": camera_noise,
}
SHIFTS: dict[str, Shift] = {"vanilla": vanilla, **SINGLE_SHIFTS, "everything": everything}
"""All shifts, in the order of a table's columns. `--shifts all` means each of them; `everything` is the one that puts
them all into one picture."""


def shifted(name: str, look: Look, strengths: ShiftStrengths, *, seed: int) -> Look:
    """Return the look of one trial: the shift `name` of `look`, drawn from the trial's seed.

    The draw depends on the name too, so that two shifts of one trial are independent.

    Raises:
        InputError: unknown shift; names the nearest.
    """
    if name not in SHIFTS:
        raise InputError(f"shift {name!r}: unknown{nearest(name, SHIFTS)}")
    return SHIFTS[name](look, np.random.default_rng([seed, *name.encode()]), strengths)


def _with(look: Look, **changes: Any) -> Look:
    """Return the look with some fields of its appearance changed."""
    return dataclasses.replace(look, appearance=dataclasses.replace(look.appearance, **changes))


def _one_of(rng: np.random.Generator, first: Sequence[float], second: Sequence[float]) -> Sequence[float]:
    return first if rng.random() < 0.5 else second


def _drawn(rng: np.random.Generator, values: Sequence[float]) -> float:
    low, high = values
    return rng.uniform(low, high)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return low, high


def _direction(rng: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """Draw a direction in space, uniformly."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _object_colors(look: Look) -> set[str]:
    return {material.color for material in look.appearance.objects.values()}


def _held_out(material: Material, rng: np.random.Generator, texture: Texture, avoid: Collection[str] = ()) -> Material:
    """Draw a material of the families of a shift, in two colours that are none of `avoid`, as shiny as `material`."""
    color, accent = rng.choice([name for name in sorted(COLORS) if name not in avoid], size=2, replace=False).tolist()
    return Material(
        str(rng.choice(texture.families)),
        color,
        accent,
        scale=round(_drawn(rng, texture.scale), 3),
        specular=material.specular,
        shininess=material.shininess,
        seed=int(rng.integers(2**31)),
    )


def _placed(color: str, others: Sequence[Distractor], chosen: Distractors, rng: np.random.Generator) -> Distractor:
    """Draw a distractor where there is room for it."""
    (x_low_m, x_high_m), (y_low_m, y_high_m) = STAND_X_M, STAND_Y_M
    for _ in range(_PLACING_TRIES):
        shape: DistractorShape = ("box", "can", "ball")[int(rng.integers(3))]
        length_m, width_m = (round(_drawn(rng, chosen.size_cm) / 100, 4) for _ in range(2))
        height_m = round(_drawn(rng, chosen.height_cm) / 100, 4)
        size_m = {
            "box": (length_m, width_m, height_m),
            "can": (length_m, length_m, height_m),
            "ball": (height_m, height_m, height_m),
        }[shape]
        x_m, y_m = rng.uniform((x_low_m, y_low_m), (x_high_m, y_high_m)).round(4).tolist()
        made = Distractor(shape, color, (x_m, y_m), round(rng.uniform(-np.pi, np.pi), 4), size_m)
        reach_m = made.radius_m
        on_the_stand = x_low_m + reach_m <= x_m <= x_high_m - reach_m and y_low_m + reach_m <= y_m <= y_high_m - reach_m
        kept_out = abs(x_m) - reach_m >= KEEP_OUT_M[0] or abs(y_m) - reach_m >= KEEP_OUT_M[1]
        apart = all(
            np.hypot(x_m - other.position_m[0], y_m - other.position_m[1]) >= reach_m + other.radius_m + _APART_M
            for other in others
        )
        if on_the_stand and kept_out and apart:
            return made
    raise InputError(f"distractors: no room for {len(others) + 1} of them; expected fewer or smaller ones")
