"""Procedural textures: one pattern per family, painted on a flat square or on the six faces of a cube.

A pattern is a pure function of a surface, a scale and a random generator. It says how far each texel lies between two
colours (`mix`) and how bright it is (`gain`); `flat_texture` and `cube_texture` turn that into pixels. Opposite borders
of a flat texture meet, and noise runs on across the edges of a cube.

The families are split in two. Training draws from `TRAINING_FAMILIES` only; `HELD_OUT_FAMILIES` belong to the
benchmark, which asks how a policy does on textures that nothing in its training ever showed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int, UInt8

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.colors import Rgb


@dataclass(frozen=True)
class Surface:
    """Say where every texel lies, on a flat square or on the six faces of a cube stacked downwards.

    Attributes:
        points: the texel in space, each axis in [0, 1]: two axes on a flat square, three on a cube.
        uv: the texel within the square or the cube's face, in [0, 1], u to the right, v down.
    """

    points: Float32[np.ndarray, "rows columns axes"]
    uv: Float32[np.ndarray, "rows columns 2"]

    @property
    def size(self) -> int:
        """Texels along a side."""
        return self.uv.shape[1]

    @property
    def flat(self) -> bool:
        return self.points.shape[-1] == 2


@dataclass(frozen=True)
class Tone:
    """Say how a pattern colours every texel.

    Attributes:
        mix: 0 = first colour, 1 = second colour; clipped to that.
        gain: brightness factor around 1.
    """

    mix: Float32[np.ndarray, "rows columns"]
    gain: Float32[np.ndarray, "rows columns"]


Pattern = Callable[[Surface, float, np.random.Generator], Tone]

_X, _Y, _Z = 0, 1, 2
# Of every face (axis, sign): its normal, the way its rows go down, the way its columns go to the right. From the
# OpenGL 4.6 core specification, table 8.19.
_CUBE_FACES = (
    ((_X, 1), (_Y, -1), (_Z, -1)),
    ((_X, -1), (_Y, -1), (_Z, 1)),
    ((_Y, 1), (_Z, 1), (_X, 1)),
    ((_Y, -1), (_Z, -1), (_X, 1)),
    ((_Z, 1), (_Y, -1), (_X, 1)),
    ((_Z, -1), (_Y, -1), (_X, -1)),
)


@lru_cache(maxsize=128)  # 25 MB at 256 x 256; a scene has two or three flat materials
def flat_texture(
    family: str, color: Rgb, accent: Rgb, *, scale: float, seed: int, size: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Paint a family on a square that tiles seamlessly.

    Args:
        family: a name in `FAMILIES`.
        color, accent: the two colours, sRGB in [0, 1].
        scale: frequency of the pattern relative to the family's usual one; 2 = twice as fine.
        seed: everything random about the pattern follows from it.
        size: texels along each side.

    Returns:
        A read-only array (size, size, 3), cached.

    Raises:
        InputError: unknown family; names the nearest.
    """
    return _painted(_pattern(family), _flat_surface(size), color, accent, scale, seed)


