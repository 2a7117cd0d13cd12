"""The tables of the docs are those of the outcomes that are committed beside them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cosmos_engine.config import config_folder, load_config
from cosmos_engine.report.benchmark import read_benchmark
from policies.benchmark_result import markdown as benchmark_markdown
from policies.study import StudyConfig
from policies.study_result import markdown, read_tables

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
CONFIG = load_config(StudyConfig, config_folder() / "study" / "cpu.yaml")
SEED_1 = dataclasses.replace(
    CONFIG,
    target_arm="",
    training_seeds=[1],
    arms={arm: CONFIG.arms[arm] for arm in (CONFIG.reference, CONFIG.target_arm)},
)


@pytest.mark.parametrize(
    ("study", "task", "config"),
    [
        ("study_cpu", "lift", CONFIG),
        ("study_cpu", "stack", CONFIG),
        ("study_cpu_seed1", "lift", SEED_1),
        ("study_cpu_crops", "lift", dataclasses.replace(CONFIG, target_arm="")),
    ],
)
def test_every_line_of_the_tables_stands_in_the_docs(study: str, task: str, config: StudyConfig) -> None:
    (table,) = read_tables(config, RESULTS / study, [task])
    assert len(table.cells) == len(config.arms) * len(table.shifts)
    assert all(cell.finished == CONFIG.trials for cell in table.cells)
    docs = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in markdown(config, [table]).splitlines() if line.startswith("| ")]
    assert len(rows) > len(table.shifts) > 10
    assert [row for row in rows if row not in docs] == []


@pytest.mark.parametrize(
    ("folder", "page"),
    [
        ("dppo_lift", "results.md"),
        ("dppo_stack", "results.md"),
        ("robosuite_line", "robosuite.md"),
        ("stack_updates", "results.md"),
        ("train_defaults", "policies.md"),
    ],
)
def test_every_success_of_a_benchmark_stands_in_the_docs(folder: str, page: str) -> None:
    benchmark = read_benchmark(RESULTS / folder / "result.json")
    docs = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    rows = [line for line in benchmark_markdown(benchmark).splitlines() if line.startswith("| ") and "[" in line]
    assert len(rows) == len({cell.shift for cell in benchmark.cells}) > 0
    assert [row for row in rows if not any(line.startswith(row) for line in docs)] == []
