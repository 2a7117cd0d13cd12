"""A trailer tells a whole file from every other."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_engine.data.trailer import check_trailer, with_trailer
from cosmos_engine.errors import InputError


@given(content=st.binary(max_size=200))
def test_trailer_is_the_magic_the_length_and_the_crc(content: bytes) -> None:
    whole = with_trailer(content)
    assert whole[: len(content)] == content
    magic, length, crc = whole[len(content) :][:16], whole[-12:-4], whole[-4:]
    assert magic == b"cosmos-engine\x00\x00\x01"
    assert int.from_bytes(length, "little") == len(content)
    assert int.from_bytes(crc, "little") == zlib.crc32(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=100), data=st.data())
def test_every_flip_and_every_cut_is_found(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    path = tmp_path / "file"
    whole = with_trailer(content)
    path.write_bytes(whole)
    check_trailer(path)
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for damaged in (bytes(flipped), cut, whole + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="file: truncated, damaged or changed by another program"):
            check_trailer(path)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: no such file"):
        check_trailer(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read"):
        check_trailer(tmp_path)


def test_hdf5_reads_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file["a"] = [1, 2, 3]
    path.write_bytes(with_trailer(path.read_bytes()))
    with h5py.File(path, "r") as file:
        assert file["a"][:].tolist() == [1, 2, 3]
