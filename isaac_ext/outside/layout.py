"""The folder `cosmos.engine` that Kit finds: manifest, `isaac_ext`, and the few modules of the engine that it needs."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cosmos_engine import __version__
from cosmos_engine.data.atomic import make_folder, storage_errors
from cosmos_engine.errors import InputError
from isaac_ext.kit import PACKAGES
from isaac_ext.outside.isaac_sim import IsaacSim
from isaac_ext.settings import EXTENSION

MANIFEST = "extension.toml"
MARK = ".cosmos-engine.json"
"""Written last into an installed folder; only a folder that has it is ever removed."""
_CARRIED_FROM = ("cosmos_engine", "cosmos_engine.data.recording")
"""What the extension imports of the engine; these modules, and what they import when they are loaded, need numpy and
h5py only. They are copied, not written a second time: the writer inside Isaac Sim is the one outside."""
_DATA_INIT = '"""The part of cosmos_engine.data that needs numpy and h5py only, as `isaac install` carries it."""\n'
_H5PY = "h5py>=3.16,<4"
"""The first with HDF5 2.0: what 1.14 gives of a file in memory has a wrong checksum, and nobody can read it."""
_ASK_H5PY = "import h5py; assert h5py.version.hdf5_version_tuple >= (2, 0, 0); print(h5py.__version__)"


def install(folder: Path, engine_python: Path) -> Path:
    """Lay out `folder/cosmos.engine`, in place of an older one.

    Args:
        folder: where Kit looks for extensions.
        engine_python: the interpreter that the extension starts the engine with.

    Returns:
        the extension's folder.

    Raises:
        InputError: the folder cannot be written, or something else is in the way.
    """
    target = folder / EXTENSION
    check_replaceable(target)
    fresh = folder / f".{EXTENSION}.tmp"
    make_folder(folder)
    with storage_errors(target):
        shutil.rmtree(fresh, ignore_errors=True)
        write_tree(fresh, engine_python)
        if target.exists():
            packages = target / PACKAGES
            if packages.is_dir():
                shutil.move(packages, fresh / PACKAGES)
            shutil.rmtree(target)
        fresh.rename(target)
    return target


def uninstall(folder: Path) -> Path:
    """Remove `folder/cosmos.engine` and return it.

    Raises:
        InputError: there is none, or it was not made by `install`.
    """
    target = folder / EXTENSION
    if not target.exists():
        raise InputError(f"{target}: not installed")
    check_replaceable(target)
    with storage_errors(target):
        shutil.rmtree(target)
    return target


@dataclass(frozen=True)
class Installed:
    """Tell of an extension that is laid out: its version, and the engine's Python that it starts."""

    version: str
    engine_python: str


def installed(folder: Path) -> Installed | None:
    """Return what is installed in a folder of extensions, None if nothing is, or not whole."""
    try:
        return Installed(**json.loads((folder / EXTENSION / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def check_replaceable(target: Path) -> None:
    """Raise InputError if something stands there that `install` did not make."""
    if target.exists() and not (target / MARK).is_file():
        raise InputError(f"{target}: is there, but was not made by `cosmos-engine isaac install`; move it away first")


def write_tree(target: Path, engine_python: Path) -> None:
    """Write the extension into a new folder: manifest with the engine's Python, modules, documents."""
    package = _package("isaac_ext")
    engine = _package("cosmos_engine")
    (target / "config").mkdir(parents=True)
    (target / "docs").mkdir()
    text = manifest_path().read_text(encoding="utf-8")
    before, found, after = text.partition('engine_python = ""')
    if not found:
        raise InputError(f'{manifest_path()}: expected a line engine_python = ""')
    path = json.dumps(str(engine_python))
    (target / "config" / MANIFEST).write_text(f"{before}engine_python = {path}{after}", encoding="utf-8")
    shutil.copytree(package, target / "isaac_ext", ignore=shutil.ignore_patterns("outside", "__pycache__", MANIFEST))
    for module in carried_modules(engine):
        copy = target / "cosmos_engine" / module.relative_to(engine)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, copy)
    (target / "cosmos_engine" / "data" / "__init__.py").write_text(_DATA_INIT, encoding="utf-8")
    (target / "docs" / "README.md").write_text(
        f"# Cosmos Engine {__version__}\n\nInstalled by `cosmos-engine isaac install`.\n", encoding="utf-8"
    )
    (target / "docs" / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{__version__}]\n", encoding="utf-8")
    (target / MARK).write_text(json.dumps({"version": __version__, "engine_python": str(engine_python)}))


def carried_modules(engine: Path) -> list[Path]:
    """Return the modules of the engine that the extension needs, sorted: followed through their imports.

    Imports inside functions are not followed: they are for what runs outside.
    """
    found: set[Path] = set()
    waiting = [_module_file(engine, name) for name in _CARRIED_FROM]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cosmos_engine."):
                waiting.append(_module_file(engine, str(node.module)))
    return sorted(found)


def bring_h5py(isaac: IsaacSim, extension: Path) -> str:
    """Bring h5py where Isaac Sim has none, or one that is too old, and say what was done.

    Into the extension's own folder, without dependencies: Isaac Sim's numpy stays as it is.

    Raises:
        InputError: pip failed.
    """
    if isaac.ask(_ASK_H5PY):
        return "h5py: Isaac Sim has it"
    target = extension / PACKAGES
    if isaac.ask(f"import sys; sys.path.insert(0, {str(target)!r}); {_ASK_H5PY}"):
        return "h5py: already here"
    done = subprocess.run(
        [str(isaac.python), "-m", "pip", "install", "--no-deps", "--upgrade", "--target", str(target), _H5PY],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(f"h5py: pip of {isaac.python} failed: {said[-1] if said else done.returncode}")
    return f"h5py: installed into {target}"


def manifest_path() -> Path:
    """Return the manifest: beside the packages in a checkout, inside `isaac_ext` in a wheel.

    Raises:
        InputError: neither is there.
    """
    package = _package("isaac_ext")
    for path in (package.parent / MANIFEST, package / MANIFEST):
        if path.is_file():
            return path
    raise InputError(f"{package}: no {MANIFEST} beside it; is the installation whole?")


def this_python() -> Path:
    """Return the interpreter that runs this, as it was called: of a virtual environment, not what it links to."""
    return Path(sys.executable).absolute()


def _module_file(engine: Path, name: str) -> Path:
    path = engine.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
