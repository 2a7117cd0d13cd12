"""Recording: a folder of episodes that robomimic, Isaac Lab and h5py read as one HDF5 file.

    episodes/episode_000000.hdf5    one episode each; its rename is the commit
    demos.hdf5                      robomimic's layout; `data/demo_i` are relative external links

The index is derived: a writer that was killed between an episode and the index mends it when it opens the folder
again, and `Recording` counts the episode files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

from cosmos_engine.data.atomic import make_folder, remove_temporaries, storage_errors, write_file
from cosmos_engine.data.episode import Episode
from cosmos_engine.data.episode_file import (
    DEMO,
    EpisodeHeader,
    check_seal,
    encode_episode,
    file_image,
    memory_file,
    read_env_args,
    read_episode,
    read_header,
    reading_own,
    seal,
)
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.errors import InputError

INDEX = "demos.hdf5"
EPISODES = "episodes"

_EPISODE_FILE = re.compile(r"episode_(\d{6,})\.hdf5")


class Recording:
    """Read a recording. What a writer has not committed is not seen."""

    def __init__(self, folder: str | Path) -> None:
        """Open a recording that may still be growing; episodes committed later are not seen.

        Raises:
            InputError: if the folder holds no recording, or an episode is missing between others.
        """
        self.folder = Path(folder)
        self._length = committed_episodes(self.folder)
        if self._length == 0 and not (self.folder / INDEX).is_file():
            raise InputError(f"{self.folder}: no recording here (expected {EPISODES}/ or {INDEX})")

    def __len__(self) -> int:
        """Return the number of committed episodes."""
        return self._length

    @property
    def env_args(self) -> dict[str, Any]:
        """What made the episodes, as robomimic keeps it: env_name, type, env_kwargs."""
        return read_env_args(self.path(0) if self._length else self.folder / INDEX)

    def path(self, index: int) -> Path:
        """Return the file of episode `index`.

        Raises:
            InputError: if there is no such episode.
        """
        if not 0 <= index < self._length:
            raise InputError(f"{self.folder}: no episode {index}; there are {self._length}")
        return episode_path(self.folder, index)

    def header(self, index: int) -> EpisodeHeader:
        """Read what episode `index` is, without its arrays (about 1 ms).

        Raises:
            InputError: if there is no such episode or its file is truncated or damaged.
        """
        return read_header(self.path(index))

    def episode(self, index: int, cameras: Iterable[str] | None = None, *, extras: bool = False) -> Episode:
        """Read episode `index` with the passes of `cameras` (default: all; an empty sequence: none).

        What the engine only carries (`Episode.extras`) is left in the file unless `extras` is set.

        Raises:
            InputError: if there is no such episode or camera, a pass is missing, or the file is truncated or damaged.
        """
        return read_episode(self.path(index), cameras, extras=extras)

    def seeds(self) -> list[int]:
        """Return the seed of every episode, in order."""
        return [self.header(index).seed for index in range(self._length)]


class RecordingWriter:
    """Append episodes to a recording, new or begun earlier; a context manager, one per folder at a time."""

    def __init__(self, folder: str | Path, env_args: Mapping[str, Any]) -> None:
        """Open `folder` for appending and mend what a killed writer left.

        Args:
            folder: a new or empty folder, or one that holds a recording.
            env_args: robomimic's description of the environment: env_name, type (int), env_kwargs; JSON values.

        Raises:
            InputError: if the folder holds other things or a recording of another environment, has another writer, or
                cannot be written.
        """
        self.folder = Path(folder)
        self._env_args = _checked_env_args(env_args)
        if self.folder.exists() and not is_recording(self.folder) and not _is_vacant(self.folder):
            raise InputError(f"{self.folder}: exists and holds something other than a recording")
        make_folder(self.folder / EPISODES)
        with ExitStack() as stack:
            lock = WriterLock(self.folder)
            stack.callback(lock.release)
            with storage_errors(self.folder):
                remove_temporaries(self.folder)
            self._length = committed_episodes(self.folder)
            self._check_same_environment()
            self._total = self._count_samples()
            self._index = stack.enter_context(memory_file())
            self._fill_index()
            self._resources = stack.pop_all()

    def __enter__(self) -> RecordingWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close, whatever happened: every appended episode is already on disk."""
        self.close()

    def __len__(self) -> int:
        """Return the number of committed episodes."""
        return self._length

    def append(self, episode: Episode) -> int:
        """Write one episode and return its index. When this returns, the episode survives a kill and a power cut.

        The index grows in memory by one link and is rewritten whole, 72 bytes an episode: 0.7 MB at 10,000 episodes.

        Raises:
            InputError: if the disk is full or refuses; the recording is as it was.
        """
        index = self._length
        write_file(episode_path(self.folder, index), encode_episode(episode, self._env_args))
        self._length += 1
        self._total += episode.length
        self._link(index)
        self._write_index()
        return index

    def close(self) -> None:
        """Give the folder back to other writers."""
        self._resources.close()

    def _check_same_environment(self) -> None:
        if self._length or (self.folder / INDEX).is_file():
            kept = read_env_args(episode_path(self.folder, 0) if self._length else self.folder / INDEX)
            if kept != self._env_args:
                raise InputError(f"{self.folder}: recorded with env_args {kept}, not {self._env_args}")

    def _count_samples(self) -> int:
        """Return the control steps of all committed episodes: from the index, or from the headers if it lags."""
        try:
            with reading_own(self.folder / INDEX) as index:
                check_seal(index["data"])
                if len(index["data"]) == self._length:
                    return int(index["data"].attrs["total"])
        except InputError:
            pass  # Missing or damaged: the index is derived, and rewritten below.
        return sum(read_header(episode_path(self.folder, i)).length for i in range(self._length))

    def _fill_index(self) -> None:
        self._index.create_group("data").attrs["env_args"] = json.dumps(self._env_args, sort_keys=True)
        for index in range(self._length):
            self._link(index)
        self._write_index()

    def _link(self, index: int) -> None:
        # HDF5 looks for the linked file beside the file that holds the link, so the folder can be moved.
        self._index[f"data/demo_{index}"] = h5py.ExternalLink(f"{EPISODES}/{_episode_name(index)}", DEMO)

    def _write_index(self) -> None:
        self._index["data"].attrs["total"] = self._total
        seal(self._index["data"])
        write_file(self.folder / INDEX, file_image(self._index))


