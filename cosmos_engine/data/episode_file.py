"""One episode as one HDF5 file: itself a robomimic file that holds a single `data/demo_0`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from cosmos_engine.data.array_check import Shape, check_array
from cosmos_engine.data.digest import json_sha256
from cosmos_engine.data.episode import CameraPasses, Episode, InstanceLabel
from cosmos_engine.data.trailer import check_trailer, with_trailer
from cosmos_engine.errors import InputError

PartT = TypeVar("PartT")

DEMO = "data/demo_0"
_SEAL = "sha256"
_EXTRAS = "extra"

# Format 1.10 puts a checksum on every object header and attribute, and any HDF5 from 2016 on reads it.
_LIBRARY_VERSIONS = ("v110", "v110")

# Masters are lossless. Measured on 128x128 frames, one core: gzip 1 with shuffle costs 1.2 ms a frame for rgb, depth
# and instance together and every HDF5 reader has it; lzf takes half that time but only h5py reads it. Fletcher32 costs
# nothing measurable and tells a flipped bit from a pixel.
_COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
_ROWS_PER_STORAGE_CHUNK = 1024

_RGB: tuple[str, Shape] = ("u1", (None, None, None, 3))
_REMEDY = {
    "depth": "; record this camera with its depth pass",
    "instance": "; record this camera with its instance pass",
}


@dataclass(frozen=True)
class EpisodeHeader:
    """What an episode is, without its arrays."""

    length: int
    """Control steps."""
    success: bool
    seed: int
    step_hz: float
    episode_id: str
    source: str
    task: str
    instruction: str
    cameras: Mapping[str, tuple[int, int]]
    """Height and width in pixels of every camera."""
    labels: Mapping[int, InstanceLabel]


def encode_episode(episode: Episode, env_args: Mapping[str, Any]) -> bytes:
    """Return the bytes of the episode's file.

    HDF5 builds the file in memory and plain Python writes it: HDF5 cannot close a file cleanly on a full disk.
    """
    with memory_file() as file:
        data = file.create_group("data")
        data.attrs["total"] = episode.length
        data.attrs["env_args"] = json.dumps(env_args, sort_keys=True)
        demo = data.create_group("demo_0")
        _write_header(demo, episode)
        seal(data)
        seal(demo)
        for name in ("actions", "states", "rewards", "dones"):
            _write_array(demo, name, getattr(episode, name))
        for name, array in episode.observations.items():
            _write_array(demo, f"obs/{name}", array)
        for camera, passes in episode.cameras.items():
            _write_frames(demo, f"obs/{camera}_image", passes.rgb)
            _write_frames(demo, f"obs/{camera}_depth", passes.depth_m[..., np.newaxis])
            _write_frames(demo, f"obs/{camera}_instance", passes.instance[..., np.newaxis])
            _write_array(demo, f"cameras/{camera}/intrinsics_px", passes.intrinsics_px)
            _write_array(demo, f"cameras/{camera}/world_from_camera", passes.world_from_camera)
        for path, array in episode.extras.items():
            (_write_frames if array.ndim >= 3 else _write_array)(demo, f"{_EXTRAS}/{path}", array)
        return file_image(file)


def read_header(path: Path) -> EpisodeHeader:
    """Read what the episode in the file `path` is.

    Raises:
        InputError: if the file is missing, truncated or damaged, or lacks a field; names both.
    """
    return _read(path, _header)


def read_episode(path: Path, cameras: Iterable[str] | None = None, *, extras: bool = False) -> Episode:
    """Read the episode in the file `path`, with the passes of `cameras` (default: all; an empty sequence: none).

    What the engine only carries is left in the file unless `extras` is set.

    Raises:
        InputError: if the file is missing, truncated or damaged, a camera is unknown or lacks a pass, an array has
            another type or number of frames than expected; names file and array.
    """
    wanted = None if cameras is None else tuple(cameras)
    return _read(path, lambda demo: _episode(demo, wanted, extras))


def read_env_args(path: Path) -> dict[str, Any]:
    """Read the robomimic `env_args` of an episode file or an index.

    Raises:
        InputError: if the file is missing, damaged or has none.
    """
    with reading_own(path) as file:
        check_seal(file["data"])
        return dict(json.loads(_attribute(file["data"], "env_args")))


@contextmanager
def memory_file() -> Iterator[h5py.File]:
    """Yield an empty HDF5 file that lives in memory."""
    name = f"memory-{uuid.uuid4()}"  # HDF5 takes two open files of one name for the same file.
    with h5py.File(name, "w", driver="core", backing_store=False, libver=_LIBRARY_VERSIONS) as file:
        yield file


def file_image(file: h5py.File) -> bytes:
    """Return the bytes that `file`, made by `memory_file`, has on disk."""
    file.flush()
    return with_trailer(bytes(file.id.get_file_image()))


@contextmanager
def reading_own(path: Path) -> Iterator[h5py.File]:
    """Yield an HDF5 file that `memory_file` made, once its trailer has told that it is whole.

    Raises:
        InputError: as `reading`; or another program has changed the file.
    """
    check_trailer(path)
    with reading(path) as file:
        yield file


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Yield any HDF5 file `path` for reading; whatever is wrong with it becomes one line that names it.

    HDF5 may crash or run for ever on a file that was damaged on purpose; of our own files, `reading_own` rules it out.

    Raises:
        InputError: if the file is missing, truncated or damaged, or if the body finds it so.
    """
    if not path.is_file():
        what = "is a folder, expected an HDF5 file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        # h5py has no exception of its own: these are what it raises on files that were cut or changed at random.
        raise InputError(f"{path}: truncated or damaged HDF5 file ({' '.join(str(error).split())})") from error


