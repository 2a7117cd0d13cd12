"""Checkpoint files: named modules and the network's config in one safetensors file, read strictly.

A tensor's name in the file is `<module>.<key>`. The metadata has a single entry, JSON with the format version, the
config, free notes, and the SHA-256 of these and of the tensors, which is checked when they are loaded. One entry,
because safetensors writes several in random order, and equal checkpoints must hash equally.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cosmos_engine.data.atomic import atomic_file
from cosmos_engine.errors import InputError
from cosmos_engine.tensors import tensors_sha256
from cosmos_engine.transfer.config import TransferConfig

METADATA_KEY = "cosmos-engine/transfer-weights"
FORMAT_VERSION = 2
"""1 had no digest."""
NAMES_SHOWN = 4

Storage = Literal["float32", "float16", "bfloat16"]
_STORAGE_DTYPES: dict[Storage, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class WeightsHeader:
    """What a checkpoint file says about itself.

    Attributes:
        config: the network's config.
        notes: anything else its writer wanted kept, such as how it was trained; JSON values.
    """

    config: TransferConfig
    notes: Mapping[str, Any] = field(default_factory=dict)


def save_weights(
    path: Path, modules: Mapping[str, nn.Module], header: WeightsHeader, storage: Storage = "float32"
) -> None:
    """Write the parameters and buffers of named modules; the file appears whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        modules: by name, which must not contain a dot.
        header: config and notes.
        storage: dtype of floating-point tensors in the file; float16 halves it and keeps 11 significant bits.

    Raises:
        InputError: a value that is not finite, or is not in `storage`; or the file system refuses.
        ValueError: a module name with a dot.
    """
    for name in modules:
        if "." in name:
            raise ValueError(f"module name {name!r}: a dot would make the names in the file ambiguous")
    save_tensors(path, _named_tensors(modules), header, storage)


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: WeightsHeader, storage: Storage = "float32"
) -> None:
    """Write tensors under the names that `save_weights` would give them, `<module>.<key>`.

    A tensor that already has the dtype of `storage` is not copied, so tensors mapped from a file cost little memory.

    Raises:
        InputError: a value that is not finite, or is not in `storage`; or the file system refuses.
    """
    stored: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        if value.is_floating_point():
            value = value.to(_STORAGE_DTYPES[storage])
            if not bool(value.isfinite().all()):
                raise InputError(f"{path}: {name} has values that are not finite in {storage}")
        stored[name] = _alone(value, written)
    described = {
        "version": FORMAT_VERSION,
        "config": json.loads(header.config.to_json()),
        "notes": dict(header.notes),
    }
    described["sha256"] = tensors_sha256(stored, described)
    write_safetensors(path, stored, {METADATA_KEY: json.dumps(described, sort_keys=True)})


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write any safetensors file atomically, readable for whom the user's umask says.

    Raises:
        InputError: the file system refuses.
    """
    with atomic_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(dict(tensors), temporary, dict(metadata))
        except SafetensorError as error:  # in place of an OSError, as of a full disk
            raise InputError(f"{path}: cannot be written: {error}") from error
        temporary.chmod(mode)  # safetensors leaves it to its owner alone


