"""Lights, surfaces, a camera and bystanders, changed in an anonymous layer over the stage: what a look shows.

Needs `pxr` only. Nothing touches physics, and `close` gives the stage back as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from cosmos_engine.errors import InputError
from isaac_ext.look import RGB, XYZ, Bystander, Surface
from isaac_ext.stage import check_prim, matrix_of

ROOT = "/CosmosEngineLook"
"""Of the prims that a look adds."""
_MATERIALS = f"{ROOT}/Materials"
_OMNI_PBR = "OmniPBR"
"""Kit's own MDL material: it projects a texture onto what has no texture coordinates, as most robots have none."""


class AppearanceLayer:
    """Change what the cameras see; the changes of one call of `begin` replace those of the one before."""

    def __init__(self, stage: Any) -> None:
        """Put an empty layer over the stage."""
        from pxr import Sdf, UsdGeom

        self._stage = stage
        self._units_per_m = 1.0 / float(UsdGeom.GetStageMetersPerUnit(stage))
        self._layer = Sdf.Layer.CreateAnonymous("cosmos_engine_appearance")
        stage.GetSessionLayer().subLayerPaths.append(self._layer.identifier)

    def begin(self) -> None:
        """Take all changes back."""
        self._layer.Clear()

    def scale_lights(self, factor: float) -> None:
        """Multiply the intensity of every light by a factor above 0.

        Raises:
            InputError: the stage has no light, or the factor is not above 0.
        """
        if not factor > 0:
            raise InputError(f"light intensity: expected a factor above 0, got {factor}")
        from pxr import Usd

        lights = self._lights()
        with Usd.EditContext(self._stage, self._layer):
            for light in lights:
                attribute = light.CreateIntensityAttr()
                attribute.Set(float(attribute.Get()) * factor)

    def tint_lights(self, rgb: RGB) -> None:
        """Give every light a colour in place of its own.

        Raises:
            InputError: the stage has no light.
        """
        from pxr import Gf, Usd

        lights = self._lights()
        with Usd.EditContext(self._stage, self._layer):
            for light in lights:
                light.CreateEnableColorTemperatureAttr().Set(False)
                light.CreateColorAttr().Set(Gf.Vec3f(*rgb))

    def cover(self, paths: Sequence[str], surface: Surface) -> None:
        """Give prims, with all below them, one new surface in place of theirs.

        A collider that takes its friction from the material that is replaced keeps it.

        Raises:
            InputError: no such prim, or one whose friction cannot be kept, since it is part of an instance.
        """
        from pxr import Usd, UsdShade

        for path in paths:
            check_prim(self._stage, path, "look: prim")
        with Usd.EditContext(self._stage, self._layer):
            material = self._material(surface)
            for path in paths:
                prim = self._stage.GetPrimAtPath(path)
                frictions = list(_frictions(prim))
                api = UsdShade.MaterialBindingAPI.Apply(prim)
                api.Bind(material, UsdShade.Tokens.strongerThanDescendants)
                for collider, friction in frictions:
                    _keep_friction(collider, friction)

    def move_camera(self, path: str, move_m: XYZ, turn_rad: XYZ) -> None:
        """Move and turn a camera away from its authored pose.

        Args:
            path: of the camera.
            move_m: way in the world.
            turn_rad: turn about the camera's own centre: axis, in the world, times angle.

        Raises:
            InputError: no such prim.
        """
        from pxr import Gf, Usd, UsdGeom

        check_prim(self._stage, path, "look: camera")
        prim = self._stage.GetPrimAtPath(path)
        cache = UsdGeom.XformCache()
        world, parent = cache.GetLocalToWorldTransform(prim), cache.GetParentToWorldTransform(prim)
        centre = world.ExtractTranslation()
        turn = Gf.Matrix4d(1.0)
        angle_rad = math.hypot(*turn_rad)
        if angle_rad:
            turn.SetRotate(Gf.Rotation(Gf.Vec3d(*turn_rad), math.degrees(angle_rad)))
        moved = world.SetTranslateOnly(Gf.Vec3d(0.0)) * turn
        moved.SetTranslateOnly(centre + Gf.Vec3d(*move_m) * self._units_per_m)
        with Usd.EditContext(self._stage, self._layer):
            matrix_of(prim).Set(moved * parent.GetInverse())

    def stand(self, seen: Bystander) -> None:
        """Put an object into the world that nothing touches and that touches nothing."""
        from pxr import Gf, Usd, UsdGeom

        with Usd.EditContext(self._stage, self._layer):
            path = f"{ROOT}/bystander_{self._count('bystander_')}"
            if seen.shape == "box":
                shape = UsdGeom.Cube.Define(self._stage, path)
                shape.CreateSizeAttr(1.0)
            elif seen.shape == "can":
                shape = UsdGeom.Cylinder.Define(self._stage, path)
                shape.CreateRadiusAttr(0.5)
                shape.CreateHeightAttr(1.0)
            else:
                shape = UsdGeom.Sphere.Define(self._stage, path)
                shape.CreateRadiusAttr(0.5)
            shape.CreateExtentAttr([Gf.Vec3f(-0.5), Gf.Vec3f(0.5)])
            scale = Gf.Matrix4d(1.0).SetScale(Gf.Vec3d(*seen.size_m) * self._units_per_m)
            turn = Gf.Matrix4d(1.0).SetRotate(Gf.Rotation(Gf.Vec3d.ZAxis(), math.degrees(seen.yaw_rad)))
            place = Gf.Matrix4d(1.0).SetTranslate(Gf.Vec3d(*seen.position_m) * self._units_per_m)
            matrix_of(shape.GetPrim()).Set(scale * turn * place)
        self.cover([path], Surface(rgb=seen.rgb))

    def put_up(self, name: str, quads_m: Sequence[Sequence[XYZ]], surface: Surface) -> None:
        """Put flat quads into the world, only seen, and cover them.

        Args:
            name: of the prim below `ROOT`.
            quads_m: four corners each, anticlockwise as seen from where it is looked at.
            surface: of all of them.
        """
        from pxr import Gf, Usd, UsdGeom

        corners = [Gf.Vec3f(*corner) * self._units_per_m for quad in quads_m for corner in quad]
        with Usd.EditContext(self._stage, self._layer):
            mesh = UsdGeom.Mesh.Define(self._stage, f"{ROOT}/{name}")
            mesh.CreatePointsAttr(corners)
            mesh.CreateFaceVertexCountsAttr([4] * len(quads_m))
            mesh.CreateFaceVertexIndicesAttr(range(len(corners)))
            mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
            mesh.CreateDoubleSidedAttr(True)
            mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(corners))
        self.cover([f"{ROOT}/{name}"], surface)

    def close(self) -> None:
        """Take the layer away; a second call does nothing."""
        sublayers = self._stage.GetSessionLayer().subLayerPaths
        if self._layer.identifier in sublayers:
            sublayers.remove(self._layer.identifier)

    def _lights(self) -> list[Any]:
        from pxr import UsdLux

        found = [UsdLux.LightAPI(prim) for prim in self._stage.Traverse() if prim.HasAPI(UsdLux.LightAPI)]
        if not found:
            raise InputError("lights: the stage has none")
        return found

    def _material(self, surface: Surface) -> Any:
        """Define a new material, into the layer that is being edited, and return it."""
        from pxr import Gf, Sdf, UsdShade

        material = UsdShade.Material.Define(
            self._stage, f"{_MATERIALS}/surface_{self._count('surface_', below=_MATERIALS)}"
        )
        shader = UsdShade.Shader.Define(self._stage, f"{material.GetPath()}/Shader")
        shader.SetSourceAsset(Sdf.AssetPath(f"{_OMNI_PBR}.mdl"), "mdl")
        shader.SetSourceAssetSubIdentifier(_OMNI_PBR, "mdl")
        types = Sdf.ValueTypeNames
        shader.CreateInput("reflection_roughness_constant", types.Float).Set(surface.roughness)
        shader.CreateInput("diffuse_color_constant", types.Color3f).Set(Gf.Vec3f(*surface.rgb))
        if surface.texture:
            image = shader.CreateInput("diffuse_texture", types.Asset)
            image.Set(Sdf.AssetPath(surface.texture))
            image.GetAttr().SetColorSpace("sRGB")
            shader.CreateInput("project_uvw", types.Bool).Set(True)
            shader.CreateInput("world_or_object", types.Bool).Set(surface.in_world)
            tiles = 1.0 / (surface.tile_m * self._units_per_m)
            shader.CreateInput("texture_scale", types.Float2).Set(Gf.Vec2f(tiles))
        material.CreateSurfaceOutput("mdl").ConnectToSource(shader.CreateOutput("out", types.Token))
        return material

    def _count(self, prefix: str, below: str = ROOT) -> int:
        """Return how many prims of a name's beginning this layer has added below a path."""
        parent = self._layer.GetPrimAtPath(below)
        return sum(child.name.startswith(prefix) for child in parent.nameChildren) if parent else 0


