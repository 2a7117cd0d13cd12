"""Histograms of a measure: how many variants were accepted and rejected in each range of values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cosmos_engine.report.outcome import Bound, MeasureValues

BINS = 24
WIDTH, HEIGHT = 240.0, 64.0
GAP = 1.5


@dataclass(frozen=True)
class Bar:
    """One range of values, as the page draws it: in units of `WIDTH` x `HEIGHT`, y downwards, rejected on accepted."""

    x: float
    width: float
    accepted_y: float
    accepted_height: float
    rejected_y: float
    rejected_height: float
    caption: str


@dataclass(frozen=True)
class Histogram:
    """The distribution of one measure of one camera.

    Attributes:
        camera: whose, or "cross_view".
        low: the left end's value, as text.
        high: the right end's value, as text.
        middle: the median, as text.
        summary: counts and median, as text.
        bars: from left to right, those that count something.
        bound_x: where the bound stands, in units of `WIDTH`; None without one.
        bound: the bound as text.
    """

    camera: str
    low: str
    high: str
    middle: str
    summary: str
    bars: tuple[Bar, ...]
    bound_x: float | None
    bound: str


@dataclass(frozen=True)
class MeasureView:
    """All histograms of one measure, a camera each."""

    name: str
    histograms: tuple[Histogram, ...]


def measure_views(measures: tuple[MeasureValues, ...]) -> tuple[MeasureView, ...]:
    """Return the histograms grouped by measure; cameras of one measure share their axis, to be compared."""
    groups: dict[str, list[MeasureValues]] = {}
    for values in measures:
        groups.setdefault(split_name(values.name)[1], []).append(values)
    views = []
    for name, members in groups.items():
        everything = [value for values in members for value in (*values.accepted, *values.rejected)]
        everything += [values.bound.value for values in members if values.bound is not None]
        low, high = axis(min(everything), max(everything))
        views.append(MeasureView(name, tuple(histogram(values, low, high) for values in members)))
    return tuple(views)


def histogram(values: MeasureValues, low: float, high: float) -> Histogram:
    """Return the histogram of one measure over [low, high], which must hold all its values.

    Raises:
        ValueError: a value outside.
    """
    both = np.array([*values.accepted, *values.rejected])
    if both.size and not low <= both.min() <= both.max() <= high:
        raise ValueError(f"histogram: expected values in [{low}, {high}], got {both.min()} to {both.max()}")
    edges = np.linspace(low, high, BINS + 1)
    accepted = np.histogram(values.accepted, edges)[0]
    rejected = np.histogram(values.rejected, edges)[0]
    unit = HEIGHT / max(int((accepted + rejected).max()), 1)
    slot = WIDTH / BINS
    bars = []
    for index in np.flatnonzero(accepted + rejected).tolist():
        accepted_height, rejected_height = accepted[index] * unit, rejected[index] * unit
        bars.append(
            Bar(
                x=index * slot + GAP / 2,
                width=slot - GAP,
                accepted_y=HEIGHT - accepted_height,
                accepted_height=accepted_height,
                rejected_y=HEIGHT - accepted_height - rejected_height,
                rejected_height=rejected_height,
                caption=f"{number(edges[index])} to {number(edges[index + 1])}: {accepted[index]} accepted, "
                f"{rejected[index]} rejected",
            )
        )
    bound = values.bound
    middle = f"median {number(np.median(both))}" if both.size else "no values"
    return Histogram(
        camera=split_name(values.name)[0],
        low=number(low),
        high=number(high),
        middle=middle,
        summary=f"{len(values.accepted)} accepted, {len(values.rejected)} rejected; {middle}",
        bars=tuple(bars),
        bound_x=None if bound is None else (bound.value - low) / (high - low) * WIDTH,
        bound="" if bound is None else bound_text(bound),
    )


def axis(low: float, high: float) -> tuple[float, float]:
    """Return round ends of an axis that holds [low, high], with some width where both are equal.

    Values in [0, 1] whose range is at least a third of that take the whole of it, since most measures are shares.
    """
    if 0 <= low <= high <= 1 and high - low >= 1 / 3:
        return 0.0, 1.0
    if high - low < 1e-9 * max(abs(low), abs(high), 1.0):
        half = max(abs(low) * 0.05, 0.05)
        low, high = low - half, high + half
    step = 10.0 ** math.floor(math.log10(high - low)) / 2
    # Rounding must not leave a value outside.
    return min(math.floor(low / step) * step, low), max(math.ceil(high / step) * step, high)


def split_name(measure: str) -> tuple[str, str]:
    """Return camera (or "cross_view") and name of a measure; a camera may itself hold slashes."""
    camera, _, name = measure.rpartition("/")
    return camera, name


def bound_text(bound: Bound) -> str:
    """Return what a bound asks for, in words."""
    return f"at {'least' if bound.is_least else 'most'} {number(bound.value)}"


def number(value: float) -> str:
    """Return a number in four significant digits at most, without an exponent where it is readable."""
    return f"{float(value):.4g}"
