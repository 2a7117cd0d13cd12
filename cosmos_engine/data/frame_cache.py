"""Frames of a dataset, decoded once: in RAM where they are few, else in a memory map that later runs read again.

The map is a file of its own for every array and choice of episodes, in one folder each:

    stack.zarr.frames/agentview_image-3f0c5a9b1e77d2a4/frames.u8
        4096 bytes of JSON (kind, schema, what the frames are, shape), the frames, a CRC-32 of every 16 MiB of them

It is written under another name and renamed when whole. What the frames are is a digest of what the certificate says of
the rows, so that a map never answers for another dataset, and the rows are held against it as they are decoded. Length
and sums are checked whenever a map is opened; one that does not fit is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_engine.data.array_check import check_array
from cosmos_engine.data.atomic import atomic_file, make_folder, remove_temporaries, storage_errors
from cosmos_engine.data.dataset import CERTIFICATE, Dataset, read_json
from cosmos_engine.data.digest import file_sha256, json_sha256
from cosmos_engine.data.lock import WriterLock, writer_of
from cosmos_engine.data.row_array import RowArray
from cosmos_engine.errors import InputError

Images = UInt8[np.ndarray, "n h w 3"]

RAM_BYTES = 1 << 30
"""Up to so many bytes are decoded into RAM by each process: sooner done than a map is checked and shared."""
CACHE_VARIABLE = "COSMOS_ENGINE_CACHE"
FRAMES_FILE = "frames.u8"

_KIND, _SCHEMA = "cosmos-engine/frames", 1
_HEADER_BYTES = 4096  # a page, so that the frames begin on one
_SUM_BYTES = 1 << 24
_WAIT_S = 0.2
_PIECE_BYTES = 1 << 22
_THREADS = min(8, os.cpu_count() or 1)


def _unchanged(images: NDArray[Any]) -> NDArray[Any]:
    return images


@dataclass(frozen=True)
class FrameForm:
    """The form in which decoded frames are kept.

    Attributes:
        name: says what `apply` does; a map is found again by it, so another function needs another name.
        apply: (n, h, w, 3) uint8 -> (n, y, x, 3) uint8, each frame by itself.
    """

    name: str = "as stored"
    apply: Callable[[NDArray[Any]], NDArray[Any]] = _unchanged


def decoded_images(
    dataset: Dataset,
    keys: Sequence[str],
    episodes: Int64[np.ndarray, " e"],
    form: FrameForm | None = None,
    *,
    ram_bytes: int | None = None,
    folder: Path | None = None,
) -> dict[str, Images]:
    """Return the frames of some episodes, one after the other, by key; those of a memory map cannot be written to.

    Args:
        dataset: where they are from.
        keys: names of image arrays.
        episodes: numbers of the episodes, in the order wanted.
        form: what is kept of a frame; by default all of it.
        ram_bytes: as long as all keys together take no more, they are decoded into RAM; by default `RAM_BYTES`.
        folder: of the memory maps; by default `$COSMOS_ENGINE_CACHE/frames`, or without that variable
            `DATASET.frames` beside the dataset, or `~/.cache/cosmos-engine/frames` where nothing can be written there.

    Raises:
        InputError: no such key or episode, no images under a key, a storage chunk that is missing, damaged or not what
            the certificate says, or a folder that is full or cannot be written.
    """
    form = form or FrameForm()
    selections = {key: _select(dataset, key, episodes, form) for key in keys}
    needed = sum(selection.byte_count for selection in selections.values())
    if needed <= (RAM_BYTES if ram_bytes is None else ram_bytes):
        return {key: selection.in_memory() for key, selection in selections.items()}
    folders = _folders(dataset) if folder is None else [folder]
    return {key: _mapped(selection, folders) for key, selection in selections.items()}


@dataclass(frozen=True)
class _Selection:
    """The frames of some episodes under one key, not decoded yet."""

    dataset: Dataset
    key: str
    rows: tuple[slice, ...]
    sha256: tuple[str | None, ...]  # of each episode's rows, where the certificate lists them
    form: FrameForm
    row_shape: tuple[int, ...]  # of a frame as it is kept

    @property
    def array(self) -> RowArray:
        return self.dataset.array(self.key)

    @property
    def frame_count(self) -> int:
        return sum(rows.stop - rows.start for rows in self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frame_count, *self.row_shape)

    @property
    def byte_count(self) -> int:
        return int(np.prod(self.shape))

    def in_memory(self) -> Images:
        """Decode into RAM."""
        images = np.empty(self.shape, np.uint8)
        position = 0
        for block in self.decoded(checked=False):
            images[position : position + len(block)] = block
            position += len(block)
        return images

    def decoded(self, *, checked: bool) -> Iterator[Images]:
        """Yield all frames in order, in pieces, decoded by several threads, with a progress bar.

        Args:
            checked: hold each episode's rows against the certificate, where it lists them.

        Raises:
            InputError: a storage chunk is missing, damaged, or not what the certificate says.
        """
        digests = _Digests(self) if checked else None
        ahead: deque[Future[tuple[NDArray[Any], NDArray[Any]]]] = deque()
        pieces = iter(_pieces(self.rows, self.array))
        with (
            ThreadPoolExecutor(_THREADS) as pool,
            tqdm(total=self.frame_count, desc=f"decode {self.key}", unit="frame", leave=False) as bar,
        ):
            try:
                while True:
                    while len(ahead) < 2 * _THREADS and (piece := next(pieces, None)) is not None:
                        ahead.append(pool.submit(self._decode, piece))
                    if not ahead:
                        return
                    stored, kept = ahead.popleft().result()
                    if digests is not None:
                        digests.update(stored)
                    yield kept
                    bar.update(len(kept))
            finally:
                for future in ahead:
                    future.cancel()

    def _decode(self, rows: slice) -> tuple[NDArray[Any], NDArray[Any]]:
        stored = self.array[rows]
        return stored, np.ascontiguousarray(self.form.apply(stored))

    def identity(self) -> str:
        """Return a digest of what the frames are: equal ones have equal frames, wherever the dataset lies."""
        listed: Any = list(self.sha256)
        if None in listed:  # a dataset from elsewhere: what is stored speaks for itself
            files = sorted(file for file in self.array.path.iterdir() if file.is_file())
            listed = [
                {file.name: file_sha256(file) for file in files},
                [[rows.start, rows.stop] for rows in self.rows],
            ]
        return json_sha256([_SCHEMA, self.key, self.form.name, list(self.shape), listed])


class _Digests:
    """Compares the rows of one episode after another with the certificate, as they come in pieces of any length."""

    def __init__(self, selection: _Selection) -> None:
        self._selection = selection
        self._episode = -1
        self._left = 0
        self._next()

    def update(self, stored: NDArray[Any]) -> None:
        while len(stored):
            part = stored[: self._left]
            self._digest.update(np.ascontiguousarray(part).data)
            self._left -= len(part)
            stored = stored[len(part) :]
            if not self._left:
                self._compare()
                self._next()

    def _next(self) -> None:
        self._episode += 1
        if self._episode < len(self._selection.rows):
            rows, array = self._selection.rows[self._episode], self._selection.array
            self._left = rows.stop - rows.start
            shape = [self._left, *array.shape[1:]]
            self._digest = hashlib.sha256(f"{array.dtype.str}{shape}".encode())  # as `digest.rows_sha256`

    def _compare(self) -> None:
        expected = self._selection.sha256[self._episode]
        if expected is not None and self._digest.hexdigest() != expected:
            rows = self._selection.rows[self._episode]
            raise InputError(
                f"{self._selection.array.path}: rows {rows.start} to {rows.stop} are not those of {CERTIFICATE}; "
                "`cosmos-engine verify` says what differs"
            )


def _select(dataset: Dataset, key: str, episodes: NDArray[Any], form: FrameForm) -> _Selection:
    array = dataset.array(key)
    check_array(str(array.path), array, "u1", (None, None, None, 3))
    rows = tuple(dataset.rows(int(episode)) for episode in episodes)
    listed = read_json(dataset.path / CERTIFICATE).get("episodes") if dataset.complete else None
    sha256 = [_listed_sha256(listed, int(episode), key) for episode in episodes]
    sample = form.apply(np.zeros((1, *array.shape[1:]), np.uint8))
    return _Selection(dataset, key, rows, tuple(sha256), form, tuple(sample.shape[1:]))


def _listed_sha256(listed: Any, episode: int, key: str) -> str | None:
    """Return what the certificate says of an episode's rows, None if nothing."""
    try:
        sha256 = listed[episode]["sha256"][key]
    except (LookupError, TypeError):
        return None
    return sha256 if isinstance(sha256, str) else None


