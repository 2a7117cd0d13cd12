"""The open USD stage: its cameras, robots and bodies, their labels, and a layer of recorded poses over them.

Needs `pxr` only, as Isaac Sim and the package usd-core bring it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError

CLASS_TAXONOMY = "class"
ROLE_TAXONOMY = "role"
# Kit's own cameras are of the session layer and of no scene.
_KIT_CAMERAS = "/OmniverseKit_"
_MATRIX_OP = "xformOp:transform:cosmos"


@dataclass(frozen=True)
class BodyPoses:
    """Hold the world poses of rigid bodies at one instant.

    `positions` is float64 (b, 3) in scene units, `quats_wxyz` float64 (b, 4), unit quaternions, real part first.
    """

    positions: np.ndarray
    quats_wxyz: np.ndarray

    def flat(self) -> np.ndarray:
        """Return float64 (b * 7,): position and quaternion of each body in turn."""
        return np.concatenate([self.positions, self.quats_wxyz], axis=1).reshape(-1)

    @staticmethod
    def unflat(values: np.ndarray) -> BodyPoses:
        """Return the poses that `flat` wrote."""
        table = np.asarray(values, np.float64).reshape(-1, 7)
        return BodyPoses(table[:, :3], table[:, 3:])


def camera_paths(stage: Any) -> list[str]:
    """Return the paths of the scene's cameras, without those that belong to Kit's viewports."""
    from pxr import UsdGeom

    return [
        str(prim.GetPath())
        for prim in _prims(stage)
        if prim.IsA(UsdGeom.Camera) and not str(prim.GetPath()).startswith(_KIT_CAMERAS)
    ]


def articulation_paths(stage: Any) -> list[str]:
    """Return where the articulations of the stage begin: the robots that can be chosen.

    The schema sits on the robot's own prim or on a joint or link below it; of the latter the parent is meant, so that
    the path covers the whole robot.
    """
    from pxr import UsdGeom, UsdPhysics

    found = []
    for prim in _prims(stage):
        if prim.HasAPI(UsdPhysics.ArticulationRootAPI):
            is_part = prim.IsA(UsdPhysics.Joint) or prim.HasAPI(UsdPhysics.RigidBodyAPI)
            whole = prim.GetParent() if is_part and prim.GetParent().IsA(UsdGeom.Xformable) else prim
            found.append(str(whole.GetPath()))
    return list(dict.fromkeys(found))


def body_paths(stage: Any) -> list[str]:
    """Return the paths of all rigid bodies, links of robots among them, parents before children."""
    from pxr import UsdPhysics

    return [str(prim.GetPath()) for prim in _prims(stage) if prim.HasAPI(UsdPhysics.RigidBodyAPI)]


def is_under(path: str, root: str) -> bool:
    """Say whether a prim path is `root` or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def check_prim(stage: Any, path: str, what: str) -> None:
    """Raise InputError if there is no prim of that path; `what` begins the line."""
    from pxr import Sdf

    if not Sdf.Path.IsValidPathString(path) or not stage.GetPrimAtPath(path).IsValid():
        raise InputError(f"{what} {path!r}: no such prim on the stage")


def own_label(prim: Any, taxonomy: str = CLASS_TAXONOMY) -> str:
    """Return the label that a prim itself carries in a taxonomy, empty where it has none.

    Read are `UsdSemantics.LabelsAPI`, and the attributes `semantic:<name>:params:semanticData` of Isaac Sim before 5.0.
    Of several labels the first counts.
    """
    from pxr import UsdSemantics

    if prim.HasAPI(UsdSemantics.LabelsAPI, taxonomy):
        labels = UsdSemantics.LabelsAPI(prim, taxonomy).GetLabelsAttr().Get() or []
        if len(labels):
            return str(labels[0])
    for attribute in prim.GetAttributes():
        name = attribute.GetName()
        if name.startswith("semantic:") and name.endswith(":params:semanticType") and attribute.Get() == taxonomy:
            data = prim.GetAttribute(name.removesuffix("Type") + "Data")
            return str(data.Get() or "") if data else ""
    return ""


def set_label(stage: Any, path: str, label: str, taxonomy: str = CLASS_TAXONOMY) -> None:
    """Give a prim one label in a taxonomy, in place of those it had.

    Raises:
        InputError: no such prim.
    """
    from pxr import UsdSemantics

    check_prim(stage, path, "label of prim")
    api = UsdSemantics.LabelsAPI.Apply(stage.GetPrimAtPath(path), taxonomy)
    api.CreateLabelsAttr([label])


