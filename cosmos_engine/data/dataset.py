"""Dataset: a zarr folder in diffusion_policy's ReplayBuffer layout, with where every episode came from.

data/<key>             (sum of T, ...): action, state, timestamp, low-dimensional observations, <camera>_image
meta/episode_ends      int64, cumulative; its length is the commit: what lies beyond was never written
meta/source_demo       int64, index of the demo in the recording; split training from validation by it
meta/variant           int64, 0 = original
meta/accepted          bool, what the gate said
meta/.zattrs           "episodes": one dict an episode: prompt, seed, model, ...
certificate.json       written last: its existence means that the dataset is complete
journal.jsonl          only while the dataset is unfinished: one line an episode
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray

from cosmos_engine.config import nearest
from cosmos_engine.data.array_check import check_array
from cosmos_engine.data.row_array import RowArray
from cosmos_engine.errors import InputError

CERTIFICATE = "certificate.json"
JOURNAL = "journal.jsonl"
IMAGE_SUFFIX = "_image"


@dataclass(frozen=True)
class DatasetEpisode:
    """What one episode of a dataset is and where it came from."""

    first_row: int
    end_row: int
    source_demo: int
    variant: int
    """0 = original."""
    accepted: bool
    info: Mapping[str, Any]
    """JSON values: prompt, seed, model, ..."""
    sha256: Mapping[str, str]
    """Digest of the rows of every key, taken as they were written."""

    def to_line(self) -> bytes:
        """Return the episode as a line of the journal."""
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> DatasetEpisode:
        """Read a line of the journal; raise ValueError, KeyError or TypeError if it is none."""
        return DatasetEpisode(**json.loads(line))


class Dataset:
    """Read a dataset. What a writer has not committed is not seen."""

    def __init__(self, path: str | Path, *, unfinished_ok: bool = False) -> None:
        """Open a dataset.

        Args:
            path: the zarr folder.
            unfinished_ok: also take one whose writer has not finished; its committed episodes are seen.

        Raises:
            InputError: if there is no dataset, or it is unfinished or damaged.
        """
        self.path = Path(path)
        if not (self.path / "data").is_dir() or not (self.path / "meta").is_dir():
            raise InputError(f"{self.path}: no dataset here (expected a zarr folder with data/ and meta/)")
        self.complete = (self.path / CERTIFICATE).is_file()
        if not self.complete and not unfinished_ok:
            raise InputError(f"{self.path}: unfinished (no {CERTIFICATE}); run the command that was writing it again")
        self.episode_ends: Int64[np.ndarray, " n"] = self._meta("episode_ends", "i8", None)
        count = len(self.episode_ends)
        if (np.diff(self.episode_ends, prepend=0) <= 0).any():
            raise InputError(f"{self.path}/meta/episode_ends: not increasing from above 0")
        self.source_demo: Int64[np.ndarray, " n"] = self._meta("source_demo", "i8", count)
        self.variant: Int64[np.ndarray, " n"] = self._meta("variant", "i8", count)
        self.accepted: Bool[np.ndarray, " n"] = self._meta("accepted", "?", count)
        if (self.accepted.view(np.uint8) > 1).any():
            raise InputError(f"{self.path}/meta/accepted: damaged: a value is neither true nor false")
        self._arrays = {name: self._data(name) for name in self._data_names()} if count else {}

    @property
    def episode_count(self) -> int:
        """The number of episodes."""
        return len(self.episode_ends)

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """What the writer said of the whole dataset: task, step_hz, ..."""
        return read_json(self.path / ".zattrs")

    @cached_property
    def info(self) -> list[dict[str, Any]]:
        """Per episode: prompt, seed, model, ..."""
        if not self.complete:
            return [dict(episode.info) for episode in read_journal(self.path, self.episode_count)]
        episodes = read_json(self.path / "meta" / ".zattrs").get("episodes")
        if not isinstance(episodes, list) or len(episodes) != self.episode_count:
            raise InputError(f"{self.path}/meta/.zattrs: expected 'episodes' to list {self.episode_count} episodes")
        return episodes

    @property
    def keys(self) -> tuple[str, ...]:
        """The names under data/, sorted."""
        return tuple(self._arrays)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that have images, sorted."""
        return tuple(key.removesuffix(IMAGE_SUFFIX) for key in self.keys if key.endswith(IMAGE_SUFFIX))

    def array(self, key: str) -> RowArray:
        """Return the rows of all episodes under `key`, read as they are sliced.

        Raises:
            InputError: if there is no such key; names the nearest.
        """
        if key not in self._arrays:
            raise InputError(f"{self.path}: no data key {key!r}{nearest(key, self.keys)}")
        return self._arrays[key]

    def rows(self, episode: int) -> slice:
        """Return which rows are those of `episode`.

        Raises:
            InputError: if there is no such episode.
        """
        if not 0 <= episode < self.episode_count:
            raise InputError(f"{self.path}: no episode {episode}; there are {self.episode_count}")
        return slice(int(self.episode_ends[episode - 1]) if episode else 0, int(self.episode_ends[episode]))

    def episode(self, episode: int) -> dict[str, NDArray[Any]]:
        """Return all arrays of one episode, T rows each.

        Raises:
            InputError: if there is no such episode, or a storage chunk is missing or damaged.
        """
        rows = self.rows(episode)
        return {key: array[rows] for key, array in self._arrays.items()}

    def _meta(self, name: str, dtype: str, count: int | None) -> NDArray[Any]:
        array = RowArray(self.path / "meta" / name)
        check_array(str(array.path), array, dtype, (None,))
        if count is not None and len(array) < count:
            raise InputError(f"{array.path}: {len(array)} rows where {count} episodes were committed")
        return array[:count]

    def _data_names(self) -> list[str]:
        folders = (entry.name for entry in (self.path / "data").iterdir() if entry.is_dir())
        return sorted(name for name in folders if not name.startswith("."))

    def _data(self, key: str) -> RowArray:
        array = RowArray(self.path / "data" / key)
        rows = int(self.episode_ends[-1])
        if len(array) < rows or (self.complete and len(array) != rows):
            raise InputError(f"{array.path}: {len(array)} rows where episode_ends says {rows}")
        return array


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: if the file is missing, is no JSON, or holds something else.
    """
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file}: truncated or damaged JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: expected a JSON object, got {type(value).__name__}")
    return value


def read_journal(path: Path, count: int) -> list[DatasetEpisode]:
    """Read the first `count` episodes of an unfinished dataset's journal; what follows was not committed.

    Raises:
        InputError: if the journal is missing, shorter, or damaged.
    """
    file = path / JOURNAL
    try:
        lines = file.read_bytes().splitlines()[:count]
        episodes = [DatasetEpisode.from_line(line) for line in lines]
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: damaged ({error})") from error
    if len(episodes) < count:
        raise InputError(f"{file}: {len(episodes)} episodes where {count} were committed")
    return episodes
