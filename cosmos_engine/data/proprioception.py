"""What a robot knows of itself without looking, by the names of observations."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cosmos_engine.errors import InputError

PROPRIOCEPTION = ("eef_pos", "eef_quat", "gripper_qpos", "gripper_pos")
"""Pose and gripper as robosuite and Isaac Lab name them, with or without the robot before them (`robot1_eef_pos`)."""
_NAME = re.compile(rf"(?:robot(\d+)_)?({'|'.join(PROPRIOCEPTION)})")


def proprioception(names: Iterable[str], of: str) -> tuple[str, ...]:
    """Return those of some observations that are proprioception, robot by robot.

    Args:
        names: of low-dimensional observations.
        of: what they are of, for the message.

    Raises:
        InputError: none is; names what there is.
    """
    known = sorted(names)
    found = [match for name in known if (match := _NAME.fullmatch(name))]
    if not found:
        raise InputError(f"{of}: no robot0_eef_pos or the like; say low_dim=[...], of {', '.join(known) or 'none'}")
    found.sort(key=lambda match: (int(match[1] or -1), PROPRIOCEPTION.index(match[2])))
    return tuple(match[0] for match in found)
