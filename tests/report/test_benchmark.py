"""Benchmark files are read whole, and one that contradicts itself is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.report.benchmark import KIND, read_benchmark


def cell(**changed: Any) -> dict[str, Any]:
    return {
        "policy": "bc",
        "checkpoint": "runs/bc",
        "shift": "vanilla",
        "trials": 10,
        "successes": 6,
        "crashes": 2,
        "success_rate": 0.75,
        "wilson_95": [0.409, 0.929],
        "mean_steps_to_success": 61.2,
        "outcomes": [{"seed": 1000, "outcome": "success", "steps": 63}],
        "videos": ["videos/bc_vanilla_1000.mp4"],
    } | changed


def write(folder: Path, cells: list[dict[str, Any]], **changed: Any) -> Path:
    content = {"schema": 1, "kind": KIND, "task": "lift", "created": "2026-11-21", "versions": {"torch": "2.13.0"}}
    path = folder / "benchmark.json"
    path.write_text(json.dumps(content | {"cells": cells} | changed), encoding="utf-8")
    return path


def test_a_benchmark_is_read_whole(tmp_path: Path) -> None:
    none_finished = cell(
        trials=2, successes=0, crashes=2, success_rate=None, wilson_95=None, mean_steps_to_success=None
    )
    benchmark = read_benchmark(write(tmp_path, [cell(), none_finished]))
    assert (benchmark.task, benchmark.created, benchmark.versions) == ("lift", "2026-11-21", {"torch": "2.13.0"})
    first, second = benchmark.cells
    assert (first.successes, first.crashes, first.success_rate, first.wilson_95) == (6, 2, 0.75, (0.409, 0.929))
    assert first.outcomes == {1000: "success"}
    assert first.videos == (tmp_path / "videos/bc_vanilla_1000.mp4",)
    assert (second.success_rate, second.wilson_95, second.mean_steps_to_success) == (None, None, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"successes": 9}, "9 successes and 2 crashes in 10 trials"),
        ({"success_rate": 0.6}, "expected 0.7500 from the counts, got 0.6"),
        ({"success_rate": None}, "exactly where a trial finished; 8 did"),
        ({"trials": 2, "successes": 0}, "exactly where a trial finished; 0 did"),
        ({"wilson_95": [0.8, 0.9]}, "interval around 0.7500"),
        ({"wilson_95": [0.5]}, r"expected \[low, high\]"),
        ({"sequence_95": [0.8, 1.0]}, "sequence_95: expected an interval around 0.7500"),
        ({"sequence_95": [0.5, 0.8, 1.0]}, r"sequence_95: expected \[low, high\]"),
        (
            {"paired": {"reference": "a", "only_here": 1, "only_reference": -1, "p_value": 1.0}},
            "paired: expected counts",
        ),
        ({"paired": {"reference": "a", "only_here": 1, "only_reference": 1}}, "no key 'p_value'"),
        ({"paired": [1, 1]}, "wrong type"),
        ({"trials": "ten"}, "wrong type"),
        ({"trials": float("inf")}, "wrong type"),
        ({"outcomes": [{"outcome": "success"}]}, "no key 'seed'"),
    ],
)
def test_a_cell_that_contradicts_itself_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = write(tmp_path, [cell(**changed)])
    with pytest.raises(InputError, match=message) as caught:
        read_benchmark(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"kind": "other"}, "expected the kind"), ({"schema": 2}, "got 2"), ({"versions": []}, "wrong type")],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_benchmark(write(tmp_path, [], **changed))


def test_a_missing_or_cut_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, [cell()])
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    for broken in (path, tmp_path / "absent.json"):
        with pytest.raises(InputError, match="cannot be read as a benchmark"):
            read_benchmark(broken)
