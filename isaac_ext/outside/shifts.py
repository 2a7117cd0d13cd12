"""The benchmark's shifts in Isaac Sim: drawn as for the embedded table-top, then told in the Franka scene's terms.

Strengths mean the same relative to how the scene usually looks: its lights so many times as bright, its camera so far
away, its surfaces in the same patterns, as fine. What the shifts add (distractors, walls and floor) is only seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from cosmos_engine.config import nearest
from cosmos_engine.data.atomic import write_file
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Material, default_appearance
from cosmos_engine.sim.colors import COLORS, light_rgb
from cosmos_engine.sim.look import Distractor, Look
from cosmos_engine.sim.sensor import SensorModel
from cosmos_engine.sim.shifts import KEEP_OUT_M, SHIFTS, shifted
from cosmos_engine.sim.strengths import ShiftStrengths
from cosmos_engine.sim.textures import flat_texture
from isaac_ext.franka import FrankaConfig
from isaac_ext.look import RGB, Bystander, SceneLook, Surface

CUBE = "cube"
USUAL = Look(default_appearance({CUBE: "blue"}))
"""How the scene looks to a shift: the colours of its objects and the brightness that factors are relative to."""
TEXTURE_PX = 512
TILE_M = 1.0
"""What a texture covers, as on the table-top (`FLAT_TEXTURE_M` of `cosmos_engine/sim/renderer.py`)."""
ROBOT_TILE_M = 0.3
"""About the size of a link: there each of them has the pattern once."""
GRASP_REACH_M = 0.05
"""From the cube's centre to the outer side of the open fingers."""


def drawn_look(
    shift: str, seed: int, strengths: ShiftStrengths, config: FrankaConfig, folder: Path
) -> tuple[SceneLook, SensorModel | None]:
    """Return the look and the camera's sensor of a shift in the trial of a seed.

    Args:
        shift: a name in `SHIFTS`.
        seed: of the trial.
        strengths: of the shifts.
        config: of the scene; distractors keep clear of where its cube starts.
        folder: textures are written there, each under the hash of its content.

    Raises:
        InputError: no such shift, no room for the distractors, or the folder cannot be written.
    """
    if shift not in SHIFTS:
        raise InputError(f"shift {shift!r}: unknown{nearest(shift, SHIFTS)}")
    look = shifted(shift, USUAL, strengths, seed=seed)
    shown, usual = look.appearance, USUAL.appearance
    lit = shown.lights[0].temperature_k != usual.lights[0].temperature_k
    materials = (
        ("table", shown.table, usual.table),
        ("robot", shown.robot, usual.robot),
        ("object", shown.objects[CUBE], usual.objects[CUBE]),
        ("wall", shown.wall, usual.wall),
        ("floor", shown.floor, usual.floor),
    )
    scene = SceneLook(
        light_factor=shown.level() / usual.level(),
        light_rgb=_linear(light_rgb(shown.lights[0].temperature_k)) if lit else None,
        surfaces={place: _surface(place, new, folder) for place, new, old in materials if new != old},
        camera_move_m=look.camera_offset.move_m,
        camera_turn_rad=look.camera_offset.turn_rad,
        bystanders=_bystanders(look.distractors, config),
    )
    return scene, look.sensor


def _surface(place: str, material: Material, folder: Path) -> Surface:
    color, accent = material.colors()
    roughness = 1.0 - material.shininess
    if material.family == "plain":
        return Surface(rgb=_linear(color), roughness=roughness)
    pattern = flat_texture(material.family, color, accent, scale=material.scale, seed=material.seed, size=TEXTURE_PX)
    on_robot = place == "robot"
    return Surface(
        roughness=roughness,
        texture=str(_written(pattern, folder)),
        tile_m=ROBOT_TILE_M if on_robot else TILE_M,
        in_world=not on_robot,
    )


def _written(pattern: UInt8[np.ndarray, "rows columns 3"], folder: Path) -> Path:
    """Write a texture, unless it is there. A renderer keeps images by their names: another one has another name."""
    path = folder / f"{hashlib.sha256(pattern.tobytes()).hexdigest()[:20]}.png"
    if not path.exists():
        done, png = cv2.imencode(".png", np.ascontiguousarray(pattern[..., ::-1]))
        assert done
        write_file(path, png.tobytes())
    return path.absolute()


def _bystanders(distractors: Sequence[Distractor], config: FrankaConfig) -> tuple[Bystander, ...]:
    """Place distractors as on the table-top, whose origin is the middle of where objects start.

    Raises:
        InputError: the cube starts where distractors may stand.
    """
    if not distractors:
        return ()
    middle_m = []
    for name, keep_out_m in zip(("cube_x_m", "cube_y_m"), KEEP_OUT_M, strict=True):
        least, greatest = getattr(config, name)
        middle_m.append((least + greatest) / 2)
        room_m = 2 * (keep_out_m - GRASP_REACH_M)
        if greatest - least > room_m + 1e-9:
            raise InputError(
                f"shift 'distractors': demos.{name} {[least, greatest]} leaves them no room; expected a range of at "
                f"most {room_m:.2f} m"
            )
    return tuple(
        Bystander(
            shape=seen.shape,
            rgb=_linear(COLORS[seen.color]),
            position_m=(middle_m[0] + seen.position_m[0], middle_m[1] + seen.position_m[1], seen.size_m[2] / 2),
            yaw_rad=seen.yaw_rad,
            size_m=seen.size_m,
        )
        for seen in distractors
    )


def _linear(srgb: Sequence[float]) -> RGB:
    """Return linear light of an sRGB colour (IEC 61966-2-1)."""
    values = np.asarray(srgb, np.float64)
    red, green, blue = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).tolist()
    return red, green, blue
