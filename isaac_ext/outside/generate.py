"""Headless generation in one command: demos by Isaac Sim's Python, then variants by the engine."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cosmos_engine.data.atomic import make_folder
from cosmos_engine.errors import InputError
from isaac_ext.engine import AugmentJob, engine_environment
from isaac_ext.franka import FrankaConfig
from isaac_ext.headless import OUTCOME
from isaac_ext.outside.isaac_sim import IsaacSim, find_isaac_sim
from isaac_ext.outside.layout import bring_h5py, install, this_python
from isaac_ext.settings import EXTENSION


@dataclass(frozen=True)
class GenerateConfig:
    """Say what `cosmos-engine isaac generate` makes: `out/demos` and `out/dataset.zarr`."""

    out: str = ""
    isaac_path: str = ""
    """Empty: where it usually is."""
    demos: FrankaConfig = field(default_factory=FrankaConfig)
    variants: AugmentJob = field(default_factory=AugmentJob)


def generate(
    config: GenerateConfig, check: Callable[[Sequence[str]], None], augment: Callable[[Sequence[str]], int]
) -> int:
    """Record and augment; the same command goes on where it was stopped.

    Args:
        config: what to make.
        check: raises InputError for a command of `cosmos-engine augment` that would be refused after the recording.
        augment: runs a command of `cosmos-engine` in this process and returns its exit code.

    Returns:
        the exit code.

    Raises:
        InputError: no output folder, no Isaac Sim, or it failed.
    """
    if not config.out:
        raise InputError("out: expected the folder of the results")
    out = Path(config.out).absolute()
    demos = replace(config.demos, folder=config.demos.folder or str(out / "demos"))
    demos.recorder_config()
    job = replace(
        config.variants,
        recording=config.variants.recording or demos.folder,
        out=config.variants.out or str(out / "dataset.zarr"),
    )
    words = [word for word in job.words() if word not in ("--progress", "json")]
    isaac = find_isaac_sim(Path(config.isaac_path) if config.isaac_path else None, "isaac_path")
    check(words)
    make_folder(out)
    try:
        run_headless(isaac, "generate", asdict(demos))
    except InputError as error:
        raise InputError(f"{error}; the same command goes on from there") from error
    return augment(words)


def run_headless(isaac: IsaacSim, task: str, options: dict[str, object]) -> int:
    """Run a task of `isaac_ext.headless` with Isaac Sim's Python, its output on ours, and return its exit code.

    The extension is laid out in a folder of its own for it, so that nothing needs to be installed before.

    Raises:
        InputError: it cannot be started, ended with an error, or without a word.
    """
    isaac.check()
    with tempfile.TemporaryDirectory(prefix="cosmos_engine_") as scratch:
        extension = install(Path(scratch), this_python())
        assert extension.name == EXTENSION
        bring_h5py(isaac, extension)
        file = Path(scratch) / "options.json"
        file.write_text(json.dumps(options), encoding="utf-8")
        done = subprocess.run(
            [str(isaac.python), "-m", "isaac_ext.headless", task, str(file)],
            check=False,
            env=engine_environment(os.environ) | {"PYTHONPATH": str(extension)},
        )
        told = file.with_suffix(OUTCOME)
        if not told.is_file():
            raise InputError(f"Isaac Sim did not finish: exit code {done.returncode}")
        outcome = json.loads(told.read_text(encoding="utf-8"))
    if outcome["error"]:
        raise InputError(f"Isaac Sim did not finish: {outcome['error']}")
    return int(outcome["exit_code"])
