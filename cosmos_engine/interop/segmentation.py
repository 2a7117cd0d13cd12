"""Segmentations of others, as colours or as numbers, to instance ids and labels, and back to colours.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from numpy.typing import NDArray

from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.interop.import_config import BACKGROUND, LabelConfig

Colors = Mapping[int, tuple[int, int, int]]
_PRIME = 0x9E3779
"""Odd, so that id -> id * prime modulo 2^24 gives every id a colour of its own; near the golden ratio, so that
neighbouring ids look different."""


def instance_ids(
    segmentation: NDArray[Any], labels: Sequence[LabelConfig], place: str
) -> tuple[UInt16[np.ndarray, "t h w"], dict[int, InstanceLabel]]:
    """Return instance ids and their labels: 1, 2, ... in the order of `labels`, 0 for what is background.

    Args:
        segmentation: uint8 (t, h, w, 3 or 4) of colours; or whole numbers (t, h, w[, 1]): ids, or the colours of
            labels without ids, red in the lowest byte, as Isaac Sim packs them.
        labels: what the colours or numbers are.
        place: where it stands, for messages.

    Raises:
        InputError: another shape or type; a colour or number that no label has (names it and how to say it).
    """
    keys, colored = _keys(segmentation, labels, place)
    known: dict[int, int] = {}
    instances: dict[int, InstanceLabel] = {}
    for number, label in enumerate(labels, start=1):
        of_label = [_packed(label.color)] if colored and label.color else [] if colored else label.ids
        known |= dict.fromkeys(of_label, 0 if label.role == BACKGROUND else number)
        if label.role != BACKGROUND:
            instances[number] = InstanceLabel(label.name, label.class_name or label.name, label.role)  # type: ignore[arg-type]
    found, index = np.unique(keys, return_inverse=True)
    missing = [int(key) for key in found if int(key) not in known]
    if missing:
        raise InputError(_unknown(missing, colored, place, int((keys == missing[0]).sum())))
    table = np.array([known[int(key)] for key in found], np.uint16)
    return table[index].reshape(keys.shape), instances


def colorized(instance: UInt16[np.ndarray, "t h w"], colors: Colors) -> UInt8[np.ndarray, "t h w 4"]:
    """Return a segmentation in the colours of its ids, opaque, as Isaac Lab's cameras give it."""
    table = np.zeros((1 << 16, 4), np.uint8)
    for number in np.unique(instance):
        table[number] = (*colors.get(int(number), color_of(int(number))), 255)
    return table[instance]


def color_of(number: int) -> tuple[int, int, int]:
    """Return the colour of an instance id that no one chose a colour for; black for 0."""
    packed = number * _PRIME & 0xFFFFFF
    return packed & 0xFF, packed >> 8 & 0xFF, packed >> 16


def labels_json(labels: Mapping[int, InstanceLabel], colors: Colors) -> str:
    """Return labels, and the colours of an exported segmentation, as the attribute `labels` of a demo."""
    entries: dict[str, dict[str, Any]] = {
        str(number): {
            "name": label.name,
            "class": label.class_name,
            "role": label.role,
            "color": list(colors.get(number, color_of(number))),
        }
        for number, label in sorted(labels.items())
    }
    entries["0"] = {
        "name": BACKGROUND,
        "class": BACKGROUND,
        "role": BACKGROUND,
        "color": list(colors.get(0, (0, 0, 0))),
    }
    return json.dumps(entries)


def read_labels(text: str) -> dict[int, LabelConfig]:
    """Read what `labels_json` wrote, or a recording's `labels`, by id.

    Raises:
        InputError: it is no such JSON.
    """
    try:
        entries = dict(json.loads(text))
        return {
            int(number): LabelConfig(
                name=str(entry["name"]),
                class_name=str(entry["class"]),
                role=str(entry["role"]),
                color=[int(part) for part in entry.get("color", [])],
                ids=[int(number)],
            )
            for number, entry in sorted(entries.items(), key=lambda item: int(item[0]))
        }
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"attribute 'labels': expected JSON of id -> name, class, role ({error})") from error


def _keys(segmentation: NDArray[Any], labels: Sequence[LabelConfig], place: str) -> tuple[NDArray[np.int64], bool]:
    """Return one whole number a pixel, and whether it is a colour."""
    shape, kind = segmentation.shape, segmentation.dtype.kind
    if segmentation.dtype == np.uint8 and len(shape) == 4 and shape[3] in (3, 4):
        parts = segmentation.astype(np.int64)
        return parts[..., 0] | parts[..., 1] << 8 | parts[..., 2] << 16, True
    if kind in "iu" and (len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)):
        numbers = segmentation.reshape(shape[:3]).astype(np.int64)
        packed = any(label.color for label in labels) and not any(label.ids for label in labels)
        return (numbers & 0xFFFFFF, True) if packed else (numbers, False)
    raise InputError(
        f"{place}: expected colours, uint8 (T, H, W, 3 or 4), or ids, whole numbers (T, H, W, 1); "
        f"got {segmentation.dtype} {shape}"
    )


def _packed(color: Sequence[int]) -> int:
    if len(color) not in (3, 4) or not all(0 <= part <= 255 for part in color):
        raise InputError(f"labels: color: expected 3 or 4 numbers of 0 to 255, got {list(color)}")
    return color[0] | color[1] << 8 | color[2] << 16


def _unknown(missing: Sequence[int], colored: bool, place: str, pixels: int) -> str:
    first = missing[0]
    shown = [first & 0xFF, first >> 8 & 0xFF, first >> 16] if colored else first
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    how = f"color: {shown}" if colored else f"ids: [{shown}]"
    return (
        f"{place}: no label has {'colour' if colored else 'id'} {shown} ({pixels} pixels){more}; add it to the "
        f"config's labels, as in - {{name: cube, role: manipulated, {how}}}"
    )
