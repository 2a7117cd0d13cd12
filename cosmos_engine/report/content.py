"""What a report shows: the caller collects it, the page lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.data.episode import Episode
from cosmos_engine.errors import InputError
from cosmos_engine.report.benchmark import Benchmark

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
    """One variant of a demo.

    Attributes:
        variant: its number, from 1 (0 is the original).
        cameras: camera -> rgb, uint8 (t, h, w, 3), 0..255.
        prompt: the prompt given to the generator.
        seed: the generator's seed.
        model: the generator's name.
        accepted: what the gate said; None where no gate ran.
        note: why, or a measure worth showing.
    """

    variant: int
    cameras: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
    prompt: str
    seed: int
    model: str
    accepted: bool | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class VariantGroup:
    """A demo's source frames and its variants, shown side by side.

    Attributes:
        demo: the demo's number in the recording.
        step_hz: control steps a second, the frame rate of all clips.
        source: camera -> recorded rgb, uint8 (t, h, w, 3), 0..255.
        variants: at least one, each with the cameras and frame counts of the source.

    Raises:
        InputError: a variant's cameras or frame counts differ from the source's; names the first.
    """

    demo: int
    step_hz: float
    source: Mapping[str, UInt8[np.ndarray, "t h w 3"]]
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if not self.variants or not self.source:
            raise InputError(f"demo {self.demo}: a variant group needs a source camera and a variant")
        for variant in self.variants:
            if set(variant.cameras) != set(self.source):
                raise InputError(
                    f"demo {self.demo} variant {variant.variant}: expected cameras {sorted(self.source)}, "
                    f"got {sorted(variant.cameras)}"
                )
            for camera, video in variant.cameras.items():
                if len(video) != len(self.source[camera]):
                    raise InputError(
                        f"demo {self.demo} variant {variant.variant} camera {camera!r}: expected "
                        f"{len(self.source[camera])} frames, got {len(video)}"
                    )


@dataclass(frozen=True)
class Provenance:
    """Where everything on the page came from.

    Attributes:
        versions: software -> version.
        commands: the commands that made it, in order.
        config: the configuration as YAML text; empty for none.
        certificate: state of the dataset's certificate.
        certificate_note: what was verified, or the first difference.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    config: str = ""
    certificate: CertificateVerdict = "not checked"
    certificate_note: str = ""


@dataclass(frozen=True, eq=False)
class ReportInput:
    """All that one report shows; an empty part has no section.

    Attributes:
        title: the page's title.
        subtitle: one sentence below it.
        created: date and time of making, as text.
        figures: the numbers at the head.
        demos: recorded episodes to show, not necessarily all.
        groups: variant groups to show; the first one, and its recorded demo, make the picture at the head.
        benchmarks: results to tabulate.
        provenance: versions, commands, configuration, certificate.
    """

    title: str
    subtitle: str
    created: str
    figures: tuple[Figure, ...] = ()
    demos: tuple[RecordedDemo, ...] = ()
    groups: tuple[VariantGroup, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