def _pieces(rows: Sequence[slice], array: RowArray) -> Iterator[slice]:
    """Yield the rows in order, cut where storage chunks end, so that none is decoded twice for neighbours."""
    chunk_rows = array.layout.chunk_rows
    size = chunk_rows * max(1, _PIECE_BYTES // max(1, chunk_rows * int(np.prod(array.shape[1:]))))
    merged: list[slice] = []
    for one in rows:
        if merged and merged[-1].stop == one.start:
            merged[-1] = slice(merged[-1].start, one.stop)
        else:
            merged.append(one)
    for run in merged:
        start = run.start
        while start < run.stop:
            stop = min(run.stop, (start // size + 1) * size)
            yield slice(start, stop)
            start = stop


def _folders(dataset: Dataset) -> list[Path]:
    """Return where maps may be, the place for new ones first."""
    if named := os.environ.get(CACHE_VARIABLE):
        return [Path(named) / "frames"]
    path = dataset.path.resolve()
    beside, of_user = path.with_name(f"{path.name}.frames"), Path.home() / ".cache" / "cosmos-engine" / "frames"
    writable = os.access(beside if beside.is_dir() else path.parent, os.W_OK)
    return [beside, of_user] if writable else [of_user, beside]


def _mapped(selection: _Selection, folders: Sequence[Path]) -> Images:
    """Return the map of a selection from the first folder that has it, or make it in the first folder."""
    identity = selection.identity()
    homes = [folder / f"{selection.key}-{identity[:16]}" for folder in folders]
    for home in homes:
        if (images := _open(home / FRAMES_FILE, identity, selection.shape)) is not None:
            return images
    return _made(selection, identity, homes[0])


def _made(selection: _Selection, identity: str, home: Path) -> Images:
    """Make a map, or wait until another process that makes it is done."""
    make_folder(home)
    lock = _lock(home)
    try:
        file = home / FRAMES_FILE
        if (images := _open(file, identity, selection.shape)) is not None:  # made while we waited
            return images
        if file.exists():
            print(f"{file}: truncated, damaged or of another dataset; made anew", file=sys.stderr)
        with storage_errors(home):
            remove_temporaries(home)
            file.unlink(missing_ok=True)
            free = shutil.disk_usage(home).free
        if free < selection.byte_count:
            raise InputError(
                f"{home}: {free / 1e6:,.1f} MB free, expected {selection.byte_count / 1e6:,.1f} MB for the decoded "
                f"frames; {CACHE_VARIABLE} names a folder elsewhere"
            )
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            _write(stream, selection, identity)
        images = _open(file, identity, selection.shape)
    finally:
        lock.release()
    if images is None:
        raise InputError(f"{file}: what was written does not read back; is the disk sound?")
    return images


def _lock(home: Path) -> WriterLock:
    """Take the lock of a folder; wait, and say so once, while another process holds it.

    Raises:
        InputError: the folder cannot be written.
    """
    said, refusals = False, 0
    while True:
        try:
            return WriterLock(home)
        except InputError:
            holder = writer_of(home)
            refusals = 0 if holder else refusals + 1  # a holder may let go between the two calls, but not forever
            if refusals > 2:
                raise
        if holder and not said:
            print(f"{home}: {holder} decodes the same frames; waiting for them", file=sys.stderr)
            said = True
        time.sleep(_WAIT_S)


def _write(stream: BinaryIO, selection: _Selection, identity: str) -> None:
    # Written, not mapped: a disk that fills up is then an error and not a SIGBUS.
    stream.write(_header(identity, selection.shape))
    sums, pending = [0], 0
    for block in selection.decoded(checked=True):
        left = block.data.cast("B")
        stream.write(left)
        while left:
            part = left[: _SUM_BYTES - pending]
            sums[-1] = zlib.crc32(part, sums[-1])
            pending += len(part)
            left = left[len(part) :]
            if pending == _SUM_BYTES:
                sums.append(0)
                pending = 0
    stream.write(np.array(sums if pending else sums[:-1], "<u4").tobytes())


def _open(file: Path, identity: str, shape: tuple[int, ...]) -> Images | None:
    """Return the frames of a map; None if there is none, or it is truncated, damaged or of something else."""
    size = int(np.prod(shape))
    sum_count = -(-size // _SUM_BYTES)
    try:
        with file.open("rb") as stream:
            if stream.read(_HEADER_BYTES) != _header(identity, shape):
                return None
            if os.fstat(stream.fileno()).st_size != _HEADER_BYTES + size + 4 * sum_count:
                return None
            payload = np.memmap(stream, np.uint8, "r", _HEADER_BYTES, (size,))
            stream.seek(_HEADER_BYTES + size)
            sums = np.frombuffer(stream.read(), "<u4")
    except (OSError, ValueError):
        return None
    starts = range(0, size, _SUM_BYTES)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda start: zlib.crc32(payload[start : start + _SUM_BYTES].data), starts)
        bar = tqdm(found, "check frames", sum_count, leave=False, unit="block", delay=1)
        if any(one != wanted for one, wanted in zip(bar, sums, strict=True)):
            return None
    return np.asarray(payload).reshape(shape)


def _header(identity: str, shape: tuple[int, ...]) -> bytes:
    described = {"kind": _KIND, "schema": _SCHEMA, "frames": identity, "shape": list(shape)}
    return json.dumps(described).encode().ljust(_HEADER_BYTES - 1) + b"\n"
