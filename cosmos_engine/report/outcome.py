"""What became of all that was tried: yield, reasons, and the distribution of every measure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosmos_engine.data.dataset import Dataset
from cosmos_engine.data.rejected import RejectedVariant

# A failure as the gate states it: "external/iou_manipulated 0.41, expected at least 0.60".
_FAILURE = re.compile(r"(?P<measure>\S+) \S+, expected at (?P<side>least|most) (?P<bound>[-+.\deE]+)")


@dataclass(frozen=True)
class Bound:
    """What a measure must be: at least `value`, or at most."""

    value: float
    is_least: bool


@dataclass(frozen=True)
class MeasureValues:
    """All values of one measure.

    Attributes:
        name: "<camera>/<measure>" or "cross_view/<measure>".
        accepted: of the variants in the dataset.
        rejected: of the tries of variants that never passed.
        bound: what the gate asked for, where a failure says so.
    """

    name: str
    accepted: tuple[float, ...]
    rejected: tuple[float, ...]
    bound: Bound | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of all that was tried.

    Attributes:
        accepted: variants in the dataset.
        accepted_at: number of the try -> variants accepted at it; empty where nobody counted.
        tries: attempts in all, those that were accepted included; None where nobody counted.
        rejected: reason -> variants that are not in the dataset.
        demos_left_out: reason -> demos of which nothing is in the dataset.
        failed_tries: measure, without its camera -> tries of variants that never passed which failed it.
        measures: in order of their names.
    """

    accepted: int
    accepted_at: Mapping[int, int]
    tries: int | None
    rejected: Mapping[str, int]
    demos_left_out: Mapping[str, int]
    failed_tries: Mapping[str, int]
    measures: tuple[MeasureValues, ...]

    @property
    def asked(self) -> int:
        """Variants that were asked for, less those that a person excluded beforehand."""
        return self.accepted + sum(count for reason, count in self.rejected.items() if reason != EXCLUDED)


EXCLUDED = "excluded"
"""The reason of variants that a person marked: no failure of the generator."""


def read_outcome(dataset: Dataset, rejected: Sequence[RejectedVariant]) -> Outcome:
    """Return what became of all variants of a dataset; about 100 bytes of memory a variant and measure."""
    made = [info for info, variant in zip(dataset.info, dataset.variant.tolist(), strict=True) if variant > 0]
    verdicts = [gate for info in made if isinstance(gate := info.get("gate"), dict)]
    variants = [entry for entry in rejected if entry.variant > 0]
    failed = [attempt for entry in variants for attempt in entry.tries]
    accepted_at = Counter(tries for verdict in verdicts if isinstance(tries := verdict.get("tries"), int))
    counted = len(verdicts) == len(made) and bool(verdicts or failed)
    return Outcome(
        accepted=len(made),
        accepted_at=dict(sorted(accepted_at.items())),
        tries=sum(number * count for number, count in accepted_at.items()) + len(failed) if counted else None,
        rejected=_counted(entry.reason for entry in variants),
        demos_left_out=_counted(entry.reason for entry in rejected if entry.variant == 0),
        failed_tries=_counted(name for attempt in failed for name in {*map(_failed_measure, attempt.failures)}),
        measures=_measures(
            [measures_of(verdict) for verdict in verdicts],
            [attempt.measures for attempt in failed],
            bounds(line for attempt in failed for line in attempt.failures),
        ),
    )


def measures_of(verdict: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures that an episode's `info["gate"]` holds; what is no finite number is left out."""
    measures = verdict.get("measures")
    if not isinstance(measures, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in measures.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def bounds(failures: Iterable[str]) -> dict[str, Bound]:
    """Return what the gate asked of each measure, as far as its failures say."""
    found = {}
    for line in failures:
        if (match := _FAILURE.match(line)) is not None:
            try:
                found[match["measure"]] = Bound(float(match["bound"]), match["side"] == "least")
            except ValueError:
                continue  # A sentence that ends in dots: nothing to draw.
    return found


def _failed_measure(failure: str) -> str:
    """Return the measure that a failure is about, without its camera: the first word, or what is before a colon."""
    return failure.split(" ", 1)[0].rstrip(":,").rpartition("/")[2]


def _counted(words: Iterable[str]) -> dict[str, int]:
    """Return how often each word comes: the most frequent first, equal ones by name."""
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))


def _measures(
    accepted: Sequence[Mapping[str, float]], rejected: Sequence[Mapping[str, float]], known: Mapping[str, Bound]
) -> tuple[MeasureValues, ...]:
    names = sorted({name for measures in (*accepted, *rejected) for name in measures})
    return tuple(
        MeasureValues(
            name=name,
            accepted=tuple(measures[name] for measures in accepted if name in measures),
            rejected=tuple(measures[name] for measures in rejected if name in measures),
            bound=known.get(name),
        )
        for name in names
    )
