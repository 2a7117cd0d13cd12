"""Random distortions of labelled frames, so that a reader trained on renders reads generated video too.

What a reader must not learn is where things usually are: a variant that lost its object has to read as one. So objects
are erased from frames and pasted into others, frames are mirrored, turned and zoomed, and the labels follow.

Shapes: h rows, w columns.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from cosmos_engine.controls.role_map import ROLES

ROBOT, MANIPULATED, SCENE = (ROLES.index(role) for role in ("robot", "manipulated", "scene"))

ERASE_SHARE = 0.15
PASTE_SHARE = 0.2
REPAINT_SHARE = 0.25  # of instances
CHANGE_SHARE = 0.8  # the rest are as sharp and as lit as they were rendered
ERASE_MARGIN_PX = 2
SMALLEST_PASTED_PX = 30  # less is a sliver at the frame's border
LARGEST_ERASED_SHARE = 0.06  # inpainting of more than this part of the frame shows, and takes long


@dataclass(frozen=True)
class LabelledFrame:
    """One frame and what a reader shall say of it.

    Attributes:
        rgb: colour, 0 to 255.
        role: index into `ROLES`.
        instance: instance ids, to repaint and to erase by.
        log_depth: natural logarithm of the depth in metres; NaN where it is not known.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    role: UInt8[np.ndarray, "h w"]
    instance: UInt8[np.ndarray, "h w"]
    log_depth: Float32[np.ndarray, "h w"]


def distorted(frame: LabelledFrame, other: LabelledFrame, size: int, rng: np.random.Generator) -> LabelledFrame:
    """Return a square cut of `frame`, `size` wide, in another look; `other` lends an object at times.

    The looks are no texture family of `sim.textures`: noise, gradients and flat colours in place of patterns, so that
    families held out of training stay unseen.
    """
    if rng.random() < ERASE_SHARE:
        frame = _without_object(frame, rng)
    if rng.random() < PASTE_SHARE:
        frame = _with_object_of(frame, other, rng)
    frame = _repainted(_cut(frame, size, rng), rng)
    if rng.random() < CHANGE_SHARE:
        frame = dataclasses.replace(frame, rgb=changed(frame.rgb, rng))
    return frame


