"""Source and variants, and what was rejected, as the page's template prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cosmos_engine.errors import InputError
from cosmos_engine.report.clips import MOST_HEIGHT_PX, Clip, ClipView, clip_view, data_uri, shrunk
from cosmos_engine.report.colour import depth_range_m, depth_to_rgb
from cosmos_engine.report.content import RecordedDemo, Rejection, Variant, VariantGroup
from cosmos_engine.report.histogram import number, split_name
from cosmos_engine.report.video import side_by_side

HERO_VARIANTS = 3
ORDINALS = {1: "1st try", 2: "2nd try", 3: "3rd try"}


@dataclass(frozen=True)
class CameraMeasures:
    """What was measured of one camera, or between cameras: names and values as text."""

    camera: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TileView:
    """One column of a variant group: the source, or a variant; a video for each camera."""

    title: str
    mark: str
    """What the exported list says of it: "demo variant"; variant 0 stands for the whole demo."""
    verdict: str
    facts: tuple[str, ...]
    prompt: str
    note: str
    clips: tuple[ClipView, ...]
    measures: tuple[CameraMeasures, ...]

    @property
    def size(self) -> int:
        """What its clips add to the page, in bytes."""
        return sum(clip.size for clip in self.clips)


@dataclass(frozen=True)
class RejectionView:
    """A variant that is not in the dataset, and why."""

    title: str
    reason: str
    prompt: str
    facts: tuple[str, ...]
    failures: tuple[str, ...]
    """Of the last try."""
    strips: tuple[tuple[str, str], ...]
    measures: tuple[CameraMeasures, ...]


@dataclass(frozen=True)
class GroupView:
    """A demo's source and variants, and what was rejected of it."""

    title: str
    demo: int
    tiles: tuple[TileView, ...]
    rejections: tuple[RejectionView, ...]


@dataclass(frozen=True)
class HeroView:
    """The picture at the head of the page: one video of equal panels, and what each shows."""

    clip: ClipView
    captions: tuple[str, ...]


def group_view(group: VariantGroup) -> GroupView:
    """Return the source and the variants of one demo as columns of videos. One clip at a time is in memory.

    Raises:
        InputError: a variant's clip has another frame count than its source's, or a strip cannot be read; names it.
    """
    frames: dict[str, int] = {}
    tiles = []
    if group.source:
        clips = []
        for camera, clip in group.source.items():
            frames[camera] = len(clip)
            clips.append(clip_view(camera, clip, group.step_hz))
        tiles.append(TileView("recorded", f"{group.demo} 0", "", (), "", "", tuple(clips), ()))
    tiles += [_variant_tile(variant, group, frames) for variant in group.variants]
    return GroupView(
        title=f"demo {group.demo}",
        demo=group.demo,
        tiles=tuple(tiles),
        rejections=tuple(_rejection_view(rejection) for rejection in group.rejections),
    )


def hero_view(group: VariantGroup, demos: Iterable[RecordedDemo]) -> HeroView:
    """Return the way of one demo in one video: recorded frames, depth, a control, variants.

    Depth and control are shown where `demos` holds the same demo with the group's first camera.
    """
    camera, recorded = next(iter(group.source.items()))
    source = shrunk(recorded, MOST_HEIGHT_PX)
    panels: dict[str, Clip] = {"recorded": source}
    for demo in demos:
        if demo.demo == group.demo and camera in demo.episode.cameras:
            depth_m = demo.episode.cameras[camera].depth_m
            panels["depth pass"] = shrunk(depth_to_rgb(depth_m, *depth_range_m(depth_m)), MOST_HEIGHT_PX)
            controls = list(demo.controls.get(camera, {}).items())[:1]
            panels |= {f"{name} control": shrunk(clip, MOST_HEIGHT_PX) for name, clip in controls}
    for variant in group.variants[:HERO_VARIANTS]:
        panels[f"variant {variant.variant}"] = shrunk(variant.cameras[camera], MOST_HEIGHT_PX)
    same_size = {caption: clip for caption, clip in panels.items() if clip.shape == source.shape}
    return HeroView(clip_view(camera, side_by_side(list(same_size.values())), group.step_hz), tuple(same_size))


def measure_table(measures: Mapping[str, float]) -> tuple[CameraMeasures, ...]:
    """Return measures by "<camera>/<measure>" as lists, one a camera: a tile is too narrow for a column each."""
    cameras: dict[str, list[tuple[str, str]]] = {}
    for key, value in sorted(measures.items()):
        camera, name = split_name(key)
        cameras.setdefault(camera, []).append((name, number(value)))
    return tuple(CameraMeasures(camera, tuple(rows)) for camera, rows in cameras.items())


def _variant_tile(variant: Variant, group: VariantGroup, frames: Mapping[str, int]) -> TileView:
    clips = []
    for camera in group.source:
        clip = variant.cameras[camera]
        if len(clip) != frames[camera]:
            raise InputError(
                f"demo {group.demo} variant {variant.variant} camera {camera!r}: expected {frames[camera]} frames, "
                f"got {len(clip)}"
            )
        clips.append(clip_view(camera, clip, group.step_hz))
    facts = [f"seed {variant.seed}", variant.model]
    if variant.tries is not None:
        facts.append(ORDINALS.get(variant.tries, f"{variant.tries}th try"))
    if variant.recipe:
        facts.append(f"recipe {variant.recipe}")
    return TileView(
        title=f"variant {variant.variant}",
        mark=f"{group.demo} {variant.variant}",
        verdict={True: "accepted", False: "rejected", None: ""}[variant.accepted],
        facts=tuple(facts),
        prompt=variant.prompt,
        note=variant.note,
        clips=tuple(clips),
        measures=measure_table(variant.measures),
    )


def _rejection_view(rejection: Rejection) -> RejectionView:
    entry = rejection.entry
    last = entry.tries[-1] if entry.tries else None
    facts = []
    if last is not None:
        tries = len(entry.tries)
        facts.append("1 try" if tries == 1 else f"{tries} tries")
        facts += [] if last.seed is None else [f"last seed {last.seed}"]
        facts += [f"recipe {last.recipe}"] if last.recipe else []
    return RejectionView(
        title=f"variant {entry.variant}" if entry.variant else "whole demo",
        reason=entry.reason,
        prompt=entry.prompt,
        facts=tuple(facts),
        failures=() if last is None else last.failures,
        strips=tuple((camera, data_uri(_jpeg(file), "image/jpeg")) for camera, file in rejection.strips.items()),
        measures=() if last is None else measure_table(last.measures),
    )


def _jpeg(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