def is_recording(folder: Path) -> bool:
    """Say whether `folder` holds a recording, however little of one."""
    return (folder / INDEX).is_file() or (folder / EPISODES).is_dir()


def episode_path(folder: Path, index: int) -> Path:
    """Return where episode `index` of a recording is kept."""
    return folder / EPISODES / _episode_name(index)


def committed_episodes(folder: Path) -> int:
    """Count the episodes of a recording.

    Raises:
        InputError: if one is missing between others.
    """
    episodes = folder / EPISODES
    names = [entry.name for entry in episodes.iterdir()] if episodes.is_dir() else []
    indices = {int(match[1]) for name in names if (match := _EPISODE_FILE.fullmatch(name))}
    for index in range(len(indices)):
        if index not in indices:
            raise InputError(f"{episode_path(folder, index)}: missing, though episode {max(indices)} is there")
    return len(indices)


def _episode_name(index: int) -> str:
    return f"episode_{index:06d}.hdf5"


def _is_vacant(folder: Path) -> bool:
    return folder.is_dir() and all(entry.name.startswith(".") for entry in folder.iterdir())


def _checked_env_args(env_args: Mapping[str, Any]) -> dict[str, Any]:
    expected = {"env_name": str, "type": int, "env_kwargs": Mapping}
    for key, kind in expected.items():
        if not isinstance(env_args.get(key), kind):
            raise InputError(f"env_args: {key!r} must be {kind.__name__}, got {env_args.get(key)!r}")
    try:
        return dict(json.loads(json.dumps(env_args)))
    except TypeError as error:
        raise InputError(f"env_args: {error}") from error