def seal(group: h5py.Group) -> None:
    """Put a digest of the group's attributes beside them: HDF5 keeps text where no checksum of its own reaches."""
    group.attrs[_SEAL] = _attributes_sha256(group)


def check_seal(group: h5py.Group) -> None:
    """Raise InputError if the group's attributes are not those that were sealed."""
    if _attribute(group, _SEAL) != _attributes_sha256(group):
        raise InputError(f"attributes of {group.name} were changed or damaged since they were written")


def _read(path: Path, part: Callable[[h5py.Group], PartT]) -> PartT:
    with reading_own(path) as file:
        if not isinstance(demo := file.get(DEMO), h5py.Group):
            raise InputError(f"no group {DEMO!r}")
        check_seal(demo)
        return part(demo)


def _write_header(demo: h5py.Group, episode: Episode) -> None:
    demo.attrs["num_samples"] = episode.length
    for name in ("success", "seed", "step_hz", "episode_id", "source", "task", "instruction"):
        demo.attrs[name] = getattr(episode, name)
    labels = {
        str(instance): {"name": label.name, "class": label.class_name, "role": label.role}
        for instance, label in sorted(episode.labels.items())
    }
    demo.attrs["labels"] = json.dumps(labels)


def _write_array(demo: h5py.Group, name: str, array: NDArray[Any]) -> None:
    if array.ndim == 0 or array.size == 0:
        demo.create_dataset(name, data=array)
        return
    rows = (min(len(array), _ROWS_PER_STORAGE_CHUNK), *array.shape[1:])
    options = {"chunks": rows, **_COMPRESSION}
    demo.create_dataset(name, data=array, **options)


def _write_frames(demo: h5py.Group, name: str, frames: NDArray[Any]) -> None:
    options = {"chunks": (1, *frames.shape[1:]), **_COMPRESSION} if frames.size else {}
    demo.create_dataset(name, data=frames, **options)


def _header(demo: h5py.Group) -> EpisodeHeader:
    return EpisodeHeader(
        length=int(_attribute(demo, "num_samples")),
        success=bool(_attribute(demo, "success")),
        seed=int(_attribute(demo, "seed")),
        step_hz=float(_attribute(demo, "step_hz")),
        episode_id=str(_attribute(demo, "episode_id")),
        source=str(_attribute(demo, "source")),
        task=str(_attribute(demo, "task")),
        instruction=str(_attribute(demo, "instruction")),
        cameras={camera: _dataset(demo, f"obs/{camera}_image", *_RGB).shape[1:3] for camera in _camera_names(demo)},
        labels=_labels(str(_attribute(demo, "labels"))),
    )


