"""A file that HDF5 writes through Python, because HDF5 itself cannot close a file on a full disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, no_type_check

from cosmos_engine.data.atomic import storage_errors

ResultT = TypeVar("ResultT")


@no_type_check
class CommittedStream:
    """Write a new file for `h5py.File(stream, "w")`; a context manager around it.

    HDF5 does not survive an exception in here, so none leaves: the first (a full disk, Ctrl-C) is kept, and raised by
    `check` and at the end in place of whatever HDF5 made of it. What comes after it is let go, so that HDF5 can close.
    Hence `no_type_check` too: a check that fails is an exception.
    """

    def __init__(self, path: Path) -> None:
        """Make the file `path`, empty.

        Raises:
            InputError: the file system refuses.
        """
        self._path = path
        self._error: BaseException | None = None
        with storage_errors(path):
            self._file = path.open("w+b")

    def __enter__(self) -> CommittedStream:
        """Return the stream."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Sync and close; raise what was kept, a refusal of the file system as InputError."""
        self._kept(self._sync, None)
        try:
            self._file.close()
        except OSError as refused:
            self._error = self._error or refused
        self.check()

    def check(self) -> None:
        """Raise what was kept, a refusal of the file system as InputError."""
        if self._error is not None:
            with storage_errors(self._path):
                raise self._error

    def write(self, content: Any) -> int:
        """Write bytes where the file stands; HDF5 gives a buffer of a type of its own."""
        self._kept(lambda: self._file.write(content), 0)
        return len(content)

    def read(self, size: int) -> bytes:
        """Return bytes from where the file stands; zeros after an error."""
        content = self._kept(lambda: self._file.read(size), b"")
        return content + bytes(size - len(content)) if self._error else content

    def readinto(self, buffer: Any) -> int:
        """Read bytes from where the file stands; zeros after an error."""
        read = self._kept(lambda: self._file.readinto(buffer), -1)
        if read < 0:
            buffer[:] = bytes(len(buffer))
        return len(buffer) if read < 0 else read

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte."""
        return self._kept(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> int:
        """Return where the file stands."""
        return self._kept(self._file.tell, 0)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        return self._kept(lambda: self._file.truncate(size), size or 0)

    def flush(self) -> None:
        """Write what is buffered."""
        self._kept(self._file.flush, None)

    def _kept(self, operation: Callable[[], ResultT], otherwise: ResultT) -> ResultT:
        if self._error is not None:
            return otherwise
        try:
            return operation()
        except BaseException as error:
            self._error = error
            return otherwise

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
