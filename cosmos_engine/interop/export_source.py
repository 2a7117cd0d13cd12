"""What an export is made from: the accepted episodes of a dataset, or all of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy.typing import NDArray

from cosmos_engine.data import CameraPasses, Dataset, Episode, InstanceLabel, Recording
from cosmos_engine.data.dataset import CERTIFICATE, IMAGE_SUFFIX
from cosmos_engine.data.digest import file_sha256, json_sha256
from cosmos_engine.data.recording import is_recording
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class ExportedEpisode:
    """One episode of T control steps on its way out. None is what the source does not know.

    Attributes:
        actions, states, observations, images: as in the dataset, T rows each.
        rewards, dones, success: of the recording only.
        passes: depth, ids, pinhole and poses, of the recording only.
        extras: what an import carried (`Episode.extras`), of the recording only.
        source_demo, variant: index in the recording, and 0 for the demo itself.
        prompt: of a variant.
    """

    actions: Float32[np.ndarray, "t a"]
    states: Float64[np.ndarray, "t s"]
    observations: Mapping[str, Float32[np.ndarray, "t _"]]
    images: Mapping[str, NDArray[np.uint8]]
    rewards: Float32[np.ndarray, " t"] | None
    dones: Bool[np.ndarray, " t"] | None
    success: bool | None
    passes: Mapping[str, CameraPasses]
    labels: Mapping[int, InstanceLabel]
    extras: Mapping[str, NDArray[Any]]
    source_demo: int
    variant: int
    seed: int
    step_hz: float
    episode_id: str
    task: str
    instruction: str
    prompt: str = ""
    source: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """The number of control steps T."""
        return len(self.actions)


class ExportSource:
    """Read the episodes of an export one at a time."""

    def __init__(self, path: Path, recording: Path | None = None) -> None:
        """Open a dataset, with the recording that it was made from where that is at hand, or a recording.

        Raises:
            InputError: `path` is neither, or an unfinished dataset; `recording` is not what the dataset was made from.
        """
        self.path = path
        self.dataset = None if is_recording(path) else Dataset(path)
        if self.dataset is None and recording is not None:
            raise InputError(f"--recording: {path} is a recording itself")
        held = path if self.dataset is None else recording
        self.recording = None if held is None else Recording(held)
        if self.dataset is None:
            assert self.recording is not None
            self.source_demos = list(range(len(self.recording)))
            self._rows = self.source_demos
        else:
            self._rows = [int(index) for index in np.flatnonzero(self.dataset.accepted)]
            self.source_demos = [int(self.dataset.source_demo[index]) for index in self._rows]
        if not self._rows:
            raise InputError(f"{path}: no episode to export")

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._rows)

    @property
    def env_args(self) -> dict[str, Any]:
        """What made the demos, as robomimic keeps it."""
        if self.recording is not None:
            return self.recording.env_args
        assert self.dataset is not None
        job = self.dataset.attrs.get("job")
        found = job.get("env_args") if isinstance(job, dict) else None
        return dict(found) if isinstance(found, dict) else {"env_name": "", "type": 2, "env_kwargs": {}}

    @property
    def identity(self) -> str:
        """A digest of what is exported: two exports of the same have the same."""
        if self.dataset is not None:
            return file_sha256(self.dataset.path / CERTIFICATE)
        assert self.recording is not None
        headers = [self.recording.header(index) for index in self.source_demos]
        return json_sha256([[header.episode_id, header.length] for header in headers])

    def lengths(self) -> list[int]:
        """Return the control steps of every episode.

        Raises:
            InputError: an episode of the recording is damaged.
        """
        if self.dataset is None:
            assert self.recording is not None
            return [self.recording.header(index).length for index in self.source_demos]
        rows = [self.dataset.rows(row) for row in self._rows]
        return [part.stop - part.start for part in rows]

    def read(self, index: int, *, images: bool = True) -> ExportedEpisode:
        """Return episode `index` of the export.

        Args:
            index: below the length.
            images: also the images and render passes.

        Raises:
            InputError: the source is damaged, or the recording's demo is another than the dataset's.
        """
        if self.dataset is None:
            return self._of_recording(index, images)
        return self._of_dataset(self._rows[index], images)

    def split(self, validation_fraction: float, seed: int) -> tuple[list[int], list[int]]:
        """Return the episodes to train on and those to validate with; variants of one demo lie on one side.

        With one demo, or a fraction of 0, all are to train on.

        Raises:
            InputError: the fraction is not within [0, 1).
        """
        if not 0.0 <= validation_fraction < 1.0:
            raise InputError(f"validation_fraction: expected a value within [0, 1), got {validation_fraction}")
        demos = np.unique(self.source_demos)
        held_out = min(max(1, round(validation_fraction * len(demos))), len(demos) - 1) if validation_fraction else 0
        held = set(np.random.default_rng(seed).permutation(demos)[:held_out].tolist())
        return (
            [index for index, demo in enumerate(self.source_demos) if demo not in held],
            [index for index, demo in enumerate(self.source_demos) if demo in held],
        )

    def _of_recording(self, index: int, images: bool) -> ExportedEpisode:
        assert self.recording is not None
        episode = self.recording.episode(index, None if images else (), extras=images)
        return _exported(episode, index, {camera: passes.rgb for camera, passes in episode.cameras.items()})

    def _of_dataset(self, row: int, images: bool) -> ExportedEpisode:
        assert self.dataset is not None
        rows, info = self.dataset.rows(row), self.dataset.info[row]
        demo, variant = int(self.dataset.source_demo[row]), int(self.dataset.variant[row])
        keys = [key for key in self.dataset.keys if images or not key.endswith(IMAGE_SUFFIX)]
        arrays = {key: self.dataset.array(key)[rows] for key in keys}
        pictures = {key.removesuffix(IMAGE_SUFFIX): arrays.pop(key) for key in keys if key.endswith(IMAGE_SUFFIX)}
        actions, states, times = arrays.pop("action"), arrays.pop("state"), arrays.pop("timestamp")
        prompt = str(info.get("prompt", ""))
        if self.recording is not None:
            if demo >= len(self.recording):
                raise InputError(f"{self.recording.folder}: no demo {demo}, which {self.path} was made from")
            episode = self.recording.episode(demo, None if images else (), extras=images)
            same = info.get("episode_id") in (None, episode.episode_id)
            if not same or not np.array_equal(episode.actions, actions):
                raise InputError(f"{self.recording.folder}: demo {demo} is not the one that {self.path} was made from")
            return _exported(episode, demo, pictures, variant=variant, prompt=prompt, info=info)
        return ExportedEpisode(
            actions=actions,
            states=states,
            observations=arrays,
            images=pictures,
            rewards=None,
            dones=None,
            success=None,
            passes={},
            labels={},
            extras={},
            source_demo=demo,
            variant=variant,
            seed=int(info.get("demo_seed", 0)),
            step_hz=_rate(times),
            episode_id=str(info.get("episode_id", "")),
            task=str(info.get("task", "")),
            instruction=str(info.get("instruction", "")),
            prompt=prompt,
            info=info,
        )


def _exported(
    episode: Episode,
    demo: int,
    images: Mapping[str, NDArray[np.uint8]],
    *,
    variant: int = 0,
    prompt: str = "",
    info: Mapping[str, Any] | None = None,
) -> ExportedEpisode:
    return ExportedEpisode(
        actions=episode.actions,
        states=episode.states,
        observations=episode.observations,
        images=images,
        rewards=episode.rewards,
        dones=episode.dones,
        success=episode.success,
        passes=episode.cameras,
        labels=episode.labels,
        extras=episode.extras,
        source_demo=demo,
        variant=variant,
        seed=episode.seed,
        step_hz=episode.step_hz,
        episode_id=episode.episode_id,
        task=episode.task,
        instruction=episode.instruction,
        prompt=prompt,
        source=episode.source,
        info=info or {},
    )


def _rate(times_s: NDArray[np.float64]) -> float:
    """Return control steps a second; 1 for a single step, whose duration nothing tells."""
    return 1.0 if len(times_s) < 2 else round((len(times_s) - 1) / float(times_s[-1] - times_s[0]), 9)


def chosen(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """Return `names`, or all that are known where none are named.

    Raises:
        InputError: a name is not known.
    """
    for name in names:
        if name not in known:
            raise InputError(f"{what} {name!r}: not in the source, which has: {', '.join(known) or 'none'}")
    return list(names) or list(known)
