"""Which prims are the robot, what it manipulates, and the scene: by labels of the stage or by chosen paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from cosmos_engine.data.episode import InstanceLabel, Role
from cosmos_engine.errors import InputError
from isaac_ext.labels import PrimLabel
from isaac_ext.stage import ROLE_TAXONOMY, check_prim, is_under, own_label

ROLES: tuple[Role, ...] = get_args(Role)


class StageRoles:
    """Say of every prim to which instance it belongs and what role that has.

    An instance is, from the pixel's prim upwards: a prim with a role, else one with a class label, else the second
    level of the stage (`/World/Table`). A prim has a role where its path was chosen, where it carries a label in the
    taxonomy `role`, or where its class is named `robot` or `manipulated`. All else is scene.
    """

    def __init__(self, stage: Any, robot: Sequence[str] = (), manipulated: Sequence[str] = ()) -> None:
        """Read the roles of a stage.

        Args:
            stage: the USD stage.
            robot: prim paths of robots, chosen by hand; they go before labels.
            manipulated: prim paths of what is manipulated, likewise.

        Raises:
            InputError: a path without a prim, a label that is no role, one prim in two roles, or no prim at all that is
                robot or manipulated.
        """
        self._classes: dict[str, str] = {}
        self._roles: dict[str, Role] = {}
        for role, paths in (("robot", robot), ("manipulated", manipulated)):
            for path in paths:
                check_prim(stage, path, f"{role}: prim")
                if self._roles.get(path, role) != role:
                    raise InputError(f"prim {path!r}: chosen both as {self._roles[path]} and as {role}")
                self._roles[path] = _role(role, path)
        chosen = tuple(self._roles)
        for prim in stage.Traverse():
            self._read(prim, chosen)
        for role in ("robot", "manipulated"):
            if role not in self._roles.values():
                raise InputError(
                    f"roles: no prim is {role}: choose its path in the window, or label it "
                    f"('{ROLE_TAXONOMY}' = '{role}' or 'class' = '{role}')"
                )

    def paths(self, role: Role) -> list[str]:
        """Return the paths of the prims that have a role themselves, sorted."""
        return sorted(path for path, found in self._roles.items() if found == role)

    def entity(self, label: PrimLabel) -> PrimLabel:
        """Return the instance that a segmentation label belongs to; a label without a path is one by itself."""
        if not label.name.startswith("/"):
            return label
        for marks in (self._roles, self._classes):
            path = label.name
            while path:
                if path in marks:
                    return PrimLabel(path, self._classes.get(path, "") or path.rpartition("/")[2].lower())
                path = path.rpartition("/")[0]
        path = "/".join(label.name.split("/")[:3])
        return PrimLabel(path, label.class_name or path.rpartition("/")[2].lower())

    def instance_label(self, entity: PrimLabel) -> InstanceLabel:
        """Return name, class and role of an instance that `entity` returned."""
        role: Role = "scene"
        if entity.name in self._roles:
            role = self._roles[entity.name]
        elif not entity.name.startswith("/"):
            role = self._role_of_class(entity.class_name)
        return InstanceLabel(name=entity.name, class_name=entity.class_name, role=role)

    def _role_of_class(self, class_name: str) -> Role:
        """Return the role of the prims of a class, for annotators that name no prim."""
        for path, role in self._roles.items():
            if self._classes.get(path) == class_name or class_name == role:
                return role
        return "scene"

    def _read(self, prim: Any, chosen: Sequence[str]) -> None:
        path = str(prim.GetPath())
        class_name = own_label(prim)
        if class_name:
            self._classes[path] = class_name
        role = own_label(prim, ROLE_TAXONOMY) or (class_name if class_name in ("robot", "manipulated") else "")
        # What was chosen by hand covers all below it.
        if role and not any(is_under(path, root) for root in chosen):
            self._roles[path] = _role(role, path)


def _role(role: str, path: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise InputError(f"prim {path!r}: role {role!r} is none of {', '.join(ROLES)}")
