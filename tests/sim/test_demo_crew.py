"""A recording is the same whoever makes its demos; a maker that is killed costs nothing, or one line."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "augment"))

from conftest import make_episode

from cosmos_engine.cluster import LOCAL
from cosmos_engine.data import Episode, Recording, verify_recording
from cosmos_engine.errors import InputError
from cosmos_engine.sim.demo_crew import DemoCrew, MakeDemo, process_crew, ray_crew
from cosmos_engine.sim.recorder import RecordConfig, record_demos

CONFIG = RecordConfig(task="lift", episodes=4, seed=20, image_size=16, cameras=["agentview"])
needs_ray = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]


def odd(seed: int) -> Episode | None:
    """Fail at every third seed."""
    return None if seed % 3 == 0 else make_episode(seed, length=4)


def mortal(marks: Path, lives: int, seed: int) -> Episode | None:
    """Kill the first `lives` processes that come to seed 4."""
    for life in range(lives if seed == 4 else 0):
        try:
            (marks / str(life)).touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return odd(seed)


def refusing(seed: int) -> Episode | None:
    raise InputError(f"seed {seed}: no")


def defective(seed: int) -> Episode | None:
    raise ZeroDivisionError("a defect")


def collected(crew: DemoCrew, wanted: int = 5) -> list[tuple[int, str | None]]:
    """The seeds that a crew comes to for so many demos, each with its demo's id."""
    found: list[tuple[int, str | None]] = []
    for seed, demo in crew.demos(1, lambda: wanted - sum(one is not None for _, one in found)):
        found.append((seed, None if demo is None else demo.episode_id))
    return found


ALONE = collected(DemoCrew(int, odd))


def demo_bytes(folder: Path) -> list[tuple[str, bytes]]:
    """The files of a recording's demos in its order; the index's bytes depend on how often it was opened."""
    recording = Recording(folder)
    files = [recording.path(index) for index in range(len(recording))]
    assert len(files) == CONFIG.episodes
    return [(file.name, file.read_bytes()) for file in files]


def test_crew_of_this_process_goes_by_seeds_until_nothing_is_missing() -> None:
    assert [seed for seed, _ in ALONE] == [1, 2, 3, 4, 5, 6, 7]
    assert [seed for seed, demo in ALONE if demo is None] == [3, 6]


def test_processes_make_the_same_demos_in_the_same_order() -> None:
    with process_crew(odd, 2) as crew:
        assert collected(crew) == ALONE


def test_no_more_seeds_are_begun_than_demos_are_missing() -> None:
    begun: list[int] = []
    crew = DemoCrew(lambda seed: begun.append(seed) or seed, odd, ahead=50)
    assert collected(crew) == ALONE
    assert begun == list(range(1, 8))


@pytest.mark.parametrize("workers", [1, 2])
def test_recording_by_workers_has_the_bytes_of_one_made_alone_and_is_gone_on_with(workers: int, tmp_path: Path) -> None:
    record_demos(CONFIG, tmp_path / "alone")
    record_demos(RecordConfig(**{**vars(CONFIG), "episodes": 1}), tmp_path / "demos", workers=2)
    assert record_demos(CONFIG, tmp_path / "demos", workers=workers).demos == 3
    assert verify_recording(tmp_path / "demos").sound
    assert demo_bytes(tmp_path / "demos") == demo_bytes(tmp_path / "alone")


def test_killed_process_is_one_line(tmp_path: Path) -> None:
    make = functools.partial(mortal, tmp_path, 1)
    with (
        pytest.raises(InputError, match=r"a worker was ended.*the same command goes on"),
        process_crew(make, 2) as crew,
    ):
        collected(crew)
    with process_crew(make, 2) as crew:
        assert collected(crew) == ALONE


def test_what_a_process_refuses_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^seed 1: no$"), process_crew(refusing, 2) as crew:
        collected(crew)


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_refused_before_anything_is_written(workers: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--workers: expected 1 or more, got {workers}"):
        record_demos(CONFIG, tmp_path / "demos", workers=workers)
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize("killed", [pytest.param(count, marks=needs_ray) for count in (0, 1, 2)])
def test_ray_makes_the_same_demos_also_when_workers_are_killed(killed: int, tmp_path: Path) -> None:
    with ray_crew(functools.partial(mortal, tmp_path, killed), LOCAL, 3) as crew:
        assert collected(crew) == ALONE
    assert len(list(tmp_path.iterdir())) == killed


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_missing_ray_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--ray: Ray is not installed"):
        record_demos(CONFIG, tmp_path / "demos", ray=LOCAL)
    assert not (tmp_path / "demos").exists()


def failing(make: MakeDemo) -> None:
    with ray_crew(make, LOCAL, 2) as crew:
        collected(crew)


@pytest.mark.slow
def test_what_goes_wrong_on_ray_is_one_line_or_a_traceback(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.raises(InputError, match=r"^seed 1: no$"):
        failing(refusing)
    with pytest.raises(RuntimeError, match=r"(?s)a worker failed:.*ZeroDivisionError: a defect"):
        failing(defective)
    with pytest.raises(InputError, match=r"3 Ray workers died over a demo.*the same command goes on"):
        failing(functools.partial(mortal, tmp_path, 3))


@pytest.mark.slow
def test_recording_by_ray_has_the_bytes_of_one_made_alone(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    record_demos(CONFIG, tmp_path / "alone")
    record_demos(CONFIG, tmp_path / "demos", workers=2, ray=LOCAL)
    assert demo_bytes(tmp_path / "demos") == demo_bytes(tmp_path / "alone")
