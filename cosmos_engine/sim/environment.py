"""The environment that a recorder, a policy and a benchmark see: a protocol and the values it exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from cosmos_engine.data.episode import CameraPasses, InstanceLabel

Observation = Mapping[str, np.ndarray]
"""Low-dimensional float32 vectors and, with cameras on, `<camera>_image` uint8 (h, w, 3); robomimic's names."""


class LazyObservation(Mapping[str, np.ndarray]):
    """An observation whose images are rendered when they are first looked at; who never looks pays nothing.

    Args:
        ready: the arrays that are there.
        images: name -> a function that renders the image of the observed state, whatever happened since.
    """

    def __init__(self, ready: Mapping[str, np.ndarray], images: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._ready = dict(ready)
        self._images = images

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._ready and name in self._images:
            self._ready[name] = self._images[name]()
        return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._ready, *self._images]))  # in one order, rendered or not

    def __len__(self) -> int:
        return len(self._ready.keys() | self._images.keys())


@dataclass(frozen=True)
class CameraFrame:
    """Hold the render passes of one camera at one instant.

    `depth_m` runs along the optical axis and is inf where nothing was hit; `instance` is 0 there.
    `world_from_camera` has OpenCV axes: x right, y down, z forward.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    depth_m: Float32[np.ndarray, "h w"]
    instance: UInt16[np.ndarray, "h w"]
    intrinsics_px: Float64[np.ndarray, "3 3"]
    world_from_camera: Float64[np.ndarray, "4 4"]


def stacked(frames: Sequence[CameraFrame]) -> CameraPasses:
    """Return one camera's frames as an episode's passes; the lens is the first frame's."""
    return CameraPasses(
        rgb=np.stack([frame.rgb for frame in frames]),
        depth_m=np.stack([frame.depth_m for frame in frames]),
        instance=np.stack([frame.instance for frame in frames]),
        intrinsics_px=frames[0].intrinsics_px,
        world_from_camera=np.stack([frame.world_from_camera for frame in frames]),
    )


@dataclass(frozen=True)
class StepResult:
    """Tell what one control step led to.

    `terminated` means success, after which the environment has no more to learn from; `truncated` means that the
    horizon ended the episode, so a value function bootstraps there.
    """

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool


@runtime_checkable
class Environment(Protocol):
    """Simulate one manipulation task at a fixed control rate.

    Actions are float32 vectors in [-1, 1]. `set_state(get_state())` changes nothing: the states, rewards and passes
    that follow are the same bits.
    """

    @property
    def task(self) -> str: ...

    @property
    def instruction(self) -> str: ...

    @property
    def step_hz(self) -> float: ...

    @property
    def camera_names(self) -> tuple[str, ...]: ...

    @property
    def action_dim(self) -> int: ...

    @property
    def horizon(self) -> int: ...

    @property
    def labels(self) -> Mapping[int, InstanceLabel]: ...

    @property
    def observation_spec(self) -> Mapping[str, tuple[int, ...]]: ...

    def reset(self, seed: int) -> Observation:
        """Start the episode that `seed` names; the same seed gives the same start under any appearance."""
        ...

    def step(self, action: Float32[np.ndarray, " a"]) -> StepResult:
        """Apply one action for one control step."""
        ...

    def observe(self) -> Observation:
        """Return the observation of the present state."""
        ...

    def render_passes(self, camera: str) -> CameraFrame:
        """Render rgb, depth and instance ids of the present state."""
        ...

    def get_state(self) -> Float64[np.ndarray, " s"]:
        """Return everything that the future depends on."""
        ...

    def set_state(self, state: Float64[np.ndarray, " s"]) -> None:
        """Go back to a state that `get_state` returned."""
        ...

    def success(self) -> bool:
        """Tell whether the present state fulfils the task."""
        ...

    def close(self) -> None:
        """Free what the environment holds (a GL context); it cannot be used afterwards."""
        ...
