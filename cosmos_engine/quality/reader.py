"""A reader: what tells from rgb alone where robot and objects are, and how far everything is.

Shapes: t frames, h rows, w columns, r roles in the order of `ROLES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.data import Role


@dataclass(frozen=True)
class Readings:
    """What a reader sees in the frames of one clip.

    Attributes:
        role_probabilities: of each role at each pixel, in the order of `ROLES`, in [0, 1], summing to 1.
        log_depth: natural logarithm of the depth along the optical axis, up to one number added to a whole frame.
    """

    role_probabilities: Float32[np.ndarray, "t h w r"]
    log_depth: Float32[np.ndarray, "t h w"]

    def mask(self, role: Role) -> Bool[np.ndarray, "t h w"]:
        """Return the pixels whose most probable role is `role`."""
        return self.role_probabilities.argmax(axis=-1) == ROLES.index(role)


@runtime_checkable
class Reader(Protocol):
    """Read geometry back from rgb; the one that ships, or a larger one where a user has its weights.

    A reader that can only segment what it is shown first (SAM2) or knows depth only (Video-Depth-Anything) is made into
    one of these by an adapter that holds what it needs.
    """

    @property
    def name(self) -> str:
        """What provenance calls this reader; changes with its weights."""
        ...

    def read(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Readings:
        """Return what is seen in a clip, frame by frame of its length and size."""
        ...
