"""Where an export is written before it takes its name: a hidden folder beside it, locked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosmos_engine.data.atomic import make_folder, remove_temporaries, storage_errors, write_file
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.errors import InputError

RESULT = "result"
"""What takes the name of the export: a file or a folder under the workspace."""
_ORDER = "order.json"


@contextmanager
def workspace(out: Path, order: Mapping[str, Any], *, resumable: bool = False) -> Iterator[Path]:
    """Yield the folder in which `out` is made; its `result` becomes `out` when the body ends without an error.

    What a killed run left there is removed, or kept for one that is `resumable` and has the same `order`.

    Args:
        out: the file or folder to make; must not exist.
        order: JSON values that say what is made, from what and how.
        resumable: keep what was made when the body raises an error; the body looks for it.

    Raises:
        InputError: `out` exists, another process is making it, or the file system refuses.
    """
    if out.exists():
        raise InputError(f"{out}: exists; choose another output")
    make_folder(out.parent)
    folder = out.with_name(f".{out.name}.part")
    make_folder(folder)
    lock = WriterLock(folder)
    done = False
    try:
        with storage_errors(folder):
            remove_temporaries(folder)
            wanted = json.dumps(order, sort_keys=True, indent=1).encode()
            noted = folder / _ORDER
            if not resumable or not noted.is_file() or noted.read_bytes() != wanted:
                _empty(folder)
        write_file(noted, wanted)
        yield folder
        with storage_errors(out):
            # A file that was not there a moment ago is not overwritten: rename refuses a folder, so check again.
            if out.exists():
                raise InputError(f"{out}: appeared meanwhile; choose another output")
            os.replace(folder / RESULT, out)
            sync_folder(out.parent)
        done = True
    finally:
        lock.release()
        if done or not resumable:
            shutil.rmtree(folder, ignore_errors=True)  # hidden, and the next export of this name clears it


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith(".writer"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
