"""One writer at a time for a folder."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from cosmos_engine.data.atomic import make_folder, remove_temporaries, storage_errors
from cosmos_engine.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_NAME = ".writer.lock"


class WriterLock:
    """Hold the right to write a folder until `release` or the end of the process.

    The operating system holds the lock on an open file (flock), so a writer that was killed holds nothing and there is
    no stale lock to judge. The file's text only says whom to blame.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock of an existing folder.

        Raises:
            InputError: if another writer holds it (names its process), or the folder cannot be written.
        """
        self._path = folder / _NAME
        with storage_errors(folder):
            self._handle = self._acquire()
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def release(self) -> None:
        """Give the lock back; the lock file goes with it. A second call does nothing."""
        if self._handle < 0:
            return
        if sys.platform != "win32":  # Windows refuses to remove an open file; there the name stays, without a lock.
            self._path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1

    def _acquire(self) -> int:
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _try_lock(handle):
                holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
                os.close(handle)
                raise InputError(f"{self._path.parent}: {holder} is writing here; only one writer at a time")
            if self._path.exists() and os.path.samestat(os.fstat(handle), self._path.stat()):
                return handle
            os.close(handle)  # The holder removed the file between our open and our lock: that lock guards nothing.


def take_folder(folder: Path) -> WriterLock:
    """Make a folder where it is missing, take its lock, and remove what a killed writer left in it.

    Folders inside it may be other writers'; nothing in them is touched.

    Raises:
        InputError: as `WriterLock`.
    """
    make_folder(folder)
    lock = WriterLock(folder)
    with storage_errors(folder):
        remove_temporaries(folder, deep=False)
    return lock


def writer_of(folder: Path) -> str | None:
    """Return who writes `folder` now ("process 12 on host"), or None if nobody does."""
    try:
        handle = os.open(folder / _NAME, os.O_RDWR)
    except OSError:
        return None  # No lock file, or one that we may not touch: nobody that we could know of.
    try:
        if _try_lock(handle):
            return None
        return os.read(handle, 200).decode(errors="replace").strip() or "another process"
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            # A byte far beyond the text: Windows locks are mandatory, and the text must stay readable.
            os.lseek(handle, 1 << 20, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
