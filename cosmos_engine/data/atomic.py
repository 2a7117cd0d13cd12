"""Atomic writes: a file appears whole or not at all.

What is written goes to a temporary sibling, is synced and then renamed. A process killed at any moment leaves at most
a temporary sibling behind, which `remove_temporaries` clears and every reader ignores.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmos_engine.errors import InputError

_MARK = ".tmp-"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses (disk full, read-only, no permission) into one line that names `path`.

    Raises:
        InputError: in place of any OSError of the body.
    """
    try:
        yield
    except OSError as error:
        elsewhere = f" ({error.filename})" if error.filename and Path(str(error.filename)).parent != path.parent else ""
        raise InputError(f"{path}: cannot be written: {error.strerror or error}{elsewhere}") from error


@contextmanager
def atomic_file(path: Path, *, sync_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling to write; when the body ends without an error it is synced and takes the name `path`.

    An existing `path` is replaced. After an error the temporary is removed and `path` is as it was. Without
    `sync_folder` a power cut may bring the old file back until a later write syncs the folder.

    Raises:
        InputError: if the file system refuses; names `path`.
    """
    temporary = _temporary_sibling(path)
    with storage_errors(path):
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if sync_folder:
            _sync(path.parent)


def write_file(path: Path, content: bytes, *, sync_folder: bool = True) -> None:
    """Write `content` to `path` atomically, replacing what was there; arguments as `atomic_file`.

    Raises:
        InputError: if the file system refuses; names `path`.
    """
    with atomic_file(path, sync_folder=sync_folder) as temporary, temporary.open("wb") as file:
        file.write(content)


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing, to stay.

    Raises:
        InputError: if the file system refuses; names `path`.
    """
    with storage_errors(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync(folder.parent)


def remove_temporaries(folder: Path, *, deep: bool = True) -> None:
    """Remove what killed writers left behind: at any depth under `folder`, or only in it.

    Call it only while holding the folder's writer lock: a living writer's temporaries look the same.
    """
    for leftover in temporaries(folder):
        if not deep and leftover.parent != folder:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def temporaries(folder: Path) -> list[Path]:
    """Return the temporary files and folders at any depth under `folder`, sorted."""
    return sorted(folder.rglob(f".*{_MARK}*"))


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}{_MARK}{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder to sync it; NTFS journals the rename.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
