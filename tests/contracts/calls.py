"""Find, by reading the source, every use that a module makes of Kit, and for which version of Isaac Sim it is made.

A name is followed through imports, assignments, `self`, `with` and what recorded functions return. What cannot be
followed (an argument, an element of a dict) is named in HINTS.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from signatures import ROOTS, VERSIONS, containers, recorded

# Module and variable -> class of what it holds, where reading cannot tell.
HINTS = {
    ("capture", "annotators[]"): "omni.replicator.core.Annotator",
    ("capture", "made"): "omni.replicator.core.Annotator",
    ("capture", "product"): "omni.replicator.core.HydraTexture",
    ("headless", "app"): "isaacsim.SimulationApp",
    ("kit", "app"): "isaacsim.SimulationApp",
    ("kit", "values"): "warp.array",
    ("kit", "positions"): "warp.array",
    ("kit", "quats"): "warp.array",
    ("window", "edited"): "omni.ui.AbstractValueModel",
    ("window", "chosen"): "omni.ui.AbstractItemModel",
    ("window", "model"): "",  # of each field another class; see the runtime fake
}
FRANKA = {
    "5.1": "isaacsim.robot.manipulators.examples.franka.FrankaPickPlace",
    "6.0": "isaacsim.robot.experimental.manipulators.examples.franka.FrankaPickPlace",
}
# In `franka` one variable is of two classes.
HINTS_BY_VERSION = {("franka", "controller"): FRANKA}


@dataclass(frozen=True)
class Use:
    """One use: a call if `call` is there, else the reading of a name."""

    where: str
    name: str
    versions: tuple[str, ...]
    call: ast.Call | None


def uses_of(path: Path, source: str | None = None) -> list[Use]:
    """Return the uses that one module makes of Kit."""
    reader = _Reader(path.stem)
    tree = ast.parse(source if source is not None else path.read_text(encoding="utf-8"))
    for _ in range(2):  # attributes of self are known after the first round
        reader.uses.clear()
        reader.block(tree.body, {}, VERSIONS, "")
    return list(dict.fromkeys(reader.uses))


class _Reader:
    def __init__(self, module: str) -> None:
        self.module = module
        self.uses: list[Use] = []
        self.attributes: dict[str, str] = {}
        """`Class.attribute` -> class of what it holds, or a dotted name that it stands for."""

    def block(self, body: list[ast.stmt], scope: dict[str, str], versions: tuple[str, ...], owner: str) -> None:
        for index, node in enumerate(body):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root = alias.name.split(".")[0]
                    if root in ROOTS:
                        scope[alias.asname or root] = alias.name if alias.asname else root
                        self.read(alias.name, node, versions)
            elif isinstance(node, ast.ImportFrom):
                if node.module and node.module.split(".")[0] in ROOTS:
                    for alias in node.names:
                        name = f"{node.module}.{alias.name}"
                        scope[alias.asname or alias.name] = name
                        self.read(name, node, versions)
            elif isinstance(node, ast.If) and _asks_for_6(node.test):
                self.block(node.body, dict(scope), _only(versions, "6.0"), owner)
                self.block(node.orelse, dict(scope), _only(versions, "5.1"), owner)
                if isinstance(node.body[-1], ast.Return):
                    self.block(body[index + 1 :], scope, _only(versions, "5.1"), owner)
                    return
            elif isinstance(node, ast.ClassDef):
                bases = [self.name(base, scope, owner) for base in node.bases]
                for base in filter(None, bases):
                    self.read(base, node, versions)
                inner = dict(scope) | {"self": f"self:{node.name}", "super": next(filter(None, bases), "")}
                self.block(node.body, inner, versions, node.name)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = {name: kind for name, kind in scope.items() if not self._is_argument(node, name)}
                inner["self"] = scope.get("self", "")
                self.block(node.body, inner, versions, owner)
            else:
                self.statement(node, scope, versions, owner)

    def statement(self, node: ast.stmt, scope: dict[str, str], versions: tuple[str, ...], owner: str) -> None:
        inner = [value for name, value in ast.iter_fields(node) if name in ("body", "orelse", "finalbody")]
        handlers = getattr(node, "handlers", [])
        nested = {id(child) for block in inner for child in block} | {id(handler) for handler in handlers}
        for child in ast.iter_child_nodes(node):
            if id(child) not in nested:
                self.expression(child, scope, versions, owner)
        if isinstance(node, ast.Assign):
            self.assign(node.targets, node.value, scope, owner)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign([node.target], node.value, scope, owner)
        for block in [*inner, *[handler.body for handler in handlers]]:
            self.block(block, scope, versions, owner)

    def assign(self, targets: list[ast.expr], value: ast.expr, scope: dict[str, str], owner: str) -> None:
        held = self.name(value, scope, owner)
        for target in targets:
            if isinstance(target, ast.Name):
                scope[target.id] = held
            elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self" and held:
                self.attributes[f"{owner}.{target.attr}"] = held

    def expression(self, node: ast.AST, scope: dict[str, str], versions: tuple[str, ...], owner: str) -> None:
        if isinstance(node, ast.Lambda):
            self.expression(node.body, dict(scope), versions, owner)
            return
        if isinstance(node, ast.Call) and ast.unparse(node) != "super()":
            name = self.name(node.func, scope, owner).removesuffix(".__init__")
            for one in self._by_version(node.func, scope) or [(name, versions)]:
                if one[0]:
                    self.uses.append(Use(f"{self.module}.py:{node.lineno}", one[0], one[1], node))
            if isinstance(node.func, ast.Attribute):
                self.expression(node.func.value, scope, versions, owner)
            for child in [*node.args, *[keyword.value for keyword in node.keywords]]:
                self.expression(child, scope, versions, owner)
            return
        if isinstance(node, ast.Attribute):
            by_version = self._by_version(node, scope)
            name = self.name(node, scope, owner)
            for one in by_version or [(name, versions)]:
                if one[0] and one[0] not in containers() and not one[0].endswith(".__init__"):
                    self.read(one[0], node, one[1])
        for child in ast.iter_child_nodes(node):
            self.expression(child, scope, versions, owner)

    def name(self, node: ast.AST, scope: dict[str, str], owner: str) -> str:
        """Return the dotted name that an expression stands for, or the class that it is an instance of."""
        if isinstance(node, ast.Name):
            hint = HINTS.get((self.module, node.id))
            return hint if hint is not None else scope.get(node.id, "")
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                held = self.attributes.get(f"{owner}.{node.attr}", "")
                base = scope.get("super", "")
                return held or (self._held(f"{base}.{node.attr}") if f"{base}.{node.attr}" in recorded() else "")
            parent = self.name(node.value, scope, owner)
            return self._held(f"{parent}.{node.attr}") if parent else ""
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "super":
                return scope.get("super", "")
            called = self.name(node.func, scope, owner)
            entry = recorded().get(called)
            if entry is None:
                return ""
            return called if entry.kind == "class" else entry.returns
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return HINTS.get((self.module, f"{node.value.id}[]"), "")
        if isinstance(node, ast.Await):
            return self.name(node.value, scope, owner)
        return ""

    def read(self, name: str, node: ast.AST, versions: tuple[str, ...]) -> None:
        if name.split(".")[0] in ROOTS:
            self.uses.append(Use(f"{self.module}.py:{getattr(node, 'lineno', 0)}", name, versions, None))

    def _held(self, name: str) -> str:
        entry = recorded().get(name)
        return entry.returns if entry is not None and entry.kind == "attribute" and entry.returns else name

    def _by_version(self, node: ast.AST, scope: dict[str, str]) -> list[tuple[str, tuple[str, ...]]]:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            kinds = HINTS_BY_VERSION.get((self.module, node.value.id), {})
            return [(f"{kind}.{node.attr}", (version,)) for version, kind in kinds.items()]
        return []

    def _is_argument(self, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return any(argument.arg == name for argument in arguments)


def _asks_for_6(test: ast.expr) -> bool:
    return isinstance(test, ast.Call) and ast.unparse(test.func).rpartition(".")[2] == "is_6"


def _only(versions: tuple[str, ...], version: str) -> tuple[str, ...]:
    return tuple(known for known in versions if known == version)
