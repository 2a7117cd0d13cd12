"""The augmentation job: recording -> originals and accepted variants in a zarr dataset; resumable at any moment.

Whoever makes the variants, one process decides and writes them in order, from what is staged: so the dataset's bytes
follow from the recording, the generator, the gate and the config, and not from workers, kills or their timing.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from cosmos_engine import __version__
from cosmos_engine.augment.commit import Committer, rows
from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.curation import EXCLUDED, check_exclusions
from cosmos_engine.augment.judge import Judge
from cosmos_engine.augment.plan import DemoPlan, plan_demos
from cosmos_engine.augment.progress import Bars, Progress
from cosmos_engine.augment.prompts import LookPrompts, PromptWriter
from cosmos_engine.augment.staging import OutcomeJournal, Unit, forget_tries
from cosmos_engine.augment.workbench import Opener, Workbench, WorkOrder, compute_threads
from cosmos_engine.augment.workers import climbed
from cosmos_engine.augment.yields import Yield, dataset_yield, total_yield
from cosmos_engine.data import DatasetWriter, Recording, build_certificate
from cosmos_engine.data.certificate import read_certificate
from cosmos_engine.data.dataset_writer import DatasetComplete
from cosmos_engine.data.digest import json_sha256
from cosmos_engine.data.rejected import REJECTED
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.generator import Generator

__all__ = ["AugmentConfig", "augment", "rows"]


def augment(
    recording: Recording,
    out: Path,
    generator: Generator,
    config: AugmentConfig,
    prompts: PromptWriter | None = None,
    *,
    gate: Judge | None = None,
    exclusions: Collection[tuple[int, int]] = (),
    workers: Sequence[Opener] = (),
    progress: Progress | None = None,
) -> Yield:
    """Write every demo and its accepted variants to the dataset `out`, or go on where an earlier call was stopped.

    A dataset that the same job has completed is left as it is.

    Actions, states and times come from the recording, never from the generator. All cameras of a variant share its
    prompt and its seed. Every prompt is checked before the first frame is generated.

    Args:
        recording: the demos.
        out: the zarr folder.
        generator: makes the variants. With `workers` it checks and encodes the prompts only, and is closed before they
            start.
        config: what is made, and how often it is tried again.
        prompts: writes them; by default they are drawn from looks.
        gate: accepts or rejects; by default whatever is neither black nor still is accepted.
        exclusions: (demo, variant) pairs that are left out; variant 0 is the demo with all its variants.
        workers: an opener of generator and gate for each process; none: everything is made in this one.
        progress: where to tell how far the job is; by default bars on stderr.

    Returns:
        How many variants were accepted, and why others were not: of the whole dataset, however often it was resumed.

    Raises:
        InputError: an episode lacks passes, no demo or no episode is left, a prompt or an exclusion does not fit, or
            `out` holds another job's dataset.
    """
    prompts, progress = prompts or LookPrompts(), progress or Bars()
    check_exclusions(exclusions, len(recording), config.variants)
    plans = plan_demos(recording, config, prompts, exclusions)
    order = _work_order(recording, out / DatasetWriter.WORK, config, plans)
    _check(recording, config, plans, gate)
    written = [plan.prompts[variant] for plan in plans for variant in sorted(plan.prompts)]
    job = {
        "engine": __version__,
        "generator": {"name": generator.name, **generator.provenance},
        "config": dataclasses.asdict(config),
        "prompts": {**prompts.provenance, "sha256": json_sha256(written)},
        "gate": None if gate is None else gate.provenance,
        "exclude": [list(pair) for pair in sorted(exclusions)],
        "env_args": recording.env_args,
    }
    weights = generator.provenance["weights_sha256"]
    bench = None
    if workers:
        generator.prepare(order.prompts)
    elif order.prompts:
        bench = Workbench(order, generator, gate)
        if line := bench.make_ready():
            print(line, file=sys.stderr)
    try:
        opened = DatasetWriter(out, attrs={"job": job})
    except DatasetComplete:
        if read_certificate(out)["config"] != json.loads(json.dumps(job)):
            raise
        return dataset_yield(out)
    with opened as writer:
        journal = OutcomeJournal(writer.work)
        committer = Committer(
            recording, writer, journal, order.staging, config, generator.name, generator.uses_prompts, gate is not None
        )
        _commit_all(plans, order, committer, journal, bench, generator, workers, progress)
        committer.write_rejected()
        if not writer.episodes_written:
            _, *why = total_yield(journal.outcomes).lines
            raise InputError(f"{out}: no episode is left: {'; '.join(why)}; its {REJECTED} says more")
        with progress.stage("certificate", 1, 0, "file") as advance:
            certificate = build_certificate(recording, writer, config=job, weights_sha256=weights)
            writer.finish(certificate)
            advance(1)
    return total_yield(journal.outcomes)


def _commit_all(
    plans: Sequence[DemoPlan],
    order: WorkOrder,
    committer: Committer,
    journal: OutcomeJournal,
    bench: Workbench | None,
    generator: Generator,
    workers: Sequence[Opener],
    progress: Progress,
) -> None:
    """Have every unit made that is not done, and commit each demo once its units, and all demos before it, are."""
    done = len(journal.outcomes)
    for plan in plans[:done]:
        forget_tries(order.staging, plan.demo)  # of a demo that was committed just before a kill
    units = {plan.demo: plan.units(order.config.batch) for plan in plans}
    total, before = (
        sum(len(unit.prompts) for plan in some for unit in units[plan.demo]) for some in (plans, plans[:done])
    )
    left = [unit for plan in plans[done:] for unit in units[plan.demo]]
    missing = Counter(unit.demo for unit in left)
    waiting = list(plans[done:])
    with progress.stage("augment", total, before, "variant") as advance:

        def commit_ready() -> None:
            while waiting and not missing[waiting[0].demo]:
                committer.commit(waiting.pop(0))

        commit_ready()
        for unit in _climbed(order, left, bench, generator, workers):
            missing[unit.demo] -= 1
            commit_ready()
            advance(len(unit.prompts))


def _climbed(
    order: WorkOrder, units: Sequence[Unit], bench: Workbench | None, generator: Generator, workers: Sequence[Opener]
) -> Iterator[Unit]:
    """Yield each unit when its tries are staged: made here, or by workers."""
    if not units:
        return
    if bench is None:
        generator.close()
        yield from climbed(order, units, workers)
        return
    with compute_threads(order.config.threads):
        for unit in units:
            bench.climb(unit)
            yield unit


def _work_order(recording: Recording, staging: Path, config: AugmentConfig, plans: Sequence[DemoPlan]) -> WorkOrder:
    headers = [recording.header(plan.demo) for plan in plans if plan.fault is None]
    return WorkOrder(
        recording=recording.folder,
        staging=staging,
        config=config,
        prompts=tuple(
            prompt for plan in plans for unit in plan.units(config.batch) for prompt in unit.prompts.values()
        ),
        sizes=tuple(sorted({size for header in headers for size in header.cameras.values()})),
        cameras=max((len(header.cameras) for header in headers), default=0),
    )


def _check(recording: Recording, config: AugmentConfig, plans: Sequence[DemoPlan], gate: Judge | None) -> None:
    """Check all that can be checked before work.

    Raises:
        InputError: no demo is left, a recipe needs a role that a demo has not, or there is no robot to judge by.
    """
    taken = [plan.demo for plan in plans if plan.fault is None]
    if not taken:
        counts = Counter(str(plan.fault) for plan in plans)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "it is empty"
        hint = "" if counts.keys() <= {EXCLUDED} else "; curation.keep_failures=true and curation.min_frames=1 keep all"
        raise InputError(f"{recording.folder}: no demo is left: {why}{hint}")
    for recipe in filter(None, (config.recipe, config.stricter)):
        for warning in recipe.warnings:
            print(warning, file=sys.stderr)
    for demo in taken:
        labels = recording.header(demo).labels
        config.recipe.check_labels(labels)
        if config.stricter is not None and config.ladder.stricter:
            config.stricter.check_labels(labels)
        if gate is not None and config.variants and not any(label.role == "robot" for label in labels.values()):
            roles = ", ".join(sorted({label.role for label in labels.values()})) or "none"
            raise InputError(
                f"{recording.path(demo)}: the gate needs instances of role 'robot', got labels of roles: {roles}"
            )
