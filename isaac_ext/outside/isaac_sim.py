"""Find an Isaac Sim on this machine: its folder, its version, its Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmos_engine.errors import InputError
from isaac_ext.engine import engine_environment

SUPPORTED = ((5, 1), (6, 0))
_PLACES = ("~/isaacsim", "~/isaac-sim", "/isaac-sim", "~/.local/share/ov/pkg/isaac-sim-*", "C:/isaacsim")
_VARIABLES = ("ISAACSIM_PATH", "ISAAC_PATH")
_QUERY_S = 120


@dataclass(frozen=True)
class IsaacSim:
    """Hold where an Isaac Sim is.

    Attributes:
        root: the folder that holds `apps` and `exts`: the unpacked archive, or `site-packages/isaacsim`.
        python: what starts its Python.
        version: major, minor.
    """

    root: Path
    python: Path
    version: tuple[int, int]

    @property
    def user_extensions(self) -> Path:
        """The folder where Isaac Sim looks for extensions of users by itself."""
        return self.root / "extsUser"

    @property
    def program(self) -> Path:
        """What starts it with its window: `isaac-sim.sh` of the archive, `isaacsim` beside the package's Python."""
        if self.python.parent == self.root:
            return self.root / ("isaac-sim.bat" if sys.platform == "win32" else "isaac-sim.sh")
        return self.python.with_name("isaacsim")

    @property
    def supported(self) -> bool:
        """Whether this version was written for."""
        return self.version in SUPPORTED

    def check(self) -> None:
        """Raise InputError if it is older than what this was written for, or its Python does not start."""
        if self.version < SUPPORTED[0]:
            known = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
            raise InputError(f"{self.root}: expected Isaac Sim {known}, got {self.version[0]}.{self.version[1]}")
        if self.ask("print(1)") is None:
            raise InputError(f"{self.python}: does not start; expected Isaac Sim's Python")

    def ask(self, code: str) -> str | None:
        """Return what a line of Python prints there, without starting Kit; None if it fails."""
        try:
            done = subprocess.run(
                [str(self.python), "-c", code],
                capture_output=True,
                text=True,
                check=False,
                timeout=_QUERY_S,
                env=engine_environment(os.environ),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        # Isaac Sim's launcher prints lines of its own before.
        return done.stdout.strip().splitlines()[-1] if done.returncode == 0 and done.stdout.strip() else None


def find_isaac_sim(given: Path | None, key: str = "--isaac-path") -> IsaacSim:
    """Return the Isaac Sim of a folder, or the first one found where it usually is.

    Args:
        given: the unpacked archive, a Python environment that `pip install isaacsim` went into, or None.
        key: option or setting that says where it is, for the error's line.

    Raises:
        InputError: none there, or none anywhere.
    """
    if given is not None:
        found = _at(given.expanduser())
        if found is None:
            raise InputError(
                f"{key} {given}: no Isaac Sim there (expected a folder with python.sh and a VERSION as 5.1.0, or a "
                "Python environment with the package isaacsim)"
            )
        return found
    for place in _places():
        found = _at(place)
        if found is not None:
            return found
    looked_at = ", ".join([*(f"${name}" for name in _VARIABLES), *_PLACES])
    raise InputError(f"no Isaac Sim found; say where it is with {key} (looked at {looked_at})")


def _places() -> Iterator[Path]:
    for variable in _VARIABLES:
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    for place in _PLACES:
        path = Path(place).expanduser()
        if "*" in path.name:
            yield from sorted(path.parent.glob(path.name), reverse=True) if path.parent.is_dir() else ()
        else:
            yield path


def _at(folder: Path) -> IsaacSim | None:
    launcher = folder / ("python.bat" if sys.platform == "win32" else "python.sh")
    if launcher.is_file() and (folder / "VERSION").is_file():
        version = _version((folder / "VERSION").read_text(encoding="utf-8", errors="replace"))
        return IsaacSim(folder, launcher, version) if version else None
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.is_file():
        return None
    packages = [*sorted(folder.glob("lib/python3.*/site-packages/isaacsim")), folder / "Lib/site-packages/isaacsim"]
    for package in packages:
        for about in package.parent.glob("isaacsim-*.dist-info"):
            version = _version(about.name.removeprefix("isaacsim-"))
            if package.is_dir() and version:
                return IsaacSim(package, python, version)
    return None


def _version(text: str) -> tuple[int, int] | None:
    match = re.match(r"\s*(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
