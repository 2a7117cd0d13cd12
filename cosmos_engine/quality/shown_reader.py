"""Readers that must be shown what to look for, and readers that are made of two.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.quality.reader import Reader, Readings


@runtime_checkable
class ShownReader(Protocol):
    """A reader that has to be shown a camera's recording first: which objects there are, or what is near and far.

    What it is shown must not decide what it sees: it is told where to look at first, and reads the variant's pixels.
    """

    @property
    def name(self) -> str:
        """What provenance calls this reader; changes with its weights."""
        ...

    def shown(self, passes: CameraPasses, labels: Mapping[int, InstanceLabel]) -> Reader:
        """Return a reader of variants of this camera's clip."""
        ...


AnyReader = Reader | ShownReader


class JoinedReader:
    """Take roles from one reader and depth from another; implements `ShownReader`.

    Args:
        roles: reads roles; its depth is not used.
        depth: reads depth; its roles are not used.
    """

    def __init__(self, roles: AnyReader, depth: AnyReader) -> None:
        self._roles = roles
        self._depth = depth

    @property
    def name(self) -> str:
        """The names of both."""
        return f"{self._roles.name} + {self._depth.name}"

    def shown(self, passes: CameraPasses, labels: Mapping[int, InstanceLabel]) -> Reader:
        """Return a reader of variants of this camera's clip."""
        return _Joined(self.name, reader_of(self._roles, passes, labels), reader_of(self._depth, passes, labels))


def reader_of(reader: AnyReader, passes: CameraPasses, labels: Mapping[int, InstanceLabel]) -> Reader:
    """Return the reader for one camera's clip, shown the recording if it asks for that."""
    return reader.shown(passes, labels) if isinstance(reader, ShownReader) else reader


class _Joined:
    def __init__(self, name: str, roles: Reader, depth: Reader) -> None:
        self.name = name
        self._roles = roles
        self._depth = depth

    def read(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Readings:
        return Readings(self._roles.read(rgb).role_probabilities, self._depth.read(rgb).log_depth)
