"""What is there and what is missing before anything is tried: one line each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmos_engine import __version__
from cosmos_engine.errors import InputError
from isaac_ext.kit import PACKAGES
from isaac_ext.outside.isaac_sim import SUPPORTED, IsaacSim, find_isaac_sim
from isaac_ext.outside.layout import Installed, installed, this_python
from isaac_ext.settings import EXTENSION

_GIB = 1 << 30
_REMEDY = "run `cosmos-engine isaac install`"
_ENOUGH_GIB = {"transfer25-tiny": 0, "transfer25-2b, offloaded": 12, "transfer25-2b": 32}
"""GPU memory beside Isaac Sim's own, see docs/performance.md."""


@dataclass(frozen=True)
class Finding:
    """Say one thing: `ok` is None for what is only told."""

    what: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{ {True: 'ok', False: 'missing', None: '-'}[self.ok]:8}{self.what}: {self.detail}"


def examine(given: Path | None, extensions: Path | None) -> Iterator[Finding]:
    """Find out, one after another.

    Args:
        given: `--isaac-path`, or None.
        extensions: folder that the extension was installed into, or None for Isaac Sim's own.
    """
    isaac: IsaacSim | None = None
    try:
        isaac = find_isaac_sim(given)
        known = " and ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        version = ".".join(str(part) for part in isaac.version)
        told = "" if isaac.supported else f"; written for {known}"
        yield Finding("Isaac Sim", isaac.supported, f"{version} at {isaac.root}{told}")
    except InputError as error:
        yield Finding("Isaac Sim", False, str(error))
    folder = extensions or (isaac.user_extensions if isaac else None)
    if folder is not None:
        yield from _of_extension(folder, installed(folder))
    if isaac is not None and folder is not None:
        yield from _of_python(isaac, folder / EXTENSION / PACKAGES)
    yield Finding("engine", True, f"{__version__} in {sys.executable}")
    yield _weights()
    yield from _gpus()


def _of_extension(folder: Path, found: Installed | None) -> Iterator[Finding]:
    if found is None:
        yield Finding("extension", False, f"not in {folder}, or not whole; {_REMEDY}")
        return
    newest = found.version == __version__
    told = f"{found.version} in {folder}"
    yield Finding("extension", newest, told if newest else f"{told}, this is {__version__}; {_REMEDY}")
    is_there = Path(found.engine_python).is_file()
    told = f"starts the engine with {found.engine_python}"
    if is_there and found.engine_python != str(this_python()):
        told += ", another environment than this one"
    yield Finding("extension's engine", is_there, told if is_there else f"{told}, which is gone; {_REMEDY}")


def _of_python(isaac: IsaacSim, packages: Path) -> Iterator[Finding]:
    version = isaac.ask("import sys; print('.'.join(map(str, sys.version_info[:3])))")
    yield Finding("Isaac Sim's Python", version is not None, version or f"{isaac.python} does not start")
    if version is None:
        return
    new_enough = {"numpy": "", "h5py": "assert h5py.version.hdf5_version_tuple >= (2, 0, 0); "}
    for name, check in new_enough.items():
        code = f"import sys; sys.path.insert(0, {str(packages)!r}); import {name}; {check}print({name}.__version__)"
        found = isaac.ask(code)
        yield Finding(
            f"Isaac Sim's {name}",
            found is not None,
            found or "not there, or too old; run `cosmos-engine isaac install`",
        )


def _weights() -> Finding:
    from cosmos_engine.transfer.published.folder import WeightsFolder, default_weights_folder

    folder = WeightsFolder(default_weights_folder())
    if not folder.path.is_dir():
        return Finding("weights of the 2B model", None, f"none in {folder.path}; tiny needs none, it is in the package")
    return Finding("weights of the 2B model", None, f"{folder.path}; `cosmos-engine weights verify` checks them")


def _gpus(run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("GPU", False, "no nvidia-smi; Isaac Sim needs an RTX GPU with its driver")
        return
    query = ["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    done = run([program, *query], capture_output=True, text=True, check=False)
    if done.returncode:
        yield Finding("GPU", False, (done.stderr or done.stdout).strip().splitlines()[-1])
        return
    for line in done.stdout.strip().splitlines():
        name, total_mib, free_mib = (word.strip() for word in line.rsplit(",", 2))
        free_gib = int(free_mib) * 1024**2 / _GIB
        fits = [generator for generator, gib in _ENOUGH_GIB.items() if free_gib >= gib]
        detail = f"{name}, {free_gib:.0f} of {int(total_mib) * 1024**2 / _GIB:.0f} GiB free"
        yield Finding("GPU", True, f"{detail}; enough for {', '.join(fits)}")
