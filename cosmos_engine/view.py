"""Collect what a report shows from a dataset, its recording and benchmark results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import yaml
from jaxtyping import UInt8
from numpy import ndarray

from cosmos_engine import __version__
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import Dataset, Recording, verify_dataset
from cosmos_engine.data.certificate import VerificationReport, read_certificate
from cosmos_engine.data.rejected import RejectedVariant, read_rejected
from cosmos_engine.data.signature import SignatureState, check_signature
from cosmos_engine.errors import InputError
from cosmos_engine.report.benchmark import read_benchmark
from cosmos_engine.report.content import (
    CertificateVerdict,
    Figure,
    Provenance,
    RecordedDemo,
    Rejection,
    ReportInput,
    Selection,
    Variant,
    VariantGroup,
)
from cosmos_engine.report.outcome import Outcome, measures_of, read_outcome

ALL_CONTROLS = Recipe(edge=1.0, vis=1.0, depth=1.0, seg=1.0)
# With five variants and two cameras of 128 x 128 a page of about 20 MB, which opens at once.
DEFAULT_DEMOS = 12
ALL = "all"

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def collect_report(
    dataset_path: Path,
    recording_path: Path | None,
    benchmark_paths: Sequence[Path],
    demos: str | None = None,
    public_key: Path | None = None,
) -> ReportInput:
    """Read what a dataset holds and what it rejected; the clips of each demo are read when the page shows them.

    Args:
        dataset_path: the zarr folder.
        recording_path: the recording it was made from; shows its passes and controls, and is compared with.
        benchmark_paths: benchmark results.
        demos: numbers of the demos to show, as in "0-11,40", or "all"; by default the first 12.
        public_key: of who must have signed the certificate.

    Raises:
        InputError: no dataset, recording, key or result at a path, or one that is damaged; no demo of a number.
    """
    dataset = Dataset(dataset_path)
    rejected = read_rejected(dataset_path)
    recording = Recording(recording_path) if recording_path else None
    benchmarks = tuple(read_benchmark(path) for path in benchmark_paths)
    known = sorted({*dataset.source_demo.tolist(), *(entry.source_demo for entry in rejected)})
    shown = known[:DEFAULT_DEMOS] if demos is None else selected_demos(demos, known)
    provenance, sha256 = _provenance(dataset, recording_path, public_key)
    outcome = read_outcome(dataset, rejected)
    present = [demo for demo in shown if demo in set(dataset.source_demo.tolist())]
    return ReportInput(
        title=dataset_path.name,
        subtitle="Recorded demos, their controls, the variants made from them, and what policies trained on them do.",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        figures=_figures(dataset, outcome, provenance),
        demos=tuple(recorded_demo(recording, demo) for demo in present[:1]) if recording else (),
        groups=VariantGroups(dataset, rejected, shown) if outcome.accepted or rejected else (),
        selection=Selection(tuple(shown), len(known), chosen=demos is not None),
        outcome=outcome if outcome.measures or rejected else None,
        list_comment=f"demo variant, marked in {dataset_path.name}, certificate {sha256[:16] or 'unread'}",
        benchmarks=benchmarks,
        provenance=provenance,
    )


def selected_demos(words: str, known: Sequence[int]) -> list[int]:
    """Return the demos that "0-11,40" or "all" names, increasing.

    Args:
        words: numbers and ranges, both ends included, separated by commas.
        known: the demos there are.

    Raises:
        InputError: something else, or a demo that there is not; a range takes those that there are, at least one.
    """
    if words.strip() == ALL:
        return list(known)
    chosen: set[int] = set()
    for word in words.split(","):
        match = _RANGE.fullmatch(word.strip())
        if match is None:
            raise InputError(f"--demos: expected numbers and ranges as in 0-11,40 or {ALL!r}, got {word.strip()!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        found = {demo for demo in known if first <= demo <= last}
        if not found:
            there = f"there are {known[0]} to {known[-1]}" if known else "there are none"
            raise InputError(f"--demos: no demo {word.strip()}; {there}")
        chosen |= found
    return sorted(chosen)


class VariantGroups(Sequence[VariantGroup]):
    """The shown demos with their variants and rejections; a group's clips are read as they are asked for."""

    def __init__(self, dataset: Dataset, rejected: Sequence[RejectedVariant], demos: Sequence[int]) -> None:
        """Take what to read from; nothing is read yet."""
        self._dataset = dataset
        self._demos = list(demos)
        self._episodes: dict[int, list[int]] = {demo: [] for demo in demos}
        for index, demo in enumerate(dataset.source_demo.tolist()):
            if demo in self._episodes:
                self._episodes[demo].append(index)
        self._rejected: dict[int, list[RejectedVariant]] = {demo: [] for demo in demos}
        for entry in rejected:
            if entry.source_demo in self._rejected:
                self._rejected[entry.source_demo].append(entry)

    def __len__(self) -> int:
        """Return how many demos are shown."""
        return len(self._demos)

    @overload
    def __getitem__(self, index: int) -> VariantGroup: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[VariantGroup]: ...
    def __getitem__(self, index: int | slice) -> VariantGroup | Sequence[VariantGroup]:
        """Return the group of one shown demo.

        Raises:
            InputError: the demo has variants but no original.
        """
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        demo = self._demos[index]
        return variant_group(self._dataset, demo, self._episodes[demo], self._rejected[demo])


