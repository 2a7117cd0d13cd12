"""Write `signatures_sources.json` and `shader_inputs.json` anew from a checkout of Isaac Sim's public sources:

    python tests/contracts/extract_signatures.py CHECKOUT

Only names of parameters and plain defaults are kept, of shaders the names and types of inputs; nothing else of the
sources. `signatures_closed.json`, of modules
whose sources are not public, is kept by hand.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TAGS = {"5.1": "v5.1.0", "6.0": "v6.0.1"}
EXTENSIONS = "source/extensions"
PRIMS = f"{EXTENSIONS}/isaacsim.core.experimental.prims/python/impl"
MANAGER = f"{EXTENSIONS}/isaacsim.core.simulation_manager/python/impl"
FRANKA_5 = (
    f"{EXTENSIONS}/isaacsim.robot.manipulators.examples/isaacsim/robot/manipulators/examples/franka/pick_place"
    "/pick_place.py"
)
FRANKA_6 = (
    f"{EXTENSIONS}/isaacsim.robot.experimental.manipulators.examples/isaacsim/robot/experimental/manipulators/examples"
    "/franka/pick_place.py"
)
FRANKA_METHODS = ("setup_scene", "forward", "is_done", "reset", "cube", "robot")
BOTH = ("5.1", "6.0")
# Shader of a material -> the module whose table of inputs says what there is.
SHADERS = {
    "OmniPBR": f"{EXTENSIONS}/isaacsim.core.experimental.materials/python/impl/visual_materials/omni_pbr.py",
}

# Public name -> (class in the file or None for functions, file by version, members).
WANTED: list[tuple[str, str, dict[str, str], tuple[str, ...]]] = [
    (
        "isaacsim.SimulationApp",
        "SimulationApp",
        dict.fromkeys(BOTH, f"{EXTENSIONS}/isaacsim.simulation_app/isaacsim/simulation_app/simulation_app.py"),
        ("update", "run_coroutine", "close", "is_running"),
    ),
    (
        "isaacsim.core.experimental.prims.Articulation",
        "Articulation",
        dict.fromkeys(BOTH, f"{PRIMS}/articulation.py"),
        (
            "dof_names",
            "get_dof_positions",
            "get_dof_velocities",
            "get_dof_position_targets",
            "set_dof_position_targets",
            "set_dof_positions",
            "set_dof_velocities",
        ),
    ),
    (
        "isaacsim.core.experimental.prims.RigidPrim",
        "RigidPrim",
        dict.fromkeys(BOTH, f"{PRIMS}/rigid_prim.py"),
        ("get_world_poses", "set_world_poses", "set_velocities"),
    ),
    (
        "isaacsim.core.simulation_manager.SimulationManager",
        "SimulationManager",
        dict.fromkeys(BOTH, f"{MANAGER}/simulation_manager.py"),
        ("register_callback", "deregister_callback", "get_physics_dt"),
    ),
    (
        "isaacsim.core.simulation_manager.IsaacEvents",
        "IsaacEvents",
        dict.fromkeys(BOTH, f"{MANAGER}/isaac_events.py"),
        ("PRE_PHYSICS_STEP",),
    ),
    (
        "isaacsim.core.simulation_manager.SimulationEvent",
        "SimulationEvent",
        {"6.0": f"{MANAGER}/simulation_event.py"},
        ("PHYSICS_PRE_STEP",),
    ),
    (
        "isaacsim.core.version.get_version",
        "",
        dict.fromkeys(BOTH, f"{EXTENSIONS}/isaacsim.core.version/isaacsim/core/version/extension.py"),
        (),
    ),
    (
        "isaacsim.robot.manipulators.examples.franka.FrankaPickPlace",
        "FrankaPickPlace",
        {"5.1": FRANKA_5},
        FRANKA_METHODS,
    ),
    (
        "isaacsim.robot.experimental.manipulators.examples.franka.FrankaPickPlace",
        "FrankaPickPlace",
        {"6.0": FRANKA_6},
        FRANKA_METHODS,
    ),
]
# What the annotations of the sources do not say, or say by names of their own.
RETURNS = {
    "isaacsim.core.experimental.prims.Articulation.get_dof_positions": "warp.array",
    "isaacsim.core.experimental.prims.Articulation.get_dof_velocities": "warp.array",
    "isaacsim.core.experimental.prims.Articulation.get_dof_position_targets": "warp.array",
    "isaacsim.robot.manipulators.examples.franka.FrankaPickPlace.cube": "isaacsim.core.experimental.prims.RigidPrim",
    "isaacsim.robot.experimental.manipulators.examples.franka.FrankaPickPlace.cube": (
        "isaacsim.core.experimental.prims.RigidPrim"
    ),
}


def main(checkout: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, owner, files, members in WANTED:
        for version, file in files.items():
            tree = ast.parse(_source(checkout, TAGS[version], file))
            if not owner:
                _add(found, name, version, _function(tree, name.rpartition(".")[2]))
                continue
            body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner)
            made = _function(body, "__init__", missing_ok=True)
            _add(found, name, version, made)
            found[name]["kind"] = "class"
            for member in members:
                _add(found, f"{name}.{member}", version, _function(body, member, missing_ok=True))
    for name, kind in RETURNS.items():
        found[name]["returns"] = kind
    for entry in found.values():
        if any(entry[version] is None for version in BOTH if version in entry):
            kind = "class" if entry.get("kind") == "class" else "attribute"
            for version in BOTH:
                if version in entry:
                    entry[version] = ""
            entry["kind"] = kind
    path = Path(__file__).with_name("signatures_sources.json")
    path.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(found)} names")
    inputs = {
        shader: {version: _shader_inputs(_source(checkout, TAGS[version], file)) for version in BOTH}
        for shader, file in SHADERS.items()
    }
    path = Path(__file__).with_name("shader_inputs.json")
    path.write_text(json.dumps(inputs, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {', '.join(inputs)}")


def _shader_inputs(source: str) -> dict[str, str]:
    """Return name -> USD type of every input in a module's table: "name": {"type": Sdf.ValueTypeNames.Type, ...}."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            text = ast.unparse(value)
            # 5.1 has the type alone in the table, 6.0 a dict with a range beside it.
            kind = text.removeprefix("{'type': ").split(",")[0].rstrip("}")
            if isinstance(key, ast.Constant) and key.value != "type" and kind.startswith("Sdf.ValueTypeNames."):
                found[str(key.value)] = kind.rpartition(".")[2]
    if not found:
        raise SystemExit("no table of shader inputs in the sources any more")
    return dict(sorted(found.items()))


