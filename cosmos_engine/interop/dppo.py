"""DPPO's pre-training data: train.npz, val.npz and normalization.npz, as its StitchedSequenceDataset reads them.

    train.npz, val.npz     states (N, S) and actions (N, A) float32 within [-1, 1], rewards, terminals (N,),
                           traj_lengths (episodes,), images (N, 3 * cameras, H, W) uint8 where cameras are chosen
    normalization.npz      obs_min, obs_max, action_min, action_max: of train and val together;
                           x becomes 2 (x - min) / (max - min + 1e-6) - 1
    observations.json      which observations and cameras the columns and channels are, and where every episode is from

Names, formula, and terminals that are all False are those of DPPO's script/dataset/process_robomimic_dataset.py.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_engine.data.atomic import atomic_file, make_folder, storage_errors, write_file
from cosmos_engine.data.proprioception import proprioception
from cosmos_engine.errors import InputError
from cosmos_engine.interop.export_source import ExportedEpisode, ExportSource, chosen
from cosmos_engine.interop.workspace import RESULT, workspace

_OBJECT = "object"
_EPSILON = 1e-6


@dataclass(frozen=True)
class DppoOptions:
    """What DPPO is given.

    Attributes:
        low_dim: observations that become its states, in order; none: pose and gripper of each robot, and `object`
            where no camera is chosen, as DPPO's own script takes.
        cameras: whose images it is given; none: no images.
        image_size: side that images are brought to by area; 0 leaves them (DPPO's networks take 96).
        validation_fraction: share of source demos in val.npz.
        seed: draws them.
    """

    low_dim: list[str] = field(default_factory=list)
    cameras: list[str] = field(default_factory=list)
    image_size: int = 0
    validation_fraction: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class _Ranges:
    """Least and greatest value of each column."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def normalized(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return (2 * (rows - self.low) / (self.high - self.low + np.float32(_EPSILON)) - 1).astype(np.float32)


def export_dppo(source: Path, out: Path, recording: Path | None, options: DppoOptions) -> int:
    """Write a dataset or a recording as DPPO's files; return its episodes. A killed export starts anew.

    Args:
        source: a dataset or a recording.
        out: the folder to make.
        recording: what a dataset was made from: brings rewards; without it they are 0.
        options: what is given.

    Raises:
        InputError: `source` cannot be exported, lacks an observation or a camera, has cameras of different sizes with
            `image_size` 0, `out` exists, or the file system refuses.
    """
    demos = ExportSource(source, recording)
    train, val = demos.split(options.validation_fraction, options.seed)
    first = demos.read(0)
    low_dim = _low_dim(first, options)
    cameras = [*options.cameras]
    if cameras:
        chosen(cameras, sorted(first.images), "camera")
        _check_sizes(first, options)
    with workspace(out, {"format": "dppo", "source": demos.identity, "options": asdict(options)}) as folder:
        root = folder / RESULT
        make_folder(root)
        states, actions = _ranges(demos, low_dim)
        with tqdm(total=len(demos), desc="export dppo", unit="episode", leave=False) as bar:
            for name, indices in {"train": train, "val": val}.items():
                if indices:
                    _write_split(root / f"{name}.npz", demos, indices, low_dim, options, states, actions, bar.update)
        ranges = {
            "obs_min": states.low,
            "obs_max": states.high,
            "action_min": actions.low,
            "action_max": actions.high,
        }
        with atomic_file(root / "normalization.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **ranges)
        told = {
            "low_dim": low_dim,
            "cameras": cameras,
            "train": _provenance(demos, train),
            "val": _provenance(demos, val),
        }
        write_file(root / "observations.json", json.dumps(told, indent=1).encode())
    return len(demos)


def _low_dim(episode: ExportedEpisode, options: DppoOptions) -> list[str]:
    known = sorted(episode.observations)
    if options.low_dim:
        return chosen(options.low_dim, known, "low_dim")
    privileged = [_OBJECT] if not options.cameras and _OBJECT in known else []
    return [*proprioception(known, "low_dim"), *privileged]


def _check_sizes(episode: ExportedEpisode, options: DppoOptions) -> None:
    sizes = {camera: episode.images[camera].shape[1:3] for camera in options.cameras}
    if options.image_size < 0:
        raise InputError(f"image_size: expected 0 or more, got {options.image_size}")
    if not options.image_size and len(set(sizes.values())) > 1:
        shown = ", ".join(f"{camera} {height}x{width}" for camera, (height, width) in sizes.items())
        raise InputError(f"cameras: DPPO stacks them, so they need one size; got {shown}; say image_size=96")


def _observed(episode: ExportedEpisode, low_dim: Sequence[str]) -> NDArray[np.float32]:
    for name in low_dim:
        if name not in episode.observations:
            raise InputError(f"demo {episode.source_demo}: no observation {name!r}")
    return np.concatenate([episode.observations[name] for name in low_dim], axis=1)


def _ranges(demos: ExportSource, low_dim: Sequence[str]) -> tuple[_Ranges, _Ranges]:
    """Return the ranges of states and actions over all episodes, as DPPO's script takes them."""
    extremes: list[list[NDArray[np.float32]]] = [[], []]
    for index in range(len(demos)):
        episode = demos.read(index, images=False)
        for found, rows in zip(extremes, (_observed(episode, low_dim), episode.actions), strict=True):
            found.append(np.stack([rows.min(0), rows.max(0)]))
    states, actions = (np.stack(found) for found in extremes)
    return tuple(_Ranges(part[:, 0].min(0), part[:, 1].max(0)) for part in (states, actions))  # type: ignore[return-value]


def _write_split(
    path: Path,
    demos: ExportSource,
    indices: Sequence[int],
    low_dim: Sequence[str],
    options: DppoOptions,
    states: _Ranges,
    actions: _Ranges,
    advance: Callable[[], object],
) -> None:
    """Write one npz, array after array, one episode in memory at a time."""
    lengths = np.array(demos.lengths())[list(indices)]
    total = int(lengths.sum())

    def low(part: Callable[[ExportedEpisode], NDArray[Any]]) -> Iterator[NDArray[Any]]:
        return (part(demos.read(index, images=False)) for index in indices)

    def rewards(episode: ExportedEpisode) -> NDArray[np.float32]:
        return np.zeros(episode.length, np.float32) if episode.rewards is None else episode.rewards

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for index in indices:
            yield _stacked(demos.read(index), options)
            advance()

    with atomic_file(path) as temporary, storage_errors(path), zipfile.ZipFile(temporary, "w") as archive:
        observed = low(lambda episode: states.normalized(_observed(episode, low_dim)))
        _write_rows(archive, "states", (total, len(states.low)), "<f4", observed)
        _write_rows(archive, "actions", (total, len(actions.low)), "<f4", low(lambda e: actions.normalized(e.actions)))
        _write_rows(archive, "rewards", (total,), "<f4", low(rewards))
        # All False, since DPPO runs episodes on to their time limit.
        _write_rows(archive, "terminals", (total,), "|b1", low(lambda episode: np.zeros(episode.length, bool)))
        _write_rows(archive, "traj_lengths", lengths.shape, "<i8", iter([lengths.astype("<i8")]))
        if options.cameras:
            first = _stacked(demos.read(indices[0]), options)
            _write_rows(archive, "images", (total, *first.shape[1:]), "|u1", pictures())
        else:
            for _ in indices:
                advance()


def _write_rows(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str, parts: Iterator[NDArray[Any]]
) -> None:
    header = {"descr": dtype, "fortran_order": False, "shape": tuple(int(size) for size in shape)}
    rows = 0
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            if part.shape[1:] != shape[1:]:
                raise InputError(f"{name}: an episode has rows of {part.shape[1:]}, others of {shape[1:]}")
            file.write(np.ascontiguousarray(part, dtype=dtype).tobytes())
            rows += len(part)
    if rows != shape[0]:
        raise InputError(f"{name}: the source has {rows} rows now, and had {shape[0]} before")


def _stacked(episode: ExportedEpisode, options: DppoOptions) -> NDArray[np.uint8]:
    """Return (T, 3 * cameras, H, W)."""
    size = options.image_size
    parts = []
    for camera in options.cameras:
        if camera not in episode.images:
            raise InputError(f"demo {episode.source_demo}: no camera {camera!r}")
        image = episode.images[camera]
        if size:
            image = np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in image])
        parts.append(image.transpose(0, 3, 1, 2))
    return np.concatenate(parts, axis=1)


def _provenance(demos: ExportSource, indices: Sequence[int]) -> list[Mapping[str, Any]]:
    episodes = [demos.read(index, images=False) for index in indices]
    return [
        {
            "source_demo": episode.source_demo,
            "variant": episode.variant,
            "episode_id": episode.episode_id,
            "instruction": episode.instruction,
            "prompt": episode.prompt,
        }
        for episode in episodes
    ]
