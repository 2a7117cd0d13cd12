"""Jobs in several processes: all of them done once, what stops one stops all, and a bench is opened once a process."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cosmos_engine.errors import InputError
from policies.side_by_side import side_by_side


class Bench:
    """Write a file for each job: who did it; some jobs refuse, some die, some go on until they are stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / f"bench_{os.getpid()}").touch(exist_ok=False)

    def do(self, job: str, check: Callable[[], None]) -> None:
        if job == "refuse":
            raise InputError("a job's own words")
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while job == "endless":
            check()
            time.sleep(0.01)
        (self.folder / job).write_text(str(os.getpid()))


class Shut(Bench):
    def __init__(self, folder: Path) -> None:
        raise InputError("no bench to be had")


def done_files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.startswith("bench_")}


def test_every_job_is_done_in_processes_that_open_one_bench_each(tmp_path: Path) -> None:
    jobs = [f"job{number}" for number in range(12)]
    assert sorted(side_by_side(functools.partial(Bench, tmp_path), jobs, 2)) == sorted(jobs)
    doers = {(tmp_path / job).read_text() for job in jobs}
    benches = {file.name.removeprefix("bench_") for file in tmp_path.glob("bench_*")}
    assert doers <= benches
    assert 1 <= len(benches) <= 2
    assert str(os.getpid()) not in benches


def test_refusal_of_a_job_is_said_and_stops_the_others(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a job's own words"):
        list(side_by_side(functools.partial(Bench, tmp_path), ["endless", "refuse", "later"], 2))
    assert "endless" not in done_files(tmp_path)


def test_refusal_to_open_a_bench_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no bench to be had"):
        list(side_by_side(functools.partial(Shut, tmp_path), ["one", "two"], 2))


def test_killed_process_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a worker was ended, as when memory runs out; the same command goes on"):
        list(side_by_side(functools.partial(Bench, tmp_path), ["die"], 2))


def test_leaving_early_stops_what_runs(tmp_path: Path) -> None:
    doing = side_by_side(functools.partial(Bench, tmp_path), ["first", "endless"], 2)
    assert next(doing) == "first"
    doing.close()  # as an exception in the caller's loop, Ctrl-C among them, does
    assert done_files(tmp_path) == {"first"}
