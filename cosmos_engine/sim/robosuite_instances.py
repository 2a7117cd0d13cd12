"""Instance ids of a robosuite model: which body belongs to the robot, to an object, to the scene.

robosuite has no ids of its own that say so; its body names do, by their prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import UInt16

from cosmos_engine.data.episode import InstanceLabel, Role

HIDDEN_GROUP = 4
"""A geom group that MuJoCo does not draw: where collision shapes go."""
_ROBOT_PREFIXES = ("robot0_", "fixed_mount0_", "mount0_", "left_eef_target", "right_eef_target")
_GRIPPER_PREFIX = "gripper0_"


@dataclass(frozen=True)
class Instances:
    """Say what every instance id stands for, and which id each body of a model has."""

    labels: Mapping[int, InstanceLabel]
    of_body: UInt16[np.ndarray, " bodies"]


def instance_labels(model: mujoco.MjModel, objects: Mapping[str, str], manipulated: tuple[str, ...]) -> Instances:
    """Return the instances of a robosuite model: robot, gripper, every object, and every other body as scene.

    Args:
        model: compiled model.
        objects: name of an object -> its root body; what hangs below it belongs to it.
        manipulated: the objects that the task is about; the others are scene, as are the goal's markers.
    """
    of_object = {root: name for name, root in objects.items()}
    labels = {
        1: InstanceLabel("robot", "robot", "robot"),
        2: InstanceLabel("gripper", "gripper", "robot"),
    }
    ids: dict[str, int] = {}
    of_body = np.zeros(model.nbody, np.uint16)
    for body in range(model.nbody):
        name = model.body(body).name
        parent = int(model.body_parentid[body])
        if name.startswith(_GRIPPER_PREFIX):
            of_body[body] = 2
        elif name.startswith(_ROBOT_PREFIXES):
            of_body[body] = 1
        elif body != 0 and parent != 0:
            of_body[body] = of_body[parent]  # bodies come after their parents
        else:
            of_body[body] = _scene_or_object(of_object.get(name, name), ids, labels, manipulated, name in of_object)
    return Instances(labels, of_body)


def geom_instances(model: mujoco.MjModel, instances: Instances) -> UInt16[np.ndarray, " geoms"]:
    """Return the instance id of each geom of the model."""
    return instances.of_body[model.geom_bodyid]


def _scene_or_object(
    name: str, ids: dict[str, int], labels: dict[int, InstanceLabel], manipulated: tuple[str, ...], is_object: bool
) -> int:
    if name not in ids:
        ids[name] = len(labels) + 1
        shown = "room" if name == "world" else name
        role: Role = "scene"
        if is_object and name in manipulated:
            role = "manipulated"
        labels[ids[name]] = InstanceLabel(shown, shown.rstrip("12AB").lower(), role)
    return ids[name]
