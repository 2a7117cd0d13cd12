"""What a job of augmentation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from cosmos_engine.augment.curation import CurationConfig
from cosmos_engine.augment.ladder import LadderConfig
from cosmos_engine.controls import Recipe
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class AugmentConfig:
    """What is made of each demo. All of it is part of what a dataset's bytes depend on.

    Attributes:
        variants: variants of each demo, beside the original.
        seed: prompts and noise follow from it, the demo's index, the variant's number and the try's.
        palette: seed of the seg control's instance colours; the tiny checkpoint knows palette 0 best.
        batch: variants that one call of the generator makes. Which ones share a call follows from their numbers alone,
            since batched matrix products round otherwise than single ones.
        threads: torch threads of a process that generates; another number may round sums in another order.
        recipe: which controls condition the generator, and how strongly.
        stricter: the recipe of a variant's last tries; none: `ladder.stricter_recipe` of `recipe`.
        ladder: how often a variant that was not accepted is tried again.
        curation: what is left out whatever the gate says.

    Raises:
        InputError: a number out of range; names the key.
    """

    variants: int = 5
    seed: int = 0
    palette: int = 0
    batch: int = 1
    threads: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    stricter: Recipe | None = None
    ladder: LadderConfig = field(default_factory=LadderConfig)
    curation: CurationConfig = field(default_factory=CurationConfig)

    def __post_init__(self) -> None:
        for key, least in {"variants": 0, "seed": 0, "batch": 1, "threads": 1}.items():
            if getattr(self, key) < least:
                raise InputError(f"{key}: expected {least} or more, got {getattr(self, key)}")
