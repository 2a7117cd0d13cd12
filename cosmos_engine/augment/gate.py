"""The gate: a variant that still shows the recorded geometry, motion and objects is accepted, or else told why not.

Cheap checks come first: (a) frames, size and type; pixels, with edges, hues and colours between the cameras; optical
flow; what a reader sees; and last a critic, if there is one. Numbers are compared with thresholds that a benchmark of
seeded faults has set (`benchmarks/gate_faults.py`, `configs/gate/default.yaml`).

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.augment.gate_config import (
    CRITIC,
    CROSS_VIEW,
    VIEW_DIFFERENCE,
    CameraThresholds,
    GateConfig,
    failure,
)
from cosmos_engine.config import load_config
from cosmos_engine.data import Episode
from cosmos_engine.errors import InputError
from cosmos_engine.quality.adherence import flow_measures, pixel_measures, reader_measures
from cosmos_engine.quality.clip_geometry import ClipGeometry
from cosmos_engine.quality.critic import Critic
from cosmos_engine.quality.cross_view import view_difference
from cosmos_engine.quality.geometry_reader import GeometryReader
from cosmos_engine.quality.motion import embedded_poses
from cosmos_engine.quality.object_color import prompted_colors
from cosmos_engine.quality.shown_reader import AnyReader, reader_of

DEFAULT_CONFIG = "gate/default"
DIGITS = 9
"""Measures are rounded to so many decimals, far below anything that decides."""

Videos = Mapping[str, np.ndarray]
"""Frames by camera, uint8 (t, h, w, 3) if they are right."""


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one variant.

    Attributes:
        accepted: whether there is no failure.
        measures: finite numbers by "<camera>/<measure>" or "cross_view/<measure>"; what could not be measured, as of an
            object that a camera does not see, is missing.
        failures: one line each; empty if accepted.
    """

    accepted: bool
    measures: Mapping[str, float]
    failures: tuple[str, ...]


class Gate:
    """Judge variants; holds a reader, and the geometry of the episode that it judged last.

    The same inputs give the same verdict.

    Args:
        config: thresholds.
        reader: reads geometry back from the variant.
        critic: a vision-language model that is asked last.

    Raises:
        InputError: a threshold for a critic without one.
    """

    def __init__(self, config: GateConfig, reader: AnyReader, critic: Critic | None = None) -> None:
        if critic is None and any(CRITIC in kind.as_mapping() for kind in (config.fixed, config.moving)):
            raise InputError("gate threshold critic: expected null, since the gate has no critic")
        self._config = config
        self._reader = reader
        self._critic = critic
        self._known: tuple[Episode, dict[str, ClipGeometry]] | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        """Config and names of reader and critic: JSON values."""
        critic = self._critic.name if self._critic else None
        return {"config": dataclasses.asdict(self._config), "reader": self._reader.name, "critic": critic}

    def judge(self, source: Episode, images: Videos, prompt: str = "") -> Verdict:
        """Return the verdict on one variant of an episode.

        Args:
            source: the recording.
            images: the variant's frames of every camera.
            prompt: what the variant was asked to be. Where it gives an object another colour, that is the right one.

        Raises:
            InputError: the recording has no camera, no true depth, or none of its masks is the robot's.
        """
        clips = self._clips(source)
        misshapen = _misshapen(clips, images)
        if misshapen:
            return Verdict(False, {}, tuple(misshapen))
        judged = {camera: clip.judged(images[camera]) for camera, clip in clips.items()}
        colors = prompted_colors(prompt, source.labels)
        tiers: list[Callable[[], dict[str, float]]] = [
            lambda: (
                _of_cameras(clips, lambda camera, clip: pixel_measures(judged[camera], clip, colors))
                | between_cameras(clips, judged)
            ),
            lambda: _of_cameras(clips, lambda camera, clip: flow_measures(judged[camera], clip)),
            lambda: _of_cameras(clips, lambda camera, clip: self._read(judged[camera], clip)),
        ]
        if self._critic is not None:
            tiers.append(lambda: self._asked(source, images))
        measures: dict[str, float] = {}
        failures: list[str] = []
        for tier in tiers:
            made = {key: round(value, DIGITS) for key, value in tier().items()}
            measures |= made
            failures += self._failures(clips, made)
            if failures and self._config.stop_early:
                break
        return Verdict(not failures, measures, tuple(failures))

    def _clips(self, source: Episode) -> dict[str, ClipGeometry]:
        """Return the geometry of each camera; of the episode judged last it is kept, since variants come in a row."""
        if self._known is None or self._known[0] is not source:
            _check_source(source)
            poses = embedded_poses(source)
            clips = {
                camera: ClipGeometry(passes, source.labels, poses) for camera, passes in sorted(source.cameras.items())
            }
            self._known = source, clips
        return self._known[1]

    def _read(self, rgb: UInt8[np.ndarray, "t h w 3"], clip: ClipGeometry) -> dict[str, float]:
        return reader_measures(rgb, clip, reader_of(self._reader, clip.passes, clip.labels).read(rgb))

    def _asked(self, source: Episode, images: Videos) -> dict[str, float]:
        critic = self._critic
        assert critic is not None
        return {
            f"{camera}/{CRITIC}": critic.judge(passes.rgb, images[camera], source.instruction).score
            for camera, passes in sorted(source.cameras.items())
        }

    def _failures(self, clips: Mapping[str, ClipGeometry], measures: Mapping[str, float]) -> list[str]:
        lines = []
        for key, value in measures.items():
            threshold = self._thresholds(clips, key.rsplit("/", 1)[0]).get(key.rsplit("/", 1)[1])
            line = None if threshold is None else failure(key, value, threshold)
            if line:
                lines.append(line)
        return lines

    def _thresholds(self, clips: Mapping[str, ClipGeometry], group: str) -> Mapping[str, float]:
        if group == CROSS_VIEW:
            return self._config.cross_view.as_mapping()
        kind: CameraThresholds = self._config.fixed if clips[group].is_fixed else self._config.moving
        return kind.as_mapping()


