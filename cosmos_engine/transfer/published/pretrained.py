"""Folders of pretrained models in Hugging Face's layout: config.json beside safetensors files, read strictly.

The libraries' own `from_pretrained` fills tensors that a file lacks with random values and warns; here that is an
error. Tensors go to the device one by one, so a model that fits the GPU does not have to fit the main memory too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.weights import mismatch, open_safetensors

Renamed = Callable[[str], str | None]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: no file or no folder, or one that holds anything else.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # UnicodeDecodeError is one too
        raise InputError(f"{path}: not a whole JSON file: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_config(folder: Path, key: str, expected: str) -> dict[str, Any]:
    """Read a folder's config.json, whose `key` says which architecture the folder holds.

    Raises:
        InputError: no such folder or file, or another architecture.
    """
    config = read_json(folder / "config.json")
    if config.get(key) != expected:
        raise InputError(f"{folder / 'config.json'}: expected {key} {expected!r}, got {config.get(key)!r}")
    return config


def fill_from_folder(
    module: nn.Module,
    folder: Path,
    stem: str,
    device: torch.device | str,
    dtype: torch.dtype,
    renamed: Renamed = lambda name: name,
) -> None:
    """Fill a module on the meta device from `<stem>.safetensors`, or from the parts that its index file names.

    Args:
        module: its parameters and buffers are replaced by the files' tensors.
        folder: where the files are.
        stem: file name without `.safetensors`.
        device: where the tensors go.
        dtype: what floating-point tensors become.
        renamed: the module's name of a tensor, or None for one that the module does not have.

    Raises:
        InputError: files that are missing or truncated, or tensors that are missing, extra or of another shape; one
            line lists them.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, tuple[Path, str]] = {}
    for path in _parts(folder, stem):
        with open_safetensors(path) as file:
            for stored in file.keys():  # noqa: SIM118
                name = renamed(stored)
                if name is not None:
                    shapes[name] = tuple(file.get_slice(stored).get_shape())
                    places[name] = (path, stored)
    complaint = mismatch({name: tuple(target.shape) for name, target in module.state_dict().items()}, shapes)
    if complaint:
        raise InputError(f"{folder}: {complaint}")
    state = {}
    for path in dict.fromkeys(path for path, _ in places.values()):
        with open_safetensors(path) as file:
            for name, (holder, stored) in places.items():
                if holder == path:
                    value = file.get_tensor(stored)
                    state[name] = value.to(device, dtype if value.is_floating_point() else None)
    module.load_state_dict(state, assign=True)


def _parts(folder: Path, stem: str) -> list[Path]:
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    parts = read_json(index).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise InputError(f"{index}: expected a weight_map from tensors to files")
    return [folder / part for part in sorted(set(parts.values()))]
