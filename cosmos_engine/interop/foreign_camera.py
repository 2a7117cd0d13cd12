"""One camera of a foreign demo as render passes: depth to metres along the axis, segmentation to ids, pose to OpenCV.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.interop.foreign_hdf5 import ForeignDemo
from cosmos_engine.interop.import_config import CameraConfig, DepthConfig, LabelConfig
from cosmos_engine.interop.segmentation import instance_ids


@dataclass(frozen=True)
class PassPaths:
    """Where a format keeps the passes of a camera; `{}` stands for its name.

    Attributes:
        rgb, depth: one place each.
        segmentations: in the order in which they are looked for.
    """

    rgb: str
    depth: str
    segmentations: tuple[str, ...]
    intrinsics: str = "cameras/{}/intrinsics_px"
    pose: str = "cameras/{}/world_from_camera"


@dataclass(frozen=True)
class ForeignPasses:
    """The passes of one camera, what its ids are, and which of the file's arrays they say all of.

    Attributes:
        passes: as the engine keeps them.
        labels: of its instance ids.
        used: paths of the arrays that they were made from.
        lossy: paths of the arrays that cannot be made again from the passes.
    """

    passes: CameraPasses
    labels: Mapping[int, InstanceLabel]
    used: tuple[str, ...]
    lossy: tuple[str, ...]


def read_camera(
    demo: ForeignDemo, camera: str, paths: PassPaths, config: CameraConfig, labels: Sequence[LabelConfig]
) -> ForeignPasses:
    """Read the passes of one camera.

    Args:
        demo: where they are.
        camera: its name.
        paths: where the format keeps them.
        config: what the user says of this camera.
        labels: what the segmentation shows.

    Raises:
        InputError: names the first thing that is missing, or has another shape than expected, and how to supply it.
    """
    rgb_path = config.rgb or paths.rgb.format(camera)
    rgb = _needed(demo, rgb_path, camera, "rgb", f"cameras.{camera}.rgb=obs/PATH")
    if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[3] not in (3, 4):
        raise InputError(f"{demo.name}/{rgb_path}: expected uint8 (T, H, W, 3 or 4), got {rgb.dtype} {rgb.shape}")
    frames, height, width, _ = rgb.shape

    depth_path = config.depth.path or paths.depth.format(camera)
    written = _needed(demo, depth_path, camera, "depth", f"record it, say cameras.{camera}.depth.path=obs/PATH")
    if written.ndim == 3:
        written = written[..., np.newaxis]
    if written.shape != (frames, height, width, 1):
        raise InputError(
            f"{demo.name}/{depth_path}: expected the frames of rgb, ({frames}, {height}, {width}, 1), "
            f"got {written.shape}"
        )

    found = [config.segmentation] if config.segmentation else [path.format(camera) for path in paths.segmentations]
    seg_path = next((path for path in found if demo.dataset(path) is not None), found[0])
    seg = _needed(demo, seg_path, camera, "segmentation", f"record it, say cameras.{camera}.segmentation=obs/PATH")
    if not labels:
        raise InputError(
            f"{demo.name}/{seg_path}: no labels say what its colours or ids are; give a config with labels, as in "
            "- {name: cube, role: manipulated, color: [255, 36, 66]}"
        )
    instance, instances = instance_ids(seg, labels, f"{demo.name}/{seg_path}")

    intrinsics_px, intrinsics_path = _intrinsics(demo, camera, paths, config, width, height)
    pose, pose_path = _pose(demo, camera, paths, config, frames)
    depth_m = depth_in_metres(written[..., 0], config.depth, intrinsics_px, f"{demo.name}/{depth_path}")
    lossy = []
    if written.dtype != np.float32 or config.depth != DepthConfig(path=config.depth.path) or (depth_m < 0).any():
        lossy.append(depth_path)
    passes = CameraPasses(np.ascontiguousarray(rgb[..., :3]), depth_m, instance, intrinsics_px, pose)
    used = (rgb_path, depth_path, seg_path, *filter(None, (intrinsics_path, pose_path)))
    return ForeignPasses(passes, instances, used, tuple(lossy))


def depth_in_metres(
    written: NDArray[Any], config: DepthConfig, intrinsics_px: Float64[np.ndarray, "3 3"], place: str
) -> Float32[np.ndarray, "t h w"]:
    """Return depth along the optical axis in metres; inf where nothing was hit.

    Where nothing was hit, Isaac Lab's `image` observation has 0, Replicator inf, and a z-buffer 1.

    Args:
        written: (t, h, w) as the file has it.
        config: how it is written.
        intrinsics_px: of the camera, for depth along rays.
        place: where it stands, for messages.

    Raises:
        InputError: a z-buffer or an inverted depth out of range, or a negative or NaN depth.
    """
    units = written.astype(np.float64)
    hit = units > 0
    if config.encoding == "metres":
        depth = units * config.unit_m
    else:
        if written.dtype.kind == "u":
            units = units / np.iinfo(written.dtype).max
        if not ((units >= 0) & (units <= 1)).all():
            raise InputError(
                f"{place}: encoding {config.encoding!r} has values within [0, 1], "
                f"got {float(np.nanmin(units)):g} to {float(np.nanmax(units)):g}"
            )
        if config.encoding == "buffer":
            # OpenGL's perspective depth; robosuite's get_real_depth_map is the same formula.
            depth = config.near_m / (1.0 - units * (1.0 - config.near_m / config.far_m))
            hit = units < 1
        else:
            depth = (1.0 - units) * config.far_m
    if np.isnan(depth).any() or (depth < 0).any():
        raise InputError(f"{place}: expected depth of 0 and more, got {int((~(depth >= 0)).sum())} values that are not")
    if config.along == "ray":
        rows, columns = np.indices(depth.shape[1:], dtype=np.float64)
        inverse = np.linalg.inv(intrinsics_px)
        rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ inverse.T
        depth = depth / np.linalg.norm(rays, axis=-1)
    return np.where(hit & (depth > 0), depth, np.inf).astype(np.float32)


def _needed(demo: ForeignDemo, path: str, camera: str, what: str, how: str) -> NDArray[Any]:
    array = demo.array(path)
    if array is None:
        raise InputError(
            f"{demo.name}: camera {camera!r} has no {what}: no {path!r}; {how}, or leave the camera out by "
            f"skip=[{camera}]"
        )
    return array


def _intrinsics(
    demo: ForeignDemo, camera: str, paths: PassPaths, config: CameraConfig, width: int, height: int
) -> tuple[NDArray[np.float64], str]:
    if config.intrinsics_px:
        return _matrix(config.intrinsics_px, 3, f"cameras.{camera}.intrinsics_px"), ""
    if config.focal_length_mm > 0:
        focal_px = config.focal_length_mm * width / config.horizontal_aperture_mm
        # Pixel centres at whole coordinates: the middle of the picture is half a pixel before width / 2.
        return np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]]), ""
    path = config.intrinsics_path or paths.intrinsics.format(camera)
    found = demo.array(path)
    if found is None:
        raise InputError(
            f"{demo.name}: camera {camera!r}: its intrinsics are not in the file (no {path!r}); say "
            f"cameras.{camera}.intrinsics_px=[[fx,0,cx],[0,fy,cy],[0,0,1]], or focal_length_mm and "
            "horizontal_aperture_mm"
        )
    first = found[0] if found.ndim == 3 and len(found) else found
    if first.shape != (3, 3) or (found.ndim == 3 and (found != first).any()):
        raise InputError(f"{demo.name}/{path}: expected one 3 x 3 matrix, got {found.shape} or a zoom")
    return first.astype(np.float64), path


def _pose(
    demo: ForeignDemo, camera: str, paths: PassPaths, config: CameraConfig, frames: int
) -> tuple[NDArray[np.float64], str]:
    """Return world_from_camera of each frame, and the path that it was read from."""
    if config.world_from_camera:
        still = _matrix(config.world_from_camera, 4, f"cameras.{camera}.world_from_camera")
        return np.tile(still, (frames, 1, 1)), ""
    if config.position_m or config.quat_wxyz:
        if len(config.position_m) != 3 or len(config.quat_wxyz) != 4:
            raise InputError(
                f"cameras.{camera}: expected 3 numbers of position_m and 4 of quat_wxyz, got "
                f"{len(config.position_m)} and {len(config.quat_wxyz)}"
            )
        pose = np.array([*config.position_m, *config.quat_wxyz], np.float64)
        return np.tile(_from_quaternions(pose[np.newaxis], f"cameras.{camera}.quat_wxyz"), (frames, 1, 1)), ""
    path = config.world_from_camera_path or paths.pose.format(camera)
    found = demo.array(path)
    if found is None:
        raise InputError(
            f"{demo.name}: camera {camera!r}: its pose is not in the file (no {path!r}); say "
            f"cameras.{camera}.position_m=[x,y,z] and cameras.{camera}.quat_wxyz=[w,x,y,z] (OpenCV axes, Isaac Lab's "
            f"'ros') where it stands still, or cameras.{camera}.world_from_camera_path=obs/PATH where it moves"
        )
    if found.shape == (frames, 7):
        return _from_quaternions(found.astype(np.float64), f"{demo.name}/{path}"), path
    if found.shape != (frames, 4, 4):
        raise InputError(f"{demo.name}/{path}: expected ({frames}, 4, 4) or ({frames}, 7), got {found.shape}")
    return found.astype(np.float64), path


def _matrix(rows: Sequence[Sequence[float]], size: int, place: str) -> NDArray[np.float64]:
    if len(rows) != size or any(len(row) != size for row in rows):
        raise InputError(f"{place}: expected {size} x {size} numbers, got rows of {[len(row) for row in rows]}")
    return np.array(rows, np.float64)


def _from_quaternions(poses: NDArray[np.float64], place: str) -> NDArray[np.float64]:
    """Return (n, 4, 4) of (n, 7): metres, then a quaternion wxyz of about unit length."""
    length = np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    if (np.abs(length - 1) > 1e-2).any():
        raise InputError(f"{place}: expected unit quaternions, wxyz, got one of length {float(length.min()):.3g}")
    w, x, y, z = (poses[:, 3:] / length).T
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    matrices[:, :3, :3] = np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )
    matrices[:, :3, 3] = poses[:, :3]
    return matrices
