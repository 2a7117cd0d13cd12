"""Lights and materials changed by prim, in an anonymous layer over the stage: what a shift or a randomisation does.

Needs `pxr` only. Nothing touches physics, and `close` gives the stage back as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cosmos_engine.errors import InputError
from isaac_ext.stage import check_prim

RGB = tuple[float, float, float]
_MATERIALS = "/CosmosEngineMaterials"


class AppearanceLayer:
    """Change what the cameras see; the changes of one call of `begin` replace those of the one before."""

    def __init__(self, stage: Any) -> None:
        """Put an empty layer over the stage."""
        from pxr import Sdf

        self._stage = stage
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
        """Give every light a colour, linear rgb in 0..1, in place of its own.

        Raises:
            InputError: the stage has no light.
        """
        from pxr import Gf, Usd

        lights = self._lights()
        with Usd.EditContext(self._stage, self._layer):
            for light in lights:
                light.CreateEnableColorTemperatureAttr().Set(False)
                light.CreateColorAttr().Set(Gf.Vec3f(*rgb))

    def paint(self, paths: Sequence[str], rgb: RGB, roughness: float = 0.6, texture: str = "") -> None:
        """Give prims, with all below them, one new surface in place of theirs.

        Args:
            paths: prim paths.
            rgb: linear colour, 0..1.
            roughness: 0 is a mirror, 1 is matt.
            texture: an image file in place of the colour; it is laid by the prims' own `st` coordinates.

        Raises:
            InputError: no such prim.
        """
        from pxr import Gf, Sdf, Usd, UsdShade

        for path in paths:
            check_prim(self._stage, path, "paint: prim")
        with Usd.EditContext(self._stage, self._layer):
            number = len(self._layer.GetPrimAtPath(_MATERIALS).nameChildren) if self._has_materials() else 0
            material = UsdShade.Material.Define(self._stage, f"{_MATERIALS}/surface_{number}")
            root = str(material.GetPath())
            surface = UsdShade.Shader.Define(self._stage, f"{root}/surface")
            surface.CreateIdAttr("UsdPreviewSurface")
            surface.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(roughness)
            color = surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
            color.Set(Gf.Vec3f(*rgb))
            if texture:
                reader = UsdShade.Shader.Define(self._stage, f"{root}/st")
                reader.CreateIdAttr("UsdPrimvarReader_float2")
                reader.CreateInput("varname", Sdf.ValueTypeNames.Token).Set("st")
                image = UsdShade.Shader.Define(self._stage, f"{root}/image")
                image.CreateIdAttr("UsdUVTexture")
                image.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(texture)
                for side in ("wrapS", "wrapT"):
                    image.CreateInput(side, Sdf.ValueTypeNames.Token).Set("repeat")
                image.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
                    reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
                )
                color.ConnectToSource(image.CreateOutput("rgb", Sdf.ValueTypeNames.Float3))
            material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
            for path in paths:
                api = UsdShade.MaterialBindingAPI.Apply(self._stage.GetPrimAtPath(path))
                api.Bind(material, UsdShade.Tokens.strongerThanDescendants)

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

    def _has_materials(self) -> bool:
        return self._layer.GetPrimAtPath(_MATERIALS) is not None
