"""Motion: true optical flow from recorded geometry, and how much a variant flickers along it.

Shapes: t frames, p = t - 1 pairs of consecutive frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8, UInt16

from cosmos_engine.data import CameraPasses, Episode

DEPTH_AGREEMENT = 0.02
"""A point is in view in the next frame if the depth there is its own within this share."""
FINGERS_REST_M = 2e-4
"""Fingers that move less in a control step are at rest."""

InstancePoses = Mapping[int, Float64[np.ndarray, "t 4 4"]]
"""Pose of moving instances in the world, by id; NaN in frames in which the instance does not move as one body."""


@dataclass(frozen=True)
class TrueFlow:
    """Where the pixels of each frame are in the next one.

    Attributes:
        flow_px: displacement (x right, y down); 0 where it is not valid.
        valid: whether the pixel's motion is known and its point is in view in the next frame.
    """

    flow_px: Float32[np.ndarray, "p h w 2"]
    valid: Bool[np.ndarray, "p h w"]


def true_flow(passes: CameraPasses, static: Collection[int], poses: InstancePoses | None = None) -> TrueFlow:
    """Return the optical flow that follows from depth, camera poses and the motion of bodies.

    A recording holds no motion of single bodies. What does not move needs none; for the rest see `embedded_poses`.
    Pixels of an instance that is neither in `static` nor in `poses` are not valid.

    Args:
        passes: render passes of consecutive frames.
        static: ids of instances that stand still in the world.
        poses: poses of rigid bodies that move.
    """
    poses = poses or {}
    pairs = len(passes.depth_m) - 1
    height, width = passes.size
    flow = np.zeros((pairs, height, width, 2), np.float32)
    valid = np.zeros((pairs, height, width), bool)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    rays = pixels @ np.linalg.inv(passes.intrinsics_px).T
    for pair in range(pairs):
        depth, instance = passes.depth_m[pair].astype(np.float64), passes.instance[pair]
        known = np.isfinite(depth)
        points = rays * np.where(known, depth, 1.0)[..., None]
        ahead = np.zeros_like(points)
        moved = np.zeros((height, width), bool)
        camera_then, camera_next = passes.world_from_camera[pair], passes.world_from_camera[pair + 1]
        for motion, ids in [(np.eye(4), list(static)), *_motions(poses, pair)]:
            mask = known & np.isin(instance, ids)
            next_from_then = np.linalg.inv(camera_next) @ motion @ camera_then
            ahead[mask] = points[mask] @ next_from_then[:3, :3].T + next_from_then[:3, 3]
            moved |= mask
        moved &= ahead[..., 2] > 1e-6
        projected = ahead @ passes.intrinsics_px.T
        target = projected[..., :2] / np.where(moved, projected[..., 2], 1.0)[..., None]
        target = target.round(4)  # without noise in the last bits, a still pixel has itself as its only neighbour
        moved &= _in_view(target, ahead[..., 2], instance, passes.depth_m[pair + 1], passes.instance[pair + 1])
        flow[pair] = np.where(moved[..., None], target - pixels[..., :2], 0.0)
        valid[pair] = moved
    return TrueFlow(flow, valid)


def embedded_poses(episode: Episode) -> dict[int, Float64[np.ndarray, "t 4 4"]]:
    """Return the poses of objects and gripper of an episode of the embedded table-top, from its observations.

    `object` holds ten numbers an object (position, quaternion xyzw, ...) in the order of the ids; the gripper moves
    with `robot0_eef_pos` and `robot0_eef_quat` while its fingers rest. Links of the arm are not observed. Without
    these observations the mapping lacks the bodies that they describe.
    """
    poses: dict[int, np.ndarray] = {}
    seen = episode.observations
    objects = [i for i, label in sorted(episode.labels.items()) if label.role == "manipulated"]
    if "object" in seen and seen["object"].shape[1] == 10 * len(objects):
        for place, instance_id in enumerate(objects):
            columns = seen["object"][:, 10 * place : 10 * place + 7].astype(np.float64)
            poses[instance_id] = _poses(columns[:, :3], columns[:, 3:])
    gripper = [i for i, label in episode.labels.items() if label.class_name == "gripper"]
    if len(gripper) == 1 and {"robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"} <= set(seen):
        hand = _poses(seen["robot0_eef_pos"].astype(np.float64), seen["robot0_eef_quat"].astype(np.float64))
        moving = np.abs(np.diff(seen["robot0_gripper_qpos"], axis=0)).max(1) > FINGERS_REST_M
        hand[1:][moving] = np.nan
        poses[gripper[0]] = hand
    return poses


def flicker(
    rgb: UInt8[np.ndarray, "t h w 3"], flow: TrueFlow, region: Bool[np.ndarray, "t h w"] | None = None
) -> float | None:
    """Return the warping error in levels of 0 to 255: how much a point's colour changes from frame to frame.

    Mean absolute difference between each frame and the next one brought back by the true flow, over valid pixels (Lai
    et al. 2018, "Learning Blind Video Temporal Consistency", with L1 in place of L2, so that one highlight does not
    decide). Moving shadows and highlights count, so read it beside the source's. None if no pixel is valid.

    Args:
        region: pixels that count.
    """
    total, count = 0.0, 0
    rows, columns = np.mgrid[: rgb.shape[1], : rgb.shape[2]].astype(np.float32)
    for pair in range(len(rgb) - 1):
        valid = flow.valid[pair] if region is None else flow.valid[pair] & region[pair]
        x, y = columns + flow.flow_px[pair, ..., 0], rows + flow.flow_px[pair, ..., 1]
        back = cv2.remap(np.ascontiguousarray(rgb[pair + 1]), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        total += float(np.abs(back.astype(np.float64) - rgb[pair])[valid].sum())
        count += 3 * int(valid.sum())
    return total / count if count else None


def _motions(poses: InstancePoses, pair: int) -> list[tuple[np.ndarray, list[int]]]:
    """Return the motion of each moving body in the world over one pair of frames, where it is known."""
    motions = []
    for instance_id, world_from_body in poses.items():
        then, after = world_from_body[pair], world_from_body[pair + 1]
        if np.isfinite(then).all() and np.isfinite(after).all():
            motions.append((after @ np.linalg.inv(then), [instance_id]))
    return motions


def _in_view(
    target: Float64[np.ndarray, "h w 2"],
    depth_m: Float64[np.ndarray, "h w"],
    instance: UInt16[np.ndarray, "h w"],
    next_depth_m: Float32[np.ndarray, "h w"],
    next_instance: UInt16[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """Return which points are seen in the next frame: all pixels around show their instance, at their depth."""
    height, width = instance.shape
    inside = (target >= 0).all(-1) & (target[..., 0] <= width - 1) & (target[..., 1] <= height - 1)
    within = np.where(inside[..., None], target, 0.0)
    seen = inside.copy()
    for round_x in (np.floor, np.ceil):
        for round_y in (np.floor, np.ceil):
            column, row = round_x(within[..., 0]).astype(int), round_y(within[..., 1]).astype(int)
            seen &= next_instance[row, column] == instance
            seen &= np.abs(next_depth_m[row, column] - depth_m) < DEPTH_AGREEMENT * depth_m
    return seen


def _poses(
    position_m: Float64[np.ndarray, "t 3"], quat_xyzw: Float64[np.ndarray, "t 4"]
) -> Float64[np.ndarray, "t 4 4"]:
    x, y, z, w = (quat_xyzw / np.linalg.norm(quat_xyzw, axis=1, keepdims=True)).T
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    poses = np.tile(np.eye(4), (len(position_m), 1, 1))
    poses[:, :3, :3] = rotation.transpose(2, 0, 1)
    poses[:, :3, 3] = position_m
    return poses
