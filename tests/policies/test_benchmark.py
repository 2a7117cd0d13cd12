"""The benchmark: paired seeds, honest counts, resumable cells, a result that the report reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_engine.config import load_config
from cosmos_engine.errors import InputError
from cosmos_engine.report.benchmark import read_benchmark
from policies.benchmark import BenchmarkConfig, Contestant, choose_shifts, run_benchmark, summarize
from policies.benchmark_result import write_result
from policies.policy import PolicySpec
from policies.rollout import Trial

CONFIG = BenchmarkConfig(trials=6, first_seed=100, environments=3, videos=1)
SPEC = PolicySpec(
    observation_shapes={"agentview_image": [16, 16, 3], "robot0_eef_pos": [2], "goal": [2]},
    action_dim=2,
    step_hz=20.0,
    action_chunk=4,
)


class DarknessSeeker:
    """Act towards the goal as long as it is dark: a bright background is more than it was trained on."""

    spec = SPEC

    def __init__(self) -> None:
        self.starts: dict[str, list[tuple[float, ...]]] = {"dark": [], "bright": []}

    def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        backgrounds = np.median(observations["agentview_image"][:, -1], axis=(1, 2, 3))
        dark = backgrounds[:, None] < 100
        for row, background in enumerate(backgrounds):
            frames = observations["robot0_eef_pos"][row]
            if (frames[0] == frames[1]).all():
                self.starts["dark" if background < 100 else "bright"].append(tuple(frames[0].tolist()))
        towards = (observations["goal"][:, -1] - observations["robot0_eef_pos"][:, -1]) / 0.4
        return np.repeat((towards * dark)[:, None], 4, axis=1).astype(np.float32)


class SquareArena:
    """The point's square with two looks; counts the environments it made."""

    task = "reach"
    shifts = ("dark", "bright")

    def __init__(self, point_mass: Callable[..., Any], crash_seeds: frozenset[int] = frozenset()) -> None:
        self.point_mass = point_mass
        self.crash_seeds = crash_seeds
        self.made = 0

    def make(self) -> Any:
        self.made += 1
        return self.point_mass(crash_seeds=self.crash_seeds)

    def prepare(self, environment: Any, shift: str, seed: int) -> None:
        environment.brightness = {"dark": 0, "bright": 200}[shift]


def _contestant(name: str = "bc", policy: Any = None, demo_seeds: frozenset[int] = frozenset()) -> Contestant:
    return Contestant(name, policy or DarknessSeeker(), f"runs/{name}", "00", demo_seeds)


@pytest.fixture
def arena(point_mass: Callable[..., Any]) -> SquareArena:
    """Return an arena without crashes."""
    return SquareArena(point_mass)


def test_success_is_counted_per_policy_and_shift(arena: SquareArena, tmp_path: Path) -> None:
    result = run_benchmark([_contestant("a"), _contestant("b")], arena, ["dark", "bright"], CONFIG, tmp_path)
    rates = {(cell["policy"], cell["shift"]): cell["success_rate"] for cell in result["cells"]}
    assert rates == {("a", "dark"): 1.0, ("a", "bright"): 0.0, ("b", "dark"): 1.0, ("b", "bright"): 0.0}
    table = (tmp_path / "result.md").read_text(encoding="utf-8")
    assert "| shift | a | b |" in table
    assert "| dark | 6/6 = 100 % [61, 100] | 6/6 = 100 % [61, 100] |" in table
    assert "| bright | 0/6 = 0 % [0, 39] | 0/6 = 0 % [0, 39] |" in table


def test_policies_are_compared_with_the_first_trial_by_trial(point_mass: Callable[..., Any], tmp_path: Path) -> None:
    class Blind(DarknessSeeker):
        """Act in any light."""

        def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
            dark = {**observations, "agentview_image": np.zeros_like(observations["agentview_image"])}
            return super().act(dark, rngs)

    arena = SquareArena(point_mass, crash_seeds=frozenset({101}))
    contestants = [_contestant("first"), _contestant("blind", Blind())]
    config = replace(CONFIG, trials=9)
    cells = run_benchmark(contestants, arena, ["dark", "bright"], config, tmp_path)["cells"]
    paired = {(cell["policy"], cell["shift"]): cell.get("paired") for cell in cells}
    equal = {"reference": "first", "only_here": 0, "only_reference": 0, "p_value": 1.0}
    assert paired["first", "dark"] is paired["first", "bright"] is None
    assert paired["blind", "dark"] == equal
    assert paired["blind", "bright"] == equal | {"only_here": 8, "p_value": 2 / 2**8}  # what crashed is in no pair
    table = (tmp_path / "result.md").read_text(encoding="utf-8")
    assert "| bright | 0/8 = 0 % [0, 32], 1 crashed | 9/9 = 100 % [70, 100] ▲ |" in table
    assert "| bright | +8 −0, p = 0.0078 |" in table
    assert "Against first: " in table
    page = (tmp_path / "result.html").read_text(encoding="utf-8")
    assert "Against first" in page
    assert "+8 −0, p = 0.0078 ▲" in page
    assert page.count("data:video/mp4") == 4
    read = {(cell.policy, cell.shift): cell.paired for cell in read_benchmark(tmp_path / "result.json").cells}
    assert read["first", "bright"] is None
    assert (pair := read["blind", "bright"])
    assert pair.mark == "▲"


