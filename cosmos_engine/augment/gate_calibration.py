"""Calibration: thresholds of the gate from measures of right variants and of variants with seeded faults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_engine.augment.gate_config import (
    AT_LEAST,
    CROSS_VIEW,
    CameraThresholds,
    CrossViewThresholds,
    GateConfig,
    failure,
)
from cosmos_engine.quality.displacement import REACH_PX

REJECTED_SHARE = 0.02
"""Of right variants, that calibration may give up for recall; new episodes will lose a little more."""
MARGIN, SLACK = 0.25, 3.0
"""Distance of a threshold from the worst right variant, in units of that one's distance from the median: of measures
that are needed for the recall, and of the others, which are there for faults that nobody has thought of."""
LEAST_SPREAD = 0.2
"""Of what faults do to a measure: the least that right variants are taken to be spread by, however alike they are."""
LEAST_GAIN = 0.002
"""Of the faults: a measure that catches fewer on top of the others is not needed."""


LARGEST = {
    **dict.fromkeys(("advantage_robot", "advantage_manipulated"), 2.0),
    **dict.fromkeys(("contour_advantage_robot", "contour_advantage_manipulated"), 1.0),
    "displacement_px": math.hypot(REACH_PX, REACH_PX),
}
"""What these measures cannot exceed; those of which more is better are right from 0 on."""


@dataclass(frozen=True)
class JudgedVariant:
    """What was measured of one variant.

    Attributes:
        measures: by "<camera>/<measure>".
        fixed: the cameras that stand still.
        fault: what was done to it; empty for a right variant.
        severity: how strongly.
    """

    measures: Mapping[str, float]
    fixed: frozenset[str]
    fault: str = ""
    severity: int = 0

    def failures(self, config: GateConfig) -> list[str]:
        """Return the failures under a config."""
        lines = []
        for key, value in self.measures.items():
            group, name = key.rsplit("/", 1)
            threshold = _thresholds(config, self._kind(group)).get(name)
            line = None if threshold is None else failure(key, value, threshold)
            if line:
                lines.append(line)
        return lines

    def badness(self) -> dict[str, float]:
        """Return the measures by "<kind of camera>/<measure>", of the worst camera, turned so that more is worse."""
        worst: dict[str, float] = {}
        for key, value in self.measures.items():
            group, name = key.rsplit("/", 1)
            column = f"{self._kind(group)}/{name}"
            worst[column] = max(worst.get(column, -np.inf), _turned(name, value))
        return worst

    def _kind(self, group: str) -> str:
        return CROSS_VIEW if group == CROSS_VIEW else "fixed" if group in self.fixed else "moving"


def calibrated(variants: Sequence[JudgedVariant], rejected_share: float = REJECTED_SHARE) -> GateConfig:
    """Return thresholds that reject few right variants and as many faults as they can.

    Measures are taken one by one, each time the one that catches most of the faults that are still missed, at a
    threshold `MARGIN` beyond the worst right variant. What may be given up of the right variants is then spent where it
    catches most. Each threshold is moved out again as far as it loses nothing, halfway to the nearest fault that it
    alone catches: the wider the gap, the less new episodes are rejected. All other measures get a threshold `SLACK`
    beyond the worst right variant, or halfway to the worst fault; none if no variant can be that bad. Every kind of
    fault counts the same, however many there are of it.

    Raises:
        ValueError: no right variants, or no faults.
    """
    clean = [variant.badness() for variant in variants if not variant.fault]
    faulty = [variant for variant in variants if variant.fault]
    if not clean or not faulty:
        raise ValueError(f"calibration: expected right variants and faults, got {len(clean)} and {len(faulty)}")
    columns = sorted({name for row in clean for name in row})
    bad = [variant.badness() for variant in faulty]
    weights = _weights(faulty)
    search = _Search(columns, _table(clean, columns), _table(bad, columns), weights)
    search.add_measures()
    search.spend(int(rejected_share * len(clean)))
    search.move_out()
    return _config(search.thresholds | {name: search.wide(name) for name in search.left()})


class _Search:
    """Thresholds by column of two tables in which more is worse and NaN is not measured."""

    def __init__(self, columns: list[str], clean: np.ndarray, bad: np.ndarray, weights: np.ndarray) -> None:
        self._place = {name: place for place, name in enumerate(columns)}
        self._clean, self._bad, self._weights = clean, bad, weights
        self.thresholds: dict[str, float] = {}

    def left(self) -> list[str]:
        """Return the measures without a threshold."""
        return [name for name in self._place if name not in self.thresholds]

    def beyond(self, name: str, given_up: int, margin: float) -> float:
        """Return a threshold beyond all right variants but `given_up` of them."""
        values = np.sort(self._clean[:, self._place[name]])
        values = values[np.isfinite(values)]
        worst, middle = values[max(0, len(values) - 1 - given_up)], np.median(values)
        far = np.nanquantile(np.concatenate([self._clean, self._bad])[:, self._place[name]], 0.9)
        return float(worst + margin * max(worst - middle, LEAST_SPREAD * (far - middle), 1e-6))

    def wide(self, name: str) -> float:
        """Return a threshold far beyond all right variants, but not beyond what faults do to the measure."""
        worst, step = self.beyond(name, 0, 0.0), self.beyond(name, 0, SLACK)
        values = self._bad[:, self._place[name]]
        halfway = (worst + float(values[np.isfinite(values)].max(initial=worst))) / 2
        return min(step, halfway) if halfway > self.beyond(name, 0, MARGIN) else step

    def add_measures(self) -> None:
        """Add measures while they catch enough more faults."""
        while self.left():
            candidates = {name: self.beyond(name, 0, MARGIN) for name in self.left()}
            gains = {name: self._recall(self.thresholds | {name: at}) for name, at in candidates.items()}
            best = max(gains, key=lambda name: (gains[name], name))
            if gains[best] - self._recall(self.thresholds) < LEAST_GAIN:
                return
            self.thresholds[best] = candidates[best]

    def spend(self, budget: int) -> None:
        """Tighten thresholds, one step at a time, while no more than `budget` right variants are rejected."""
        while True:
            now, best, best_rate = self._recall(self.thresholds), None, LEAST_GAIN
            spent = self._rejected(self.thresholds)
            for name in self._place:
                for given_up in range(1, budget + 1):
                    made = self.thresholds | {name: self.beyond(name, given_up, MARGIN)}
                    cost = self._rejected(made) - spent
                    rate = (self._recall(made) - now) / max(cost, 1)
                    if spent + cost <= budget and rate > best_rate:
                        best, best_rate = made, rate
            if best is None:
                return
            self.thresholds = best

    def move_out(self) -> None:
        """Move each threshold halfway to the nearest fault that it alone catches; drop one that is needed for none."""
        for name in sorted(self.thresholds):
            others = {other: at for other, at in self.thresholds.items() if other != name}
            alone = ~self._caught(others, self._bad) & self._caught({name: self.thresholds[name]}, self._bad)
            if alone.any():
                nearest = float(self._bad[alone, self._place[name]].min())
                self.thresholds[name] = (self.thresholds[name] + nearest) / 2
            else:
                self.thresholds = others

    def _recall(self, thresholds: Mapping[str, float]) -> float:
        return float(self._weights[self._caught(thresholds, self._bad)].sum())

    def _rejected(self, thresholds: Mapping[str, float]) -> int:
        return int(self._caught(thresholds, self._clean).sum())

    def _caught(self, thresholds: Mapping[str, float], table: np.ndarray) -> np.ndarray:
        caught = np.zeros(len(table), bool)
        for name, at in thresholds.items():
            caught |= table[:, self._place[name]] > at  # NaN is not greater
        return caught


def _weights(faulty: Sequence[JudgedVariant]) -> np.ndarray:
    """Return weights that sum to 1, with the same sum for every kind of fault and, in it, for every severity."""
    kinds = {variant.fault for variant in faulty}
    counts: dict[tuple[str, int], int] = {}
    for variant in faulty:
        counts[variant.fault, variant.severity] = counts.get((variant.fault, variant.severity), 0) + 1
    severities = {kind: sum(fault == kind for fault, _ in counts) for kind in kinds}
    return np.array(
        [1 / (len(kinds) * severities[one.fault] * counts[one.fault, one.severity]) for one in faulty], np.float64
    )


def _table(rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> np.ndarray:
    return np.array([[row.get(name, np.nan) for name in columns] for row in rows], np.float64)


def _config(thresholds: Mapping[str, float]) -> GateConfig:
    groups: dict[str, dict[str, Any]] = {"fixed": {}, "moving": {}, CROSS_VIEW: {}}
    for column, at in thresholds.items():
        kind, name = column.rsplit("/", 1)
        threshold = _turned(name, at)
        if threshold > 0 if name in AT_LEAST else threshold < LARGEST.get(name, np.inf):
            groups[kind][name] = float(f"{threshold:.4g}")
    return GateConfig(
        CameraThresholds(**groups["fixed"]),
        CameraThresholds(**groups["moving"]),
        CrossViewThresholds(**groups[CROSS_VIEW]),
    )


def _thresholds(config: GateConfig, kind: str) -> Mapping[str, float]:
    if kind == CROSS_VIEW:
        return config.cross_view.as_mapping()
    return (config.fixed if kind == "fixed" else config.moving).as_mapping()


def _turned(name: str, value: float) -> float:
    return -value if name in AT_LEAST else value