def changed(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return a frame in other light, and soft, blotchy or noisy; nothing in it moves."""
    return _degraded(_relit(rgb, rng), rng)


def _without_object(frame: LabelledFrame, rng: np.random.Generator) -> LabelledFrame:
    """Return the frame without one of its objects; what is behind it is guessed, and its depth is not known."""
    ids = np.unique(frame.instance[frame.role == MANIPULATED])
    if not ids.size:
        return frame
    mask = frame.instance == rng.choice(ids)
    width = 2 * ERASE_MARGIN_PX + 1
    hole = cv2.dilate(mask.astype(np.uint8), np.ones((width, width), np.uint8))
    hole[(frame.role != SCENE) & ~mask] = 0
    if hole.mean() > LARGEST_ERASED_SHARE:
        return frame
    rgb = cv2.inpaint(np.ascontiguousarray(frame.rgb), hole, 3, cv2.INPAINT_TELEA)
    role = np.where(mask, np.uint8(SCENE), frame.role)
    return LabelledFrame(rgb, role, np.where(mask, np.uint8(0), frame.instance), _unknown(frame.log_depth, mask))


def _with_object_of(frame: LabelledFrame, other: LabelledFrame, rng: np.random.Generator) -> LabelledFrame:
    """Return the frame with an object of another frame in front, at any place and of any size."""
    ids, counts = np.unique(other.instance[other.role == MANIPULATED], return_counts=True)
    ids = ids[counts >= SMALLEST_PASTED_PX]
    if not ids.size:
        return frame
    chosen = rng.choice(ids)
    height, width = frame.role.shape
    rows, columns = np.nonzero(other.instance == chosen)
    middle = (float(columns.mean()), float(rows.mean()))
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    wanted = height * np.exp(rng.uniform(np.log(0.06), np.log(0.3)))
    turn = cv2.getRotationMatrix2D(middle, rng.uniform(-180, 180), wanted / extent)
    turn[:, 2] += (rng.uniform(0, width) - middle[0], rng.uniform(0, height) - middle[1])
    mask = _warped((other.instance == chosen).astype(np.uint8), turn, (height, width)) > 0
    rgb = np.where(mask[..., None], _warped(other.rgb, turn, (height, width), cv2.INTER_LINEAR), frame.rgb)
    role = np.where(mask, np.uint8(MANIPULATED), frame.role)
    instance = np.where(mask, np.uint8(frame.instance.max() + 1), frame.instance)
    return LabelledFrame(rgb, role, instance, _unknown(frame.log_depth, mask))


def _repainted(frame: LabelledFrame, rng: np.random.Generator) -> LabelledFrame:
    """Return the frame with some instances in another colour, with noise for a pattern; the shading stays."""
    rgb = frame.rgb.astype(np.float32)
    grey = rgb.mean(axis=-1)
    for instance_id in np.unique(frame.instance):
        if rng.random() >= REPAINT_SHARE:
            continue
        mask = frame.instance == instance_id
        shading = grey[mask] / max(float(grey[mask].mean()), 1.0)
        colors = rng.uniform(10, 245, (2, 3))
        pattern = np.clip(0.5 + rng.uniform(0, 0.8) * _noise(mask.shape, rng)[mask], 0, 1)[:, None]
        painted = shading[:, None] * (pattern * colors[0] + (1 - pattern) * colors[1])
        share = rng.uniform(0.4, 1.0)
        rgb[mask] = share * painted + (1 - share) * rgb[mask]
    return LabelledFrame(_bytes(rgb), frame.role, frame.instance, frame.log_depth)


def _cut(frame: LabelledFrame, size: int, rng: np.random.Generator) -> LabelledFrame:
    """Return a cut of the frame, turned, zoomed, and mirrored half the time; mostly inside the frame."""
    height, width = frame.role.shape
    zoom = float(np.exp(rng.uniform(np.log(0.8), np.log(1.35))))
    middle = (width / 2 - 0.5, height / 2 - 0.5)
    turn = cv2.getRotationMatrix2D(middle, rng.normal(0, 6), zoom)
    slack = max(zoom * min(height, width) - size, 0) / 2 + 4
    turn[:, 2] += size / 2 - 0.5 - np.array(middle) + rng.uniform(-slack, slack, 2)
    if rng.random() < 0.5:
        turn[0] = -turn[0]
        turn[0, 2] += size - 1
    shape = (size, size)
    outside = _warped(np.ones((height, width), np.uint8), turn, shape, border=cv2.BORDER_CONSTANT) == 0
    log_depth = _unknown(_warped(frame.log_depth, turn, shape), outside)
    return LabelledFrame(
        _warped(frame.rgb, turn, shape, cv2.INTER_LINEAR),
        _warped(frame.role, turn, shape),
        _warped(frame.instance, turn, shape),
        log_depth,
    )


def _relit(rgb: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float32[np.ndarray, "h w 3"]:
    """Return the frame under another exposure, white balance, contrast and saturation, with soft light and shade."""
    image = rgb.astype(np.float32) / 255.0
    image = image * np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, 3)).astype(np.float32)
    if rng.random() < 0.3:
        image = (
            image * (1 + np.float32(rng.uniform(0, 0.35)) * _noise(rgb.shape[:2], rng, coarsest=3, finest=6))[..., None]
        )
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + np.float32(rng.uniform(0.5, 1.4)) * (image - grey)
    image = grey.mean() + np.float32(np.exp(rng.normal(0, 0.2))) * (image - grey.mean())
    return np.clip(image, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.2))) * np.float32(255)


def _degraded(rgb: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return the frame as bad cameras, codecs and generators show it: soft, blotchy, noisy, with blocks."""
    size = rgb.shape[1], rgb.shape[0]
    if rng.random() < 0.4:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.2:
        coarse = [max(round(side * rng.uniform(0.45, 0.95)), 8) for side in size]
        rgb = cv2.resize(cv2.resize(rgb, coarse, interpolation=cv2.INTER_AREA), size, interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.25:
        blotches = np.stack([_noise(rgb.shape[:2], rng, coarsest=4, finest=24) for _ in range(3)], axis=-1)
        rgb = rgb + np.float32(rng.uniform(0, 18)) * blotches
    if rng.random() < 0.5:
        rgb = rgb + rng.normal(0, rng.uniform(0, 9), rgb.shape).astype(np.float32)
    if rng.random() < 0.25:
        quality = int(rng.integers(25, 95))
        _, code = cv2.imencode(".jpg", _bytes(rgb), [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return _bytes(rgb)


def _noise(
    shape: tuple[int, ...], rng: np.random.Generator, *, coarsest: int = 3, finest: int = 64
) -> Float32[np.ndarray, "h w"]:
    """Return smooth noise of about unit variance; a random number of bumps a side, between the two."""
    cells = np.exp(rng.uniform(np.log(coarsest), np.log(finest), 2)).astype(int) + 1
    grid = rng.normal(0, 1, (int(cells[0]), int(cells[1]))).astype(np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _warped(
    array: np.ndarray,
    matrix: np.ndarray,
    shape: tuple[int, int],
    interpolation: int = cv2.INTER_NEAREST,
    border: int = cv2.BORDER_REPLICATE,
) -> np.ndarray:
    return cv2.warpAffine(array, matrix, (shape[1], shape[0]), flags=interpolation, borderMode=border)


def _unknown(log_depth: Float32[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    return np.where(mask, np.float32(np.nan), log_depth)


def _bytes(rgb: Float32[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
