"""Object colour: has an object that the task names by its colour kept it?

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from cosmos_engine.data import InstanceLabel
from cosmos_engine.quality.color_adherence import cielab, named_colors
from cosmos_engine.sim.colors import COLORS


def hue_difference(first: Float64[np.ndarray, " 3"], second: Float64[np.ndarray, " 3"]) -> float:
    """Return the difference of hue of two CIELAB colours, 2 sqrt(C1 C2) sin(dh / 2), 0 or more, in CIELAB units.

    CIE 1976 metric hue difference (CIE 15:2004, eq. 8.11): lightness and colourfulness do not count, and the hue of
    what is nearly grey counts little.
    """
    a, b = first[1:], second[1:]
    product = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sqrt(max(0.0, 2 * (product - float(a @ b)))))


def hue_error(
    rgb: UInt8[np.ndarray, "t h w 3"],
    source: UInt8[np.ndarray, "t h w 3"],
    mask: Bool[np.ndarray, "t h w"],
    *,
    smallest_px: float,
    frames: int,
    named: str | None = None,
) -> float | None:
    """Return the difference of an object's hue from what it should be, of the worst stretch; median colours.

    Args:
        source: the recorded frames, whose hue the object should have.
        mask: the object's pixels.
        smallest_px: frames with fewer of them do not count.
        frames: of a stretch, of those that count; a last stretch of less than half of that is left out.
        named: a name in `COLORS` that the object should have in place of its recorded colour.

    Returns:
        CIELAB units, about 60 for a turn of 60 degrees of a strong colour; None if the object is not seen long enough.
    """
    counted = np.flatnonzero(mask.sum((1, 2)) >= smallest_px)
    errors = []
    for start in range(0, len(counted), frames):
        chosen = counted[start : start + frames]
        if 2 * len(chosen) >= min(frames, len(mask)):
            seen = mask[chosen]
            wanted = cielab(np.array(COLORS[named])) if named else _median(source[chosen][seen])
            errors.append(hue_difference(_median(rgb[chosen][seen]), wanted.astype(np.float64)))
    return max(errors) if errors else None


def prompted_colors(prompt: str, labels: Mapping[int, InstanceLabel]) -> dict[int, str]:
    """Return the colours that a prompt gives to manipulated objects in place of their own, by instance id.

    "green cube" gives the one red cube of a task another colour; where the prompt also names the cube as it is, or
    where several objects are cubes, or it names two colours, nothing is given.
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    objects = {i: label.class_name.lower() for i, label in labels.items() if label.role == "manipulated"}
    nouns = {i: name.split()[-1] for i, name in objects.items() if name.split()}
    given = {}
    for instance_id, noun in nouns.items():
        said = {a for a, b in pairwise(words) if b == noun and a in COLORS}
        own = set(named_colors(objects[instance_id]))
        if len(said) == 1 and not said & own and list(nouns.values()).count(noun) == 1:
            given[instance_id] = said.pop()
    return given


def _median(colors: UInt8[np.ndarray, "n 3"]) -> Float64[np.ndarray, " 3"]:
    return np.median(cielab(colors / 255.0), axis=0).astype(np.float64)
