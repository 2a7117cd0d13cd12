"""The plan of a job: which demos are taken, which variants are made of them, and under which prompts.

It follows from the recording's headers, the config and the list of exclusions, before any work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.curation import EXCLUDED, SOURCE, demo_fault
from cosmos_engine.augment.prompts import PromptRequest, PromptWriter
from cosmos_engine.augment.staging import Unit
from cosmos_engine.data import Recording


@dataclass(frozen=True)
class DemoPlan:
    """What is made of one demo.

    Attributes:
        demo: index in the recording.
        fault: why the demo is left out; None if it is taken.
        prompts: of every variant that is asked for, by its number.
        excluded: variants that a person marked; they are not made.
    """

    demo: int
    fault: str | None
    prompts: Mapping[int, str]
    excluded: frozenset[int] = frozenset()

    def units(self, batch: int) -> list[Unit]:
        """Return what is made, in calls of up to `batch` variants whose numbers follow each other."""
        if self.fault:
            return []
        units = []
        for first in range(1, len(self.prompts) + 1, batch):
            numbers = range(first, min(first + batch, len(self.prompts) + 1))
            prompts = {variant: self.prompts[variant] for variant in numbers if variant not in self.excluded}
            if prompts:
                units.append(Unit(self.demo, first, prompts))
        return units


def plan_demos(
    recording: Recording, config: AugmentConfig, writer: PromptWriter, exclusions: Collection[tuple[int, int]]
) -> list[DemoPlan]:
    """Return the plan of every demo, in order.

    A variant's prompt follows from the job's seed, the demo and the variant's number: not from what is left out.

    Raises:
        InputError: an episode's file is damaged, or there is no prompt.
    """
    plans = []
    for demo in range(len(recording)):
        header = recording.header(demo)
        fault = demo_fault(header.length, header.success, config.curation)
        if (demo, SOURCE) in exclusions:
            fault = EXCLUDED
        prompts = {}
        for variant in range(1, 1 + config.variants) if fault is None else ():
            rng = np.random.default_rng((config.seed, demo, variant))
            rng.integers(2**31)  # the seed of the first try
            place = demo * config.variants + variant - 1
            prompts[variant] = writer.write(
                PromptRequest(demo, variant, place, header.task, header.instruction, header.labels, rng)
            )
        excluded = frozenset(variant for of, variant in exclusions if of == demo and variant != SOURCE)
        plans.append(DemoPlan(demo, fault, prompts, excluded if fault is None else frozenset()))
    return plans
