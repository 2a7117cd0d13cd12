"""Surfaces: where in the world every pixel of a clip lies, and how a flat texture is laid over it.

A texture is laid by box mapping: a surface takes the two world axes that it faces least, so a texture has the same
place and size in every frame and camera, however the camera moves. Where nothing was hit, it is laid over the sky.

Shapes: t frames, h rows, w columns. World frame: metres, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16

from cosmos_engine.data import CameraPasses
from cosmos_engine.errors import InputError

TEXTURE_M = 1.0
"""Length that a texture covers before it repeats, as in the embedded renderer."""
SKY_TEXTURES = 6
"""Textures around the horizon, over what nothing was hit in."""
SKY_FACE = 3
FACE_AXES = ((1, 2), (0, 2), (0, 1))
"""World axes along a texture's u and v, of surfaces that face x, y and z."""
FACE_PREFERENCE = np.array([1.0, 1.02, 1.05], np.float32)
"""So that rounding does not decide the face of a surface that leans by 45 degrees."""
CELL_FOOTPRINTS = 1.5
"""Side of a world cell in pixel footprints: small enough for a pattern, large enough to be seen in many frames."""
LAYER_M = 0.05
"""Side of a world cell across a surface: rounding must not put one table into two layers."""


@dataclass(frozen=True)
class Surfaces:
    """Where every pixel of a clip lies.

    Attributes:
        face: the world axis that the surface faces, 0 to 2, or `SKY_FACE`; uint8 (t, h, w).
        uv_m: place on the texture, metres; float32 (t, h, w, 2).
        footprint_m: length on the texture that a pixel covers; float32 (t, h, w).
        cell: a number for the small piece of the world that the pixel shows: pixels with the same number, in any
            frames, show the same place. int64 (t, h, w).
        distance_m: along the optical axis; inf for the sky. float32 (t, h, w).
        static: whether the camera stands still.
        focal_px: the camera's focal length.
    """

    face: UInt8[np.ndarray, "t h w"]
    uv_m: Float32[np.ndarray, "t h w 2"]
    footprint_m: Float32[np.ndarray, "t h w"]
    cell: Int64[np.ndarray, "t h w"]
    distance_m: Float32[np.ndarray, "t h w"]
    static: bool
    focal_px: float


def find_surfaces(passes: CameraPasses) -> Surfaces:
    """Return where every pixel lies, from depth and camera poses.

    Raises:
        InputError: a camera whose intrinsics are no pinhole's, or whose poses are not finite.
    """
    frames, (height, width) = len(passes.rgb), passes.size
    focal_px = float(np.sqrt(abs(np.linalg.det(passes.intrinsics_px[:2, :2]))))
    if not (np.isfinite(passes.intrinsics_px).all() and focal_px > 0):
        raise InputError(f"intrinsics_px: expected a pinhole's matrix, got {passes.intrinsics_px.tolist()}")
    if not np.isfinite(passes.world_from_camera).all():
        raise InputError("world_from_camera: expected finite poses, got some that are not")
    rays = _rays(passes)
    static = bool(np.ptp(passes.world_from_camera, axis=0).max() < 1e-6)
    hit = np.isfinite(passes.depth_m)
    cell_m = CELL_FOOTPRINTS * float(np.median(passes.depth_m[hit])) / focal_px if hit.any() else 1.0
    face = np.empty((frames, height, width), np.uint8)
    uv_m = np.empty((frames, height, width, 2), np.float32)
    footprint_m = np.empty((frames, height, width), np.float32)
    cell = np.empty((frames, height, width), np.int64)
    cell[:] = np.arange(height * width).reshape(height, width)
    for index in range(frames):
        rotation, position = passes.world_from_camera[index, :3, :3], passes.world_from_camera[index, :3, 3]
        directions = (rays @ rotation.T.astype(np.float32)).astype(np.float32)
        points = directions * np.where(hit[index], passes.depth_m[index], 0)[..., None] + position.astype(np.float32)
        normals = _normals(points, passes.depth_m[index], passes.instance[index])
        length = np.linalg.norm(normals, axis=-1)
        face[index] = np.where(length > 0, np.argmax(np.abs(normals) * FACE_PREFERENCE, axis=-1), 2)
        for axis, (along_u, along_v) in enumerate(FACE_AXES):
            faced = face[index] == axis
            uv_m[index][faced] = points[faced][:, [along_u, along_v]]
        slant = np.abs((normals * directions).sum(-1)) / np.maximum(length * np.linalg.norm(directions, axis=-1), 1e-9)
        slant = np.where(length > 0, np.maximum(slant, 0.05), 1)
        footprint_m[index] = np.where(hit[index], passes.depth_m[index], 0) / focal_px / np.sqrt(slant)
        if not static:
            cell[index] = _cells(points, face[index], cell_m)
        _lay_over_sky(directions, ~hit[index], face[index], uv_m[index], footprint_m[index], focal_px)
    return Surfaces(face, uv_m, footprint_m, cell, passes.depth_m, static, focal_px)