def open_gate(file: Path | None = None, overrides: Sequence[str] = ()) -> Gate:
    """Return a gate with the reader that ships.

    Args:
        file: a gate config; by default the one that ships.
        overrides: `key=value`, such as "fixed.iou_robot=0.8" or "stop_early=true".

    Raises:
        InputError: a config that cannot be read, an unknown measure, a threshold that is no finite number.
    """
    return Gate(load_config(GateConfig, file or DEFAULT_CONFIG, overrides), GeometryReader.shipped())


def _check_source(source: Episode) -> None:
    if not source.cameras:
        raise InputError(f"episode {source.episode_id}: the gate needs a camera, the recording has none")
    if CROSS_VIEW in source.cameras:
        raise InputError(f"episode {source.episode_id}: a camera of the name {CROSS_VIEW!r} cannot be judged")
    robot = [i for i, label in source.labels.items() if label.role == "robot"]
    if not any(np.isin(passes.instance, robot).any() for passes in source.cameras.values()):
        raise InputError(
            f"episode {source.episode_id}: the gate needs masks of the robot; expected an instance of role robot in "
            f"view, got {', '.join(sorted({label.role for label in source.labels.values()})) or 'no labels'}"
        )


def _misshapen(clips: Mapping[str, ClipGeometry], images: Videos) -> list[str]:
    """Return what is wrong with cameras, frame counts, sizes and types."""
    lines = [f"{camera}: the source has no such camera" for camera in sorted(images) if camera not in clips]
    for camera, clip in clips.items():
        if camera not in images:
            lines.append(f"{camera}: no frames")
            continue
        frames = images[camera]
        if frames.shape != clip.recorded_shape or frames.dtype != np.uint8:
            wanted, got = (" x ".join(map(str, shape)) for shape in (clip.recorded_shape, frames.shape))
            lines.append(f"{camera}: expected uint8 {wanted} as its source, got {frames.dtype} {got}")
    return lines


def _of_cameras(
    clips: Mapping[str, ClipGeometry], measure: Callable[[str, ClipGeometry], dict[str, float]]
) -> dict[str, float]:
    return {
        f"{camera}/{name}": value for camera, clip in clips.items() for name, value in measure(camera, clip).items()
    }


def between_cameras(clips: Mapping[str, ClipGeometry], judged: Videos) -> dict[str, float]:
    """Return what is measured between the cameras of a variant, frames at the size at which variants are judged."""
    ids = sorted({i for clip in clips.values() for i, role in clip.foreground.items() if role == "manipulated"})
    value = view_difference(dict(judged), {camera: clip.passes for camera, clip in clips.items()}, ids)
    return {} if value is None else {f"{CROSS_VIEW}/{VIEW_DIFFERENCE}": value}
