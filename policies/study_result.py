"""What a study found: success by arm and shift, compared with the reference arm trial by trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from cosmos_engine.data.atomic import write_file
from cosmos_engine.errors import InputError
from cosmos_engine.report.benchmark import Cell, read_benchmark
from cosmos_engine.report.paired import Paired
from cosmos_engine.report.study import StudyCell, StudyPage, StudyTable, Target, chart, write_study_page
from policies.benchmark_result import RESULT_FILE, shift_table
from policies.intervals import wilson_95
from policies.paired_test import compare
from policies.study import StudyConfig, benchmark_folder, plan_study

STUDY_KIND = "cosmos-engine/study"
STUDY_SCHEMA = 2

Outcomes = Mapping[tuple[int, int], str]
"""(training seed, trial seed) -> "success", "failure" or "crash"."""


def read_tables(config: StudyConfig, out: Path, tasks: Sequence[str]) -> list[StudyTable]:
    """Return one table for each task from the benchmarks that are there; what has not run yet is no cell.

    Raises:
        InputError: a benchmark's file is malformed or of another task, or two benchmarks differ in their trials.
    """
    return [_table(config, out, task) for task in tasks]


def write_results(config: StudyConfig, out: Path, tasks: Sequence[str]) -> list[StudyTable]:
    """Write study.json, study.md, study.svg and study.html under `out`, and return the tables.

    Raises:
        InputError: see `read_tables`; or a file cannot be written.
    """
    tables = read_tables(config, out, tasks)
    content = {
        "kind": STUDY_KIND,
        "schema": STUDY_SCHEMA,
        "config": asdict(config),
        "tables": list(map(asdict, tables)),
    }
    write_file(out / "study.json", (json.dumps(content, indent=2) + "\n").encode())
    write_file(out / "study.md", (markdown(config, tables) + "\n").encode())
    write_file(out / "study.svg", chart(tables).encode())
    commands = [command.line for command in plan_study(config, out, tasks)]
    write_study_page(StudyPage(tuple(tables), config.reference, config.target_arm, tuple(commands)), out / "study.html")
    return tables


def markdown(config: StudyConfig, tables: Sequence[StudyTable]) -> str:
    """Return the tables as Markdown: a row for each shift, a column for each arm, then the targets."""
    blocks = []
    for table in tables:
        blocks.append(f"### {table.task}")
        blocks.append(shift_table(table.shifts, table.arms, partial(_text_in, table)))
        if table.targets:
            lines = [f"| {config.target_arm} on {table.task} | success | target | |", "|---|---|---|---|"]
            for target in table.targets:
                lines.append(f"| {target.shift} | {_text(target.cell)} | {_goal(target)} | {_verdict(target)} |")
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _table(config: StudyConfig, out: Path, task: str) -> StudyTable:
    counted: dict[str, dict[str, list[tuple[int, Cell]]]] = {}
    for arm in config.arms:
        for seed in config.training_seeds:
            file = benchmark_folder(out, task, arm, seed) / RESULT_FILE
            if not file.exists():
                continue
            benchmark = read_benchmark(file)
            if benchmark.task != task:
                raise InputError(f"{file}: expected task {task!r}, got {benchmark.task!r}")
            for cell in benchmark.cells:
                if cell.sequence_95 is not None:
                    raise InputError(f"{file}: stop_half_width: a study compares trial by trial and wants all of them")
                counted.setdefault(arm, {}).setdefault(cell.shift, []).append((seed, cell))
    outcomes = {
        arm: {shift: _outcomes(cells) for shift, cells in by_shift.items()} for arm, by_shift in counted.items()
    }
    reference = outcomes.get(config.reference, {})
    cells = []
    for arm, by_shift in outcomes.items():
        for shift, found in by_shift.items():
            is_compared = arm != config.reference and shift in reference
            paired = compare(found, reference[shift], config.reference) if is_compared else None
            cells.append(_cell(arm, shift, found, paired))
    shifts = tuple(dict.fromkeys(cell.shift for cell in cells))
    bare = StudyTable(task, tuple(config.arms), shifts, tuple(cells), ())
    return replace(bare, targets=_targets(config, bare))


def _outcomes(cells: Sequence[tuple[int, Cell]]) -> Outcomes:
    return {(seed, trial): outcome for seed, cell in cells for trial, outcome in cell.outcomes.items()}


def _cell(arm: str, shift: str, found: Outcomes, paired: Paired | None) -> StudyCell:
    finished = [outcome for outcome in found.values() if outcome != "crash"]
    successes = finished.count("success")
    return StudyCell(
        arm=arm,
        shift=shift,
        successes=successes,
        finished=len(finished),
        crashes=len(found) - len(finished),
        rate=successes / len(finished) if finished else None,
        wilson_95=wilson_95(successes, len(finished)),
        paired=paired,
    )


def _targets(config: StudyConfig, table: StudyTable) -> tuple[Target, ...]:
    """Return the targets of the target arm; the first is to be no worse than the reference where nothing is shifted."""
    if not config.target_arm:
        return ()
    vanilla = table.cell(config.target_arm, "vanilla")
    targets = [] if vanilla is None else [Target("vanilla", vanilla, None, config.published.get("vanilla"))]
    for shift, rate in config.targets.items():
        cell = table.cell(config.target_arm, shift)
        if cell is not None:
            targets.append(Target(shift, cell, rate, config.published.get(shift)))
    return tuple(targets)


def _text_in(table: StudyTable, arm: str, shift: str) -> str:
    return _text(table.cell(arm, shift))


def _text(cell: StudyCell | None) -> str:
    if cell is None:
        return "not run"
    if cell.rate is None or cell.wilson_95 is None:
        return f"none finished, {cell.crashes} crashed"
    low, high = cell.wilson_95
    crashes = f", {cell.crashes} crashed" if cell.crashes else ""
    text = f"{cell.successes}/{cell.finished} [{100 * low:.0f}, {100 * high:.0f}]{crashes}"
    return f"{text} {cell.mark}" if cell.mark else text


def _goal(target: Target) -> str:
    goal = "not worse than the reference" if target.least is None else f"at least {100 * target.least:.0f} %"
    return goal if target.published is None else f"{goal} (Isaac Lab: {100 * target.published:.1f} %)"


def _verdict(target: Target) -> str:
    return "met" if target.met else "not met"
