"""Killed at any moment, the job goes on without making again what was accepted, and ends in the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import Dataset, verify_dataset
from cosmos_engine.errors import InputError

from .small_job import run

SCRIPT = Path(__file__).parent / "small_job.py"


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.is_file() else []


def life(recording: Path, out: Path, log: Path, operations: int | None) -> None:
    """Run the job as a shell would: a dataset that is complete is one line and no traceback.

    Just before its n-th operation on files of the dataset, the process kills itself.
    """
    left = operations or -1

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"} and str(out) in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        run(recording, out, log, 1)
    except InputError as error:
        os._exit(0 if "is complete" in str(error) else 1)


def lived_s(
    recording: Path, out: Path, log: Path, until_s: float | None = None, operations: int | None = None
) -> float | None:
    """Run the job in a process; kill -9 it after some seconds or operations on files.

    Returns:
        How long it lived, None if it was killed.
    """
    process = multiprocessing.get_context("fork").Process(target=life, args=(recording, out, log, operations))
    began_s = time.monotonic()
    process.start()
    process.join(until_s)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return time.monotonic() - began_s if process.exitcode == 0 else None


@pytest.mark.parametrize(
    ("by", "kills"),
    [
        ("time", 3),
        ("operation", 4),
        pytest.param("time", 40, marks=pytest.mark.slow),
        pytest.param("operation", 40, marks=pytest.mark.slow),
    ],
)
def test_a_job_that_is_killed_at_random_ends_in_the_same_bytes(by, kills, recording, tmp_path):
    whole, once = tmp_path / "whole.zarr", tmp_path / "once.log"
    whole_s = lived_s(recording, whole, once)
    assert whole_s is not None
    expected, expected_calls = folder_bytes(whole), calls(once)
    assert 0 < (Dataset(whole).variant > 0).sum() < 12
    assert verify_dataset(whole, recording).intact
    rng = np.random.default_rng(kills)
    killed, finished = 0, 0
    while killed < kills:
        out, log = tmp_path / f"{finished}.zarr", tmp_path / f"{finished}.log"
        of_this_one = 0
        while True:
            until_s = rng.uniform(0.01, 0.6) * whole_s if by == "time" else None
            operations = int(rng.integers(1, 900)) if by == "operation" else None
            if lived_s(recording, out, log, until_s, operations) is not None:
                break
            of_this_one += 1
        assert folder_bytes(out) == expected
        made = calls(log)
        assert set(made) == set(expected_calls)
        assert len(made) <= len(expected_calls) + of_this_one  # a kill costs the call that was under way, no more
        killed += of_this_one
        finished += 1
        shutil.rmtree(out)


@pytest.mark.slow
def test_workers_make_the_same_bytes_and_die_with_their_parent(recording, tmp_path):
    run(recording, tmp_path / "alone.zarr", tmp_path / "alone.log", 1)
    expected = folder_bytes(tmp_path / "alone.zarr")
    out, log = tmp_path / "killed.zarr", tmp_path / "killed.log"
    command = [sys.executable, str(SCRIPT), str(recording), str(out), str(log), "3"]
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(4):
        before = len(calls(log))
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(calls(log)) == before:
            time.sleep(0.005)  # the workers are at work
        time.sleep(rng.uniform(0, 0.05))
        killed += process.poll() is None
        process.kill()
        process.wait()
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("workers outlived their parent")
    assert killed
    if not (out / "certificate.json").is_file():
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert folder_bytes(out) == expected
    assert set(calls(log)) == set(calls(tmp_path / "alone.log"))


@pytest.mark.slow
def test_a_worker_that_is_ended_from_outside_is_one_line(recording, tmp_path):
    (tmp_path / "fatal.py").write_text(
        "import functools, os, signal, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "import small_job as s\n"
        "from cosmos_engine.augment.job import augment\n"
        "from cosmos_engine.data import Recording\n"
        "from cosmos_engine.errors import InputError\n"
        "class Fatal(s.SeededGenerator):\n"
        "    def generate(self, clips, prompts, seeds):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "def opened():\n"
        "    return Fatal(), None\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        augment(Recording(sys.argv[1]), Path(sys.argv[2]), Fatal(), s.CONFIG, workers=[opened, opened])\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "fatal.py"), str(recording), str(tmp_path / "x.zarr")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a worker ended by signal 9, as when memory runs out; the same command goes on" in done.stdout
