"""Parts of a scene: what the tiny model tells apart, and paints each in a look of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8, UInt16

from cosmos_engine.data import InstanceLabel

PARTS = ("table", "wall", "floor", "robot", "gripper", "object", "second object", "other")
OTHER = PARTS.index("other")


def part_of_instances(labels: Mapping[int, InstanceLabel]) -> dict[int, int]:
    """Return the index into `PARTS` of every instance; what no part describes, as the background, is `OTHER`.

    Table, wall and floor are known by their class names, the robot's gripper by its. Of several manipulated objects
    the first is "object" and the rest are "second object".
    """
    parts: dict[int, int] = {}
    objects = 0
    for instance_id, label in sorted(labels.items()):
        words = label.class_name.lower()
        if label.role == "manipulated":
            parts[instance_id] = PARTS.index("object" if objects == 0 else "second object")
            objects += 1
        elif label.role == "robot":
            is_gripper = any(word in words for word in ("gripper", "finger", "hand"))
            parts[instance_id] = PARTS.index("gripper" if is_gripper else "robot")
        else:
            named = [name for name in ("table", "wall", "floor") if name in words]
            parts[instance_id] = PARTS.index(named[0]) if named else OTHER
    return parts


def part_map(instance: UInt16[np.ndarray, "t h w"], labels: Mapping[int, InstanceLabel]) -> UInt8[np.ndarray, "t h w"]:
    """Return the index into `PARTS` at every pixel."""
    table = np.full(1 << 16, OTHER, np.uint8)
    for instance_id, part in part_of_instances(labels).items():
        table[instance_id] = part
    return table[instance]