def matrix_of(prim: Any) -> Any:
    """Give a prim one matrix in place of its own operations, in the layer that is being edited; return its attribute.

    The caller sets it: from the prim's own space to its parent's, for row vectors.
    """
    from pxr import Sdf

    attribute = prim.CreateAttribute(_MATRIX_OP, Sdf.ValueTypeNames.Matrix4d, False)
    prim.CreateAttribute("xformOpOrder", Sdf.ValueTypeNames.TokenArray, False).Set([_MATRIX_OP])
    return attribute


class PoseLayer:
    """An anonymous layer over the stage that holds recorded poses; `close` gives the stage back as it was.

    Poses are written as a whole matrix in the body's own space, scale kept, and only while the timeline is stopped, so
    that physics has no part in it. Nothing is written to the layers of the user.
    """

    def __init__(self, stage: Any, paths: Sequence[str]) -> None:
        """Put the layer over the stage.

        Raises:
            InputError: a path is not of a prim that has a place in space.
        """
        from pxr import Sdf, Usd, UsdGeom

        self._stage = stage
        self._bodies = []
        for path in paths:
            check_prim(stage, path, "body")
            prim = stage.GetPrimAtPath(path)
            if not prim.IsA(UsdGeom.Xformable):
                raise InputError(f"body {path!r}: has no place in space")
            self._bodies.append(prim)
        # Parents first: a child's matrix is relative to where its parent is in the same frame.
        self._order = sorted(range(len(paths)), key=lambda index: paths[index].count("/"))
        cache = UsdGeom.XformCache()
        local = [UsdGeom.Xformable(prim).GetLocalTransformation() for prim in self._bodies]
        self._scales = [_scale(cache.GetLocalToWorldTransform(prim)) for prim in self._bodies]
        self._layer = Sdf.Layer.CreateAnonymous("cosmos_engine_replay")
        stage.GetSessionLayer().subLayerPaths.insert(0, self._layer.identifier)
        self._matrices = []
        with Usd.EditContext(stage, self._layer):
            for prim, matrix in zip(self._bodies, local, strict=True):
                attribute = matrix_of(prim)
                attribute.Set(matrix)
                self._matrices.append(attribute)

    def show(self, poses: BodyPoses) -> None:
        """Put every body at its recorded pose.

        Raises:
            InputError: another number of bodies than the layer has.
        """
        from pxr import Gf, Usd, UsdGeom

        if len(poses.positions) != len(self._bodies):
            raise InputError(f"replay: expected poses of {len(self._bodies)} bodies, got {len(poses.positions)}")
        with Usd.EditContext(self._stage, self._layer):
            for index in self._order:
                # A cache of its own for each: the parent may have moved a moment ago.
                parent = UsdGeom.XformCache().GetParentToWorldTransform(self._bodies[index])
                world = Gf.Matrix4d(1.0)
                world.SetRotate(Gf.Quatd(*(float(number) for number in poses.quats_wxyz[index])))
                world.SetTranslateOnly(Gf.Vec3d(*(float(number) for number in poses.positions[index])))
                scale = Gf.Matrix4d(1.0)
                scale.SetScale(self._scales[index])
                self._matrices[index].Set(scale * world * parent.GetInverse())

    def close(self) -> None:
        """Take the layer away; a second call does nothing."""
        sublayers = self._stage.GetSessionLayer().subLayerPaths
        if self._layer.identifier in sublayers:
            sublayers.remove(self._layer.identifier)


def world_poses(stage: Any, paths: Sequence[str]) -> BodyPoses:
    """Return the poses that the stage itself gives the prims, without physics."""
    from pxr import UsdGeom

    cache = UsdGeom.XformCache()
    positions, quats = [], []
    for path in paths:
        check_prim(stage, path, "body")
        matrix = cache.GetLocalToWorldTransform(stage.GetPrimAtPath(path)).RemoveScaleShear()
        quat = matrix.ExtractRotationQuat()
        positions.append(list(matrix.ExtractTranslation()))
        quats.append([quat.GetReal(), *quat.GetImaginary()])
    return BodyPoses(np.array(positions, np.float64).reshape(-1, 3), np.array(quats, np.float64).reshape(-1, 4))


def _prims(stage: Any) -> Iterator[Any]:
    from pxr import Usd

    return iter(Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies()))


def _scale(matrix: Any) -> Any:
    from pxr import Gf

    return Gf.Vec3d(*(matrix.GetRow3(row).GetLength() for row in range(3)))
