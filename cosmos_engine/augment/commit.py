"""Committing a demo: its original and accepted variants become episodes, the others entries of `rejected.json`.

What is decided follows from the staged tries alone, so a job that was killed in the middle decides the same again.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.curation import EXCLUDED, NEAR_DUPLICATE, SOURCE, look, near_duplicates, source_fault
from cosmos_engine.augment.plan import DemoPlan
from cosmos_engine.augment.staging import (
    Outcome,
    OutcomeJournal,
    TriedVariant,
    forget_tries,
    read_try,
    rejected_entries,
    try_file,
)
from cosmos_engine.augment.workbench import check_images, strips
from cosmos_engine.data import DatasetWriter, Episode, Recording, make_folder, write_file
from cosmos_engine.data.rejected import REJECTED, STRIPS, RejectedVariant
from cosmos_engine.errors import InputError

_NO_FILE_NAME = re.compile(r"[^\w-]")


@dataclass(frozen=True)
class Climb:
    """All tries at one variant: the last one decides."""

    tries: tuple[TriedVariant, ...]

    @property
    def last(self) -> TriedVariant:
        """The try that was accepted, or the one after which the variant was given up."""
        return self.tries[-1]


class Committer:
    """Write demos to a dataset, in order.

    Args:
        recording: where they come from.
        writer: of the dataset.
        journal: outcomes of the demos that are done.
        staging: folder of the tries.
        config: of the job.
        made_by: provenance of every variant: its generator.
        uses_prompts: whether the generator reads them; prompts that it does not are not kept.
        gated: whether tries were judged.
    """

    def __init__(
        self,
        recording: Recording,
        writer: DatasetWriter,
        journal: OutcomeJournal,
        staging: Path,
        config: AugmentConfig,
        made_by: str,
        uses_prompts: bool,
        gated: bool,
    ) -> None:
        self._recording = recording
        self._writer = writer
        self._journal = journal
        self._staging = staging
        self._config = config
        self._made_by = made_by
        self._uses_prompts = uses_prompts
        self._gated = gated

    def commit(self, plan: DemoPlan) -> None:
        """Write the next demo, or what is not written of it; what is staged of it is removed.

        Raises:
            InputError: an episode does not fit the dataset, or the file system refuses.
        """
        if plan.fault is not None:
            self._done(Outcome(plan.demo, rejected=(RejectedVariant(plan.demo, SOURCE, plan.fault),)))
            return
        episode = self._recording.episode(plan.demo)
        fault = source_fault(episode.cameras, self._config.curation)
        if fault is not None:
            self._done(Outcome(plan.demo, rejected=(RejectedVariant(plan.demo, SOURCE, fault),)))
            return
        climbs = dict(self._climbs(plan))
        accepted = {variant: climb.last for variant, climb in climbs.items() if climb.last.accepted}
        duplicates = self._duplicates(episode, accepted)
        rejected = [RejectedVariant(plan.demo, v, EXCLUDED, self._prompt(plan, v)) for v in sorted(plan.excluded)]
        for variant, climb in climbs.items():
            if variant in duplicates or not climb.last.accepted:
                rejected.append(self._rejected(plan, variant, climb, duplicates.get(variant)))
        for variant in duplicates:
            del accepted[variant]
        self._append(plan, episode, climbs, accepted)
        failures = Counter(
            line.split()[0].rstrip(":")
            for climb in climbs.values()
            for one in climb.tries
            for line in one.tried.failures
        )
        self._done(
            Outcome(
                plan.demo,
                accepted=len(accepted),
                tries=sum(len(climb.tries) for climb in climbs.values()),
                failures=dict(sorted(failures.items())),
                rejected=tuple(sorted(rejected, key=lambda entry: entry.variant)),
            )
        )

    def write_rejected(self) -> None:
        """Write `rejected.json` of the demos that are done.

        Raises:
            InputError: the file system refuses.
        """
        entries = rejected_entries(self._journal.outcomes)
        content = json.dumps(entries, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
        write_file(self._writer.path / REJECTED, content)

    def _climbs(self, plan: DemoPlan) -> Iterator[tuple[int, Climb]]:
        """Yield the tries of every variant that was made, by number."""
        for unit in plan.units(self._config.batch):
            tries: dict[int, list[TriedVariant]] = {variant: [] for variant in sorted(unit.prompts)}
            left = sorted(tries)
            for rung in range(self._config.ladder.tries):
                file = try_file(self._staging, unit, rung)
                made = read_try(file)
                if made is None or sorted(made) != left:
                    raise InputError(f"{file}: missing or damaged since it was made; the same command makes it again")
                for variant in left:
                    tries[variant].append(made[variant])
                left = [variant for variant in left if not made[variant].accepted]
                if not left:
                    break
            for variant, of_variant in tries.items():
                yield variant, Climb(tuple(of_variant))

    def _duplicates(self, episode: Episode, accepted: Mapping[int, TriedVariant]) -> dict[int, str]:
        if not self._config.curation.near_duplicate or not accepted or not episode.cameras:
            return {}
        looks = {variant: one.look for variant, one in accepted.items() if one.look is not None}
        looks[SOURCE] = look({camera: passes.rgb for camera, passes in episode.cameras.items()})
        return near_duplicates(looks, self._config.curation.near_duplicate)

    def _rejected(self, plan: DemoPlan, variant: int, climb: Climb, duplicate: str | None) -> RejectedVariant:
        """Return the entry of a variant that is left out, and write its strips."""
        tries = [one.tried for one in climb.tries]
        reason, pictures = climb.last.reason, climb.last.strips
        if duplicate is not None:
            reason, pictures = NEAR_DUPLICATE, strips(climb.last.images)
            tries[-1] = replace(tries[-1], failures=(duplicate,))
        paths = {}
        for index, (camera, content) in enumerate(pictures.items()):
            plain = _NO_FILE_NAME.sub("_", camera)
            name = plain if plain == camera else f"{plain}_{index}"
            paths[camera] = f"{STRIPS}/{plan.demo:06d}_{variant:03d}_{name}.jpg"
            make_folder(self._writer.path / STRIPS)
            write_file(self._writer.path / paths[camera], content)
        return RejectedVariant(plan.demo, variant, reason, self._prompt(plan, variant), tuple(tries), paths)

    def _append(
        self, plan: DemoPlan, episode: Episode, climbs: Mapping[int, Climb], accepted: Mapping[int, TriedVariant]
    ) -> None:
        """Append what is not committed yet of the original and the accepted variants."""
        written = {one.variant for one in self._writer.episodes if one.source_demo == plan.demo}
        source = {
            "episode_id": episode.episode_id,
            "demo_seed": episode.seed,
            "task": episode.task,
            "instruction": episode.instruction,
        }
        images = {camera: passes.rgb for camera, passes in episode.cameras.items()}
        for variant in [SOURCE, *sorted(accepted)]:
            if variant in written:
                continue
            info: dict[str, Any] = dict(source)
            if variant != SOURCE:
                tried = accepted[variant].tried
                images = dict(accepted[variant].images)
                info |= {"generator": self._made_by, "prompt": self._prompt(plan, variant), "seed": tried.seed}
                if self._gated:
                    info["gate"] = {
                        "measures": dict(tried.measures),
                        "tries": len(climbs[variant].tries),
                        "recipe": tried.recipe,
                    }
            self._writer.append(rows(episode, images), source_demo=plan.demo, variant=variant, accepted=True, info=info)

    def _done(self, outcome: Outcome) -> None:
        self._journal.append(outcome)
        if outcome.rejected:
            self.write_rejected()
        forget_tries(self._staging, outcome.demo)

    def _prompt(self, plan: DemoPlan, variant: int) -> str:
        return plan.prompts[variant] if self._uses_prompts else ""


def rows(episode: Episode, images: Mapping[str, UInt8[np.ndarray, "t h w 3"]]) -> dict[str, np.ndarray]:
    """Return the dataset's rows of one variant: the recording's arrays with `images` in place of its rgb.

    Raises:
        ValueError: a camera's images differ from its source in length, size or type.
    """
    check_images(episode, images)
    return {
        "action": episode.actions,
        "state": episode.states,
        "timestamp": episode.timestamps_s,
        **episode.observations,
        **{f"{camera}_image": frames for camera, frames in images.items()},
    }
