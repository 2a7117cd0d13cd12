"""Curation: what a dataset leaves out whatever the gate says of it.

Demos that are short or failed, clips that are black or stand still, variants that look like a sibling, and what a
person marked.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_engine.data import CameraPasses, Episode
from cosmos_engine.errors import InputError
from cosmos_engine.quality.color_adherence import cielab

SHORT, NO_SUCCESS, STATIC, NEAR_DUPLICATE, EXCLUDED = "short", "no success", "static", "near-duplicate", "excluded"
"""Reasons, as `rejected.json` has them; the gate's is `GATE`."""
GATE = "gate"

THUMBNAIL_PX = 8
THUMBNAIL_FRAMES = 4
SOURCE = 0
"""The number of the variant that is the original."""

_EXCLUSION = re.compile(r"(\d+)\s+(\d+)")


@dataclass(frozen=True)
class CurationConfig:
    """What is left out.

    Attributes:
        min_frames: demos of fewer are left out. 8 is the action chunk of the policies here.
        keep_failures: take demos without success too.
        near_duplicate: a variant whose `look` is nearer than this to the original's or to an accepted sibling's is left
            out, in CIELAB units; 0 keeps all. About 2.3 is a just noticeable difference (Mahy et al. 1994).
        static_share: a clip stands still if it changes by less than this share of what its source changes by.
        black_level: a clip is black if its brightest frame has a mean below this, in levels of 255.

    Raises:
        InputError: a number out of range; names the key.
    """

    min_frames: int = 8
    keep_failures: bool = False
    near_duplicate: float = 2.3
    static_share: float = 0.1
    black_level: float = 8.0

    def __post_init__(self) -> None:
        if self.min_frames < 1:
            raise InputError(f"curation.min_frames: expected 1 or more, got {self.min_frames}")
        for key, most in {"near_duplicate": 100.0, "static_share": 1.0, "black_level": 255.0}.items():
            if not 0 <= getattr(self, key) <= most:
                raise InputError(f"curation.{key}: expected a number in [0, {most:g}], got {getattr(self, key)}")


def demo_fault(length: int, success: bool, config: CurationConfig) -> str | None:
    """Return why a demo of `length` frames is left out, or None."""
    if length < config.min_frames:
        return SHORT
    return None if success or config.keep_failures else NO_SUCCESS


def source_fault(cameras: Mapping[str, CameraPasses], config: CurationConfig) -> str | None:
    """Return why a demo whose pixels are these is left out, or None: every camera is black, or none sees a change."""
    clips = [passes.rgb for passes in cameras.values()]
    black = all(_brightest(rgb) < config.black_level for rgb in clips)
    still = all(_change(rgb) == 0 for rgb in clips)
    return STATIC if clips and (black or still) else None


def clip_faults(
    images: Mapping[str, UInt8[np.ndarray, "t h w 3"]], source: Episode, config: CurationConfig
) -> tuple[str, ...]:
    """Return a line for each camera of a variant that is black or stands still where its source does not."""
    lines = []
    for camera, rgb in images.items():
        recorded = source.cameras[camera].rgb
        brightest, change, expected = _brightest(rgb), _change(rgb), config.static_share * _change(recorded)
        if brightest < config.black_level <= _brightest(recorded):
            lines.append(f"{camera}/brightest_frame {brightest:.2f}, expected at least {config.black_level:.2f}")
        elif change < expected:
            lines.append(f"{camera}/change {change:.2f}, expected at least {expected:.2f}")
    return tuple(lines)


def look(images: Mapping[str, UInt8[np.ndarray, "t h w 3"]]) -> Float32[np.ndarray, "n 3"]:
    """Return what a variant looks like at a glance: CIELAB thumbnails of some frames of each camera.

    Variants of a demo share geometry and motion, so thumbnails of the same frames differ by the look alone. A usual
    perceptual hash is of no use here: it keeps the geometry and leaves out the colour.
    """
    cells = []
    for camera in sorted(images):
        frames = images[camera]
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(THUMBNAIL_FRAMES, len(frames))).round().astype(int))
        for frame in frames[chosen]:
            small = cv2.resize(frame, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
            cells.append(cielab(small[None] / 255.0).reshape(-1, 3))
    return np.concatenate(cells).astype(np.float32)


def look_distance(one: Float32[np.ndarray, "n 3"], other: Float32[np.ndarray, "n 3"]) -> float:
    """Return the mean colour difference of two looks, in CIELAB units (CIE 1976)."""
    return float(np.linalg.norm(one - other, axis=-1).mean())


def near_duplicates(looks: Mapping[int, Float32[np.ndarray, "n 3"]], nearest: float) -> dict[int, str]:
    """Return the variants to drop, in order of their numbers, each with a line that names what it is like.

    Args:
        looks: by variant; `SOURCE`, the original, is never dropped.
        nearest: a variant that is nearer than this to one that is kept is dropped; in CIELAB units.
    """
    kept: list[int] = []
    dropped: dict[int, str] = {}
    for variant in sorted(looks):
        distances = {other: look_distance(looks[variant], looks[other]) for other in kept}
        like = min(distances, key=distances.__getitem__, default=None)
        if variant == SOURCE or like is None or distances[like] >= nearest:
            kept.append(variant)
            continue
        name = "the original" if like == SOURCE else f"variant {like}"
        dropped[variant] = f"look_distance {distances[like]:.2f} to {name}, expected at least {nearest:.2f}"
    return dropped


def read_exclusions(file: Path) -> frozenset[tuple[int, int]]:
    """Return the (demo, variant) pairs of a text file, one `demo variant` a line; # starts a comment.

    Variant 0 stands for the demo with all its variants. It is what the report's page exports.

    Raises:
        InputError: the file cannot be read, or a line is no pair of whole numbers; names the line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: exclusions cannot be read: {error}") from error
    pairs = set()
    for number, line in enumerate(lines, start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = _EXCLUSION.fullmatch(content)
        if match is None:
            raise InputError(f"{file}:{number}: expected `demo variant`, as in `3 2`, got {content[:40]!r}")
        pairs.add((int(match[1]), int(match[2])))
    return frozenset(pairs)


def check_exclusions(exclusions: Iterable[tuple[int, int]], demos: int, variants: int) -> None:
    """Raise InputError if there is no such demo or variant: the list is of another dataset."""
    for demo, variant in sorted(exclusions):
        if demo >= demos:
            raise InputError(f"--exclude: no demo {demo}; the recording has {demos}")
        if variant > variants:
            raise InputError(f"--exclude: demo {demo} has no variant {variant}; {variants} are asked for")


def _brightest(rgb: UInt8[np.ndarray, "t h w 3"]) -> float:
    """Return the mean of the brightest frame, in [0, 255]."""
    return float(rgb.mean(axis=(1, 2, 3), dtype=np.float64).max())


def _change(rgb: UInt8[np.ndarray, "t h w 3"]) -> float:
    """Return by how much the frame that is farthest from the first differs from it: mean of levels."""
    return max(float(cv2.absdiff(frame, rgb[0]).mean()) for frame in rgb)
