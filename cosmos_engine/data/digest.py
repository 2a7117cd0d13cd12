"""SHA-256 of arrays and of JSON values, as certificates state them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_sha256(array: NDArray[Any]) -> str:
    """Return the digest of an array's type, shape and values, bit for bit."""
    return rows_sha256(array.dtype, array.shape, [array])


def rows_sha256(dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]) -> str:
    """Return `array_sha256` of an array that comes in blocks of rows, none of which need stay in memory."""
    digest = hashlib.sha256(f"{dtype.str}{list(shape)}".encode())
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """Return the digest of a JSON value in its canonical form: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
