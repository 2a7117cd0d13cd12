"""Shifts: named changes of appearance that a benchmark puts before a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from cosmos_engine.config import nearest
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Appearance, Material
from cosmos_engine.sim.colors import COLORS
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES

Shift = Callable[[Appearance, np.random.Generator], Appearance]


def vanilla(appearance: Appearance, rng: np.random.Generator) -> Appearance:
    """Return the appearance as it is: what the policy's recordings look like."""
    return appearance


def table_texture(appearance: Appearance, rng: np.random.Generator) -> Appearance:
    """Return the appearance with a table of two colours in a family that no training look has.

    The colours are none of the objects' main colours: the shift asks about texture, not about camouflage.
    """
    taken = {material.color for material in appearance.objects.values()}
    color, accent = rng.choice([name for name in sorted(COLORS) if name not in taken], size=2, replace=False).tolist()
    table = Material(
        str(rng.choice(sorted(HELD_OUT_FAMILIES))),
        color,
        accent,
        scale=round(rng.uniform(0.6, 1.8), 3),
        specular=appearance.table.specular,
        shininess=appearance.table.shininess,
        seed=int(rng.integers(2**31)),
    )
    return dataclasses.replace(appearance, table=table)


SHIFTS: dict[str, Shift] = {"vanilla": vanilla, "table_texture": table_texture}


def shifted(name: str, appearance: Appearance, *, seed: int) -> Appearance:
    """Return the look of one trial: the shift `name` of `appearance`, drawn from the trial's seed.

    The draw depends on the name too, so that two shifts of one trial are independent.

    Raises:
        InputError: unknown shift; names the nearest.
    """
    if name not in SHIFTS:
        raise InputError(f"shift {name!r}: unknown{nearest(name, SHIFTS)}")
    return SHIFTS[name](appearance, np.random.default_rng([seed, *name.encode()]))
