"""Seeded faults: what a generator may get wrong, put into the pixels of a variant that is right.

A gate's thresholds are set on these, and its recall is measured on them. Each fault is drawn from a random generator:
in which cameras, from which frame on, in which direction. Pixels are those of the variant itself; where something goes,
the hole is inpainted. Lengths are in pixels of a frame that is 128 high.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from cosmos_engine.config import nearest
from cosmos_engine.controls import role_map
from cosmos_engine.data import CameraPasses, Episode
from cosmos_engine.errors import InputError

REFERENCE_HEIGHT_PX = 128
SEEN_PX = 60
"""Instances are altered in cameras that show at least so many of their pixels, in px of a frame 128 high ..."""
SEEN_FRAMES = 16
"""... in so many frames: what is not seen, no gate can tell."""
MOVED_PX = 60
"""A fault of time counts where so many pixels change their role in the time that it takes."""
INPAINT_RADIUS_PX = 3

Videos = dict[str, UInt8[np.ndarray, "t h w 3"]]
"""By camera."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        severities: how strong it comes, in `unit`; a fault without a strength has the one severity 0.
        unit: what the severity counts.
    """

    severities: tuple[int, ...]
    unit: str = ""


FAULTS: dict[str, Fault] = {
    "object_vanished": Fault((0,)),
    "object_moved": Fault((4, 6, 10), "px"),
    "gripper_shifted": Fault((4, 6, 10), "px"),
    "extra_object": Fault((9, 13, 18), "px wide"),
    "frame_slip": Fault((3, 5, 8), "frames"),
    "frozen_frames": Fault((8, 16, 32), "frames"),
    "swapped_episode": Fault((0,)),
    "hue_change": Fault((60, 120, 180), "degrees"),
    "left_right_flip": Fault((0,)),
}
"""Severities that matter to a policy: a cube is about 11 px wide in the front camera, and 20 frames are a second."""


@dataclass(frozen=True)
class Injected:
    """A variant with a fault.

    Attributes:
        images: all cameras; those without the fault are the arrays that came.
        cameras: those with the fault.
        frames: first and one past the last frame that it touches.
    """

    images: Videos
    cameras: tuple[str, ...]
    frames: tuple[int, int]


def inject(
    name: str,
    severity: int,
    episode: Episode,
    images: Videos,
    rng: np.random.Generator,
    other: Mapping[str, np.ndarray] | None = None,
) -> Injected | None:
    """Return the variant with a fault in it; None where this episode does not allow it, as an object out of view.

    Args:
        name: in `FAULTS`.
        severity: how strong; see `FAULTS`.
        episode: the recording that `images` are a variant of.
        images: frames by camera; left as they are.
        rng: chooses cameras, frames, instances and directions.
        other: a variant of another episode, of any length, with the same cameras and sizes, for "swapped_episode".

    Raises:
        InputError: an unknown fault; names the nearest.
    """
    if name not in FAULTS:
        raise InputError(f"fault {name!r}: unknown{nearest(name, FAULTS)}")
    if name == "swapped_episode":
        return _swapped(episode, images, other)
    return _INJECTORS[name](severity, episode, images, rng)


def removed(rgb: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return the frame with a region and a rim around it filled from beside it."""
    hole = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    return cv2.inpaint(np.ascontiguousarray(rgb), hole, INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)


