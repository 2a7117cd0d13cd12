"""What a report shows: the caller collects it, the page lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.data.episode import Episode
from cosmos_engine.data.rejected import RejectedVariant
from cosmos_engine.data.signature import SignatureState
from cosmos_engine.errors import InputError
from cosmos_engine.report.benchmark import Benchmark
from cosmos_engine.report.outcome import Outcome

CertificateVerdict = Literal["intact", "broken", "missing", "not checked"]


@dataclass(frozen=True)
class Figure:
    """One number at the head of the page: "20", "demos recorded", "stack, 1,240 frames"."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class RecordedDemo:
    """A recorded episode with the controls made from it.

    Attributes:
        demo: its number in the recording.
        episode: the episode; the cameras it holds are the cameras shown.
        controls: camera -> modality -> control video, uint8 (t, h, w, 3), 0..255; a camera may be absent.

    Raises:
        InputError: controls of an unknown camera, or a control with another frame count than the episode.
    """

    demo: int
    episode: Episode
    controls: Mapping[str, Mapping[str, UInt8[np.ndarray, "t h w 3"]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for camera, controls in self.controls.items():
            if camera not in self.episode.cameras:
                raise InputError(f"demo {self.demo}: controls of camera {camera!r}, which the episode lacks")
            for modality, video in controls.items():
                if len(video) != self.episode.length:
                    raise InputError(
                        f"demo {self.demo}: control {modality!r} of camera {camera!r}: expected "
                        f"{self.episode.length} frames, got {len(video)}"
                    )


@dataclass(frozen=True, eq=False)
class Variant:
    """One variant of a demo that is in the dataset.

    Attributes:
        variant: its number, from 1 (0 is the original).
        cameras: camera -> rgb, uint8 (t, h, w, 3), 0..255. A camera is read when it is shown, and once: a mapping that
            reads on access keeps the memory flat.
        prompt: the prompt given to the generator; empty for a generator that reads none.
        seed: the generator's seed.
        model: the generator's name.
        accepted: what the gate said; None where no gate ran.
        tries: attempts until it was accepted, itself included; None where nobody counted.
        recipe: name of the recipe that it was accepted with; empty where nobody said.
        measures: what the gate measured, by "<camera>/<measure>" or "cross_view/<measure>".
        note: what else is worth saying.
    """

    variant: int
    cameras: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
    prompt: str
    seed: int
    model: str
    accepted: bool | None = None
    tries: int | None = None
    recipe: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, eq=False)
class Rejection:
    """One variant that is not in the dataset, or a demo that was left out (variant 0).

    Attributes:
        entry: what the dataset says of it.
        strips: camera -> JPEG file of frames of the last try, from left to right.
    """

    entry: RejectedVariant
    strips: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class VariantGroup:
    """A demo's source frames and its variants, shown side by side, and what was rejected of it.

    Attributes:
        demo: the demo's number in the recording.
        step_hz: control steps a second, the frame rate of all clips.
        source: camera -> recorded rgb, uint8 (t, h, w, 3), 0..255; empty for a demo that was left out.
        variants: each with the cameras of the source, and with its frame counts where it is shown.
        rejections: variants that never passed or were dropped.

    Raises:
        InputError: neither a source nor a rejection, or a variant's cameras differ from the source's; names the first.
    """

    demo: int
    step_hz: float
    source: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
    variants: tuple[Variant, ...]
    rejections: tuple[Rejection, ...] = ()

    def __post_init__(self) -> None:
        if not self.rejections and not self.source:
            raise InputError(f"demo {self.demo}: a variant group needs a source camera or a rejection")
        for variant in self.variants:
            if set(variant.cameras) != set(self.source):
                raise InputError(
                    f"demo {self.demo} variant {variant.variant}: expected cameras {sorted(self.source)}, "
                    f"got {sorted(variant.cameras)}"
                )


@dataclass(frozen=True)
class Selection:
    """Which demos the page shows of all there are.

    Attributes:
        shown: their numbers, increasing.
        total: how many the dataset has, in it or left out.
        chosen: whether somebody chose them; by default they are the first.
    """

    shown: tuple[int, ...]
    total: int
    chosen: bool = False


@dataclass(frozen=True)
class Provenance:
    """Where everything on the page came from.

    Attributes:
        versions: software -> version.
        commands: the commands that made it, in order.
        config: the configuration as YAML text; empty for none.
        certificate: state of the dataset's certificate; None where the page is of no dataset.
        certificate_note: what was verified, or the first difference.
        signature: state of the certificate's signature.
        signature_note: by which key, or how to check it.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    config: str = ""
    certificate: CertificateVerdict | None = None
    certificate_note: str = ""
    signature: SignatureState = "none"
    signature_note: str = ""


@dataclass(frozen=True, eq=False)
class ReportInput:
    """All that one report shows; an empty part has no section.

    Attributes:
        title: the page's title.
        subtitle: one sentence below it.
        created: date and time of making, as text.
        figures: the numbers at the head.
        demos: recorded episodes to show, not necessarily all.
        groups: variant groups to show, each read when it is its turn, and gone through twice: the first one with
            variants, and its recorded demo, make the picture at the head.
        selection: which demos `groups` are of, where it is worth saying.
        outcome: what became of all that was tried, of all demos.
        list_comment: first line of the list of marked variants that the page exports.
        benchmarks: results to tabulate.
        provenance: versions, commands, configuration, certificate.
    """

    title: str
    subtitle: str
    created: str
    figures: tuple[Figure, ...] = ()
    demos: tuple[RecordedDemo, ...] = ()
    groups: Sequence[VariantGroup] = ()
    selection: Selection | None = None
    outcome: Outcome | None = None
    list_comment: str = ""
    benchmarks: tuple[Benchmark, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
