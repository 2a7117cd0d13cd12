from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from cosmos_engine.data import Dataset, DatasetWriter, Episode
from cosmos_engine.errors import InputError

INFO = [{"prompt": f"look {index}", "seed": index} for index in range(3)]


@pytest.fixture
def dataset_path(tmp_path: Path, make_episode: Callable[[int], Episode], dataset_arrays) -> Path:
    """Three episodes of demos 0, 0, 1; the last is rejected."""
    with DatasetWriter(tmp_path / "lift.zarr", attrs={"task": "lift"}) as writer:
        for index, (demo, variant) in enumerate([(0, 0), (0, 1), (1, 0)]):
            arrays = dataset_arrays(make_episode(demo))
            writer.append(arrays, source_demo=demo, variant=variant, accepted=index < 2, info=INFO[index])
        writer.finish({"kind": "test"})
    return tmp_path / "lift.zarr"


def test_episodes_come_back_bit_for_bit(dataset_path: Path, make_episode, dataset_arrays) -> None:
    dataset = Dataset(dataset_path)
    assert dataset.complete
    for index, demo in enumerate([0, 0, 1]):
        expected = dataset_arrays(make_episode(demo))
        found = dataset.episode(index)
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            assert found[key].dtype == array.dtype
            np.testing.assert_array_equal(found[key], array, key)


def test_dataset_says_where_every_episode_came_from(dataset_path: Path) -> None:
    dataset = Dataset(dataset_path)
    assert dataset.episode_count == 3
    assert dataset.source_demo.tolist() == [0, 0, 1]
    assert dataset.variant.tolist() == [0, 1, 0]
    assert dataset.accepted.tolist() == [True, True, False]
    assert dataset.info == INFO
    assert dataset.attrs == {"task": "lift"}
    assert dataset.cameras == ("agentview", "robot0_eye_in_hand")


def test_plain_zarr_reads_diffusion_policys_layout(dataset_path: Path, make_episode, dataset_arrays) -> None:
    root = zarr.open_group(str(dataset_path), mode="r", zarr_format=2)
    lengths = [make_episode(demo).length for demo in (0, 0, 1)]
    ends = root["meta/episode_ends"]
    assert ends.dtype == np.int64
    assert ends.compressors == ()
    assert ends[:].tolist() == np.cumsum(lengths).tolist()
    assert sorted(root["data"].keys()) == sorted(dataset_arrays(make_episode(0)))
    for key, array in root["data"].arrays():
        rows = np.concatenate([dataset_arrays(make_episode(demo))[key] for demo in (0, 0, 1)])
        assert array.dtype == rows.dtype
        np.testing.assert_array_equal(array[:], rows, key)
    assert root["meta"].attrs["episodes"] == INFO
    assert root["meta/accepted"][:].tolist() == [True, True, False]


def test_arrays_are_read_as_they_are_sliced(dataset_path: Path, make_episode) -> None:
    dataset = Dataset(dataset_path)
    array = dataset.array("agentview_image")
    assert array.shape == (int(dataset.episode_ends[-1]), 8, 10, 3)
    np.testing.assert_array_equal(array[dataset.rows(2)], make_episode(1).cameras["agentview"].rgb)


def test_unfinished_dataset_is_read_only_when_asked(tmp_path: Path, make_episode, dataset_arrays) -> None:
    path = tmp_path / "lift.zarr"
    with DatasetWriter(path, attrs={}) as writer:
        writer.append(dataset_arrays(make_episode(0)), source_demo=0, variant=0, accepted=True, info=INFO[0])
        with pytest.raises(InputError, match=r"unfinished .* run the command that was writing it again"):
            Dataset(path)
        dataset = Dataset(path, unfinished_ok=True)
    assert (dataset.complete, dataset.episode_count, dataset.info) == (False, 1, INFO[:1])


def test_missing_dataset_key_and_episode_are_one_line(tmp_path: Path, dataset_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset here"):
        Dataset(tmp_path / "absent.zarr")
    with pytest.raises(InputError, match="no data key 'acton'; did you mean 'action'"):
        Dataset(dataset_path).array("acton")
    with pytest.raises(InputError, match="no episode 3; there are 3"):
        Dataset(dataset_path).episode(3)


@pytest.mark.parametrize("rows", [5, 500])
def test_array_of_another_length_is_refused(dataset_path: Path, rows: int) -> None:
    file = dataset_path / "data" / "action" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shape": [rows, 7]}))
    with pytest.raises(InputError, match=f"data/action: {rows} rows where episode_ends says"):
        Dataset(dataset_path)


def test_episode_ends_that_do_not_grow_are_refused(dataset_path: Path) -> None:
    chunk = dataset_path / "meta" / "episode_ends" / "0"
    ends = np.frombuffer(chunk.read_bytes(), dtype="i8").copy()
    ends[1] = ends[0]
    chunk.write_bytes(ends.tobytes())
    with pytest.raises(InputError, match="episode_ends: not increasing"):
        Dataset(dataset_path)


def test_every_file_cut_short_is_one_line_or_unread(dataset_path: Path) -> None:
    def read_all() -> None:
        dataset = Dataset(dataset_path)
        assert dataset.info
        assert dataset.attrs
        for index in range(dataset.episode_count):
            dataset.episode(index)

    for file in sorted(file for file in dataset_path.rglob("*") if file.is_file()):
        if file.name in {"certificate.json", ".zgroup"}:
            continue  # the certificate's content is for verify_dataset; groups are for other readers
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError):
            read_all()
        file.write_bytes(whole)
    read_all()


def test_a_truth_value_that_is_neither_is_refused(dataset_path: Path) -> None:
    chunk = dataset_path / "meta" / "accepted" / "0"
    content = bytearray(chunk.read_bytes())
    content[1] = 0x11
    chunk.write_bytes(content)
    with pytest.raises(InputError, match="meta/accepted: damaged: a value is neither true nor false"):
        Dataset(dataset_path)
