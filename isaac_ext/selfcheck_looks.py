"""Whether looks show in the pictures and go away again, inside Isaac Sim: a part of the self-check."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cosmos_engine.errors import InputError
from isaac_ext.arena import FrankaArena
from isaac_ext.capture import PassFrame
from isaac_ext.franka import FrankaConfig
from isaac_ext.look import Bystander, SceneLook, Surface

_CHANGED_LEVELS = 24
"""A pixel has changed if one of its channels has, by more than this: above the noise of RTX's denoiser."""
_FEWEST_PIXELS = 60
"""What a look must change, at 256 x 256: a third of the cube as the front camera sees it."""
_CHECKER_LEVELS = 60
"""Between the dark and the light squares of a black and white checker, lit or not."""


async def looks_show(folder: Path) -> str:
    """Show each kind of change in the Franka scene and tell how many pixels it changed.

    Args:
        folder: for a texture and the arena's config.

    Raises:
        InputError: a change does not show, or something is left of it; names the change.
    """
    texture = folder / "checker.png"
    write_checker(texture)
    arena = FrankaArena(FrankaConfig(folder=str(folder)))
    await arena.open()
    try:
        plain = await _seen(arena, SceneLook())
        noise = changed_pixels(plain, await _seen(arena, SceneLook()))
        counts = {}
        for name, look in _looks(str(texture)).items():
            shown = await _seen(arena, look)
            counts[name] = changed_pixels(plain, shown)
            if counts[name] < 2 * noise + _FEWEST_PIXELS:
                raise InputError(f"{name}: changed {counts[name]} pixels; two plain frames differ in {noise}")
            if name == "table" and not _is_checkered(shown):
                raise InputError("table: covered with a black and white checker, but it looks plain")
        left = changed_pixels(plain, await _seen(arena, SceneLook()))
        if left > 2 * noise + _FEWEST_PIXELS:
            raise InputError(f"{left} pixels are still changed when all is taken back; noise changes {noise}")
    finally:
        arena.close()
    return ", ".join(f"{name} {count}" for name, count in counts.items()) + f" pixels; noise {noise}"


def changed_pixels(one: PassFrame, other: PassFrame) -> int:
    """Return how many pixels of two frames differ by more than noise."""
    difference = np.abs(one.rgb.astype(np.int16) - other.rgb.astype(np.int16)).max(axis=-1)
    return int((difference > _CHANGED_LEVELS).sum())


def write_checker(path: Path, size_px: int = 256, squares: int = 8) -> None:
    """Write a black and white checker as a grey PNG; Isaac Sim's Python need not have a package for it."""
    rows, columns = np.indices((size_px, size_px)) * squares // size_px
    pixels = ((rows + columns) % 2 * 255).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", size_px, size_px, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _looks(texture: str) -> Mapping[str, SceneLook]:
    patterned = Surface(texture=texture)
    return {
        "light intensity": SceneLook(light_factor=0.3),
        "light colour": SceneLook(light_rgb=(1.0, 0.4, 0.1)),
        "background": SceneLook(surfaces={"wall": patterned, "floor": patterned}),
        "table": SceneLook(surfaces={"table": patterned}),
        "robot": SceneLook(surfaces={"robot": Surface(texture=texture, tile_m=0.3, in_world=False)}),
        "object": SceneLook(surfaces={"object": Surface(rgb=(0.9, 0.1, 0.1))}),
        "bystander": SceneLook(
            bystanders=(Bystander("box", (0.9, 0.8, 0.1), (0.3, -0.3, 0.04), 0.4, (0.1, 0.1, 0.08)),)
        ),
        "camera": SceneLook(camera_move_m=(0.0, 0.05, 0.05), camera_turn_rad=(0.0, 0.0, 0.1)),
    }


async def _seen(arena: FrankaArena, look: SceneLook) -> PassFrame:
    arena.look(look)
    await arena.reset(0)
    return (await arena.observe())[1]["front"]


def _is_checkered(frame: PassFrame) -> bool:
    """Say whether the lower third of a frame, which is table but for the robot, has dark and light in it."""
    levels = frame.rgb[2 * len(frame.rgb) // 3 :].mean(axis=-1)
    return bool(np.percentile(levels, 80) - np.percentile(levels, 20) > _CHECKER_LEVELS)