class EpisodeImages(Mapping[str, UInt8[ndarray, "t h w 3"]]):
    """The images of one episode by camera, read from the dataset each time they are asked for."""

    def __init__(self, dataset: Dataset, episode: int) -> None:
        """Take what to read from; nothing is read yet."""
        self._dataset = dataset
        self._rows = dataset.rows(episode)

    def __getitem__(self, camera: str) -> UInt8[ndarray, "t h w 3"]:
        """Read one camera's images."""
        if camera not in self._dataset.cameras:
            raise KeyError(camera)
        return self._dataset.array(f"{camera}_image")[self._rows]

    def __iter__(self) -> Iterator[str]:
        """Return the cameras' names."""
        return iter(self._dataset.cameras)

    def __len__(self) -> int:
        """Return the number of cameras."""
        return len(self._dataset.cameras)


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


def variant_group(
    dataset: Dataset, demo: int, episodes: Sequence[int], rejected: Sequence[RejectedVariant]
) -> VariantGroup:
    """Return a demo's original frames beside its variants, and what was rejected of it.

    Args:
        dataset: the dataset.
        demo: the demo's number.
        episodes: its episodes in the dataset; none for a demo that was left out.
        rejected: what was rejected of it.

    Raises:
        InputError: variants without an original.
    """
    originals = [index for index in episodes if dataset.variant[index] == 0]
    if episodes and not originals:
        raise InputError(f"{dataset.path}: demo {demo} has variants but no original (variant 0)")
    step_hz = 1.0
    if originals:
        timestamps = dataset.array("timestamp")[dataset.rows(originals[0])]
        step_hz = float(1.0 / (timestamps[1] - timestamps[0])) if len(timestamps) > 1 else 1.0
    return VariantGroup(
        demo=demo,
        step_hz=step_hz,
        source=EpisodeImages(dataset, originals[0]) if originals else {},
        variants=tuple(_variant(dataset, index) for index in episodes if dataset.variant[index] > 0),
        rejections=tuple(
            Rejection(entry, {camera: dataset.path / path for camera, path in entry.strips.items()})
            for entry in rejected
        ),
    )


def _variant(dataset: Dataset, index: int) -> Variant:
    info = dataset.info[index]
    gate = info.get("gate")
    verdict: dict[str, Any] = gate if isinstance(gate, dict) else {}
    tries = verdict.get("tries")
    return Variant(
        variant=int(dataset.variant[index]),
        cameras=EpisodeImages(dataset, index),
        prompt=str(info.get("prompt", "")),
        seed=int(info.get("seed", 0)),
        model=str(info.get("generator", "")),
        # Without a gate "accepted" would say more than anybody checked.
        accepted=bool(dataset.accepted[index]) if verdict else None,
        tries=tries if isinstance(tries, int) else None,
        recipe=str(verdict.get("recipe", "")),
        measures=measures_of(verdict),
    )


def _figures(dataset: Dataset, outcome: Outcome, provenance: Provenance) -> tuple[Figure, ...]:
    originals = int((dataset.variant == 0).sum())
    checked = (
        f"of {outcome.asked} asked for; measured by the gate"
        if outcome.measures
        else "checked for frames, sizes, actions, states and times; not for what they show"
    )
    figures = [
        Figure(str(originals), "demos", f"{len(dataset.array('action'))} frames with variants"),
        Figure(str(outcome.accepted), "variants", checked),
    ]
    if outcome.tries:
        share = f"{100 * outcome.accepted / outcome.tries:.0f} %"
        figures.append(Figure(share, "yield", f"{outcome.accepted} accepted of {outcome.tries} tries"))
    assert provenance.certificate is not None  # of a dataset, which has one or none that could be checked
    figures.append(Figure(provenance.certificate, "certificate", provenance.certificate_note))
    return tuple(figures)


def _provenance(dataset: Dataset, recording_path: Path | None, public_key: Path | None) -> tuple[Provenance, str]:
    """Return the provenance and the certificate's own digest, empty where it cannot be read."""
    versions = {"cosmos-engine": __version__, **{name: version(name) for name in ("torch", "numpy", "zarr")}}
    config = yaml.safe_dump(dataset.attrs.get("job", {}), sort_keys=False)
    try:
        certificate = read_certificate(dataset.path)
    except InputError as error:
        # A dataset of an older version is still worth looking at.
        signature = check_signature(dataset.path, public_key)
        unread = Provenance(versions, (), config, "not checked", str(error), signature, _signed(signature, public_key))
        return unread, ""
    verdict = verify_dataset(dataset.path, recording_path, public_key)
    state: CertificateVerdict = "intact" if verdict.intact else "broken"
    signed = _signed(verdict.signature, public_key)
    return Provenance(versions, (), config, state, _compared(verdict), verdict.signature, signed), str(
        certificate.get("sha256", "")
    )


def _compared(verdict: VerificationReport) -> str:
    compared = "compared with the recording" if verdict.against_recording else "compared with itself"
    return verdict.first_difference or compared


_SIGNED: dict[SignatureState, Callable[[Path | None], str]] = {
    "none": lambda key: "Anyone who changes the dataset can make its certificate anew.",
    "not checked": lambda key: "View with --public-key FILE to check by whom.",
    "valid": lambda key: f"Made by {key}.",
    "invalid": lambda key: f"Not made by {key}, or the certificate was changed after it was signed.",
}


def _signed(state: SignatureState, public_key: Path | None) -> str:
    return _SIGNED[state](public_key)
