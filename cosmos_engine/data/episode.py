"""Episode: one recording from reset to done, with its render passes.

These classes check their arrays themselves, always, since what they hold comes from files and simulators; hence
`no_type_check`, which tells jaxtyping not to check them a second time under pytest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, no_type_check

import numpy as np
from numpy.typing import NDArray

from cosmos_engine.data.array_check import check_array
from cosmos_engine.errors import InputError

# Isaac Sim's Python, where the recorder writes episodes too, has no jaxtyping; annotations are strings there.
with suppress(ModuleNotFoundError):
    from jaxtyping import Bool, Float32, Float64, UInt8, UInt16

Role = Literal["robot", "manipulated", "scene"]

RESERVED_NAMES = ("action", "state", "timestamp")
"""Arrays of a dataset that are no observations."""

# Observations and cameras name files of a dataset.
_NAME = re.compile(r"\w[\w. -]*")


@no_type_check
@dataclass(frozen=True)
class InstanceLabel:
    """What an instance id stands for: its name, its class, and its role in the task."""

    name: str
    class_name: str
    role: Role

    def __post_init__(self) -> None:
        """Raise InputError if the role is none of robot, manipulated, scene."""
        if self.role not in get_args(Role):
            raise InputError(f"label {self.name!r}: role {self.role!r} is none of {', '.join(get_args(Role))}")


@no_type_check
@dataclass(frozen=True)
class CameraPasses:
    """The render passes of one camera over an episode of T frames."""

    rgb: UInt8[np.ndarray, "t h w 3"]
    """Colour, 0 to 255."""
    depth_m: Float32[np.ndarray, "t h w"]
    """Metres along the optical axis, > 0; inf where nothing was hit."""
    instance: UInt16[np.ndarray, "t h w"]
    """Instance ids; 0 is background."""
    intrinsics_px: Float64[np.ndarray, "3 3"]
    """Pinhole matrix in pixels."""
    world_from_camera: Float64[np.ndarray, "t 4 4"]
    """Pose of the camera in each frame, OpenCV axes: x right, y down, z forward; metres."""

    def __post_init__(self) -> None:
        """Raise InputError, naming the array, if a type or a shape is not as above."""
        check_array("rgb", self.rgb, "u1", (None, None, None, 3))
        frames, height, width, _ = self.rgb.shape
        check_array("depth_m", self.depth_m, "f4", (frames, height, width))
        check_array("instance", self.instance, "u2", (frames, height, width))
        check_array("intrinsics_px", self.intrinsics_px, "f8", (3, 3))
        check_array("world_from_camera", self.world_from_camera, "f8", (frames, 4, 4))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.rgb.shape[1]), int(self.rgb.shape[2])


@no_type_check
@dataclass(frozen=True)
class Episode:
    """One episode of T control steps: index t holds what was seen before action t was applied.

    Raises:
        InputError: if frame counts or sizes differ, nothing was recorded, an action or a state is not finite, an
            instance id has no label, or a name cannot be one; names the array.
    """

    actions: Float32[np.ndarray, "t a"]
    states: Float64[np.ndarray, "t s"]
    rewards: Float32[np.ndarray, " t"]
    dones: Bool[np.ndarray, " t"]
    observations: Mapping[str, Float32[np.ndarray, "t d"]]
    """Low-dimensional, by robomimic's names: robot0_eef_pos (m), robot0_eef_quat (xyzw), ..."""
    cameras: Mapping[str, CameraPasses]
    labels: Mapping[int, InstanceLabel]
    success: bool
    seed: int
    step_hz: float
    episode_id: str
    """A UUID: the identity of the episode wherever it is copied."""
    source: str
    """What recorded it, e.g. "embedded-mujoco"."""
    task: str
    instruction: str
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Numbers of any type and shape that the engine carries and does not read, by path: what an import has no place
    for, so that an export can give it back. Read only when asked for (`Recording.episode(index, extras=True)`)."""

    def __post_init__(self) -> None:
        """Check every array, whoever made it: a simulator's recorder as much as a file."""
        check_array("actions", self.actions, "f4", (None, None))
        if self.length == 0:
            raise InputError("actions: an episode needs at least one control step, got none")
        if not (np.isfinite(self.step_hz) and self.step_hz > 0):
            raise InputError(f"step_hz: expected a rate above 0, got {self.step_hz}")
        check_array("states", self.states, "f8", (self.length, None))
        check_array("rewards", self.rewards, "f4", (self.length,))
        check_array("dones", self.dones, "?", (self.length,))
        self._check_names()
        for name, array in self.observations.items():
            check_array(f"observation {name!r}", array, "f4", (self.length, None))
        for name, array in (("actions", self.actions), ("states", self.states)):
            if not np.isfinite(array).all():
                raise InputError(f"{name}: not finite at control step {_first_bad_row(array)}")
        for camera, passes in self.cameras.items():
            self._check_camera(camera, passes)

    @property
    def length(self) -> int:
        """The number of control steps T."""
        return len(self.actions)

    @property
    def timestamps_s(self) -> Float64[np.ndarray, " t"]:
        """Seconds since reset at which each action was applied: t / step_hz."""
        return np.arange(self.length, dtype=np.float64) / self.step_hz

    def _check_names(self) -> None:
        taken = {f"{camera}_{name}": camera for camera in self.cameras for name in ("image", "depth", "instance")}
        for name in (*self.observations, *self.cameras):
            if _NAME.fullmatch(name) is None:
                raise InputError(f"{name!r}: names a file, so expected letters, digits, '_', '-', '.' and spaces")
        for name in self.observations:
            if name in RESERVED_NAMES:
                raise InputError(f"observation {name!r}: the name is taken in a dataset; give it another")
            if name in taken:
                raise InputError(f"observation {name!r}: the name is taken by camera {taken[name]!r}; give it another")
        for path, array in self.extras.items():
            if any(name in ("", ".", "..") for name in path.split("/")):
                raise InputError(f"extra {path!r}: expected names joined by '/'")
            if array.dtype.kind not in "biuf":
                raise InputError(f"extra {path!r}: expected numbers, got {array.dtype}")

    def _check_camera(self, camera: str, passes: CameraPasses) -> None:
        check_array(f"camera {camera!r}", passes.rgb, "u1", (self.length, *passes.size, 3))
        present = np.zeros(1 << 16, dtype=bool)
        present[passes.instance] = True
        unlabelled = [int(i) for i in np.flatnonzero(present) if i != 0 and int(i) not in self.labels]
        if unlabelled:
            raise InputError(f"camera {camera!r} instance: ids {unlabelled[:5]} have no label")


def _first_bad_row(array: NDArray[Any]) -> int:
    return int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
