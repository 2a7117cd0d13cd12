"""The folder of a run: it belongs to one identity, and its log has no line of what was not saved."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cosmos_engine.config import as_yaml, load_config
from cosmos_engine.data.atomic import write_file
from cosmos_engine.data.lock import WriterLock, take_folder
from cosmos_engine.errors import InputError


def claim(folder: Path, name: str, identity: Any) -> WriterLock:
    """Take a run's folder and write the run's identity there, or make sure that the one that is there is the same.

    Args:
        folder: of the run; made if missing.
        name: of the YAML file of its identity.
        identity: a dataclass instance whose every field has a default.

    Returns:
        the folder's lock, to be released when the run ends.

    Raises:
        InputError: another process writes there, or another run is there; names the first key that differs.
    """
    lock = take_folder(folder)
    try:
        _identify(folder / name, identity)
    except BaseException:
        lock.release()
        raise
    return lock


def _identify(path: Path, identity: Any) -> None:
    if not path.exists():
        write_file(path, as_yaml(identity).encode())
        return
    there = _flat(dataclasses.asdict(load_config(type(identity), path)))
    for key, value in _flat(dataclasses.asdict(identity)).items():
        if there[key] != value:
            raise InputError(
                f"{path.parent}: holds another run: {key.removeprefix('config.')} is {there[key]} there and {value} "
                "here; choose another --out"
            )


def truncate_log(path: Path, key: str, last: int) -> None:
    """Drop the lines whose `key` is beyond `last`: of work that a killed process did but did not save."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)[key] <= last]
        write_file(path, "".join(f"{line}\n" for line in kept).encode())


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
