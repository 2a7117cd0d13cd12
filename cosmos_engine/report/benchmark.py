"""A benchmark's results, as `cosmos-engine benchmark` writes them in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_engine.errors import InputError
from cosmos_engine.report.paired import SIGNIFICANT, Paired

SCHEMA = 1
KIND = "cosmos-engine/benchmark"
SEQUENTIAL_MARK = "†"
SEQUENTIAL_NOTE = (
    "sequential: trials ended as soon as the rate was known well enough; the interval is a confidence sequence, which "
    "allows for that"
)
PAIRED_NOTE = (
    f"trials won (+) that it lost and lost (−) that it won, from the same starts, with McNemar's exact test; ▲ ▼ where "
    f"p < {SIGNIFICANT}, a test a cell, not corrected for their number"
)


@dataclass(frozen=True)
class Cell:
    """The trials of one policy under one shift.

    Attributes:
        policy: the policy's name.
        shift: the shift's name.
        trials: trials begun.
        successes: trials that ended in success.
        crashes: trials that ended in an error; counted apart, in no rate.
        success_rate: successes / (trials - crashes); None where no trial finished.
        wilson_95: 95 % Wilson interval of the rate; None where no trial finished.
        mean_steps_to_success: control steps; None without a success.
        outcomes: seed -> "success", "failure" or "crash".
        videos: rollout videos, resolved against the JSON file's folder.
        sequence_95: 95 % confidence sequence of the rate, where the trials were allowed to end early.
        paired: compared with the benchmark's first policy in the same trials; None for that policy, and where the
            trials were allowed to end early.
    """

    policy: str
    shift: str
    trials: int
    successes: int
    crashes: int
    success_rate: float | None
    wilson_95: tuple[float, float] | None
    mean_steps_to_success: float | None
    outcomes: Mapping[int, str]
    videos: tuple[Path, ...]
    sequence_95: tuple[float, float] | None = None
    paired: Paired | None = None

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """The interval to show: it allows for an early end where there was one."""
        return self.sequence_95 or self.wilson_95

    def __post_init__(self) -> None:
        """Raise InputError where the counts, the rate and the interval contradict each other."""
        where = f"cell {self.policy!r} / {self.shift!r}"
        finished = self.trials - self.crashes
        if not 0 <= self.successes <= finished or self.crashes < 0:
            raise InputError(f"{where}: {self.successes} successes and {self.crashes} crashes in {self.trials} trials")
        rate = self.successes / finished if finished else None
        if (self.success_rate is None) != (rate is None) or (self.wilson_95 is None) != (rate is None):
            raise InputError(f"{where}: expected a rate and an interval exactly where a trial finished; {finished} did")
        if rate is None or self.success_rate is None or self.wilson_95 is None:
            return
        if not math.isclose(rate, self.success_rate, abs_tol=1e-3):
            raise InputError(f"{where}: success_rate: expected {rate:.4f} from the counts, got {self.success_rate}")
        for name, (low, high) in (("wilson_95", self.wilson_95), ("sequence_95", self.sequence_95 or self.wilson_95)):
            if not 0.0 <= low <= rate + 1e-9 or not rate - 1e-9 <= high <= 1.0:
                raise InputError(f"{where}: {name}: expected an interval around {rate:.4f}, got [{low}, {high}]")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its task and its cells, one for each policy and shift."""

    task: str
    created: str
    versions: Mapping[str, str]
    cells: tuple[Cell, ...]


def read_benchmark(path: Path) -> Benchmark:
    """Read one benchmark's JSON file.

    Raises:
        InputError: missing or malformed file, another kind or schema, a missing key, or counts that contradict each
            other; names the file and the key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a benchmark: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{path}: expected the kind {KIND!r}")
    if content.get("schema") != SCHEMA:
        raise InputError(f"{path}: expected schema {SCHEMA}, got {content.get('schema')!r}")
    try:
        return Benchmark(
            task=str(content["task"]),
            created=str(content["created"]),
            versions={str(name): str(version) for name, version in content["versions"].items()},
            cells=tuple(_cell(cell, path.parent) for cell in content["cells"]),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}: no key {error}") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: a value of the wrong type: {error}") from error


def _cell(cell: Mapping[str, Any], folder: Path) -> Cell:
    rate, mean_steps = cell["success_rate"], cell["mean_steps_to_success"]
    return Cell(
        policy=str(cell["policy"]),
        shift=str(cell["shift"]),
        trials=int(cell["trials"]),
        successes=int(cell["successes"]),
        crashes=int(cell["crashes"]),
        success_rate=None if rate is None else float(rate),
        wilson_95=_interval(cell, "wilson_95"),
        mean_steps_to_success=None if mean_steps is None else float(mean_steps),
        outcomes={int(outcome["seed"]): str(outcome["outcome"]) for outcome in cell["outcomes"]},
        videos=tuple(folder / str(video) for video in cell["videos"]),
        sequence_95=_interval(cell, "sequence_95") if "sequence_95" in cell else None,
        paired=_paired(cell["paired"]) if "paired" in cell else None,
    )


def _paired(content: Mapping[str, Any]) -> Paired:
    return Paired(
        reference=str(content["reference"]),
        only_here=int(content["only_here"]),
        only_reference=int(content["only_reference"]),
        p_value=float(content["p_value"]),
    )


def _interval(cell: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    if cell[key] is None:
        return None
    bounds = tuple(float(bound) for bound in cell[key])
    if len(bounds) != 2:
        raise InputError(f"{key}: expected [low, high], got {cell[key]}")
    return bounds[0], bounds[1]
