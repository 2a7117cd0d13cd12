"""Replicator's segmentation ids and labels, in all their formats, as instance ids that stay the same over an episode.

The formats, by annotator (omni.replicator.core 1.12 and 1.13):

    semantic_segmentation       {"2": {"class": "cube"}}                     text ids
    instance_segmentation       {2: "/World/cube"} and idToSemantics         whole-number ids
    instance_id_segmentation    {2: "/World/cube/mesh"}                      no semantics
    colorize=True               {"(33, 243, 3, 255)": ...} or a tuple key    pixels are RGBA, uint8 x 4
    RTX, even without colorize  {"(33, 243, 3, 255)": ...}                   pixels are the RGBA packed little-endian

All become one: an unsigned 32-bit pixel id and a `PrimLabel`. Ids of one frame mean nothing in the next, so an episode
keys instances by name (`InstanceIds`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError

# Isaac Sim's Python has no jaxtyping; annotations are strings there, and nothing reads them.
with suppress(ModuleNotFoundError):
    from jaxtyping import UInt16, UInt32

# Labels that mean "no instance": nothing hit, a prim without semantics, an id the renderer gave up on.
NO_INSTANCE = frozenset({"BACKGROUND", "UNLABELLED", "INVALID"})
MAX_INSTANCES = np.iinfo(np.uint16).max

_RGBA_KEY = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")


@dataclass(frozen=True)
class PrimLabel:
    """What a segmentation id stands for.

    Attributes:
        name: the prim's path where the annotator gives one, else the class name; the key over an episode.
        class_name: the semantic class, or all semantic labels as 'key=value' where none has the type 'class';
            empty where the annotator gives no semantics.
    """

    name: str
    class_name: str


def parse_labels(info: Mapping[str, Any]) -> dict[int, PrimLabel]:
    """Return what each pixel id of one frame stands for; ids that mean "no instance" are left out.

    Args:
        info: the `info` of an annotator's data, or the flattened entry a writer gets: `idToLabels` is read, and
            `idToSemantics` where present.

    Returns:
        unsigned 32-bit pixel id -> label.

    Raises:
        InputError: no `idToLabels`, or a key or value in none of the formats above.
    """
    if "idToLabels" not in info:
        raise InputError(f"segmentation: no 'idToLabels'; got {', '.join(sorted(map(str, info))) or 'nothing'}")
    semantics = {_pixel_id(key): _class_name(key, value) for key, value in info.get("idToSemantics", {}).items()}
    labels: dict[int, PrimLabel] = {}
    for key, value in info["idToLabels"].items():
        pixel_id = _pixel_id(key)
        if isinstance(value, str):
            label = PrimLabel(value, semantics.get(pixel_id, ""))
        else:
            class_name = _class_name(key, value)
            label = PrimLabel(class_name, class_name)
        if label.name not in NO_INSTANCE and label.class_name not in NO_INSTANCE:
            labels[pixel_id] = label
    return labels


def pixel_ids(data: np.ndarray) -> UInt32[np.ndarray, "h w"]:
    """Return a segmentation annotator's pixels as unsigned 32-bit ids, whatever form they came in.

    Args:
        data: (h, w) or (h, w, 1) of a 32-bit or 64-bit integer, or (h, w, 4) uint8 RGBA, which packs little-endian.

    Raises:
        InputError: another shape or dtype.
    """
    if data.ndim == 3 and data.shape[2] == 4 and data.dtype == np.uint8:
        return np.ascontiguousarray(data).view("<u4")[..., 0].astype(np.uint32)
    plain = data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data
    if plain.ndim == 2 and plain.dtype in (np.uint32, np.int32, np.int64, np.uint64):
        # Casting keeps the lower 32 bits, so a negative int32 and its unsigned twin become the same id.
        return plain.astype(np.uint32)
    raise InputError(f"segmentation: expected (h, w) integers or (h, w, 4) uint8, got {data.shape} {data.dtype}")


class InstanceIds:
    """Gives each prim one instance id for a whole episode and all its cameras, in the order of first sight.

    Ids start at 1; 0 is background. Owns the mapping, so use one for each episode.
    """

    def __init__(self, entity: Callable[[PrimLabel], PrimLabel] | None = None) -> None:
        """Begin an episode.

        Args:
            entity: the prim that a segmented prim is part of, as a robot's mesh is of the robot (default: itself).
        """
        self._entity = entity or (lambda label: label)
        self._ids: dict[str, int] = {}
        self._labels: dict[int, PrimLabel] = {}

    @property
    def labels(self) -> dict[int, PrimLabel]:
        """Return instance id -> label of every prim seen so far, a copy."""
        return dict(self._labels)

    def frame(self, data: np.ndarray, info: Mapping[str, Any]) -> UInt16[np.ndarray, "h w"]:
        """Return one frame's instance ids; prims not seen before get the next ids.

        Args:
            data: the annotator's pixels, see `pixel_ids`.
            info: its labels, see `parse_labels`.

        Raises:
            InputError: a pixel id other than 0 that has no label, a prim whose class changed, or too many prims.
        """
        pixels = pixel_ids(data)
        labels = parse_labels(info)
        known = {_pixel_id(key) for key in info["idToLabels"]}
        seen, inverse = np.unique(pixels, return_inverse=True)
        unknown = [int(pixel_id) for pixel_id in seen if pixel_id and int(pixel_id) not in known]
        if unknown:
            raise InputError(
                f"segmentation: pixel ids without a label: {unknown[:5]}; labels are for {sorted(known)[:5]}"
            )
        instance = [
            self._instance_id(self._entity(labels[int(pixel_id)])) if int(pixel_id) in labels else 0
            for pixel_id in seen
        ]
        return np.array(instance, np.uint16)[inverse].reshape(pixels.shape)

    def _instance_id(self, label: PrimLabel) -> int:
        instance_id = self._ids.setdefault(label.name, len(self._ids) + 1)
        if instance_id > MAX_INSTANCES:
            raise InputError(f"segmentation: more than {MAX_INSTANCES} prims; the last was {label.name!r}")
        first = self._labels.setdefault(instance_id, label)
        if first != label:
            raise InputError(
                f"segmentation: prim {label.name!r} had class {first.class_name!r} and now has {label.class_name!r}"
            )
        return instance_id


def _pixel_id(key: Any) -> int:
    """Return the unsigned 32-bit pixel id of a label's key: a number, its text, or an RGBA colour as tuple or text."""
    if isinstance(key, tuple) and len(key) == 4:
        return _packed([int(channel) for channel in key], key)
    if isinstance(key, str) and (rgba := _RGBA_KEY.fullmatch(key.strip())):
        return _packed([int(channel) for channel in rgba.groups()], key)
    if isinstance(key, int | np.integer) or (isinstance(key, str) and re.fullmatch(r"\s*-?\d+\s*", key)):
        number = int(key)
        if -(2**31) <= number < 2**32:
            return number % 2**32
    raise InputError(f"segmentation: label key {key!r}: expected a 32-bit id or an (r, g, b, a) colour")


def _packed(rgba: list[int], key: Any) -> int:
    if max(rgba) > 255 or min(rgba) < 0:
        raise InputError(f"segmentation: label key {key!r}: expected colour channels in 0..255")
    return int.from_bytes(bytes(rgba), "little")


def _class_name(key: Any, semantics: Any) -> str:
    """Return the class of a label's value: {'class': 'cube'}, {'shape': 'boxy'}, or the class itself as text."""
    if isinstance(semantics, str):
        return semantics
    if not isinstance(semantics, Mapping) or not semantics:
        raise InputError(f"segmentation: label of {key!r}: expected a prim path or {{'class': ...}}, got {semantics!r}")
    if "class" in semantics:
        return str(semantics["class"])
    return ",".join(f"{kind}={value}" for kind, value in sorted(semantics.items()))