def read_header(path: Path) -> WeightsHeader:
    """Read what a checkpoint file says about itself, without its tensors.

    Raises:
        InputError: no file, a truncated or foreign one, or one of another format version.
    """
    described = _described(path)
    try:
        return WeightsHeader(TransferConfig.from_json(json.dumps(described["config"])), described["notes"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def load_weights(path: Path, modules: Mapping[str, nn.Module], expected: TransferConfig | None = None) -> WeightsHeader:
    """Fill named modules from a checkpoint file; each tensor takes the dtype and device of what it fills.

    Modules on the meta device take the tensors themselves, on the CPU. Nothing is changed unless everything fits.

    Args:
        path: the file.
        modules: by the name that the file gives them.
        expected: config of the network that the modules belong to; `modalities` may differ. A file for another size is
            then refused by what differs between the sizes, not by a list of tensors.

    Raises:
        InputError: no file, a truncated or foreign one, one for another size, or tensors that are missing, extra or of
            another shape, which one line lists; or tensors that are not those that were written.
    """
    header = _header_of(path, expected)
    targets = {name: tuple(target.shape) for name, target in _named_tensors(modules).items()}
    _refuse(path, mismatch(targets, tensor_shapes(path)))
    tensors = _checked_tensors(path)
    for module_name, module in modules.items():
        state = {key: tensors[f"{module_name}.{key}"].to(target.dtype) for key, target in module.state_dict().items()}
        module.load_state_dict(state, assign=any(target.is_meta for target in module.state_dict().values()))
    return header


@torch.no_grad()
def overlay_weights(
    path: Path, modules: Mapping[str, nn.Module], expected: TransferConfig | None = None
) -> WeightsHeader:
    """Replace those tensors of loaded modules that a checkpoint file holds, and leave the others; else `load_weights`.

    Raises:
        InputError: as `load_weights`, but no tensor can be missing.
        ValueError: modules on the meta device, which hold nothing to leave as it is.
    """
    targets = _named_tensors(modules)
    if any(target.is_meta for target in targets.values()):
        raise ValueError("overlay_weights: fill the modules with load_weights first")
    header = _header_of(path, expected)
    shapes = tensor_shapes(path)
    held = {name: tuple(target.shape) for name, target in targets.items() if name in shapes}
    _refuse(path, mismatch(held, shapes))
    for name, tensor in _checked_tensors(path).items():
        targets[name].copy_(tensor)
    return header


def open_safetensors(path: Path) -> safe_open:
    """Open a safetensors file.

    Raises:
        InputError: no file, or a truncated or foreign one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file: {error}") from error


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the tensors of any safetensors file.

    Raises:
        InputError: no file, or a truncated or foreign one.
    """
    with open_safetensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def size_difference(config: TransferConfig, other: TransferConfig) -> str:
    """Describe in one line how two sizes of the network differ apart from their `modalities`; empty if they do not."""
    return ", ".join(
        f"{field.name} {getattr(other, field.name)} instead of {getattr(config, field.name)}"
        for field in dataclasses.fields(TransferConfig)
        if field.name != "modalities" and getattr(config, field.name) != getattr(other, field.name)
    )


def mismatch(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]]) -> str:
    """Describe in one line how tensors that came differ in name or shape from those expected; empty if they do not."""
    reshaped = [
        f"{name} {got[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    parts = (
        _listed("missing tensors", (name for name in expected if name not in got)),
        _listed("extra tensors", (name for name in got if name not in expected)),
        _listed("tensors of another shape", reshaped),
    )
    return "; ".join(part for part in parts if part)


def _described(path: Path) -> dict[str, Any]:
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
    if METADATA_KEY not in metadata:
        raise InputError(f"{path}: not a checkpoint of this engine (its metadata lacks {METADATA_KEY!r})")
    try:
        described = dict(json.loads(metadata[METADATA_KEY]))
        version, _, notes = described["version"], described["config"], described["notes"]
        described["notes"] = dict(notes)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: its metadata is damaged: {type(error).__name__}: {error}") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: expected format version {FORMAT_VERSION}, got {version}")
    return described


def _checked_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors, mapped from the file."""
    described = _described(path)
    told = described.pop("sha256", None)
    with open_safetensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _refuse(path, "" if told == tensors_sha256(tensors, described) else "damaged: not the tensors that were written")
    return tensors


def _header_of(path: Path, expected: TransferConfig | None) -> WeightsHeader:
    header = read_header(path)
    difference = "" if expected is None else size_difference(expected, header.config)
    _refuse(path, difference and f"for a network of another size: {difference}")
    return header


def _refuse(path: Path, complaint: str) -> None:
    if complaint:
        raise InputError(f"{path}: {complaint}")


def _alone(value: Tensor, written: set[int]) -> Tensor:
    """Return the tensor, or a copy where safetensors would refuse it: as a view, or one of two on the same storage."""
    storage = value.untyped_storage()
    alone = value.is_contiguous() and storage.nbytes() == value.nbytes and storage.data_ptr() not in written
    written.add(storage.data_ptr())
    return value if alone else value.clone(memory_format=torch.contiguous_format)


def _named_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def _listed(what: str, names: Iterable[str]) -> str:
    found = list(names)
    if not found:
        return ""
    more = f" and {len(found) - NAMES_SHOWN} more" if len(found) > NAMES_SHOWN else ""
    return f"{what}: {', '.join(found[:NAMES_SHOWN])}{more}"
