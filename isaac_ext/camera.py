"""Replicator's `camera_params` as pinhole intrinsics in pixels and a camera pose in OpenCV axes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError

# Isaac Sim's Python has no jaxtyping; annotations are strings there, and nothing reads them.
with suppress(ModuleNotFoundError):
    from jaxtyping import Float64

# Largest departure from a rotation that float32 matrices of a far-off camera still show.
ROTATION_TOLERANCE = 1e-3
# The one `cameraModel` that `cameraProjection` tells all of: pinholeOpenCV adds distortion, the rest are fisheyes.
PINHOLE = "pinhole"
# USD cameras look along -z with y up; OpenCV cameras look along +z with y down. Its own inverse.
USD_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def intrinsics_px(camera_params: Mapping[str, Any]) -> Float64[np.ndarray, "3 3"]:
    """Return the 3x3 intrinsic matrix of a pinhole camera, in pixels.

    Pixel coordinates are OpenCV's, as everywhere in a recording: the centre of pixel (i, j) is (i, j), and a centred
    camera has its principal point at ((width - 1) / 2, (height - 1) / 2). Isaac Sim's own screen coordinates, which
    count from the outer corner of the first pixel, are larger by one half.

    `cameraProjection` is a row-vector matrix: a point p in USD camera axes gives clip = [p, 1] @ P with clip_w = -z,
    and is drawn at ((clip_x / clip_w + 1) width / 2, (1 - clip_y / clip_w) height / 2) on Isaac Sim's screen. Focal
    lengths and principal point follow by writing that in OpenCV axes. The vertical aperture plays no part: RTX ignores
    it.

    Args:
        camera_params: what the `camera_params` annotator returned; `cameraProjection` (16 or 4x4) and
            `renderProductResolution` (width, height) are read, and `cameraModel` where present.

    Raises:
        InputError: a key is missing, the matrix is no perspective projection, or the model is not a pinhole.
    """
    model = str(camera_params.get("cameraModel", PINHOLE))
    if model != PINHOLE:
        raise InputError(f"camera_params: expected a camera of model {PINHOLE!r}, got {model!r}")
    projection = _matrix(camera_params, "cameraProjection")
    resolution = np.asarray(_entry(camera_params, "renderProductResolution"))
    if resolution.shape != (2,) or not (resolution > 0).all():
        raise InputError(f"camera_params: renderProductResolution: expected (width, height), got {resolution.tolist()}")
    width_px, height_px = (float(size) for size in resolution)
    if (
        not np.allclose(projection[:, 3], [0.0, 0.0, -1.0, 0.0], atol=1e-6)
        or min(projection[0, 0], projection[1, 1]) <= 0
    ):
        raise InputError(
            "camera_params: cameraProjection: expected a row-vector perspective matrix with last column (0, 0, -1, 0), "
            f"got {projection.tolist()}"
        )
    return np.array(
        [
            [projection[0, 0] * width_px / 2.0, 0.0, (1.0 - projection[2, 0]) * width_px / 2.0 - 0.5],
            [0.0, projection[1, 1] * height_px / 2.0, (1.0 + projection[2, 1]) * height_px / 2.0 - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )


def world_from_camera(camera_params: Mapping[str, Any]) -> Float64[np.ndarray, "4 4"]:
    """Return the pose that takes points from OpenCV camera axes (x right, y down, z forward) to the world, in metres.

    `cameraViewTransform` is a row-vector matrix from world to USD camera axes, in scene units.

    Args:
        camera_params: what the `camera_params` annotator returned; `cameraViewTransform` (16 or 4x4) and
            `metersPerSceneUnit` are read.

    Raises:
        InputError: a key is missing, or the transform is not rigid (a scaled camera prim).
    """
    camera_from_world = _matrix(camera_params, "cameraViewTransform").T
    rotation = camera_from_world[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=ROTATION_TOLERANCE) and np.linalg.det(rotation) > 0
    if not rigid or not np.allclose(camera_from_world[3], [0.0, 0.0, 0.0, 1.0], atol=1e-6):
        raise InputError(
            "camera_params: cameraViewTransform: expected a rotation and a translation (is the camera prim scaled?), "
            f"got {camera_from_world.T.tolist()}"
        )
    metres_per_unit = float(_entry(camera_params, "metersPerSceneUnit"))
    if not metres_per_unit > 0:
        raise InputError(f"camera_params: metersPerSceneUnit: expected a positive number, got {metres_per_unit}")
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ camera_from_world[:3, 3] * metres_per_unit
    return pose @ USD_FROM_OPENCV


def _entry(camera_params: Mapping[str, Any], key: str) -> Any:
    if key not in camera_params:
        raise InputError(f"camera_params: no {key!r}; got {', '.join(sorted(camera_params)) or 'nothing'}")
    return camera_params[key]


def _matrix(camera_params: Mapping[str, Any], key: str) -> Float64[np.ndarray, "4 4"]:
    matrix = np.asarray(_entry(camera_params, key), dtype=np.float64)
    if matrix.size != 16 or not np.isfinite(matrix).all():
        raise InputError(f"camera_params: {key}: expected 16 finite numbers, got shape {matrix.shape}")
    return matrix.reshape(4, 4)
