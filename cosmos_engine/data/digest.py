"""SHA-256 of arrays, of JSON values and of files, as certificates and manifests state them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosmos_engine.errors import InputError


def array_sha256(array: NDArray[Any]) -> str:
    """Return the digest of an array's type, shape and values, bit for bit."""
    return rows_sha256(array.dtype, array.shape, [array])


def rows_sha256(dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> str:
    """Return `array_sha256` of an array that comes in blocks of rows, none of which need stay in memory."""
    digest = hashlib.sha256(f"{dtype.str}{list(shape)}".encode())
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the digest of a file, which need not fit into memory.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def json_sha256(value: Any) -> str:
    """Return the digest of a JSON value in its canonical form: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
