"""The recorded signatures of Kit and Isaac Sim: what a call may look like in 5.1 and in 6.0."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VERSIONS = ("5.1", "6.0")
ROOTS = ("omni", "isaacsim", "carb")
"""pxr is not among them: usd-core has the real one."""


@dataclass(frozen=True)
class Entry:
    """What is known of one public name.

    Attributes:
        tag: S read in public sources, C closed module, known from documents and uses, D documents only.
        kind: function, async, class or attribute.
        signatures: version -> how it is called; empty text for what cannot be called.
        returns: name of the class of what comes back or is held, empty where it does not matter.
    """

    tag: str
    kind: str
    signatures: dict[str, str]
    returns: str


@cache
def recorded() -> dict[str, Entry]:
    """Return name -> entry, of both files."""
    entries = {}
    for name in ("signatures_sources.json", "signatures_closed.json"):
        for key, value in json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8")).items():
            assert key not in entries, f"{key} stands in both files"
            found = {version: value[version] for version in VERSIONS if version in value}
            entries[key] = Entry(value["tag"], value["kind"], found, value.get("returns", ""))
    return entries


@cache
def containers() -> frozenset[str]:
    """Return every name that others are below: packages, modules, classes."""
    return frozenset(
        ".".join(name.split(".")[:length]) for name in recorded() for length in range(1, name.count(".") + 1)
    )


@cache
def signature(text: str) -> inspect.Signature:
    """Return a recorded signature; every default is None, only its presence counts."""
    scope: dict[str, object] = {}
    exec(f"def called{text}: ...", scope)
    return inspect.signature(scope["called"])  # type: ignore[arg-type]


def is_class(name: str) -> bool:
    """Say whether a dotted name is that of a class: its last word begins with a capital, as all recorded ones do."""
    return name.rpartition(".")[2][:1].isupper()