def test_one_policy_is_compared_with_none(arena: SquareArena, tmp_path: Path) -> None:
    run_benchmark([_contestant()], arena, ["dark"], CONFIG, tmp_path)
    for name in ("result.md", "result.html"):
        assert "Against" not in (tmp_path / name).read_text(encoding="utf-8")


def test_result_is_what_the_report_reads(arena: SquareArena, tmp_path: Path) -> None:
    run_benchmark([_contestant()], arena, ["dark", "bright"], CONFIG, tmp_path)
    read = read_benchmark(tmp_path / "result.json")
    assert read.task == "reach"
    assert [(cell.policy, cell.shift, cell.successes) for cell in read.cells] == [
        ("bc", "dark", 6),
        ("bc", "bright", 0),
    ]
    assert sorted(read.cells[0].outcomes) == list(range(100, 106))
    assert all(video.is_file() for cell in read.cells for video in cell.videos)
    assert [video.name for video in read.cells[0].videos] == ["bc_dark_100.mp4"]


def test_all_policies_and_shifts_start_from_the_same_states(arena: SquareArena, tmp_path: Path) -> None:
    first, second = DarknessSeeker(), DarknessSeeker()
    contestants = [_contestant("a", first), _contestant("b", second)]
    run_benchmark(contestants, arena, ["dark", "bright"], CONFIG, tmp_path)
    assert first.starts["dark"] == second.starts["dark"]
    assert set(first.starts["bright"]) == set(first.starts["dark"])  # the still policy's later windows repeat its start
    assert len(set(first.starts["dark"])) == CONFIG.trials


def test_successes_and_failures_are_filmed_alike(arena: SquareArena, tmp_path: Path) -> None:
    class Halting(DarknessSeeker):
        """Stand still where the goal is to the left."""

        def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
            to_the_right = observations["goal"][:, -1, 0] > observations["robot0_eef_pos"][:, -1, 0]
            return super().act(observations, rngs) * to_the_right[:, None, None].astype(np.float32)

    for videos, kinds in ((1, 1), (2, 2), (3, 2)):
        config = replace(CONFIG, trials=20, videos=videos)
        result = run_benchmark([_contestant(policy=Halting())], arena, ["dark"], config, tmp_path / str(videos))
        (cell,) = result["cells"]
        filmed = {int(video.removesuffix(".mp4").rsplit("_", 1)[1]) for video in cell["videos"]}
        assert len(filmed) == videos
        assert len({trial["outcome"] for trial in cell["outcomes"] if trial["seed"] in filmed}) == kinds


def test_crashes_are_counted_apart_from_failures(point_mass: Callable[..., Any], tmp_path: Path) -> None:
    arena = SquareArena(point_mass, crash_seeds=frozenset({101, 102}))
    result = run_benchmark([_contestant()], arena, ["bright"], CONFIG, tmp_path)
    (cell,) = result["cells"]
    assert (cell["trials"], cell["successes"], cell["crashes"], cell["success_rate"]) == (6, 0, 2, 0.0)
    crashed = [outcome for outcome in cell["outcomes"] if outcome["outcome"] == "crash"]
    assert [outcome["seed"] for outcome in crashed] == [101, 102]
    assert crashed[0]["error"] == "RuntimeError: the solver diverged"
    assert "0/4 = 0 % [0, 49], 2 crashed" in (tmp_path / "result.md").read_text(encoding="utf-8")


