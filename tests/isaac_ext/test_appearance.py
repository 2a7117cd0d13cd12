"""What a look changes, on the real USD library: every change is there, and every change is taken back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("pxr")

from fake_kit import small_stage

from cosmos_engine.errors import InputError
from isaac_ext.appearance import ROOT, AppearanceLayer
from isaac_ext.look import Bystander, SceneLook, Surface
from isaac_ext.selfcheck_looks import write_checker
from isaac_ext.stage import body_paths

CUBE, ROBOT, HAND, FRONT = "/World/Cube", "/World/robot", "/World/robot/panda_hand", "/World/front"
INPUTS = json.loads((Path(__file__).parents[1] / "contracts" / "shader_inputs.json").read_text())["OmniPBR"]
QUADS = [[(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 2.0, 0.0), (0.0, 2.0, 0.0)]]


def flat(stage: Any) -> str:
    """Return all that a renderer and physics see of a stage."""
    return str(stage.Flatten(addSourceFileComment=False).ExportToString())


def bound(stage: Any, path: str, purpose: str = "") -> Any:
    """Return the material that a prim is drawn, or felt, with."""
    from pxr import UsdShade

    api = UsdShade.MaterialBindingAPI(stage.GetPrimAtPath(path))
    return api.ComputeBoundMaterial(*[purpose] if purpose else [])[0]


def shader_of(stage: Any, path: str) -> Any:
    """Return the shader of the material that a prim is drawn with, found as a renderer finds it."""
    shader, _, _ = bound(stage, path).ComputeSurfaceSource("mdl")
    return shader


def everything(layer: AppearanceLayer, texture: str) -> None:
    """Change all that can be changed."""
    layer.scale_lights(0.5)
    layer.tint_lights((1.0, 0.5, 0.2))
    layer.cover([ROBOT], Surface(texture=texture, tile_m=0.3, in_world=False))
    layer.cover([CUBE], Surface(rgb=(0.0, 0.1, 0.9)))
    layer.move_camera(FRONT, (0.01, -0.02, 0.03), (0.0, 0.05, 0.0))
    layer.stand(Bystander("can", (1.0, 1.0, 0.0), (0.4, 0.3, 0.02), 0.0, (0.06, 0.06, 0.04)))
    layer.put_up("floor", QUADS, Surface(texture=texture))


def test_everything_is_taken_back_to_the_letter(tmp_path: Path) -> None:
    stage = small_stage()
    authored, layers = flat(stage), list(stage.GetSessionLayer().subLayerPaths)
    root = stage.GetRootLayer().ExportToString()
    layer = AppearanceLayer(stage)
    for take_back in (layer.begin, layer.begin, layer.close, layer.close):
        if take_back == layer.begin:
            everything(layer, str(tmp_path / "a.png"))
            assert flat(stage) != authored
        take_back()
        assert flat(stage) == authored
    assert list(stage.GetSessionLayer().subLayerPaths) == layers
    assert stage.GetRootLayer().ExportToString() == root


def test_lights_are_scaled_and_tinted() -> None:
    from pxr import UsdLux

    stage = small_stage()
    layer = AppearanceLayer(stage)
    light = UsdLux.LightAPI(stage.GetPrimAtPath("/World/Light"))
    layer.scale_lights(0.5)
    layer.tint_lights((1.0, 0.5, 0.2))
    assert light.GetIntensityAttr().Get() == 500.0
    assert tuple(light.GetColorAttr().Get()) == pytest.approx((1.0, 0.5, 0.2))
    assert light.GetEnableColorTemperatureAttr().Get() is False
    layer.begin()
    layer.scale_lights(2.0)
    assert light.GetIntensityAttr().Get() == 2000.0


def test_texture_is_projected_onto_all_that_is_below() -> None:
    """Through an instance as well: the parts of most robots are instances, without texture coordinates."""
    from pxr import Sdf, UsdGeom

    stage = small_stage()
    UsdGeom.Cube.Define(stage, "/Shared/mesh")
    part = UsdGeom.Xform.Define(stage, f"{HAND}/part").GetPrim()
    part.GetReferences().AddInternalReference("/Shared")
    part.SetInstanceable(True)
    layer = AppearanceLayer(stage)
    layer.cover([ROBOT], Surface(texture="/tmp/a.png", tile_m=0.25, in_world=False, roughness=0.3))
    for path in (f"{HAND}/visuals", f"{HAND}/part/mesh"):
        shader = shader_of(stage, path)
        assert shader.GetSourceAsset("mdl") == Sdf.AssetPath("OmniPBR.mdl")
        assert shader.GetSourceAssetSubIdentifier("mdl") == "OmniPBR"
        values = {found.GetBaseName(): found.Get() for found in shader.GetInputs()}
        assert values["diffuse_texture"].path == "/tmp/a.png"
        assert (values["project_uvw"], values["world_or_object"]) == (True, False)
        assert tuple(values["texture_scale"]) == (4.0, 4.0)
        assert values["reflection_roughness_constant"] == pytest.approx(0.3)
    layer.cover([CUBE], Surface(rgb=(0.1, 0.2, 0.3)))
    values = {found.GetBaseName(): found.Get() for found in shader_of(stage, CUBE).GetInputs()}
    assert tuple(values["diffuse_color_constant"]) == pytest.approx((0.1, 0.2, 0.3))
    assert "diffuse_texture" not in values
    assert not bound(stage, "/World/Table")


@pytest.mark.parametrize("version", ["5.1", "6.0"])
def test_shader_takes_the_inputs_that_it_is_given(version: str) -> None:
    from pxr import Sdf

    stage = small_stage()
    AppearanceLayer(stage).cover([CUBE], Surface(texture="/tmp/a.png"))
    authored = {found.GetBaseName(): found.GetTypeName() for found in shader_of(stage, CUBE).GetInputs()}
    assert len(authored) == 6
    for name, kind in authored.items():
        assert kind.cppTypeName == getattr(Sdf.ValueTypeNames, INPUTS[version][name]).cppTypeName, name


def test_tiles_are_metres_on_a_stage_of_centimetres() -> None:
    from pxr import UsdGeom

    stage = small_stage()
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    layer = AppearanceLayer(stage)
    layer.cover([CUBE], Surface(texture="/tmp/a.png", tile_m=0.5))
    assert shader_of(stage, CUBE).GetInput("texture_scale").Get()[0] == pytest.approx(1 / 50)
    layer.stand(Bystander("ball", (0.0, 0.0, 0.0), (0.1, 0.2, 0.02), 0.0, (0.04, 0.04, 0.04)))
    matrix = UsdGeom.XformCache().GetLocalToWorldTransform(stage.GetPrimAtPath(f"{ROOT}/bystander_0"))
    np.testing.assert_allclose(matrix.ExtractTranslation(), (10, 20, 2))
    np.testing.assert_allclose(matrix.GetRow3(0).GetLength(), 4)


def test_cover_keeps_the_friction_of_colliders() -> None:
    from pxr import UsdPhysics, UsdShade

    stage = small_stage()
    rubber = UsdShade.Material.Define(stage, "/World/Looks/rubber")
    UsdPhysics.MaterialAPI.Apply(rubber.GetPrim()).CreateDynamicFrictionAttr(0.9)
    steel = UsdShade.Material.Define(stage, "/World/Looks/steel")
    UsdPhysics.MaterialAPI.Apply(steel.GetPrim())
    pads = (f"{HAND}/visuals", f"{ROBOT}/panda_link0/visuals")
    for path, material, purpose in ((pads[0], rubber, ""), (pads[1], steel, "physics")):
        prim = stage.GetPrimAtPath(path)
        UsdPhysics.CollisionAPI.Apply(prim)
        api = UsdShade.MaterialBindingAPI.Apply(prim)
        api.Bind(material, UsdShade.Tokens.fallbackStrength, *[purpose] if purpose else [])
    layer = AppearanceLayer(stage)
    layer.cover([ROBOT], Surface(rgb=(1.0, 0.0, 0.0)))
    for path, material in zip(pads, (rubber, steel), strict=True):
        assert bound(stage, path, "physics").GetPath() == material.GetPath()
        assert str(bound(stage, path).GetPath()).startswith(ROOT)


def test_friction_inside_an_instance_that_would_be_lost_is_refused() -> None:
    from pxr import UsdGeom, UsdPhysics, UsdShade

    stage = small_stage()
    rubber = UsdShade.Material.Define(stage, "/Shared/rubber")
    UsdPhysics.MaterialAPI.Apply(rubber.GetPrim())
    pad = UsdGeom.Cube.Define(stage, "/Shared/pad").GetPrim()
    UsdPhysics.CollisionAPI.Apply(pad)
    UsdShade.MaterialBindingAPI.Apply(pad).Bind(rubber)
    part = UsdGeom.Xform.Define(stage, f"{HAND}/part").GetPrim()
    part.GetReferences().AddInternalReference("/Shared")
    part.SetInstanceable(True)
    with pytest.raises(InputError, match=f"look: {HAND}/part/pad has its friction from the material"):
        AppearanceLayer(stage).cover([ROBOT], Surface())


unit = st.floats(-1.0, 1.0)
vector = st.tuples(unit, unit, unit)


@settings(max_examples=30, deadline=None)
@given(move=vector, turn=vector)
def test_camera_is_moved_and_turned_in_the_world_about_its_own_centre(move: Any, turn: Any) -> None:
    """Rodrigues' formula, whatever the camera's parent does."""
    from pxr import Gf, UsdGeom

    stage = small_stage()
    mount = UsdGeom.Xform.Define(stage, "/World/mount")
    mount.AddTranslateOp().Set(Gf.Vec3d(0.5, 0.1, 0.2))
    mount.AddRotateXYZOp().Set(Gf.Vec3f(20.0, 30.0, 40.0))
    camera = UsdGeom.Camera.Define(stage, "/World/mount/camera")
    camera.AddTranslateOp().Set(Gf.Vec3d(0.3, 0.0, 1.0))
    before = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(camera.GetPrim())).T
    AppearanceLayer(stage).move_camera("/World/mount/camera", move, turn)
    after = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(camera.GetPrim())).T
    angle = np.linalg.norm(turn)
    x, y, z = np.array(turn) / angle if angle else np.zeros(3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    np.testing.assert_allclose(after[:3, :3], rotation @ before[:3, :3], atol=1e-6)
    np.testing.assert_allclose(after[:3, 3], before[:3, 3] + move, atol=1e-6)


def test_bystanders_stand_where_they_are_put_and_physics_does_not_know_them() -> None:
    from pxr import Usd, UsdGeom, UsdPhysics

    stage = small_stage()
    bodies = body_paths(stage)
    layer = AppearanceLayer(stage)
    layer.stand(Bystander("box", (1.0, 0.0, 0.0), (0.3, 0.4, 0.02), np.pi / 2, (0.08, 0.05, 0.04)))
    layer.stand(Bystander("can", (0.0, 1.0, 0.0), (0.1, 0.2, 0.025), 0.0, (0.06, 0.06, 0.05)))
    layer.stand(Bystander("ball", (0.0, 0.0, 1.0), (0.2, 0.1, 0.02), 0.0, (0.04, 0.04, 0.04)))
    cache = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_])
    for number, (low, high) in enumerate(
        [((0.275, 0.36, 0.0), (0.325, 0.44, 0.04)), ((0.07, 0.17, 0.0), (0.13, 0.23, 0.05)), ((0.18, 0.08, 0.0), None)]
    ):
        prim = stage.GetPrimAtPath(f"{ROOT}/bystander_{number}")
        box = cache.ComputeWorldBound(prim).ComputeAlignedRange()
        np.testing.assert_allclose(box.GetMin(), low, atol=1e-6)
        if high is not None:
            np.testing.assert_allclose(box.GetMax(), high, atol=1e-6)
        assert not prim.HasAPI(UsdPhysics.CollisionAPI)
        assert shader_of(stage, str(prim.GetPath())).GetInput("diffuse_color_constant").Get()[number] == 1.0
    assert body_paths(stage) == bodies


def test_quads_are_put_up_where_their_corners_are() -> None:
    from pxr import UsdGeom

    stage = small_stage()
    layer = AppearanceLayer(stage)
    layer.put_up("wall", QUADS * 2, Surface(texture="/tmp/a.png"))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"{ROOT}/wall"))
    assert UsdGeom.Mesh.ValidateTopology(
        mesh.GetFaceVertexIndicesAttr().Get(), mesh.GetFaceVertexCountsAttr().Get(), 8
    )[0]
    np.testing.assert_allclose(mesh.GetPointsAttr().Get(), np.concatenate(QUADS * 2))
    np.testing.assert_allclose(mesh.GetExtentAttr().Get(), [(0, 0, 0), (1, 2, 0)])
    assert shader_of(stage, f"{ROOT}/wall").GetInput("world_or_object").Get() is True


def test_errors_are_one_line() -> None:
    stage = small_stage()
    layer = AppearanceLayer(stage)
    with pytest.raises(InputError, match="expected a factor above 0"):
        layer.scale_lights(0.0)
    with pytest.raises(InputError, match="look: prim '/World/none': no such prim"):
        layer.cover(["/World/none"], Surface())
    with pytest.raises(InputError, match="look: camera '/World/none': no such prim"):
        layer.move_camera("/World/none", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    stage.RemovePrim("/World/Light")
    for change in (lambda: layer.scale_lights(1.0), lambda: layer.tint_lights((1.0, 1.0, 1.0))):
        with pytest.raises(InputError, match="lights: the stage has none"):
            change()


def test_checker_of_the_selfcheck_is_a_picture(tmp_path: Path) -> None:
    write_checker(tmp_path / "checker.png", size_px=16, squares=4)
    with Image.open(tmp_path / "checker.png") as picture:
        pixels = np.array(picture)
    expected = np.kron(np.indices((4, 4)).sum(axis=0) % 2 * 255, np.ones((4, 4)))
    np.testing.assert_array_equal(pixels, expected)


def test_look_comes_as_it_was_sent() -> None:
    look = SceneLook(
        light_factor=0.5,
        light_rgb=(1.0, 0.5, 0.25),
        surfaces={"table": Surface(texture="/tmp/a.png"), "robot": Surface(rgb=(0.1, 0.2, 0.3))},
        camera_move_m=(0.1, 0.2, 0.3),
        bystanders=(Bystander("box", (1.0, 0.0, 0.0), (0.1, 0.2, 0.3), 0.5, (0.1, 0.2, 0.3)),),
    )
    sent = json.loads(json.dumps(asdict(look)))
    got = SceneLook.from_message(sent)
    assert json.loads(json.dumps(asdict(got))) == sent
    assert isinstance(got.bystanders[0], Bystander)
    with pytest.raises(InputError, match="look: 'ceiling' is none of table, robot"):
        SceneLook.from_message(sent | {"surfaces": {"ceiling": {}}})
    with pytest.raises(InputError, match="look: 'cone' is none of box, can, ball"):
        SceneLook.from_message(sent | {"bystanders": [sent["bystanders"][0] | {"shape": "cone"}]})
    for wrong in ({"surfaces": 3}, {"bystanders": 3}, {"surfaces": {"table": {"gloss": 1}}}):
        with pytest.raises(InputError, match="look: no look"):
            SceneLook.from_message(sent | wrong)
