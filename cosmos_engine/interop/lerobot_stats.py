"""Statistics of LeRobot's features: of an episode, and of all episodes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


@dataclass(frozen=True)
class FeatureStats:
    """Statistics of one feature: lists of its shape, (D,), or (3, 1, 1) of images within [0, 1]; `count` is of rows."""

    min: Any
    max: Any
    mean: Any
    std: Any
    count: list[int]
    q01: Any
    q10: Any
    q50: Any
    q90: Any
    q99: Any


def vector_stats(rows: NDArray[Any]) -> FeatureStats:
    """Return the statistics of (T, D) numbers; flags count as 0 and 1."""
    numbers = rows.astype(np.float64)
    quantiles = np.quantile(numbers, list(QUANTILES.values()), axis=0)
    return FeatureStats(
        min=numbers.min(0).tolist(),
        max=numbers.max(0).tolist(),
        mean=numbers.mean(0).tolist(),
        std=numbers.std(0).tolist(),
        count=[len(rows)],
        **{name: quantiles[place].tolist() for place, name in enumerate(QUANTILES)},
    )


def image_stats(images: NDArray[np.uint8]) -> FeatureStats:
    """Return the statistics of (T, H, W, 3) images by channel, exact: of all pixels, from counts of the 256 values."""
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    values = np.arange(256) / 255.0
    total = counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values**2 / total - mean**2
    below = np.cumsum(counts, axis=1)

    def quantile(share: float) -> NDArray[np.float64]:
        return values[(below >= np.maximum(share * total, 1)[:, None]).argmax(1)]

    def shaped(array: NDArray[np.float64]) -> Any:
        return array.reshape(3, 1, 1).tolist()

    return FeatureStats(
        min=shaped(values[(counts > 0).argmax(1)]),
        max=shaped(values[255 - (counts[:, ::-1] > 0).argmax(1)]),
        mean=shaped(mean),
        std=shaped(np.sqrt(np.maximum(variance, 0))),
        count=[len(images)],
        **{name: shaped(quantile(share)) for name, share in QUANTILES.items()},
    )


def joined(episodes: Sequence[Mapping[str, FeatureStats]]) -> dict[str, FeatureStats]:
    """Return the statistics of all episodes together: exact, but for quantiles: means by length, as LeRobot's."""
    return {name: _joined([episode[name] for episode in episodes]) for name in episodes[0]}


def _joined(parts: Sequence[FeatureStats]) -> FeatureStats:
    stacked = {field.name: np.array([getattr(part, field.name) for part in parts]) for field in fields(FeatureStats)}
    weight = stacked["count"] / stacked["count"].sum()
    weight = weight.reshape(len(parts), *(1,) * (stacked["mean"].ndim - 1))
    mean = (weight * stacked["mean"]).sum(0)
    variance = (weight * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    return FeatureStats(
        min=stacked["min"].min(0).tolist(),
        max=stacked["max"].max(0).tolist(),
        mean=mean.tolist(),
        std=np.sqrt(variance).tolist(),
        count=[int(stacked["count"].sum())],
        **{name: (weight * stacked[name]).sum(0).tolist() for name in QUANTILES},
    )
