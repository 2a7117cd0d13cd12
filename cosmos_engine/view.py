"""Collect what a report shows from a dataset, its recording and benchmark results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml

from cosmos_engine import __version__
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import Dataset, Recording, verify_dataset
from cosmos_engine.report.benchmark import read_benchmark
from cosmos_engine.report.content import (
    CertificateVerdict,
    Figure,
    Provenance,
    RecordedDemo,
    ReportInput,
    Variant,
    VariantGroup,
)

ALL_CONTROLS = Recipe(edge=1.0, vis=1.0, depth=1.0, seg=1.0)


def collect_report(
    dataset_path: Path, recording_path: Path | None, benchmark_paths: Sequence[Path], demos: int
) -> ReportInput:
    """Read the first `demos` demos with their variants, and every benchmark result.

    Raises:
        InputError: no dataset, recording or result at a path, or one that is damaged.
    """
    dataset = Dataset(dataset_path)
    recording = Recording(recording_path) if recording_path else None
    benchmarks = tuple(read_benchmark(path) for path in benchmark_paths)
    verdict = verify_dataset(dataset_path, recording_path)
    compared = "compared with the recording" if verdict.against_recording else "compared with itself"
    state: CertificateVerdict = "intact" if verdict.intact else "broken"
    shown = sorted(set(dataset.source_demo.tolist()))[:demos]
    variants = int((dataset.variant > 0).sum())
    figures = [
        Figure(str(dataset.episode_count - variants), "demos", f"{len(dataset.array('action'))} frames with variants"),
        Figure(
            str(variants), "variants", "checked for frames, sizes, actions, states and times; not for what they show"
        ),
        Figure(state, "certificate", verdict.first_difference or compared),
    ]
    return ReportInput(
        title=dataset_path.name,
        subtitle="Recorded demos, their controls, the variants made from them, and what policies trained on them do.",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        figures=tuple(figures),
        demos=tuple(recorded_demo(recording, demo) for demo in shown[:1]) if recording else (),
        groups=tuple(variant_group(dataset, demo) for demo in shown if _has_variants(dataset, demo)),
        benchmarks=benchmarks,
        provenance=Provenance(
            versions={"cosmos-engine": __version__, **{name: version(name) for name in ("torch", "numpy", "zarr")}},
            config=_job_yaml(dataset),
            certificate=state,
            certificate_note=verdict.first_difference or compared,
        ),
    )


def recorded_demo(recording: Recording, demo: int) -> RecordedDemo:
    """Return a recorded episode with all four controls of every camera."""
    episode = recording.episode(demo)
    clips = {
        camera: control_clip(passes, episode.labels, ALL_CONTROLS, seed=0) for camera, passes in episode.cameras.items()
    }
    return RecordedDemo(
        demo,
        episode,
        {camera: {str(modality): video for modality, video in clip.controls.items()} for camera, clip in clips.items()},
    )


def variant_group(dataset: Dataset, demo: int) -> VariantGroup:
    """Return a demo's original frames beside its variants."""
    rows = [index for index in range(dataset.episode_count) if dataset.source_demo[index] == demo]
    arrays = {index: dataset.episode(index) for index in rows}
    images = {index: {camera: arrays[index][f"{camera}_image"] for camera in dataset.cameras} for index in rows}
    source = next(index for index in rows if dataset.variant[index] == 0)
    timestamps = arrays[source]["timestamp"]
    return VariantGroup(
        demo=demo,
        step_hz=float(1.0 / (timestamps[1] - timestamps[0])) if len(timestamps) > 1 else 1.0,
        source=images[source],
        variants=tuple(
            Variant(
                variant=int(dataset.variant[index]),
                cameras=images[index],
                prompt=dataset.info[index]["prompt"],
                seed=dataset.info[index]["seed"],
                model=dataset.info[index]["generator"],
            )
            for index in rows
            if index != source
        ),
    )


def _has_variants(dataset: Dataset, demo: int) -> bool:
    return bool(((dataset.source_demo == demo) & (dataset.variant > 0)).any())


def _job_yaml(dataset: Dataset) -> str:
    return yaml.safe_dump(dataset.attrs.get("job", {}), sort_keys=False)
