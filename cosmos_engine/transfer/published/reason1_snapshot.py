"""The text encoder's files: a snapshot of the hub, kept as it is and checked for being whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.published.folder import REASON1, Part, Source, WeightsFolder
from cosmos_engine.transfer.weights import tensor_shapes

# Config, tokenizer and processor, and the weights in safetensors; nothing that Python would unpickle or import.
REASON1_FILES = ("*.json", "*.txt", "*.jinja", "*.safetensors")
_INDEX = "model.safetensors.index.json"


def convert_snapshot(weights: WeightsFolder, source: Source, *, say: Callable[[str], None] = print) -> Part:
    """Record the snapshot in the folder `reason1`; call it while holding `weights.writing`.

    Raises:
        InputError: a file is missing or not whole.
    """
    folder = weights.path / REASON1
    problems = snapshot_problems(folder)
    if problems:
        raise InputError(problems[0])
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's notes on what was fetched
    files = sorted(file.relative_to(weights.path).as_posix() for file in folder.rglob("*") if file.is_file())
    say(f"{REASON1}: {len(files)} files, of {source}")
    return weights.record(REASON1, source, files)


def snapshot_problems(folder: Path) -> list[str]:
    """Return one line for each thing that keeps a snapshot from being loaded.

    A shard must be whole and hold exactly the tensors that the index promises.
    """
    problems = [] if (folder / "config.json").is_file() else [f"{folder / 'config.json'}: missing"]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        problems.append(f"{folder}: no tokenizer (tokenizer.json or vocab.json)")
    if not (folder / _INDEX).is_file():
        return [*problems, *_file_problems(folder / "model.safetensors", None)]
    try:
        placed: dict[str, str] = dict(json.loads((folder / _INDEX).read_bytes())["weight_map"])
    except (ValueError, TypeError, KeyError, OSError) as error:
        return [*problems, f"{folder / _INDEX}: damaged: {type(error).__name__}: {error}"]
    for shard in sorted(set(placed.values())):
        problems += _file_problems(folder / shard, {name for name, place in placed.items() if place == shard})
    return problems


def _file_problems(path: Path, expected: set[str] | None) -> list[str]:
    try:
        got = set(tensor_shapes(path))
    except InputError as error:
        return [str(error)]
    if expected is None:
        return []
    return [
        *(f"{path}: missing tensor {name}" for name in sorted(expected - got)),
        *(f"{path}: extra tensor {name}" for name in sorted(got - expected)),
    ]
