"""The last bytes of an HDF5 file of ours: its length and a checksum of everything before them.

HDF5 reads nothing beyond the end that its superblock names, so every reader takes the file as it is. The trailer is
checked before HDF5 sees a byte: on a damaged file its C library can run for ever, which no exception ends.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from cosmos_engine.errors import InputError

_MAGIC = b"cosmos-engine\x00\x00\x01"
_LAYOUT = struct.Struct("<16sQI")


def with_trailer(content: bytes) -> bytes:
    """Return the bytes of a file with their trailer."""
    return content + _LAYOUT.pack(_MAGIC, len(content), zlib.crc32(content))


def check_trailer(path: Path) -> None:
    """Make sure that a file is whole and as it was written (about 1 ms for 4 MB).

    Raises:
        InputError: if the file is missing, or is not the whole of what was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    body = memoryview(content)[: -_LAYOUT.size]
    if len(content) < _LAYOUT.size or content[-_LAYOUT.size :] != _LAYOUT.pack(_MAGIC, len(body), zlib.crc32(body)):
        raise InputError(
            f"{path}: truncated, damaged or changed by another program since it was recorded "
            "(`cosmos-engine import` takes files of other programs)"
        )