def test_no_finished_trial_has_no_rate(tmp_path: Path) -> None:
    trials = [Trial(seed, "crash", 0, "RuntimeError: x") for seed in range(3)]
    cell = summarize(_contestant(), "dark", trials, [])
    assert cell["success_rate"] is None
    assert cell["wilson_95"] is None
    assert cell["mean_steps_to_success"] is None
    about = {"kind": "cosmos-engine/benchmark", "schema": 1, "task": "reach", "created": "x", "versions": {}}
    write_result(about | {"config": {}, "cells": [cell]}, tmp_path)
    assert "none finished of 3, 3 crashed" in (tmp_path / "result.md").read_text(encoding="utf-8")


def test_finished_cells_are_kept_and_missing_ones_made(arena: SquareArena, tmp_path: Path) -> None:
    run_benchmark([_contestant()], arena, ["dark"], CONFIG, tmp_path)
    kept = (tmp_path / "cells" / "bc_dark.json").read_bytes()
    made = arena.made
    policy = DarknessSeeker()
    result = run_benchmark([_contestant(policy=policy)], arena, ["dark", "bright"], CONFIG, tmp_path)
    assert [cell["shift"] for cell in result["cells"]] == ["dark", "bright"]
    assert (tmp_path / "cells" / "bc_dark.json").read_bytes() == kept
    assert policy.starts["dark"] == []
    before = arena.made
    run_benchmark([_contestant()], arena, ["dark", "bright"], CONFIG, tmp_path)
    assert arena.made == before > made


def test_cells_are_the_same_from_several_processes(arena: SquareArena, tmp_path: Path) -> None:
    contestants = [_contestant("a"), _contestant("b")]
    alone = run_benchmark(contestants, arena, ["dark", "bright"], CONFIG, tmp_path / "alone")
    made = arena.made
    run_benchmark(contestants, arena, ["dark"], CONFIG, tmp_path / "shared", workers=2)
    shared = run_benchmark(contestants, arena, ["dark", "bright"], CONFIG, tmp_path / "shared", workers=2)
    assert shared["cells"] == alone["cells"]
    assert arena.made == made  # all environments were the workers'
    for file in sorted((tmp_path / "alone" / "videos").iterdir()):
        assert (tmp_path / "shared" / "videos" / file.name).read_bytes() == file.read_bytes()