def _episode(demo: h5py.Group, wanted: tuple[str, ...] | None, extras: bool) -> Episode:
    header = _header(demo)
    for camera in wanted or ():
        if camera not in header.cameras:
            from cosmos_engine.config import nearest  # needs omegaconf, which Isaac Sim's Python has not

            raise InputError(f"no camera {camera!r}{nearest(camera, header.cameras)}")
    episode = Episode(
        actions=_array(demo, "actions", "f4", (None, None)),
        states=_array(demo, "states", "f8", (None, None)),
        rewards=_array(demo, "rewards", "f4", (None,)),
        dones=_array(demo, "dones", "?", (None,)),
        observations={
            name: _array(demo, f"obs/{name}", "f4", (None, None)) for name in _observation_names(demo, header.cameras)
        },
        cameras={camera: _passes(demo, camera) for camera in (header.cameras if wanted is None else wanted)},
        labels=header.labels,
        success=header.success,
        seed=header.seed,
        step_hz=header.step_hz,
        episode_id=header.episode_id,
        source=header.source,
        task=header.task,
        instruction=header.instruction,
        extras=_extras(demo) if extras else {},
    )
    if episode.length != header.length:
        raise InputError(f"actions: {episode.length} frames where num_samples is {header.length}")
    return episode


def _passes(demo: h5py.Group, camera: str) -> CameraPasses:
    arrays = {
        "rgb": _array(demo, f"obs/{camera}_image", *_RGB),
        "depth_m": _array(demo, f"obs/{camera}_depth", "f4", (None, None, None, 1))[..., 0],
        "instance": _array(demo, f"obs/{camera}_instance", "u2", (None, None, None, 1))[..., 0],
        "intrinsics_px": _array(demo, f"cameras/{camera}/intrinsics_px", "f8", (3, 3)),
        "world_from_camera": _array(demo, f"cameras/{camera}/world_from_camera", "f8", (None, 4, 4)),
    }
    try:
        return CameraPasses(**arrays)
    except InputError as error:
        raise InputError(f"camera {camera!r}: {error}") from error


def _extras(demo: h5py.Group) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}

    def keep(path: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[path] = node[...]

    if _EXTRAS in demo:
        demo[_EXTRAS].visititems(keep)
    return arrays


def _camera_names(demo: h5py.Group) -> list[str]:
    return sorted(demo["cameras"]) if "cameras" in demo else []


def _observation_names(demo: h5py.Group, cameras: Iterable[str]) -> list[str]:
    passes = {f"{camera}_{name}" for camera in cameras for name in ("image", "depth", "instance")}
    return [name for name in sorted(demo["obs"]) if name not in passes] if "obs" in demo else []


def _labels(text: str) -> dict[int, InstanceLabel]:
    entries = dict(json.loads(text))
    return {int(i): InstanceLabel(name=e["name"], class_name=e["class"], role=e["role"]) for i, e in entries.items()}


def _attributes_sha256(group: h5py.Group) -> str:
    values = {name: group.attrs[name] for name in group.attrs if name != _SEAL}
    return json_sha256({name: v.item() if isinstance(v, np.generic) else v for name, v in values.items()})


def _attribute(demo: h5py.Group, name: str) -> Any:
    if name not in demo.attrs:
        raise InputError(f"attribute {name!r} is missing")
    return demo.attrs[name]


def _dataset(demo: h5py.Group, name: str, dtype: str, shape: Shape) -> h5py.Dataset:
    dataset = demo.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{name}: missing{_REMEDY.get(name.rpartition('_')[2], '')}")
    check_array(name, dataset, dtype, shape)
    return dataset


def _array(demo: h5py.Group, name: str, dtype: str, shape: Shape) -> NDArray[Any]:
    return np.asarray(_dataset(demo, name, dtype, shape)[...])
