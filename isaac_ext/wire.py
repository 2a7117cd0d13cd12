"""Messages between the engine's process and Isaac Sim's: a JSON head and arrays, over a local socket. No pickle."""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from cosmos_engine.errors import InputError

_LENGTH = struct.Struct("<Q")
_MOST_BYTES = 1 << 30
_KINDS = frozenset("buif")  # plain numbers: nothing that runs when it is read


def send(connection: socket.socket, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Send one message.

    Args:
        connection: a connected socket.
        head: JSON values; the key `arrays` is taken.
        arrays: of plain numbers.

    Raises:
        OSError: the other side has gone.
    """
    plain = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    told = [[name, array.dtype.str, list(array.shape)] for name, array in plain.items()]
    text = json.dumps({**head, "arrays": told}).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for array in plain.values():
        connection.sendall(array.tobytes())


def receive(connection: socket.socket) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return head and arrays of the next message.

    Raises:
        InputError: what comes is no message.
        OSError: the other side has gone.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    try:
        head = json.loads(_exactly(connection, _checked(length)))
        told = [(str(name), np.dtype(kind), tuple(int(size) for size in shape)) for name, kind, shape in head["arrays"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Isaac Sim bridge: no message: {error}") from error
    arrays = {}
    for name, dtype, shape in told:
        if dtype.kind not in _KINDS or min(shape, default=0) < 0:
            raise InputError(f"Isaac Sim bridge: array {name!r}: {dtype} {shape} is not sent")
        content = _exactly(connection, _checked(math.prod(shape) * dtype.itemsize))
        arrays[name] = np.frombuffer(content, dtype).reshape(shape).copy()
    del head["arrays"]
    return head, arrays


def _checked(length: int) -> int:
    if length > _MOST_BYTES:
        raise InputError(f"Isaac Sim bridge: a message of {length} bytes is not one of ours")
    return length


def _exactly(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes."""
    content = bytearray()
    while len(content) < count:
        part = connection.recv(min(count - len(content), 1 << 20))
        if not part:
            raise ConnectionError("Isaac Sim bridge: the other side has gone")
        content += part
    return bytes(content)