def _add(found: dict[str, dict[str, Any]], name: str, version: str, node: ast.AST | None) -> None:
    entry = found.setdefault(name, {"tag": "S", "kind": "function"})
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        is_property = "property" in decorators
        if is_property:
            entry["kind"] = "attribute"
        elif isinstance(node, ast.AsyncFunctionDef):
            entry["kind"] = "async"
        bound = "staticmethod" not in decorators and bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
        entry[version] = "" if is_property else _signature(node.args, skip_first=bound)
    else:
        entry[version] = None


def _signature(arguments: ast.arguments, *, skip_first: bool) -> str:
    """Return the parameters as text, without annotations; defaults other than plain constants become None."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + [_default(node) for node in arguments.defaults]
    parts = [
        argument.arg + (f"={default}" if default else "")
        for argument, default in zip(positional, defaults, strict=True)
    ][skip_first:]
    if arguments.vararg:
        parts.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        parts.append("*")
    for argument, node in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parts.append(argument.arg + (f"={_default(node)}" if node is not None else ""))
    if arguments.kwarg:
        parts.append(f"**{arguments.kwarg.arg}")
    return f"({', '.join(parts)})"


def _default(node: ast.expr) -> str:
    return repr(node.value) if isinstance(node, ast.Constant) else "None"


def _function(tree: ast.AST, name: str, *, missing_ok: bool = False) -> ast.AST | None:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    if any(_assigns(node, name) for node in ast.walk(tree)) or (missing_ok and name == "__init__"):
        return None
    raise SystemExit(f"{name}: not in the sources any more")


def _assigns(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    return any(
        (isinstance(target, ast.Name) and target.id == name)
        or (isinstance(target, ast.Attribute) and target.attr == name and ast.unparse(target.value) == "self")
        for target in node.targets
    )


def _source(checkout: Path, tag: str, file: str) -> str:
    return subprocess.run(
        ["git", "-C", str(checkout), "show", f"{tag}:{file}"], capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