def _frictions(prim: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each collider at or below a prim that a material gives its friction, and that material."""
    from pxr import Usd, UsdPhysics

    for below in Usd.PrimRange(prim, Usd.TraverseInstanceProxies()):
        if below.HasAPI(UsdPhysics.CollisionAPI):
            material = _friction(below)
            if material is not None:
                yield below, material


def _friction(collider: Any) -> Any:
    """Return the material that a collider has its friction from, None where it has the default."""
    from pxr import UsdPhysics, UsdShade

    material, _ = UsdShade.MaterialBindingAPI(collider).ComputeBoundMaterial("physics")
    return material if material and material.GetPrim().HasAPI(UsdPhysics.MaterialAPI) else None


def _keep_friction(collider: Any, material: Any) -> None:
    """Bind the material for physics alone, where the new surface took its place."""
    from pxr import UsdShade

    now = _friction(collider)
    if now is not None and now.GetPath() == material.GetPath():
        return
    if collider.IsInstanceProxy():
        raise InputError(
            f"look: {collider.GetPath()} has its friction from the material {material.GetPath()} that would be "
            "replaced, and is part of an instance; bind that material for the purpose 'physics'"
        )
    UsdShade.MaterialBindingAPI.Apply(collider).Bind(material, UsdShade.Tokens.weakerThanDescendants, "physics")