@lru_cache(maxsize=256)  # 19 MB at six faces of 64 x 64
def cube_texture(
    family: str, color: Rgb, accent: Rgb, *, scale: float, seed: int, size: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Paint a family on the faces of a cube, stacked downwards in OpenGL's order +x, -x, +y, -y, +z, -z.

    Arguments and errors are those of `flat_texture`; `size` counts the texels along one face: (6 * size, size, 3).
    """
    return _painted(_pattern(family), _cube_surface(size), color, accent, scale, seed)


def _pattern(family: str) -> Pattern:
    if family not in FAMILIES:
        raise InputError(f"texture family {family!r}: unknown{nearest(family, FAMILIES)}")
    return FAMILIES[family]


def _painted(
    pattern: Pattern, surface: Surface, color: Rgb, accent: Rgb, scale: float, seed: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    tone = pattern(surface, scale, np.random.default_rng(seed))
    first, second = np.array(color, dtype=np.float32), np.array(accent, dtype=np.float32)
    rgb = (first + (second - first) * np.clip(tone.mix, 0, 1)[..., None]) * tone.gain[..., None]
    texture = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    texture.flags.writeable = False
    return texture


@lru_cache(maxsize=4)
def _flat_surface(size: int) -> Surface:
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    uv = np.stack(np.meshgrid(centres, centres), axis=-1)
    return Surface(points=uv, uv=uv)


@lru_cache(maxsize=4)
def _cube_surface(size: int) -> Surface:
    flat = _flat_surface(size).uv
    position = (flat[..., 1], flat[..., 0])  # downwards, to the right
    points = np.empty((6, size, size, 3), dtype=np.float32)
    for face, (fixed, down, right) in enumerate(_CUBE_FACES):
        for (axis, sign), value in zip((down, right), position, strict=True):
            points[face, ..., axis] = value if sign > 0 else 1 - value
        points[face, ..., fixed[0]] = 0.5 + 0.5 * fixed[1]
    return Surface(points=points.reshape(-1, size, 3), uv=np.concatenate([flat] * 6))


def _count(usual: int, scale: float) -> int:
    """Return how often something repeats across a texture: whole, so that the texture tiles."""
    return max(1, round(usual * scale))


def _noise(surface: Surface, cells: tuple[int, ...], rng: np.random.Generator) -> Float32[np.ndarray, "rows columns"]:
    """Return periodic value noise in [0, 1]: random values on a lattice of `cells` per axis, joined smoothly.

    The texels of a face form a grid along the lattice, so two small matrix products interpolate it. The lattice is
    periodic and a cube's faces lie on its border, so opposite faces show the same slice of it.
    """
    lattice = rng.random(cells, dtype=np.float32)
    if surface.flat:
        return _blend(surface.size, cells[_Y]) @ lattice.T @ _blend(surface.size, cells[_X]).T
    faces = []
    for (fixed, _), (down, down_sign), (right, right_sign) in _CUBE_FACES:
        border = lattice.take(0, axis=fixed)
        border = border if down < right else border.T
        rows, columns = _blend(surface.size, cells[down]), _blend(surface.size, cells[right])
        faces.append(rows[::down_sign] @ border @ columns[::right_sign].T)
    return np.concatenate(faces)


@lru_cache(maxsize=256)
def _blend(size: int, cells: int) -> Float32[np.ndarray, "size cells"]:
    """Return the weight of every lattice value in every texel along one axis; rows sum to 1."""
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size)
    lower = np.floor(position).astype(np.int64)
    within = position - lower
    weight = within * within * within * (within * (within * 6 - 15) + 10)  # Perlin 2002, "Improving noise"
    blend = np.zeros((size, cells), dtype=np.float32)
    texel = np.arange(size)
    blend[texel, lower] += 1 - weight
    blend[texel, (lower + 1) % cells] += weight
    return blend


def _fractal(
    surface: Surface, cells: int | tuple[int, int], rng: np.random.Generator, octaves: int = 4
) -> Float32[np.ndarray, "rows columns"]:
    """Return noise of several octaves, each half as strong and twice as fine, spread over [0, 1].

    `cells` counts the coarsest cells: one number for all axes, or (along the first axis, along the others).
    """
    along, across = (cells, cells) if isinstance(cells, int) else cells
    axes = [along, across] if surface.flat else [along, across, across]
    total = np.zeros(surface.uv.shape[:2], dtype=np.float32)
    for octave in range(octaves):
        finest = surface.size // 2  # finer noise would alias
        total += _noise(surface, tuple(min(count << octave, finest) for count in axes), rng) * 0.5**octave
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def _smooth_step(value: Float32[np.ndarray, "*texels"], low: float, high: float) -> Float32[np.ndarray, "*texels"]:
    ramp = np.clip((value - low) / (high - low), 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


def _cell_values(
    row: Int[np.ndarray, "rows columns"], column: Int[np.ndarray, "rows columns"], rng: np.random.Generator
) -> Float32[np.ndarray, "rows columns"]:
    """Return one random value in [0, 1] for every cell of a grid."""
    return rng.random((int(row.max()) + 1, int(column.max()) + 1), dtype=np.float32)[row, column]


def _plain(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    flat = np.zeros(surface.uv.shape[:2], dtype=np.float32)
    return Tone(mix=flat, gain=flat + 1)


def _wood(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Grain along the first axis: bent rings, fine fibres and, on half of the flat surfaces, separate boards."""
    across = surface.points[..., _Y]
    gain = np.ones_like(across)
    shift = np.zeros_like(across)
    if surface.flat and rng.random() < 0.5:
        boards = _count(6, scale)
        board = (across * boards).astype(np.int64)
        tone = _cell_values(board, np.zeros_like(board), rng)
        shift = tone * 7
        edge = np.abs(across * boards % 1 - 0.5) * 2
        gain = (0.85 + 0.25 * tone) * (1 - 0.5 * _smooth_step(edge, 0.9, 1.0))
    bend = _fractal(surface, (1, 3), rng, octaves=2) + 0.25 * _fractal(surface, (2, 12), rng, octaves=2)
    rings = (across * _count(14, scale) + 2 * bend + shift) % 1
    fibres = _fractal(surface, (_count(3, scale), _count(48, scale)), rng, octaves=2)
    late = _smooth_step(rings, 0.1, 0.8) * (1 - _smooth_step(rings, 0.85, 1.0))
    return Tone(mix=0.4 * late + 0.4 * fibres, gain=gain * (0.85 + 0.3 * fibres))


def _marble(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Veins: the zero lines of a wave that turbulence bends (Perlin 1985, "An image synthesizer")."""
    cells = _count(2, scale)
    cloud = _fractal(surface, cells * 2, rng)
    veins = np.zeros_like(cloud)
    for strength, waves in ((1.0, cells), (0.5, 2 * cells)):
        way = rng.integers(1, 3, size=surface.points.shape[-1]) * rng.choice([-1, 1], size=surface.points.shape[-1])
        wave = surface.points @ (way * waves).astype(np.float32) + 3 * _fractal(surface, cells, rng, octaves=5)
        veins = np.maximum(veins, strength * (1 - np.abs(np.sin(np.pi * wave))) ** 6)
    return Tone(mix=0.85 * veins * (0.4 + 0.6 * cloud) + 0.3 * cloud**2, gain=0.95 + 0.1 * cloud)


def _weave(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Cloth: warp of the first colour, weft of the second, each thread of its own tone, so fine that both blend."""
    threads = 2 * min(_count(24, scale), surface.size // 6)  # at least three texels a thread
    position = surface.uv * threads
    column, row = position[..., 0].astype(np.int64), position[..., 1].astype(np.int64)
    over = (column + row) % 2 == 0
    u, v = np.abs(np.sin(np.pi * position[..., 0])), np.abs(np.sin(np.pi * position[..., 1]))
    profile = np.where(over, u * (0.6 + 0.4 * v), v * (0.6 + 0.4 * u))
    warp = 0.5 * _cell_values(np.zeros_like(column), column, rng)
    weft = 0.5 + 0.5 * _cell_values(row, np.zeros_like(row), rng)
    wear = _fractal(surface, 4, rng, octaves=3)
    return Tone(mix=np.where(over, warp, weft), gain=(0.65 + 0.4 * profile) * (0.9 + 0.2 * wear))


def _brushed(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Fine scratches along the first axis over slow bands."""
    scratches = _fractal(surface, (1, _count(40, scale)), rng, octaves=2)
    bands = _fractal(surface, (1, _count(4, scale)), rng, octaves=2)
    return Tone(mix=0.25 * scratches, gain=0.68 + 0.35 * scratches + 0.25 * bands)


def _mottle(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Ragged patches of both colours."""
    patches = _fractal(surface, _count(8, scale), rng)
    return Tone(mix=_smooth_step(patches, 0.4, 0.62), gain=0.9 + 0.2 * patches)


def _tiles(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Square tiles or bricks: second colour in the joints, every tile of its own tone."""
    rows = 2 * _count(3, scale)
    bricks = rng.random() < 0.35
    columns = rows // 2 if bricks else rows
    y = surface.uv[..., 1] * rows
    row = y.astype(np.int64)
    x = surface.uv[..., 0] * columns + (0.5 * (row % 2) if bricks else 0)
    column = x.astype(np.int64) % columns
    tone = _cell_values(row, column, rng)
    border_x = np.abs(x % 1 - 0.5) * (rows / columns) + 0.5 * (1 - rows / columns)
    border = np.maximum(border_x, np.abs(y % 1 - 0.5)) * 2
    grain = _fractal(surface, rows, rng, octaves=2)
    joint = _smooth_step(border.astype(np.float32), 0.86, 0.93)
    return Tone(mix=joint, gain=(1 - joint) * (0.82 + 0.3 * tone) + joint + 0.06 * (grain - 0.5))


def _checker(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    squares = 2 * _count(4, scale)
    parity = (surface.uv * squares).astype(np.int64).sum(axis=-1) % 2
    return Tone(mix=parity.astype(np.float32), gain=np.ones(parity.shape, dtype=np.float32))


def _stripes(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    way = np.array([(1, 0), (0, 1), (1, 1), (1, -1)], dtype=np.float32)[rng.integers(4)]
    wave = np.sin(2 * np.pi * (surface.uv @ way) * _count(7, scale))
    return Tone(mix=_smooth_step(wave, -0.2, 0.2), gain=np.ones(wave.shape, dtype=np.float32))


def _rings(surface: Surface, scale: float, rng: np.random.Generator) -> Tone:
    """Discs of concentric rings, one disc to each cell of a grid."""
    discs = _count(2, scale)
    radius = np.linalg.norm(surface.uv * discs % 1 - 0.5, axis=-1)
    wave = np.sin(2 * np.pi * radius * rng.uniform(5, 8))
    return Tone(mix=_smooth_step(wave, -0.25, 0.25), gain=np.ones(wave.shape, dtype=np.float32))


FAMILIES: dict[str, Pattern] = {
    "plain": _plain,
    "wood": _wood,
    "marble": _marble,
    "weave": _weave,
    "brushed": _brushed,
    "noise": _mottle,
    "tiles": _tiles,
    "checker": _checker,
    "stripes": _stripes,
    "rings": _rings,
}
TRAINING_FAMILIES = frozenset({"plain", "wood", "marble", "weave", "brushed", "noise", "tiles"})
HELD_OUT_FAMILIES = frozenset({"checker", "stripes", "rings"})