def texture_levels(texture: UInt8[np.ndarray, "n n 3"]) -> list[Float32[np.ndarray, "_ _ 3"]]:
    """Return a texture at its size, half of it, and so on to one texel (Williams 1983, "Pyramidal parametrics")."""
    levels = [texture.astype(np.float32)]
    while len(levels[-1]) > 1:
        size = len(levels[-1]) // 2
        levels.append(cv2.resize(levels[-1], (size, size), interpolation=cv2.INTER_AREA).reshape(size, size, 3))
    return levels


def laid(
    levels: Sequence[Float32[np.ndarray, "_ _ 3"]],
    uv_m: Float32[np.ndarray, "h w 2"],
    footprint_m: Float32[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w 3"]:
    """Return a repeating texture as a frame shows it: linear within a level and between the two nearest levels."""
    size = len(levels[0])
    level = np.log2(np.clip(footprint_m * (size / TEXTURE_M), 1, size))
    turns = (uv_m / np.float32(TEXTURE_M)) % 1
    frame = np.zeros((*level.shape, 3), np.float32)
    for number in range(int(level.min()), min(int(level.max()) + 1, len(levels) - 1) + 1):
        weight = np.clip(1 - np.abs(level - number), 0, 1)
        if not weight.any():
            continue
        texels = turns * len(levels[number]) - np.float32(0.5)
        sampled = cv2.remap(
            levels[number], texels[..., 0], texels[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        frame += weight[..., None] * sampled
    return frame


def _rays(passes: CameraPasses) -> Float32[np.ndarray, "h w 3"]:
    """Return the point at a depth of 1 that each pixel's centre sees, in the camera's axes."""
    height, width = passes.size
    row, column = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = np.stack([column, row, np.ones_like(row)], axis=-1)
    return (pixels @ np.linalg.inv(passes.intrinsics_px).T).astype(np.float32)


def _normals(
    points: Float32[np.ndarray, "h w 3"], depth_m: Float32[np.ndarray, "h w"], instance: UInt16[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 3"]:
    """Return surface normals of any length, zero where a pixel has no neighbour of its own instance along an axis."""
    down, right = (_difference(points, depth_m, instance, axis) for axis in (0, 1))
    return np.cross(down, right).astype(np.float32)


def _difference(
    points: Float32[np.ndarray, "h w 3"],
    depth_m: Float32[np.ndarray, "h w"],
    instance: UInt16[np.ndarray, "h w"],
    axis: int,
) -> Float32[np.ndarray, "h w 3"]:
    """Return the way to the neighbour along an axis that is nearer in depth: the other may lie beyond an edge."""
    points, depth_m, instance = (np.moveaxis(array, axis, 0) for array in (points, depth_m, instance))
    same = (instance[1:] == instance[:-1]) & np.isfinite(depth_m[1:]) & np.isfinite(depth_m[:-1])
    gap = np.full(depth_m.shape, np.inf, np.float32)
    gap[:-1][same] = np.abs(depth_m[1:][same] - depth_m[:-1][same])
    behind = np.concatenate([np.full_like(gap[:1], np.inf), gap[:-1]])
    step = points[1:] - points[:-1]
    way = np.zeros_like(points)
    way[:-1] = step
    backward = behind < gap
    way[1:][backward[1:]] = step[backward[1:]]
    way[np.isinf(np.minimum(gap, behind))] = 0
    return np.moveaxis(way, 0, axis)


def _cells(
    points: Float32[np.ndarray, "h w 3"], face: UInt8[np.ndarray, "h w"], cell_m: float
) -> Int64[np.ndarray, "h w"]:
    """Return one number for the box that each point lies in: `cell_m` along the surface, 21 bits an axis."""
    side_m = np.where(face[..., None] == np.arange(3), LAYER_M, cell_m)
    place = np.floor(points / side_m + 0.5).astype(np.int64) & ((1 << 21) - 1)
    return (place[..., 0] << 42) | (place[..., 1] << 21) | place[..., 2]


def _lay_over_sky(
    directions: Float32[np.ndarray, "h w 3"],
    sky: np.ndarray,
    face: UInt8[np.ndarray, "h w"],
    uv_m: Float32[np.ndarray, "h w 2"],
    footprint_m: Float32[np.ndarray, "h w"],
    focal_px: float,
) -> None:
    """Write the place of what is infinitely far: azimuth and elevation, a whole number of textures around."""
    x, y, z = np.moveaxis(directions[sky], -1, 0)
    texture_per_rad = np.float32(SKY_TEXTURES * TEXTURE_M / (2 * np.pi))
    uv_m[sky, 0] = np.arctan2(y, x) * texture_per_rad
    uv_m[sky, 1] = np.arctan2(z, np.hypot(x, y)) * texture_per_rad
    footprint_m[sky] = texture_per_rad / np.float32(focal_px)
    face[sky] = SKY_FACE
