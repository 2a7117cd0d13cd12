import numpy as np
import pytest

from cosmos_engine.data import InstanceLabel
from cosmos_engine.sim.scene import instance_labels
from cosmos_engine.sim.tasks import TASKS
from cosmos_engine.transfer.part_head import TABLETOP_IDS
from cosmos_engine.transfer.parts import OTHER, PARTS, part_map, part_of_instances


@pytest.mark.parametrize("task", TASKS)
def test_parts_of_the_tabletop_are_the_ids_that_the_part_head_starts_from(task):
    parts = part_of_instances(instance_labels(TASKS[task].objects))
    assert parts == {instance: part for part, instance in enumerate(TABLETOP_IDS) if instance in parts}
    assert set(parts) >= {1, 2, 3, 4, 5, 6}


def test_labels_of_another_simulator():
    labels = {
        40: InstanceLabel("/World/Franka", "franka", "robot"),
        41: InstanceLabel("/World/Franka/hand", "panda_hand", "robot"),
        7: InstanceLabel("/World/mug", "mug", "manipulated"),
        9: InstanceLabel("/World/plate", "plate", "manipulated"),
        12: InstanceLabel("/World/fork", "fork", "manipulated"),
        3: InstanceLabel("/World/Desk", "desk", "scene"),
        4: InstanceLabel("/World/Table", "packing table", "scene"),
    }
    named = {key: PARTS[part] for key, part in part_of_instances(labels).items()}
    assert named == {
        40: "robot",
        41: "gripper",
        7: "object",
        9: "second object",
        12: "second object",
        3: "other",
        4: "table",
    }
    instance = np.array([[[0, 40], [65535, 7]]], np.uint16)
    expected = [[OTHER, PARTS.index("robot")], [OTHER, PARTS.index("object")]]
    np.testing.assert_array_equal(part_map(instance, labels)[0], expected)
