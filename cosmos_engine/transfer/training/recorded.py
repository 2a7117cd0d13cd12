"""A clip pool from recordings: every camera of every episode cut into clips, with prompts from its labels.

Post-training on one's own simulator: controls come from the recorded passes, the target is the recorded rgb.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cosmos_engine.config import nearest
from cosmos_engine.data import CameraPasses, Episode, InstanceLabel, Recording, make_folder, write_file
from cosmos_engine.data.episode_file import DEMO, EpisodeHeader, reading_own
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.training.clips import MANIFEST, ClipPool, group_file, labels_as_json, write_group

PASSES = ("depth", "instance")


@dataclass(frozen=True)
class RecordedClipsConfig:
    """How recordings are cut into clips.

    Attributes:
        frames: frames a clip, 4k + 1; the last clip of an episode overlaps the one before.
        cameras: those to use; none named means all. They must be of one size.

    Raises:
        InputError: a number of frames that no codec takes.
    """

    frames: int = 17
    cameras: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.frames < 1 or self.frames % 4 != 1:
            raise InputError(f"recorded.frames: expected 4k + 1, got {self.frames}")


@dataclass(frozen=True)
class _Source:
    """One episode that clips are cut from."""

    recording: Recording
    index: int
    header: EpisodeHeader
    cameras: tuple[str, ...]
    prompts: tuple[str, ...]


def record_clips(
    folder: Path, recordings: Sequence[Path], config: RecordedClipsConfig, prompts: Sequence[str] = ()
) -> ClipPool:
    """Cut recordings into a pool, or go on where an earlier call was stopped. Episodes of too few frames are left out.

    Args:
        folder: the pool's.
        recordings: folders of recordings.
        config: how to cut them.
        prompts: one for all episodes, or one an episode, recording after recording; by default they are made of labels
            and instruction (`label_prompts`).

    Raises:
        InputError: no recording, a camera without a pass or of another size than the others, prompts that do not fit
            the episodes, or a folder that holds other clips. All but damaged frames are found before the first cut.
    """
    sources, size = _sources(recordings, config, prompts)
    wanted = {
        "frames": config.frames,
        "size": list(size),
        "sha256": hashlib.sha256(
            json.dumps([[s.header.episode_id, s.cameras, s.prompts] for s in sources]).encode()
        ).hexdigest(),
    }
    make_folder(folder / "groups")
    begun = folder / "config.json"
    if begun.is_file() and json.loads(begun.read_text()) != wanted:
        raise InputError(
            f"{folder}: holds clips of other recordings, cameras, prompts or frames; expected an own folder"
        )
    write_file(begun, json.dumps(wanted).encode())
    counts = []
    for group, source in enumerate(tqdm(sources, desc="cut clips", unit="episode")):
        starts = clip_starts(source.header.length, config.frames)
        counts.append(len(starts) * len(source.cameras))
        if not group_file(folder, group).is_file():
            _write_episode(group_file(folder, group), source, config.frames, starts)
    write_file(folder / MANIFEST, json.dumps({**wanted, "groups": counts}).encode())
    return ClipPool(folder)


def clip_starts(length: int, frames: int) -> list[int]:
    """Return the first frames of clips that cover an episode: side by side, the last one up to its end."""
    starts = list(range(0, length - frames + 1, frames))
    return starts if not starts or starts[-1] + frames == length else [*starts, length - frames]


def label_prompts(labels: Mapping[int, InstanceLabel], instruction: str) -> tuple[str, ...]:
    """Return prompts for an episode in the phrasings of `transfer.prompt`, less the parts that nothing is known of.

    What a table or a wall is made of is in no label: say it in prompts of your own, if variants shall be asked for it.
    """
    names = [label.class_name for _, label in sorted(labels.items()) if label.role == "manipulated"]
    objects = " and ".join(names) or "nothing"
    said = instruction.strip().rstrip(".")
    return (
        f"objects: {objects}.",
        f"a robot arm with {objects}.",
        f"{said}. {objects}." if said else f"{objects}.",
    )


def _sources(
    recordings: Sequence[Path], config: RecordedClipsConfig, prompts: Sequence[str]
) -> tuple[list[_Source], tuple[int, int]]:
    """Check everything that can be checked without reading frames; return the episodes and their one size."""
    episodes = [(recording, index) for recording in map(Recording, recordings) for index in range(len(recording))]
    if len(prompts) not in (0, 1, len(episodes)):
        raise InputError(f"prompts: expected 1, or 1 for each of {len(episodes)} episodes, got {len(prompts)}")
    sources: list[_Source] = []
    sizes: dict[tuple[int, int], str] = {}
    short = 0
    for number, (recording, index) in enumerate(episodes):
        header = recording.header(index)
        cameras = tuple(config.cameras or sorted(header.cameras))
        for camera in cameras:
            if camera not in header.cameras:
                raise InputError(f"{recording.path(index)}: no camera {camera!r}{nearest(camera, header.cameras)}")
            sizes.setdefault(header.cameras[camera], f"{camera} of {recording.path(index)}")
        _check_passes(recording.path(index), cameras)
        said = (prompts[number % len(prompts)],) if prompts else label_prompts(header.labels, header.instruction)
        if header.length < config.frames:
            short += 1
        elif cameras:
            sources.append(_Source(recording, index, header, cameras, said))
    if len(sizes) > 1:
        seen = ", ".join(f"{height}x{width} ({where})" for (height, width), where in sizes.items())
        raise InputError(f"recordings: expected cameras of one size, got {seen}; choose with recorded.cameras=[...]")
    if short:
        print(f"{short} episodes of fewer than {config.frames} frames are left out", file=sys.stderr)
    if not sources:
        raise InputError(
            f"{', '.join(map(str, recordings))}: expected an episode with a camera and at least {config.frames} "
            f"frames, got none among {len(episodes)}"
        )
    return sources, next(iter(sizes))


def _check_passes(path: Path, cameras: Sequence[str]) -> None:
    with reading_own(path) as file:
        for camera in cameras:
            for name in PASSES:
                if f"{DEMO}/obs/{camera}_{name}" not in file:
                    raise InputError(f"camera {camera!r} has no {name} pass; controls are made of rgb, depth, instance")


def _write_episode(file: Path, source: _Source, frames: int, starts: Sequence[int]) -> None:
    episode: Episode = source.recording.episode(source.index, source.cameras)
    described: dict[str, Any] = {
        "prompts": source.prompts,
        "labels": labels_as_json(episode.labels),
    }
    clips: list[CameraPasses] = []
    for passes in episode.cameras.values():
        for start in starts:
            shown = slice(start, start + frames)
            clips.append(
                CameraPasses(
                    passes.rgb[shown],
                    passes.depth_m[shown],
                    passes.instance[shown],
                    passes.intrinsics_px,
                    passes.world_from_camera[shown],
                )
            )
    write_group(file, clips, [described] * len(clips))
