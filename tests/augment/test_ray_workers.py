"""Ray's workers: the bytes of a job made alone, also when one is killed, and one line for what goes wrong."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest import SeededGate, SeededGenerator, make_episode
from small_job import CONFIG, PERCENT

from cosmos_engine.augment.job import augment
from cosmos_engine.augment.ray_workers import RayPool, ray_pool
from cosmos_engine.augment.workbench import Opener
from cosmos_engine.cluster import LOCAL
from cosmos_engine.data import Recording, RecordingWriter, verify_dataset
from cosmos_engine.errors import InputError

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.slow

WORKERS = 3


class Mortal(SeededGenerator):
    """Kill this process over a demo's first try: the first `lives` processes that come to it."""

    def __init__(self, marks: Path, lives: int) -> None:
        super().__init__()
        self._marks = marks
        self._lives = lives

    def generate(self, clips, prompts, seeds):
        with (self._marks / "calls").open("a") as calls:
            calls.write(f"{os.getpid()} {list(seeds)}\n")
        for life in range(self._lives):
            try:
                (self._marks / str(life)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(clips, prompts, seeds)


def mortal(marks: Path, lives: int) -> tuple[Mortal, SeededGate]:
    return Mortal(marks, lives), SeededGate(PERCENT)


def refusing() -> tuple[SeededGenerator, SeededGate]:
    raise InputError("weights.safetensors: missing")


def defective() -> tuple[SeededGenerator, SeededGate]:
    raise ZeroDivisionError("a defect")


def test_cluster_without_gpus_and_no_cluster_are_one_line() -> None:
    with (
        pytest.raises(InputError, match="the cluster has 0 GPUs where 2 workers need one each"),
        ray_pool(LOCAL, refusing, 2, needs_gpu=True),
    ):
        pass
    with pytest.raises(InputError, match="--ray auto: no Ray cluster"), ray_pool("auto", refusing, 1, needs_gpu=False):
        pass


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("ray") / "demos"
    with RecordingWriter(folder, {"env_name": "test", "type": 2, "env_kwargs": {}}) as writer:
        for seed in range(6):
            writer.append(make_episode(seed, length=8))
    return Recording(folder)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine with three workers' room."""
    with ray_pool(LOCAL, refusing, WORKERS, needs_gpu=False) as pool:
        assert len(pool) == WORKERS
        yield importlib.import_module("ray")


def job(recording: Recording, out: Path, workers: Sequence[Opener] = ()) -> None:
    augment(recording, out, SeededGenerator(), CONFIG, gate=SeededGate(PERCENT), workers=workers)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_workers_of_which_some_are_killed_make_the_same_bytes(
    killed: int, ray: Any, recording: Recording, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job(recording, tmp_path / "alone.zarr")
    job(recording, tmp_path / "ray.zarr", RayPool(ray, functools.partial(mortal, tmp_path, killed), WORKERS, False))
    assert folder_bytes(tmp_path / "ray.zarr") == folder_bytes(tmp_path / "alone.zarr")
    assert verify_dataset(tmp_path / "ray.zarr", recording.folder).intact
    assert len(list(tmp_path.glob("[0-9]"))) == killed
    assert capfd.readouterr().err.count("a Ray worker died over demo") == killed
    processes = {line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()}
    assert len(processes) > killed
    assert str(os.getpid()) not in processes


def test_unit_that_kills_whoever_takes_it_ends_the_job_and_the_same_command_goes_on(
    ray: Any, recording: Recording, tmp_path: Path
) -> None:
    opener = functools.partial(mortal, tmp_path, 3)
    with pytest.raises(InputError, match=r"3 Ray workers died over demo \d.*the same command goes on from here"):
        job(recording, tmp_path / "ray.zarr", RayPool(ray, opener, 1, False))
    job(recording, tmp_path / "ray.zarr", RayPool(ray, opener, 2, False))
    job(recording, tmp_path / "alone.zarr")
    assert folder_bytes(tmp_path / "ray.zarr") == folder_bytes(tmp_path / "alone.zarr")


def test_what_a_worker_refuses_is_one_line_and_a_defect_keeps_its_traceback(
    ray: Any, recording: Recording, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^weights\.safetensors: missing$"):
        job(recording, tmp_path / "refused.zarr", RayPool(ray, refusing, 1, False))
    with pytest.raises(RuntimeError, match=r"(?s)a worker failed:.*ZeroDivisionError: a defect"):
        job(recording, tmp_path / "defect.zarr", RayPool(ray, defective, 1, False))
