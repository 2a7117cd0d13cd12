"""The ladder that a variant climbs until it is accepted: new seeds, then a stricter recipe, then it is given up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cosmos_engine.controls import Recipe
from cosmos_engine.errors import InputError

DEFAULT, STRICTER = "default", "stricter"
FOREGROUND = ("robot", "manipulated")


@dataclass(frozen=True)
class LadderConfig:
    """How often a variant that was not accepted is tried again.

    Attributes:
        new_seeds: tries with another seed and the same recipe, after the first.
        stricter: tries with another seed and the stricter recipe, after those; then the variant is given up.

    Raises:
        InputError: a number below 0.
    """

    new_seeds: int = 2
    stricter: int = 1

    def __post_init__(self) -> None:
        for key in ("new_seeds", "stricter"):
            if getattr(self, key) < 0:
                raise InputError(f"ladder.{key}: expected 0 or more, got {getattr(self, key)}")

    @property
    def tries(self) -> int:
        """The most tries at one variant."""
        return 1 + self.new_seeds + self.stricter


@dataclass(frozen=True)
class Rung:
    """One try: its number, counted from 0, and the recipe by the name that provenance keeps."""

    number: int
    recipe_name: str
    recipe: Recipe


def rungs(ladder: LadderConfig, recipe: Recipe, stricter: Recipe) -> tuple[Rung, ...]:
    """Return the tries of a variant in order; always at least one."""
    names = [DEFAULT] * (1 + ladder.new_seeds) + [STRICTER] * ladder.stricter
    return tuple(Rung(number, name, stricter if name == STRICTER else recipe) for number, name in enumerate(names))


def stricter_recipe(recipe: Recipe, roles: Iterable[str]) -> Recipe:
    """Return a recipe that holds a variant closer to its source, with the same controls.

    Every contour counts in full, and the robot and the manipulated objects keep the content of the source as long as
    `keep_steps` says (NVIDIA's guided generation). No control is added: its branch may not be loaded.

    Args:
        recipe: what was not strict enough.
        roles: the roles that instances of the episode have; a role without instances cannot be kept.
    """
    kept = {*FOREGROUND, *recipe.keep_roles} & set(roles)
    changes: dict[str, object] = {"keep_roles": sorted(kept)}
    if "edge" in recipe.weights:
        changes |= {"edge": 1.0, "edge_by_role": {}}
    return dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]


def try_seed(job_seed: int, demo: int, variant: int, rung: int) -> int:
    """Return the generator's seed for one try, in [0, 2^31): it follows from the arguments alone."""
    words = (job_seed, demo, variant) if rung == 0 else (job_seed, demo, variant, rung)
    return int(np.random.default_rng(words).integers(2**31))
