"""Calibration: thresholds of the gate from measures of right variants and of variants with seeded faults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from cosmos_engine.augment.gate_config import (
    AT_LEAST,
    CROSS_VIEW,
    CameraThresholds,
    CrossViewThresholds,
    GateConfig,
    failure,
)
from cosmos_engine.quality.displacement import REACH_PX

RECALL = 0.97
"""Of the faults that thresholds are set on; two points more than new episodes shall have."""
LEAST_MARGIN = 0.25
"""Distance of a threshold from the worst right variant, in units of that one's distance from the median: the least."""
ROOM = 0.4
"""Share of the largest common margin at which measures are chosen: fewer of them do there, and are moved out again."""
TAKEN = 0.8
"""Share of the largest margin that chosen measures get: new faults are weaker than those seen, now and then."""
REST_MARGIN = 3.0
"""Of the measures that are not chosen: for faults that nobody has thought of."""
LEAST_SPREAD = 0.2
"""Of what faults do to a measure: the least that right variants are taken to be spread by, however alike they are."""
SEEN_SPREADS = {
    **dict.fromkeys(("flicker_scene", "flicker_foreground"), 1.0),  # a level of 255
    **dict.fromkeys(("hue_manipulated", "odd_color", "unexplained_change", "view_difference"), 2.3),
    **dict.fromkeys(("centroid_px", "displacement_px"), 0.5),
}
"""The least spread of single measures: what nobody sees is no fault. 2.3 CIELAB units are a just noticeable difference
(Mahy et al. 1994, "Evaluation of uniform color spaces developed after the adoption of CIELAB and CIELUV")."""
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


def calibrated(variants: Sequence[JudgedVariant], recall: float = RECALL) -> GateConfig:
    """Return few close thresholds, as far from the right variants as the faults allow, and wide ones for the rest.

    A threshold lies beyond the worst right variant by a margin in units of the spread of right variants: the worst
    one's distance from the median. Every close threshold rejects some new right variants, whose measures have long
    tails, so measures are chosen one by one, each time the one that catches most of what is still missed, until enough
    faults are caught; then all chosen ones get the same margin, near the largest at which they still catch as many.
    A measure has no threshold if no variant can be that bad.

    Args:
        variants: right ones and ones with faults, of as many episodes as can be had.
        recall: share of the faults to catch; every kind of fault counts the same, however many there are of it.

    Raises:
        ValueError: no right variants, or no faults.
    """
    right = [variant.badness() for variant in variants if not variant.fault]
    faulty = [variant for variant in variants if variant.fault]
    if not right or not faulty:
        raise ValueError(f"calibration: expected right variants and faults, got {len(right)} and {len(faulty)}")
    columns = sorted({name for row in right for name in row})
    clean, bad = _table(right, columns), _table([variant.badness() for variant in faulty], columns)
    worst, middle = np.nanmax(clean, axis=0), np.nanmedian(clean, axis=0)
    far = np.nanquantile(np.concatenate([clean, bad]), 0.9, axis=0)
    least = np.array([SEEN_SPREADS.get(name.rsplit("/", 1)[1], 1e-6) for name in columns])
    spread = np.maximum(np.maximum(worst - middle, LEAST_SPREAD * (far - middle)), least)
    beyond = np.nan_to_num((bad - worst) / spread, nan=-np.inf)  # by how many spreads; not measured is not beyond
    weights = _weights(faulty)
    chosen = _chosen(beyond, weights, recall)
    margins = np.where(chosen, TAKEN * _margin(beyond[:, chosen], weights, recall), REST_MARGIN)
    return _config(dict(zip(columns, (worst + margins * spread).tolist(), strict=True)))


def _chosen(
    beyond: Float64[np.ndarray, "faults measures"], weights: Float64[np.ndarray, " faults"], recall: float
) -> Bool[np.ndarray, " measures"]:
    """Return few measures that catch enough, well inside the margin that all together have."""
    at = ROOM * _margin(beyond, weights, recall)
    chosen = np.zeros(beyond.shape[1], bool)
    missed = np.ones(len(beyond), bool)
    while weights[~missed].sum() < recall:
        gain = weights @ ((beyond > at) & missed[:, np.newaxis])
        if gain.max() <= 0:
            break
        best = int(gain.argmax())
        chosen[best] = True
        missed &= beyond[:, best] <= at
    return chosen


def _margin(
    beyond: Float64[np.ndarray, "faults measures"], weights: Float64[np.ndarray, " faults"], recall: float
) -> float:
    """Return the largest margin at which enough is caught, just below the fault that decides; at least the least."""
    if not beyond.shape[1]:
        return LEAST_MARGIN
    furthest = beyond.max(axis=1)
    order = np.argsort(-furthest)
    last = int(np.searchsorted(weights[order].cumsum(), recall - 1e-9))
    return max(LEAST_MARGIN, float(np.nextafter(furthest[order[min(last, len(order) - 1)]], -np.inf)))


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
