"""A benchmark's result as JSON, as Markdown and as a page, with every policy compared with the first one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from cosmos_engine.data.atomic import write_file
from cosmos_engine.report import Benchmark, Provenance, ReportInput, read_benchmark, write_report
from cosmos_engine.report.benchmark import PAIRED_NOTE, SEQUENTIAL_MARK, SEQUENTIAL_NOTE, Cell
from policies.paired_test import compare

RESULT_FILE = "result.json"
MARKDOWN_FILE = "result.md"
PAGE_FILE = "result.html"


def write_result(result: Mapping[str, Any], out: Path) -> None:
    """Write result.json, result.md and result.html under `out`.

    Raises:
        InputError: a file cannot be written, or a rollout video that is there cannot be played by a browser.
    """
    write_file(out / RESULT_FILE, json.dumps(result, indent=2).encode())
    benchmark = read_benchmark(out / RESULT_FILE)
    write_file(out / MARKDOWN_FILE, (markdown(benchmark) + "\n").encode())
    write_report(_page(benchmark, result["config"]), out / PAGE_FILE)


def with_pairs(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return cells of result.json, those of every policy but the first with `paired`: the comparison with the first.

    Where trials could end early, two policies' trials are not the same ones: such cells stay as they are.
    """
    first = {cell["shift"]: cell for cell in cells if cell["policy"] == cells[0]["policy"]}
    return [_with_pair(cell, first[cell["shift"]]) for cell in cells]


def _with_pair(cell: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    if cell["policy"] == reference["policy"] or "sequence_95" in cell:
        return dict(cell)
    here, there = ({trial["seed"]: trial["outcome"] for trial in side["outcomes"]} for side in (cell, reference))
    return {**cell, "paired": asdict(compare(here, there, reference["policy"]))}


def markdown(benchmark: Benchmark) -> str:
    """Return the result as Markdown: success, comparisons and times, a row for each shift, a column for each policy."""
    cells = benchmark.cells
    notes = [f"Success of {benchmark.task}: k/n finished trials with the 95 % interval in percent (Wilson)."]
    if any(cell.sequence_95 for cell in cells):
        notes.append(f"{SEQUENTIAL_MARK} {SEQUENTIAL_NOTE}.")
    blocks = [" ".join(notes), _table(cells, _success)]
    if reference := next((cell.paired.reference for cell in cells if cell.paired), ""):
        others = [cell for cell in cells if cell.policy != reference]
        blocks += [f"Against {reference}: {PAIRED_NOTE}.", _table(others, _paired)]
    blocks += ["Control steps to success, mean of the successful trials.", _table(cells, _steps)]
    return "\n\n".join(blocks)


def shift_table(shifts: Sequence[str], columns: Sequence[str], text: Callable[[str, str], str]) -> str:
    """Return a Markdown table: a row for each shift, a column for each policy or arm, `text(column, shift)` in each."""
    rows = [" | ".join([shift, *(text(column, shift) for column in columns)]) for shift in shifts]
    header = [f"| shift | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*header, *(f"| {row} |" for row in rows)])


def _table(cells: Sequence[Cell], text: Callable[[Cell], str]) -> str:
    texts = {(cell.policy, cell.shift): text(cell) for cell in cells}
    policies = list(dict.fromkeys(policy for policy, _ in texts))
    shifts = list(dict.fromkeys(shift for _, shift in texts))
    return shift_table(shifts, policies, lambda policy, shift: texts[policy, shift])


def _success(cell: Cell) -> str:
    if cell.success_rate is None or cell.interval_95 is None:
        text = f"none finished of {cell.trials}"
    else:
        low, high = cell.interval_95
        count = f"{cell.successes}/{cell.trials - cell.crashes} = {100 * cell.success_rate:.0f} %"
        text = f"{count} [{100 * low:.0f}, {100 * high:.0f}]{SEQUENTIAL_MARK if cell.sequence_95 else ''}"
    if cell.paired and cell.paired.mark:
        text += f" {cell.paired.mark}"
    return text + (f", {cell.crashes} crashed" if cell.crashes else "")


def _paired(cell: Cell) -> str:
    return cell.paired.text if cell.paired else "not compared"


def _steps(cell: Cell) -> str:
    return "none" if cell.mean_steps_to_success is None else f"{cell.mean_steps_to_success:.0f}"


def _page(benchmark: Benchmark, config: Mapping[str, Any]) -> ReportInput:
    policies = dict.fromkeys(cell.policy for cell in benchmark.cells)
    trials = max(cell.trials for cell in benchmark.cells)
    return ReportInput(
        title=f"Success of {benchmark.task}",
        subtitle=f"{', '.join(policies)}. At most {trials} trials a cell, from the same starts under every look. These "
        "are visual shifts in simulation, not sim2real.",
        created=benchmark.created,
        benchmarks=(benchmark,),
        provenance=Provenance(dict(benchmark.versions), config=yaml.safe_dump(dict(config), sort_keys=False)),
    )
