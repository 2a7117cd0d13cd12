"""Long videos in segments: which source frames each segment sees, and which of its frames are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cosmos_engine.errors import InputError

ArrayT = TypeVar("ArrayT", bound=np.ndarray)


@dataclass(frozen=True)
class Segment:
    """One segment of a clip.

    Attributes:
        index: 0 for the first.
        source_frames: clip frames that the segment's frames show, in order; padding at the end mirrors the clip.
        conditional_frames: how many frames at its start are given by the end of the segment before.
        keep: the segment's frames that are new and no padding.
    """

    index: int
    source_frames: tuple[int, ...]
    conditional_frames: int
    keep: slice


def plan_segments(frames: int, *, segment_frames: int = 93, conditional_frames: int = 1) -> tuple[Segment, ...]:
    """Plan the segments of a clip; their kept frames are the clip's frames, each once and in order.

    Segments start every `segment_frames - conditional_frames` frames; the first has no conditional frames.

    Args:
        frames: frames of the clip, at least 1.
        segment_frames: frames generated at once.
        conditional_frames: frames at the start of a segment that repeat the end of the one before; 0, 1 or 2.

    Raises:
        InputError: an empty clip, or conditional frames that leave nothing to generate.
    """
    if frames < 1:
        raise InputError(f"clip: expected at least 1 frame, got {frames}")
    if conditional_frames not in (0, 1, 2) or conditional_frames >= segment_frames:
        raise InputError(
            f"conditional frames: expected 0, 1 or 2, fewer than the {segment_frames} of a segment, "
            f"got {conditional_frames}"
        )
    stride = segment_frames - conditional_frames
    count = 1 + max(0, -(-(frames - segment_frames) // stride))
    segments = []
    for index in range(count):
        start = index * stride
        real = range(start, min(start + segment_frames, frames))
        given = conditional_frames if index else 0
        segments.append(Segment(index, _padded(real, segment_frames), given, slice(given, len(real))))
    return tuple(segments)


def join_segments(segments: Sequence[Segment], videos: Sequence[ArrayT]) -> ArrayT:
    """Put the kept frames of each segment's video (frames first) one after another."""
    kept = [video[segment.keep] for segment, video in zip(segments, videos, strict=True)]
    return np.concatenate(kept)  # type: ignore[return-value]


def latent_frames(frames: int, time_factor: int = 4) -> int:
    """Return the latent frames of a causal codec: one for the first frame, one for each `time_factor` that follow.

    Raises:
        InputError: a count that such a codec cannot encode.
    """
    if frames < 1 or (frames - 1) % time_factor:
        raise InputError(
            f"a codec of {time_factor} frames a latent takes 1, {1 + time_factor}, ... frames, got {frames}"
        )
    return (frames - 1) // time_factor + 1


def conditional_latent_frames(conditional_frames: int, time_factor: int = 4) -> int:
    """Return the latent frames that given frames fix: 1 for 1 to `time_factor` frames, as in NVIDIA's pipeline."""
    return 1 + (conditional_frames - 1) // time_factor


def _padded(frames: range, length: int) -> tuple[int, ...]:
    """Mirror a run of frames until it is long enough; as in NVIDIA's pipeline the mirror repeats the last frame."""
    padded = list(frames)
    while len(padded) < length:
        mirrored = padded[::-1][: len(padded) - 1] or padded
        padded += mirrored[: length - len(padded)]
    return tuple(padded)
