"""What a dataset left out: `rejected.json`, written by `augment`, and the strips of frames beside it.

A JSON list, one object a variant that never passed or was dropped, or a demo (variant 0) that was left out:

    {"source_demo": 3, "variant": 2, "prompt": "...", "reason": "gate",
     "tries": [{"seed": 1, "recipe": "default", "failures": ["..."], "measures": {"external/depth_error": 0.1}}],
     "strips": {"external": "rejected/000003_002_external.jpg"}}

A dataset without the file rejected nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError

REJECTED = "rejected.json"
STRIPS = "rejected"

# Plain names directly under rejected/: what the list names is read, and must not lead elsewhere.
_STRIP = re.compile(rf"{STRIPS}/[^/\\]+\.jpg")


@dataclass(frozen=True)
class Try:
    """One attempt at a variant that did not pass."""

    seed: int | None
    recipe: str
    failures: tuple[str, ...]
    """One line each, as the gate gave them."""
    measures: Mapping[str, float]
    """Finite, by "<camera>/<measure>" or "cross_view/<measure>"."""


@dataclass(frozen=True)
class RejectedVariant:
    """One variant, or one demo, that is not in the dataset."""

    source_demo: int
    variant: int
    """0 = the demo itself was left out."""
    reason: str
    """gate, near-duplicate, static, excluded, no success, short, ..."""
    prompt: str = ""
    tries: tuple[Try, ...] = ()
    strips: Mapping[str, str] = field(default_factory=dict)
    """Camera -> path of a JPEG of frames of the last try, relative to the dataset."""


def read_rejected(dataset: Path) -> tuple[RejectedVariant, ...]:
    """Read what a dataset left out, in the file's order; nothing where there is no file.

    Raises:
        InputError: the file cannot be read, is no JSON, or an entry lacks a field or has one of another type; names
            the entry.
    """
    file = dataset / REJECTED
    if not file.is_file():
        return ()
    try:
        entries = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{file}: truncated or damaged JSON ({error})") from error
    if not isinstance(entries, list):
        raise InputError(f"{file}: expected a JSON list, got {type(entries).__name__}")
    return tuple(_entry(file, index, entry) for index, entry in enumerate(entries))


def rejected_digests(dataset: Path) -> tuple[str | None, dict[str, str]]:
    """Return the digest of `rejected.json`, None where there is none, and of every file under `rejected/` by path.

    Raises:
        InputError: a file cannot be read.
    """
    file = dataset / REJECTED
    folder = dataset / STRIPS
    strips = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    return (
        file_sha256(file) if file.is_file() else None,
        {f"{STRIPS}/{path.name}": file_sha256(path) for path in strips},
    )


def _entry(file: Path, index: int, entry: Any) -> RejectedVariant:
    where = f"{file}: entry {index}"
    try:
        rejected = RejectedVariant(
            source_demo=_count(entry["source_demo"]),
            variant=_count(entry["variant"]),
            reason=_text(entry["reason"]),
            prompt=_text(entry.get("prompt", "")),
            tries=tuple(_try(attempt) for attempt in entry.get("tries", [])),
            strips={_text(camera): _text(path) for camera, path in entry.get("strips", {}).items()},
        )
    except KeyError as error:
        raise InputError(f"{where}: no key {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{where}: a value of the wrong type: {error}") from error
    for path in rejected.strips.values():
        if _STRIP.fullmatch(path) is None:
            raise InputError(f"{where}: strip {path!r}: expected a file {STRIPS}/NAME.jpg of the dataset")
    return rejected


def _try(attempt: Any) -> Try:
    seed = attempt.get("seed")
    return Try(
        seed=None if seed is None else _number(seed),
        recipe=_text(attempt.get("recipe", "")),
        failures=tuple(_text(line) for line in attempt.get("failures", [])),
        measures={_text(name): _finite(value) for name, value in attempt.get("measures", {}).items()},
    )


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _count(value: Any) -> int:
    if _number(value) < 0:
        raise ValueError(f"expected 0 or more, got {value}")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"expected a finite number, got {value!r}")
    return float(value)
