"""Stretches: equally long runs of frames that overlap by half, so that a fault of a second is not averaged away."""

from __future__ import annotations


def stretches(length: int, frames: int) -> list[slice]:
    """Return stretches of `frames` frames that cover a clip: one every half of that, and one at the end.

    A clip that is not longer is one stretch.
    """
    last = max(0, length - frames)
    starts = [*range(0, last, max(1, frames // 2)), last]
    return [slice(start, start + frames) for start in starts]
