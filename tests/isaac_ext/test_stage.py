"""Stage and roles on the real USD library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pxr")

from fake_kit import small_stage

from cosmos_engine.errors import InputError
from isaac_ext.labels import PrimLabel
from isaac_ext.roles import StageRoles
from isaac_ext.stage import (
    BodyPoses,
    PoseLayer,
    articulation_paths,
    body_paths,
    camera_paths,
    own_label,
    set_label,
    world_poses,
)

CUBE, ROBOT, HAND = "/World/Cube", "/World/robot", "/World/robot/panda_hand"


def test_stage_says_what_can_be_chosen() -> None:
    stage = small_stage()
    stage.DefinePrim("/OmniverseKit_Persp", "Camera")
    assert sorted(camera_paths(stage)) == ["/World/front", f"{HAND}/wrist"]
    assert articulation_paths(stage) == [ROBOT]
    assert body_paths(stage) == [f"{ROBOT}/panda_link0", HAND, CUBE]


def test_articulation_on_a_joint_means_the_robot_above_it() -> None:
    from pxr import UsdPhysics

    stage = small_stage()
    UsdPhysics.ArticulationRootAPI(stage.GetPrimAtPath(ROBOT)).GetPrim().RemoveAPI(UsdPhysics.ArticulationRootAPI)
    joint = UsdPhysics.FixedJoint.Define(stage, f"{ROBOT}/root_joint")
    UsdPhysics.ArticulationRootAPI.Apply(joint.GetPrim())
    assert articulation_paths(stage) == [ROBOT]


@pytest.mark.parametrize(
    "author",
    [
        lambda stage, path: set_label(stage, path, "mug"),
        lambda stage, path: _old_semantics(stage, path, "mug"),
    ],
    ids=["LabelsAPI", "before 5.0"],
)
def test_labels_of_both_schemas_are_read(author: Any) -> None:
    stage = small_stage()
    assert own_label(stage.GetPrimAtPath(CUBE)) == ""
    author(stage, CUBE)
    assert own_label(stage.GetPrimAtPath(CUBE)) == "mug"
    assert own_label(stage.GetPrimAtPath(CUBE), "role") == ""


def _old_semantics(stage: Any, path: str, label: str) -> None:
    from pxr import Sdf

    prim = stage.GetPrimAtPath(path)
    for word, value in (("Type", "class"), ("Data", label)):
        prim.CreateAttribute(f"semantic:Semantics:params:semantic{word}", Sdf.ValueTypeNames.String).Set(value)


def test_roles_come_from_labels() -> None:
    roles = StageRoles(small_stage(labelled=True))
    assert roles.paths("robot") == [ROBOT]
    assert roles.paths("manipulated") == [CUBE]
    mesh = roles.entity(PrimLabel(f"{HAND}/visuals/mesh", ""))
    assert (mesh.name, mesh.class_name) == (ROBOT, "robot")
    assert roles.instance_label(roles.entity(PrimLabel(f"{CUBE}/visuals", ""))).role == "manipulated"
    table = roles.instance_label(roles.entity(PrimLabel("/World/Table/top/mesh", "")))
    assert (table.name, table.class_name, table.role) == ("/World/Table", "table", "scene")


def test_chosen_paths_go_before_labels() -> None:
    stage = small_stage(labelled=True)
    roles = StageRoles(stage, robot=[HAND], manipulated=["/World/Table"])
    assert roles.paths("robot") == [ROBOT, HAND]
    assert roles.entity(PrimLabel(f"{HAND}/visuals", "")).name == HAND
    assert roles.instance_label(roles.entity(PrimLabel("/World/Table/leg", ""))).role == "manipulated"


def test_unlabelled_scene_is_grouped_at_the_second_level() -> None:
    roles = StageRoles(small_stage(), robot=[ROBOT], manipulated=[CUBE])
    entity = roles.entity(PrimLabel("/World/Shelf/board_3/mesh", ""))
    assert (entity.name, entity.class_name) == ("/World/Shelf", "shelf")


def test_label_that_is_no_role_is_named() -> None:
    stage = small_stage()
    set_label(stage, CUBE, "target", "role")
    with pytest.raises(InputError, match=r"prim '/World/Cube': role 'target' is none of robot, manipulated, scene"):
        StageRoles(stage, robot=[ROBOT])


unit = st.floats(-1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(
    positions=st.lists(st.tuples(unit, unit, unit), min_size=3, max_size=3),
    quats=st.lists(
        st.tuples(unit, unit, unit, unit).filter(lambda quat: np.linalg.norm(quat) > 0.1), min_size=3, max_size=3
    ),
)
def test_replayed_bodies_are_where_they_were_recorded(positions: Any, quats: Any) -> None:
    """Whatever their nesting and scale, and parents before children: the world poses are those of the tape."""
    from pxr import Gf, UsdGeom

    stage = small_stage()
    nested = UsdGeom.Xform.Define(stage, f"{HAND}/tool")
    nested.AddTranslateOp().Set(Gf.Vec3d(0.1, 0.2, 0.3))
    paths = [f"{HAND}/tool", HAND, CUBE]
    unit_quats = np.array(quats) / np.linalg.norm(quats, axis=1, keepdims=True)
    before = world_poses(stage, paths).flat()
    layer = PoseLayer(stage, paths)
    np.testing.assert_allclose(world_poses(stage, paths).flat(), before, atol=1e-9)
    poses = BodyPoses(np.array(positions), unit_quats)
    for _ in range(2):
        layer.show(BodyPoses.unflat(poses.flat()))
        shown = world_poses(stage, paths)
        np.testing.assert_allclose(shown.positions, poses.positions, atol=1e-6)
        alike = np.abs((shown.quats_wxyz * unit_quats).sum(axis=1))
        np.testing.assert_allclose(alike, 1.0, atol=1e-6)
    matrix = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(stage.GetPrimAtPath(CUBE)))
    np.testing.assert_allclose(np.linalg.norm(matrix[:3, :3], axis=1), 0.05, atol=1e-6)  # its size stays
    layer.close()
    np.testing.assert_allclose(world_poses(stage, paths).flat(), before, atol=1e-9)


def test_pose_layer_refuses_what_has_no_place_and_another_number_of_bodies() -> None:
    stage = small_stage()
    stage.DefinePrim("/World/Notes", "Scope")
    with pytest.raises(InputError, match="'/World/Notes': has no place in space"):
        PoseLayer(stage, ["/World/Notes"])
    layer = PoseLayer(stage, [CUBE])
    with pytest.raises(InputError, match="expected poses of 1 bodies, got 2"):
        layer.show(BodyPoses(np.zeros((2, 3)), np.ones((2, 4))))