def _vanished(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    def alter(rgb: np.ndarray, mask: np.ndarray, _: np.ndarray) -> np.ndarray:
        return removed(rgb, mask)

    return _instance_altered(_instances(episode, "manipulated"), alter, episode, images, rng)


def _object_moved(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    return _moved(_instances(episode, "manipulated"), severity, episode, images, rng)


def _gripper_shifted(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    robot = _instances(episode, "robot")
    gripper = [i for i in robot if "gripper" in episode.labels[i].class_name]
    return _moved(gripper or robot, severity, episode, images, rng)


def _hue_changed(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    turn = severity if rng.random() < 0.5 else -severity

    def alter(rgb: np.ndarray, mask: np.ndarray, _: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + turn // 2) % 180  # OpenCV counts hue in steps of two degrees
        return np.where(mask[..., None], cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), rgb)

    return _instance_altered(_instances(episode, "manipulated"), alter, episode, images, rng)


def _moved(
    candidates: list[int], severity: int, episode: Episode, images: Videos, rng: np.random.Generator
) -> Injected | None:
    angle = rng.uniform(0, 2 * np.pi)

    def alter(rgb: np.ndarray, mask: np.ndarray, front: np.ndarray) -> np.ndarray:
        shift_px = severity * len(rgb) / REFERENCE_HEIGHT_PX
        dx, dy = round(shift_px * np.cos(angle)), round(shift_px * np.sin(angle))
        made = removed(rgb, mask)
        moved = cv2.warpAffine(mask.astype(np.uint8), np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]), mask.shape[::-1]) > 0
        pixels = np.roll(rgb, (dy, dx), axis=(0, 1))
        return np.where((moved & ~front)[..., None], pixels, made)

    return _instance_altered(candidates, alter, episode, images, rng)


Alteration = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Of a frame, an instance's mask, and what stands before it (other robot parts); returns the frame."""


def _instance_altered(
    candidates: list[int], alter: Alteration, episode: Episode, images: Videos, rng: np.random.Generator
) -> Injected | None:
    """Alter one instance in the cameras that show it well, in all of the clip or from some frame on."""
    first = _first_frame(episode, rng)
    seen = {
        (camera, instance_id): _seen(passes, instance_id)[first:].sum() >= SEEN_FRAMES
        for camera, passes in episode.cameras.items()
        for instance_id in candidates
    }
    visible = [i for i in candidates if any(seen[camera, i] for camera in images)]
    if not visible:
        return None
    chosen = int(rng.choice(visible))
    cameras = _some([camera for camera in images if seen[camera, chosen]], rng)
    robot = _instances(episode, "robot")
    front = [] if chosen in robot else robot
    made = dict(images)
    for camera in cameras:
        instance = episode.cameras[camera].instance
        video = images[camera].copy()
        for frame in range(first, len(video)):
            mask = instance[frame] == chosen
            if mask.any():
                video[frame] = alter(video[frame], mask, np.isin(instance[frame], front))
        made[camera] = video
    return Injected(made, cameras, (first, episode.length))


def _extra_object(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    """Put a ball, or a second one of an object, on the scene, behind robot and objects; it stays in the world."""
    first = _first_frame(episode, rng)
    hue, is_copy = int(rng.integers(180)), rng.random() < 0.5
    order = _some(list(images), rng)
    made, touched = dict(images), []
    point = None
    for camera in order:
        passes = episode.cameras[camera]
        scene = ~np.isin(passes.instance, _instances(episode, "robot") + _instances(episode, "manipulated"))
        scene &= np.isfinite(passes.depth_m)
        if point is None:
            point = _scene_point(passes, scene, first, rng)
            if point is None:
                return None
        scale = passes.size[0] / REFERENCE_HEIGHT_PX
        thing = (_copy(passes, images[camera], _instances(episode, "manipulated")) if is_copy else None) or _ball(hue)
        video, shown, depth_then = images[camera].copy(), 0, None
        for frame in range(first, len(video)):
            at, depth = _projected(point, passes, frame)
            if depth <= 0 or not np.isfinite(at).all():
                continue
            depth_then = depth_then or depth
            width_px = severity * scale * float(np.clip(depth_then / depth, 0.3, 3.0))
            shown += _pasted(video[frame], thing, at, width_px, scene[frame]) >= 0.5 * (severity * scale) ** 2
        if shown >= SEEN_FRAMES:
            made[camera] = video
            touched.append(camera)
    return Injected(made, tuple(touched), (first, episode.length)) if touched else None


def _frame_slip(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    """Show each frame from `first` on as it should be some frames later, or earlier."""
    first = _first_frame(episode, rng)
    slip = severity if rng.random() < 0.5 else -severity
    frames = np.arange(episode.length)
    shown = np.where(frames >= first, np.clip(frames + slip, 0, episode.length - 1), frames)
    return _retimed(shown, first, episode.length, episode, images, rng)


def _frozen(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    """Hold one frame for a while; afterwards the clip goes on where it should be."""
    if episode.length <= severity + 1:
        return None
    frames = np.arange(episode.length)
    for _ in range(8):
        first = int(rng.integers(0, episode.length - severity))
        held = (frames >= first) & (frames < first + severity)
        made = _retimed(np.where(held, first, frames), first, first + severity, episode, images, rng)
        if made is not None:
            return made
    return None


def _flipped(severity: int, episode: Episode, images: Videos, rng: np.random.Generator) -> Injected | None:
    cameras = _some(list(images), rng)
    made = {camera: video[:, :, ::-1].copy() if camera in cameras else video for camera, video in images.items()}
    return Injected(made, cameras, (0, episode.length))


def _swapped(episode: Episode, images: Videos, other: Mapping[str, np.ndarray] | None) -> Injected | None:
    """Show another episode in all cameras, cut or held to the length."""
    if other is None:
        return None
    frames = np.minimum(np.arange(episode.length), min(len(video) for video in other.values()) - 1)
    return Injected({camera: other[camera][frames] for camera in images}, tuple(images), (0, episode.length))


_INJECTORS: dict[str, Callable[[int, Episode, Videos, np.random.Generator], Injected | None]] = {
    "object_vanished": _vanished,
    "object_moved": _object_moved,
    "gripper_shifted": _gripper_shifted,
    "extra_object": _extra_object,
    "frame_slip": _frame_slip,
    "frozen_frames": _frozen,
    "hue_change": _hue_changed,
    "left_right_flip": _flipped,
}


def _retimed(
    shown: np.ndarray, first: int, end: int, episode: Episode, images: Videos, rng: np.random.Generator
) -> Injected | None:
    """Show frame `shown[t]` at t in cameras in which that moves robot or object; None if there is none."""
    moved = []
    for camera in images:
        passes = episode.cameras[camera]
        roles = role_map(passes.instance, episode.labels, {"scene": 0.0, "robot": 1.0, "manipulated": 2.0})
        changed = (roles[shown] != roles).sum((1, 2)) * (REFERENCE_HEIGHT_PX / passes.size[0]) ** 2
        if (changed >= MOVED_PX).sum() >= 4:
            moved.append(camera)
    if not moved:
        return None
    cameras = _some(moved, rng)
    made = {camera: video[shown] if camera in cameras else video for camera, video in images.items()}
    return Injected(made, cameras, (first, end))


def _first_frame(episode: Episode, rng: np.random.Generator) -> int:
    """Draw where a fault begins: half of the time at once, else in the first half of the clip."""
    return 0 if rng.random() < 0.5 else int(rng.integers(0, max(1, episode.length // 2)))


def _some(cameras: list[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw all cameras half of the time, else one."""
    return tuple(cameras) if rng.random() < 0.5 else (cameras[int(rng.integers(len(cameras)))],)


def _instances(episode: Episode, role: str) -> list[int]:
    return [i for i, label in sorted(episode.labels.items()) if label.role == role]


def _seen(passes: CameraPasses, instance_id: int) -> np.ndarray:
    share = (passes.size[0] / REFERENCE_HEIGHT_PX) ** 2
    return (passes.instance == instance_id).sum((1, 2)) >= SEEN_PX * share


def _scene_point(passes: CameraPasses, scene: np.ndarray, frame: int, rng: np.random.Generator) -> np.ndarray | None:
    """Draw a point of the scene in the lower two thirds of the frame and away from everything else; in the world."""
    height = passes.size[0]
    away = cv2.distanceTransform(scene[frame].astype(np.uint8), cv2.DIST_L2, 5) >= 0.09 * height
    margin = height // 12
    away[: height // 3] = False
    for edge in (np.s_[-margin:], np.s_[:, :margin], np.s_[:, -margin:]):
        away[edge] = False
    places = np.argwhere(away)
    if not len(places):
        return None
    row, column = places[rng.integers(len(places))]
    ray = np.linalg.inv(passes.intrinsics_px) @ (column, row, 1.0)
    pose = passes.world_from_camera[frame]
    return pose[:3, :3] @ (ray * float(passes.depth_m[frame, row, column])) + pose[:3, 3]


def _projected(point: np.ndarray, passes: CameraPasses, frame: int) -> tuple[np.ndarray, float]:
    pose = passes.world_from_camera[frame]
    seen = passes.intrinsics_px @ (pose[:3, :3].T @ (point - pose[:3, 3]))
    return seen[:2] / seen[2], float(seen[2])


Thing = tuple[UInt8[np.ndarray, "a b 3"], Bool[np.ndarray, "a b"]]
"""Pixels and mask."""


def _ball(hue: int, side: int = 48) -> Thing:
    """Return a ball of one hue (0 to 179) that is lit from the upper left."""
    color = cv2.cvtColor(np.array([[[hue, 200, 210]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)
    y, x = (np.mgrid[:side, :side] + 0.5) * 2 / side - 1
    facing = np.sqrt(np.clip(1.0 - x * x - y * y, 0.0, 1.0))
    light = 0.45 + 0.55 * np.clip(0.75 * facing - 0.4 * x - 0.5 * y, 0.0, 1.0)
    return (light[..., None] * color).astype(np.uint8), x * x + y * y <= 1.0


def _copy(passes: CameraPasses, video: UInt8[np.ndarray, "t h w 3"], objects: list[int]) -> Thing | None:
    """Return the object of which most is seen, as the variant shows it; None if none is seen well."""
    sizes = {(i, t): int(n) for i in objects for t, n in enumerate((passes.instance == i).sum((1, 2)))}
    if not sizes or max(sizes.values()) < SEEN_PX:
        return None
    instance_id, frame = max(sizes, key=lambda key: sizes[key])
    mask = passes.instance[frame] == instance_id
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return video[frame][box], mask[box]


def _pasted(rgb: np.ndarray, thing: Thing, at: np.ndarray, width_px: float, scene: np.ndarray) -> int:
    """Paste a thing with its middle `at` (x, y) into `rgb`, where `scene` is seen; return its pixels in view."""
    pixels, mask = thing
    factor = width_px / max(mask.shape)
    middle = np.array([mask.shape[1] - 1, mask.shape[0] - 1]) / 2
    placed = np.array([[factor, 0, at[0] - factor * middle[0]], [0, factor, at[1] - factor * middle[1]]])
    size = rgb.shape[1::-1]
    inside = (cv2.warpAffine(mask.astype(np.float32), placed, size) > 0.5) & scene
    rgb[inside] = cv2.warpAffine(pixels, placed, size, borderMode=cv2.BORDER_REPLICATE)[inside]
    return int(inside.sum())


def severities_of(name: str) -> Mapping[int, str]:
    """Return the severities of a fault with what a table calls them.

    Raises:
        InputError: an unknown fault; names the nearest.
    """
    if name not in FAULTS:
        raise InputError(f"fault {name!r}: unknown{nearest(name, FAULTS)}")
    fault = FAULTS[name]
    return {severity: f"{severity} {fault.unit}" if severity else "" for severity in fault.severities}
