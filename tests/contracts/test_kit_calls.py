"""Every use that `isaac_ext` makes of Kit binds to what Isaac Sim 5.1 and 6.0 have under that name."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from calls import Use, uses_of
from signatures import ROOTS, VERSIONS, containers, recorded, signature

PACKAGE = Path(__file__).resolve().parents[2] / "isaac_ext"
MODULES = sorted(PACKAGE.glob("*.py"))


def problems(uses: list[Use]) -> list[str]:
    """Return what is wrong, a line a use."""
    found = []
    for use in uses:
        entry = recorded().get(use.name)
        if entry is None:
            if use.call is None and use.name in containers():
                continue
            found.append(f"{use.where}: {use.name}: not recorded")
            continue
        for version in use.versions:
            if version not in entry.signatures:
                found.append(f"{use.where}: {use.name}: not in Isaac Sim {version}")
            elif use.call is not None:
                found += [f"{use.where}: {use.name}: {line}" for line in _binding(use.call, entry.signatures[version])]
    return found


def _binding(call: ast.Call, text: str) -> list[str]:
    if not text:
        return ["cannot be called"]
    # What is unpacked may be any number of arguments: it cannot be told by reading, and stands for none.
    plain = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
    named = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
    try:
        signature(text).bind(*plain, **named)
    except TypeError as error:
        return [f"{error} (it is {text})"]
    return []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_use_of_kit_binds_to_a_recorded_signature(path: Path) -> None:
    assert problems(uses_of(path)) == []


def test_every_module_that_imports_kit_is_read() -> None:
    """A call that the reader cannot follow would pass unseen: what is imported is used, so it must be found."""
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOTS
            for alias in node.names
        }
        called = {use.name.rpartition(".")[2] for use in uses_of(path)} | {
            part for use in uses_of(path) for part in use.name.split(".")
        }
        missed = {name for name in imported if name not in called and not name.endswith(("5", "6"))}
        assert not missed, (path.name, missed)


def test_methods_of_what_kit_gives_are_followed() -> None:
    """The calls that matter most are among those found, with the version that they are made for."""
    found = {(use.name, use.versions) for path in MODULES for use in uses_of(path) if use.call is not None}
    both = VERSIONS
    rep = "omni.replicator.core"
    prims = "isaacsim.core.experimental.prims"
    for name in (
        f"{rep}.orchestrator.step_async",
        f"{rep}.create.render_product",
        f"{rep}.Annotator.attach",
        f"{rep}.Annotator.detach",
        f"{rep}.Annotator.get_data",
        f"{rep}.HydraTexture.destroy",
        f"{prims}.Articulation.get_dof_position_targets",
        f"{prims}.RigidPrim.set_world_poses",
        "omni.timeline.Timeline.play",
        "carb.settings.ISettings.set",
        "omni.kit.app.IApp.next_update_async",
        "isaacsim.SimulationApp.run_coroutine",
        "omni.ui.Button",
    ):
        assert (name, both) in found, name
    register = "isaacsim.core.simulation_manager.SimulationManager.register_callback"
    assert {versions for name, versions in found if name == register} == {("5.1",), ("6.0",)}
    for version, middle in (("5.1", ""), ("6.0", ".experimental")):
        name = f"isaacsim.robot{middle}.manipulators.examples.franka.FrankaPickPlace.setup_scene"
        assert (name, (version,)) in found


WRONG = {
    "a renamed argument": (
        "import omni.replicator.core as rep\nasync def f():\n    await rep.orchestrator.step_async(subframes=3)",
        "unexpected keyword argument 'subframes'",
    ),
    "a missing method": (
        "import omni.timeline\nomni.timeline.get_timeline_interface().halt()",
        "omni.timeline.Timeline.halt: not recorded",
    ),
    "a method of an attribute": (
        "import omni.ui as ui\nclass W(ui.Window):\n    def f(self):\n        self._bar = ui.ProgressBar()\n"
        "        self._bar.model.set_number(1)",
        "AbstractValueModel.set_number: not recorded",
    ),
    "an argument that 5.1 lacks": (
        "from isaacsim import SimulationApp\napp = SimulationApp({})\napp.close(exit_code=1)",
        "unexpected keyword argument 'exit_code'",
    ),
    "a class that 5.1 lacks": (
        "from isaacsim.core.simulation_manager import SimulationEvent\nSimulationEvent.PHYSICS_PRE_STEP",
        "not in Isaac Sim 5.1",
    ),
    "a name of 6.0 in the branch of 5.1": (
        "from isaac_ext.kit import is_6\ndef f():\n    if is_6():\n        return 1\n"
        "    from isaacsim.core.simulation_manager import SimulationEvent",
        "not in Isaac Sim 5.1",
    ),
    "a positional argument that 6.0 wants by name": (
        "from isaacsim.core.simulation_manager import SimulationManager, IsaacEvents\n"
        "SimulationManager.register_callback(print, IsaacEvents.PRE_PHYSICS_STEP, 5)",
        "too many positional arguments",
    ),
    "an unknown module": ("import omni.replicator.nothing", "omni.replicator.nothing: not recorded"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_use_is_found(case: str) -> None:
    source, said = WRONG[case]
    found = problems(uses_of(Path("wrong.py"), source))
    assert any(said in line for line in found), found


def test_what_is_only_in_6_is_fine_in_its_branch() -> None:
    source = (
        "from isaac_ext import kit\ndef f():\n    if kit.is_6():\n"
        "        from isaacsim.core.simulation_manager import SimulationEvent\n        return SimulationEvent\n"
    )
    assert problems(uses_of(Path("right.py"), source)) == []


def test_every_recorded_name_says_where_it_is_known_from() -> None:
    for name, entry in recorded().items():
        assert entry.tag in ("S", "C", "D"), name
        assert entry.kind in ("function", "async", "class", "attribute"), name
        assert entry.signatures, name
        for text in entry.signatures.values():
            if text:
                signature(text)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_name_of_pxr_is_in_usd_core(path: Path) -> None:
    pytest.importorskip("pxr")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "pxr"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            words = ast.unparse(node).split(".")
            if words[0] in modules and all(word.isidentifier() for word in words):
                found = importlib.import_module(f"pxr.{words[0]}")
                for word in words[1:]:
                    assert hasattr(found, word), f"{path.name}:{node.lineno}: pxr.{'.'.join(words)}"
                    found = getattr(found, word)
