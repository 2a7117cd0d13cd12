"""The yield of a job: how many variants were accepted of those that were tried, and why the others were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_engine.augment.curation import SOURCE
from cosmos_engine.augment.staging import Outcome
from cosmos_engine.data import Dataset
from cosmos_engine.data.rejected import read_rejected


@dataclass(frozen=True)
class Yield:
    """Counts over a dataset.

    Attributes:
        accepted: variants in the dataset.
        asked: variants that were asked for, of demos that were not left out.
        tries: how often one was made, accepted or not.
        rejected: variants that are not in the dataset, by reason.
        left_out: demos that are not in the dataset, by reason.
        failures: tries that failed a check, by measure; a try may fail several.
    """

    accepted: int = 0
    asked: int = 0
    tries: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def lines(self) -> tuple[str, ...]:
        """Say it in up to four lines."""
        share = f" ({100 * self.accepted / self.asked:.1f} %)" if self.asked else ""
        lines = [f"yield: {self.accepted} of {self.asked} variants accepted{share}, in {self.tries} tries"]
        for what, counts in (
            ("variants left out", self.rejected),
            ("demos left out", self.left_out),
            ("tries that failed", self.failures),
        ):
            if counts:
                ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
                lines.append(f"{what}: {', '.join(f'{count} {name}' for name, count in ordered)}")
        return tuple(lines)


def total_yield(outcomes: Iterable[Outcome]) -> Yield:
    """Add up what was decided of each demo."""
    accepted, tries = 0, 0
    rejected: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for outcome in outcomes:
        accepted += outcome.accepted
        tries += outcome.tries
        failures.update(outcome.failures)
        for entry in outcome.rejected:
            (left_out if entry.variant == SOURCE else rejected)[entry.reason] += 1
    asked = accepted + rejected.total()
    return Yield(accepted, asked, tries, dict(rejected), dict(left_out), dict(failures))


def dataset_yield(path: Path) -> Yield:
    """Count in a complete dataset what its job has counted.

    Failures are those of variants that never passed: what an accepted one failed before is not kept.

    Raises:
        InputError: there is no dataset, or it is damaged.
    """
    dataset = Dataset(path)
    variants = [info for info, variant in zip(dataset.info, dataset.variant, strict=True) if variant != SOURCE]
    entries = read_rejected(path)
    rejected = Counter(entry.reason for entry in entries if entry.variant != SOURCE)
    made = sum(int((info.get("gate") or {}).get("tries", 1)) for info in variants)
    return Yield(
        accepted=len(variants),
        asked=len(variants) + rejected.total(),
        tries=made + sum(len(entry.tries) for entry in entries),
        rejected=dict(rejected),
        left_out=dict(Counter(entry.reason for entry in entries if entry.variant == SOURCE)),
        failures=dict(
            Counter(line.split()[0] for entry in entries for attempt in entry.tries for line in attempt.failures)
        ),
    )
