"""Role maps: where the robot, the manipulated objects and the scene are, from exact instance ids.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float32, UInt16

from cosmos_engine.data import InstanceLabel, Role

ROLES: tuple[Role, ...] = get_args(Role)


def role_map(
    instance: UInt16[np.ndarray, "t h w"], labels: Mapping[int, InstanceLabel], factors: Mapping[str, float]
) -> Float32[np.ndarray, "t h w"]:
    """Return the factor of each pixel's role; a role that `factors` does not name has factor 1.

    Background (id 0), and any id without a label, is scene.
    """
    of_id = np.full(1 << 16, factors.get("scene", 1.0), np.float32)
    for instance_id, label in labels.items():
        of_id[instance_id] = factors.get(label.role, 1.0)
    of_id[0] = factors.get("scene", 1.0)
    return of_id[instance]


def role_mask(
    instance: UInt16[np.ndarray, "t h w"], labels: Mapping[int, InstanceLabel], roles: Collection[str]
) -> Bool[np.ndarray, "t h w"]:
    """Return which pixels have one of `roles`; background is scene."""
    return role_map(instance, labels, {role: float(role in roles) for role in ROLES}) > 0
