"""The scene keeps the names that appearances and passes rely on."""

import numpy as np
import pytest

from cosmos_engine.sim.scene import CAMERAS, build_model, geom_instances, instance_labels
from cosmos_engine.sim.tasks import TASKS


@pytest.fixture(params=sorted(TASKS), scope="module")
def scene(request):
    objects = TASKS[request.param].objects
    return build_model(objects), objects


def test_every_visible_geom_has_a_named_textured_material(scene):
    model, objects = scene
    names = {"table", "wall", "floor", "robot", "robot_dark"} | {item.name for item in objects}
    assert {model.material(i).name for i in range(model.nmat)} == names
    assert {model.texture(i).name for i in range(model.ntex)} == names
    visible = model.geom_group < 3
    assert (model.geom_matid[visible] >= 0).all()


def test_every_geom_belongs_to_a_labelled_instance(scene):
    model, objects = scene
    instances, labels = geom_instances(model, objects), instance_labels(objects)
    assert instances.dtype == np.uint16
    assert set(instances.tolist()) == set(labels)
    for geom, instance in enumerate(instances.tolist()):
        body = model.body(int(model.geom_bodyid[geom])).name
        label = labels[instance]
        if label.role == "robot":
            assert body.startswith(("robot_base", "link", "gripper_"))
        else:
            assert body == label.name


def test_roles_are_robot_scene_and_manipulated(scene):
    _, objects = scene
    labels = instance_labels(objects)
    roles = {label.name: label.role for label in labels.values()}
    assert roles == {
        "robot": "robot",
        "gripper": "robot",
        "table": "scene",
        "wall": "scene",
        "floor": "scene",
    } | {item.name: "manipulated" for item in objects}


def test_cameras_and_lights_have_the_agreed_names(scene):
    model, _ = scene
    assert {model.camera(i).name for i in range(model.ncam)} == set(CAMERAS)
    assert [model.light(i).name for i in range(model.nlight)] == ["light0", "light1", "light2"]
