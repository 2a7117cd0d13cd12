"""Write a dataset, episode by episode: killed at any moment, the same command goes on and ends in the same bytes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosmos_engine.data.array_check import Shape, check_array
from cosmos_engine.data.atomic import make_folder, remove_temporaries, storage_errors, write_file
from cosmos_engine.data.dataset import (
    CERTIFICATE,
    IMAGE_SUFFIX,
    JOURNAL,
    Dataset,
    DatasetEpisode,
    read_journal,
    read_json,
)
from cosmos_engine.data.digest import array_sha256
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.data.row_array import RowArrayWriter, RowLayout
from cosmos_engine.errors import InputError

_IMAGE_CHUNK_BYTES = 2_000_000  # ReplayBuffer's default
_ROW_CHUNK_BYTES = 131_072  # rewritten with every append, so smaller where rows are small
_META_LAYOUTS = {
    name: RowLayout(np.dtype(dtype), (), 1024, compressed=False)
    for name, dtype in {"source_demo": "i8", "variant": "i8", "accepted": "?", "episode_ends": "i8"}.items()
}
_GROUP = {"zarr_format": 2}
_REQUIRED: dict[str, tuple[str, Shape]] = {"action": ("f4", (None,)), "state": ("f8", (None,)), "timestamp": ("f8", ())}


class DatasetComplete(InputError):
    """Nothing can be appended: the dataset is complete."""


class DatasetWriter:
    """Append episodes to a dataset, new or unfinished; a context manager, one per dataset at a time.

    Attributes:
        WORK: name of a folder inside the dataset in which whoever writes it may keep what a later run needs to go on.
            It goes when the dataset is complete.
    """

    WORK = "work"

    def __init__(self, path: str | Path, *, attrs: Mapping[str, Any]) -> None:
        """Make a dataset, or go on with an unfinished one after its last committed episode.

        Args:
            path: the zarr folder.
            attrs: JSON values that describe the whole dataset; they must be the same each time.

        Raises:
            InputError: if `path` holds something else, is complete, was begun with other attrs, has another writer, or
                cannot be written.
        """
        self.path = Path(path)
        self.attrs: dict[str, Any] = json.loads(json.dumps(attrs))
        with storage_errors(self.path):
            vacant = not self.path.exists() or all(entry.name.startswith(".") for entry in self.path.iterdir())
        if not vacant and not (self.path / JOURNAL).is_file() and not (self.path / CERTIFICATE).is_file():
            raise InputError(f"{self.path}: exists and is no dataset begun here")
        make_folder(self.path)
        with ExitStack() as stack:
            lock = WriterLock(self.path)
            stack.callback(lock.release)
            # An append replaces some thirty files and waits for the disk at each; the waits overlap.
            self._pool = stack.enter_context(ThreadPoolExecutor(max_workers=8))
            self._take_up()
            self._closed = False
            self._resources = stack.pop_all()

    def __enter__(self) -> DatasetWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close, whatever happened: every appended episode is already on disk."""
        self.close()

    @property
    def work(self) -> Path:
        """The folder for what a later run needs to go on; it may not exist yet."""
        return self.path / self.WORK

    @property
    def episodes_written(self) -> int:
        """The number of committed episodes."""
        return len(self._episodes)

    @property
    def episodes(self) -> tuple[DatasetEpisode, ...]:
        """The committed episodes, also those of an interrupted run."""
        return tuple(self._episodes)

    def append(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        source_demo: int,
        variant: int,
        accepted: bool,
        info: Mapping[str, Any],
    ) -> int:
        """Write one episode and return its index. When this returns, it survives a kill and a power cut.

        Args:
            arrays: T rows each: "action" float32 (T, A), "state" float64 (T, S), "timestamp" float64 (T,) in seconds,
                low-dimensional observations float32 (T, D), "<camera>_image" uint8 (T, H, W, 3). Every episode has the
                same keys, types and row shapes.
            source_demo: index of the demo in the recording.
            variant: 0 = original.
            accepted: what the gate said.
            info: JSON values of this episode: prompt, seed, model, ...

        Raises:
            InputError: if an array does not fit, or the disk is full or refuses; the dataset is as it was.
        """
        if self._closed:
            raise RuntimeError(f"{self.path}: append to a closed writer")
        layouts = _checked_layouts(arrays)
        self._check_same_layouts(layouts)
        first_row = self._episodes[-1].end_row if self._episodes else 0
        info = json.loads(json.dumps(info))
        try:
            sha256 = self._write_rows(arrays, layouts)
            self._commit(
                DatasetEpisode(
                    first_row=first_row,
                    end_row=first_row + len(arrays["action"]),
                    source_demo=int(source_demo),
                    variant=int(variant),
                    accepted=bool(accepted),
                    info=info,
                    sha256=sha256,
                )
            )
        except BaseException:
            self.close()  # The arrays may differ in length now; the next writer cuts them to the last commit.
            raise
        return len(self._episodes) - 1

    def finish(self, certificate: Mapping[str, Any]) -> None:
        """Complete the dataset: the per-episode attributes, then `certificate.json`; remove `work`, and close.

        Raises:
            InputError: if no episode was written, or the disk is full or refuses.
        """
        if not self._episodes:
            raise InputError(f"{self.path}: no episode was written, so there is no dataset to finish")
        write_json(self.path / "meta" / ".zattrs", {"episodes": [dict(episode.info) for episode in self._episodes]})
        write_json(self.path / CERTIFICATE, certificate)
        self._forget_work()
        self.close()

    def close(self) -> None:
        """Give the dataset back to other writers."""
        self._closed = True
        self._resources.close()

    def _take_up(self) -> None:
        """Read what was committed and remove what was not."""
        if (self.path / CERTIFICATE).is_file():
            self._forget_work()
            raise DatasetComplete(f"{self.path}: exists and is complete; choose another output")
        with storage_errors(self.path):
            remove_temporaries(self.path)
        if not (self.path / ".zgroup").is_file():
            self._make()
        if (begun_with := read_json(self.path / ".zattrs")) != self.attrs:
            changed = sorted(key for key in {*begun_with, *self.attrs} if begun_with.get(key) != self.attrs.get(key))
            raise InputError(f"{self.path}: begun with another {', '.join(changed)}; choose another output")
        committed = Dataset(self.path, unfinished_ok=True)
        count = committed.episode_count
        self._episodes = read_journal(self.path, count)
        write_file(self.path / JOURNAL, b"".join(episode.to_line() for episode in self._episodes))
        self._meta = {
            name: RowArrayWriter(self.path / "meta" / name, layout, count) for name, layout in _META_LAYOUTS.items()
        }
        rows = int(committed.episode_ends[-1]) if count else 0
        self._data = self._open_arrays({key: committed.array(key).layout for key in committed.keys}, length=rows)
        with storage_errors(self.path):
            for folder in (self.path / "data").iterdir():
                if folder.is_dir() and folder.name not in self._data:
                    shutil.rmtree(folder)  # of a first episode that was not committed

    def _forget_work(self) -> None:
        """Remove what only an unfinished dataset needs."""
        with storage_errors(self.path):
            if self.work.is_dir():
                shutil.rmtree(self.work)
            (self.path / JOURNAL).unlink(missing_ok=True)

    def _make(self) -> None:
        write_file(self.path / JOURNAL, b"")  # first: it says whose folder this is
        write_json(self.path / ".zattrs", self.attrs)
        for name in ("data", "meta"):
            make_folder(self.path / name)
            write_json(self.path / name / ".zgroup", _GROUP)
        for name, layout in _META_LAYOUTS.items():
            RowArrayWriter(self.path / "meta" / name, layout)
        write_json(self.path / ".zgroup", _GROUP)  # last: it says that all is made

    def _open_arrays(self, layouts: Mapping[str, RowLayout], length: int) -> dict[str, RowArrayWriter]:
        def open_array(key: str) -> RowArrayWriter:
            return RowArrayWriter(self.path / "data" / key, layouts[key], length)

        return dict(zip(layouts, self._pool.map(open_array, layouts), strict=True))

    def _write_rows(self, arrays: Mapping[str, NDArray[Any]], layouts: Mapping[str, RowLayout]) -> dict[str, str]:
        """Write rows that are not committed yet, and return their digests."""
        if not self._data:
            self._data = self._open_arrays(layouts, length=0)
        writes = [self._pool.submit(self._data[key].append, array) for key, array in arrays.items()]
        digests = {key: self._pool.submit(array_sha256, arrays[key]) for key in sorted(arrays)}
        for write in writes:
            write.result()
        return {key: digest.result() for key, digest in digests.items()}

    def _commit(self, episode: DatasetEpisode) -> None:
        with storage_errors(self.path / JOURNAL), (self.path / JOURNAL).open("ab") as journal:
            journal.write(episode.to_line())
            journal.flush()
            os.fsync(journal.fileno())
        row = {
            "source_demo": episode.source_demo,
            "variant": episode.variant,
            "accepted": episode.accepted,
            "episode_ends": episode.end_row,
        }
        columns = {name: np.array([row[name]], dtype=layout.dtype) for name, layout in _META_LAYOUTS.items()}
        end = columns.pop("episode_ends")
        for write in [self._pool.submit(self._meta[name].append, column) for name, column in columns.items()]:
            write.result()
        self._meta["episode_ends"].append(end)  # this is the commit
        self._episodes.append(episode)

    def _check_same_layouts(self, layouts: Mapping[str, RowLayout]) -> None:
        if not self._data:
            return
        if different := sorted(layouts.keys() ^ self._data.keys()):
            raise InputError(f"{self.path}: {different[0]!r} is not in every episode; all need the same keys")
        for key, layout in layouts.items():
            if (kept := self._data[key].layout) != layout:
                raise InputError(
                    f"{self.path}: {key!r}: expected {kept.dtype} rows of shape {kept.row_shape} as in the episodes"
                    f" before, got {layout.dtype} {layout.row_shape}"
                )


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically: sorted keys, so that the same value gives the same bytes."""
    write_file(file, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")


def _checked_layouts(arrays: Mapping[str, NDArray[Any]]) -> dict[str, RowLayout]:
    for key in _REQUIRED:
        if key not in arrays:
            raise InputError(f"{key!r}: missing; an episode needs {', '.join(_REQUIRED)}")
    length = len(arrays["action"])
    if length == 0:
        raise InputError("'action': an episode needs at least one row")
    for key, array in arrays.items():
        dtype, row_shape = _expected_rows(key)
        check_array(repr(key), array, dtype, (length, *row_shape))
    return {key: _layout(key, array) for key, array in arrays.items()}


def _expected_rows(key: str) -> tuple[str, Shape]:
    if key in _REQUIRED:
        return _REQUIRED[key]
    return ("u1", (None, None, 3)) if key.endswith(IMAGE_SUFFIX) else ("f4", (None,))


def _layout(key: str, array: NDArray[Any]) -> RowLayout:
    storage_bytes = _IMAGE_CHUNK_BYTES if key.endswith(IMAGE_SUFFIX) else _ROW_CHUNK_BYTES
    row_bytes = max(array[0].nbytes, 1)
    return RowLayout(array.dtype, array.shape[1:], max(storage_bytes // row_bytes, 1))