def test_policy_that_does_not_fit_is_named_by_several_processes_too(arena: SquareArena, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives no 'wrist_image'"):
        run_benchmark([_contestant()], arena, ["dark", "bright"], replace(CONFIG, camera="wrist"), tmp_path, workers=2)


def test_interrupted_benchmark_goes_on_with_the_missing_cells(
    point_mass: Callable[..., Any], arena: SquareArena, tmp_path: Path
) -> None:
    class Impatient(SquareArena):
        def prepare(self, environment: Any, shift: str, seed: int) -> None:
            if shift == "bright" and seed == 102:
                raise KeyboardInterrupt
            super().prepare(environment, shift, seed)

    with pytest.raises(KeyboardInterrupt):
        run_benchmark([_contestant()], Impatient(point_mass), ["dark", "bright"], CONFIG, tmp_path)
    assert not (tmp_path / "result.json").exists()
    resumed = run_benchmark([_contestant()], arena, ["dark", "bright"], CONFIG, tmp_path)
    whole = run_benchmark([_contestant()], arena, ["dark", "bright"], CONFIG, tmp_path.with_name("whole"))
    assert resumed["cells"] == whole["cells"]


@pytest.mark.parametrize("environments", [1, 3, 7])
def test_cells_that_may_end_early_do_so_by_their_first_seeds_and_say_so(
    arena: SquareArena, tmp_path: Path, environments: int
) -> None:
    config = replace(CONFIG, trials=60, environments=environments, stop_half_width=0.2)
    result = run_benchmark([_contestant(), _contestant("other")], arena, ["dark", "bright"], config, tmp_path)
    dark, bright = result["cells"][:2]
    # Of n successes or n failures the sequence leaves out 1 / (20 (n + 1)) ** (1 / n): 0.59 of 10, 0.61 of 11.
    for cell in (dark, bright):
        assert [outcome["seed"] for outcome in cell["outcomes"]] == list(range(100, 111))
        low, high = cell["sequence_95"]
        assert high - low <= 0.4
        assert high - low > cell["wilson_95"][1] - cell["wilson_95"][0]
    assert dark["successes"] == 11
    assert all("paired" not in cell for cell in result["cells"])
    table = (tmp_path / "result.md").read_text(encoding="utf-8")
    assert "11/11 = 100 % [61, 100]†" in table
    assert "† sequential: trials ended as soon as" in table
    read = read_benchmark(tmp_path / "result.json").cells[0]
    assert read.interval_95 == read.sequence_95 == tuple(dark["sequence_95"])
    with pytest.raises(InputError, match=r"stop_half_width is 0\.2 there and None here"):
        run_benchmark([_contestant()], arena, ["dark"], replace(config, stop_half_width=None), tmp_path)


def test_cells_without_an_early_end_are_not_marked(arena: SquareArena, tmp_path: Path) -> None:
    result = run_benchmark([_contestant()], arena, ["dark"], CONFIG, tmp_path)
    assert "sequence_95" not in result["cells"][0]
    assert "†" not in (tmp_path / "result.md").read_text(encoding="utf-8")
    read = read_benchmark(tmp_path / "result.json").cells[0]
    assert (read.sequence_95, read.interval_95) == (None, read.wilson_95)


def test_folder_of_another_benchmark_names_what_differs(arena: SquareArena, tmp_path: Path) -> None:
    run_benchmark([_contestant()], arena, ["dark"], CONFIG, tmp_path)
    with pytest.raises(InputError, match="holds another benchmark: trials is 6 there and 7 here"):
        run_benchmark([_contestant()], arena, ["dark"], replace(CONFIG, trials=7), tmp_path)
    other = replace(_contestant(), weights_sha256="11")
    with pytest.raises(InputError, match="holds another benchmark: weights_sha256 is 00 there and 11 here"):
        run_benchmark([other], arena, ["dark"], CONFIG, tmp_path)


def test_cells_of_other_strengths_are_not_taken_for_these(point_mass: Callable[..., Any], tmp_path: Path) -> None:
    class Named(SquareArena):
        def prepare(self, environment: Any, shift: str, seed: int) -> None:
            environment.brightness = 0

    weaker = load_config(BenchmarkConfig, None, ["shifts.camera_pose.turn_deg=[1,2]"], CONFIG)
    shifts = ["camera_noise", "camera_pose"]
    run_benchmark([_contestant()], Named(point_mass), shifts, CONFIG, tmp_path)
    run_benchmark([_contestant()], Named(point_mass), ["camera_noise"], weaker, tmp_path)  # is the same under both
    with pytest.raises(InputError, match=r"holds another benchmark: strengths is .*5\.0.* there and .*2\.0.* here"):
        run_benchmark([_contestant()], Named(point_mass), shifts, weaker, tmp_path)


def test_trials_on_training_starts_are_refused(arena: SquareArena, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trained on 2 of the trials' starts \(seed 103\); choose another first_seed"):
        run_benchmark([_contestant(demo_seeds=frozenset({1, 103, 105}))], arena, ["dark"], CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials: expected at least 1, got 0"),
        ({"camera": "wrist"}, "gives no 'wrist_image'"),
        ({"stop_half_width": 0.5}, "stop_half_width: expected a number between 0 and 0.5"),
    ],
)
def test_bad_settings_are_named(arena: SquareArena, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_benchmark([_contestant()], arena, ["dark"], replace(CONFIG, **change), tmp_path)


def test_two_policies_of_one_name_are_refused(arena: SquareArena, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="policy name 'bc': given twice"):
        run_benchmark([_contestant(), _contestant()], arena, ["dark"], CONFIG, tmp_path)


def test_a_benchmark_of_no_policy_is_refused(arena: SquareArena, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="policies: expected at least one, the folder of a run"):
        run_benchmark([], arena, ["dark"], CONFIG, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shifts_are_chosen_by_name() -> None:
    known = ("vanilla", "table_texture", "everything")
    assert choose_shifts("all", known) == ["vanilla", "table_texture", "everything"]
    assert choose_shifts("everything", known) == ["everything"]
    assert choose_shifts("table_texture, vanilla,vanilla", known) == ["table_texture", "vanilla"]
    with pytest.raises(InputError, match="shift 'table_textur': unknown; did you mean 'table_texture'"):
        choose_shifts("table_textur", known)
    with pytest.raises(InputError, match="expected names separated by commas"):
        choose_shifts(" , ", known)


def test_result_is_json_without_invented_numbers(arena: SquareArena, tmp_path: Path) -> None:
    run_benchmark([_contestant()], arena, ["bright"], CONFIG, tmp_path)
    (cell,) = json.loads((tmp_path / "result.json").read_text())["cells"]
    assert cell["mean_steps_to_success"] is None
    assert cell["wilson_95"] == pytest.approx([0.0, 0.3903], abs=1e-4)
