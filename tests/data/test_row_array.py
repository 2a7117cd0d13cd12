from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_engine.data.row_array import RowArray, RowArrayWriter, RowLayout
from cosmos_engine.errors import InputError

LAYOUT = RowLayout(np.dtype("u1"), (4, 5, 3), chunk_rows=7)


def _rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)


@pytest.fixture
def array_path(tmp_path: Path) -> Path:
    RowArrayWriter(tmp_path / "rows", LAYOUT).append(_rows(17))
    return tmp_path / "rows"


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "i8", "?"])
@pytest.mark.parametrize("compressed", [True, False])
def test_zarr_reads_what_was_written(tmp_path: Path, dtype: str, compressed: bool) -> None:
    rows = np.random.default_rng(0).integers(0, 2, (17, 3)).astype(dtype)
    RowArrayWriter(tmp_path / "rows", RowLayout(rows.dtype, (3,), 7, compressed)).append(rows)
    array = zarr.open_array(str(tmp_path / "rows"), mode="r", zarr_format=2)
    assert array.dtype == rows.dtype
    assert array.chunks == (7, 3)
    np.testing.assert_array_equal(array[:], rows)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_same_rows_give_the_same_bytes_however_they_arrive(parts: list[int], tmp_path_factory, folder_bytes) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = _rows(sum(parts))
    RowArrayWriter(folder / "at_once", LAYOUT).append(rows)
    writer = RowArrayWriter(folder / "in_parts", LAYOUT)
    for end, count in zip(np.cumsum(parts), parts, strict=True):
        writer.append(rows[end - count : end])
    assert len(writer) == len(rows)
    assert folder_bytes(folder / "in_parts") == folder_bytes(folder / "at_once")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(-20, 20), stop=st.integers(-20, 20), step=st.sampled_from([1, 2, 5, -1, -3]))
def test_slices_are_those_of_numpy(array_path: Path, start: int, stop: int, step: int) -> None:
    np.testing.assert_array_equal(RowArray(array_path)[start:stop:step], _rows(17)[start:stop:step])


def test_single_rows_are_those_of_numpy(array_path: Path) -> None:
    array = RowArray(array_path)
    for row in range(-17, 17):
        np.testing.assert_array_equal(array[row], _rows(17)[row])
    with pytest.raises(IndexError, match="no row 17; there are 17"):
        array[17]


@pytest.mark.parametrize("kept", [0, 3, 7, 10, 14])
def test_taking_up_removes_every_trace_of_later_rows(tmp_path: Path, array_path, kept: int, folder_bytes) -> None:
    writer = RowArrayWriter(array_path, LAYOUT, length=kept)
    clean = RowArrayWriter(tmp_path / "clean", LAYOUT)
    clean.append(_rows(17)[:kept])
    assert folder_bytes(array_path) == folder_bytes(tmp_path / "clean")
    for continued in (writer, clean):
        continued.append(_rows(5, seed=1))
    assert folder_bytes(array_path) == folder_bytes(tmp_path / "clean")


def test_taking_up_more_rows_than_there_are_is_one_line(array_path: Path) -> None:
    with pytest.raises(InputError, match="17 rows where 18 were committed"):
        RowArrayWriter(array_path, LAYOUT, length=18)


def test_missing_storage_chunk_is_no_zeros(array_path: Path) -> None:
    (array_path / "1.0.0.0").unlink()
    with pytest.raises(InputError, match=r"1\.0\.0\.0: storage chunk is missing"):
        RowArray(array_path)[:]


def test_truncated_or_flipped_storage_chunk_is_one_line(array_path: Path) -> None:
    chunk = array_path / "0.0.0.0"
    whole = chunk.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole[: rng.integers(len(whole) + 1)])
        if len(damaged) == len(whole):
            damaged[rng.integers(len(whole))] ^= 1
        chunk.write_bytes(damaged)
        with pytest.raises(InputError, match=r"0\.0\.0\.0: storage chunk is truncated or damaged"):
            RowArray(array_path)[:]


@pytest.mark.parametrize(
    "change",
    [
        {"zarr_format": 3},
        {"order": "F"},
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "blosc"}},
        {"chunks": [7, 4, 5, 1]},
        {"chunks": [0, 4, 5, 3]},
        {"dtype": "|O"},
        {"dtype": "nonsense"},
        {"shape": [-1, 4, 5, 3]},
        {"shape": None},
        {"shape": [float("inf"), 4, 5, 3]},
        {"shape": [99999999999999999999, 4, 5, 3]},
    ],
)
def test_unknown_or_damaged_description_is_one_line(array_path: Path, change: dict[str, object]) -> None:
    file = array_path / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=r"\.zarray: "):
        RowArray(array_path)


def test_truncated_description_is_one_line(array_path: Path) -> None:
    file = array_path / ".zarray"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"\.zarray: damaged array description"):
            RowArray(array_path)
