"""What the recorder is told: which cameras, which robot, how often, how passes are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_engine.errors import InputError

MODES = ("replay", "live")


@dataclass(frozen=True)
class RecorderConfig:
    """Say what to record and how.

    `replay` records states only, which costs next to nothing, and renders the passes afterwards from the poses, with
    the timeline stopped: every frame shows exactly its state. `live` renders between physics steps as they happen, for
    scenes whose look is not all in the poses (cloth, fluids, animated materials).
    """

    folder: str = ""
    cameras: tuple[str, ...] = ()
    """Prim paths; a camera is named by the last word of its path."""
    robot: str = ""
    """Prim path of the articulation; by default the prim that is labelled robot."""
    manipulated: tuple[str, ...] = ()
    end_effector: str = ""
    """Prim path of a link; by default the one that carries the fingers."""
    task: str = "task"
    instruction: str = ""
    height: int = 256
    width: int = 256
    control_hz: float = 20.0
    mode: str = "replay"
    """One of MODES."""
    rt_subframes: int = 4
    warm_up_frames: int = 3

    def __post_init__(self) -> None:
        """Raise InputError for what can be told without a stage."""
        if not self.folder:
            raise InputError("recording folder: none is given")
        if not self.cameras:
            raise InputError("cameras: none is chosen")
        if self.mode not in MODES:
            raise InputError(f"mode {self.mode!r}: expected {' or '.join(MODES)}")
        for name in ("height", "width", "control_hz", "rt_subframes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if self.warm_up_frames < 1:
            raise InputError(
                f"warm_up_frames: expected at least 1 (the first frame can be stale), got {self.warm_up_frames}"
            )


def camera_names(paths: Sequence[str]) -> dict[str, str]:
    """Return name -> path of cameras: the last word of the path in lower case, with the one before it where two agree.

    Raises:
        InputError: two cameras that still have one name.
    """
    for words in (1, 2, 3):
        names = ["_".join(re.sub(r"\W", "_", word).lower() for word in path.split("/")[-words:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise InputError(f"cameras: two have one name: {', '.join(sorted(paths))}")


def whole_ratio(physics_hz: float, control_hz: float) -> int:
    """Return the physics steps in a control step.

    Raises:
        InputError: it is no whole number.
    """
    ratio = physics_hz / control_hz
    if ratio < 1 - 1e-3 or abs(ratio - round(ratio)) > 1e-3:
        raise InputError(f"control_hz: expected a divisor of the physics rate {physics_hz:g} Hz, got {control_hz:g}")
    return round(ratio)
