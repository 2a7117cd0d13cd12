from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cosmos_engine.data import Dataset, DatasetWriter, Episode
from cosmos_engine.data.row_array import RowArray, RowArrayWriter
from cosmos_engine.errors import InputError

ATTRS = {"task": "lift", "step_hz": 20.0}
EPISODES = 4


@pytest.fixture
def write(make_episode: Callable[[int], Episode], dataset_arrays) -> Callable[..., None]:
    """Bring the dataset at a path to `until` episodes, from however many it has, and finish it if asked."""

    def run(path: Path, until: int = EPISODES, finish: bool = True) -> None:
        with DatasetWriter(path, attrs=ATTRS) as writer:
            for index in range(writer.episodes_written, until):
                arrays = dataset_arrays(make_episode(index // 2))
                if index % 2:
                    arrays["agentview_image"] = 255 - arrays["agentview_image"]
                accepted = index != 3
                writer.append(
                    arrays,
                    source_demo=index // 2,
                    variant=index % 2,
                    accepted=accepted,
                    info={"prompt": f"look {index}"},
                )
            if finish:
                writer.finish({"kind": "test"})

    return run


def _first(dataset_arrays, make_episode) -> dict[str, NDArray[Any]]:
    return dataset_arrays(make_episode(0))


def _append(writer: DatasetWriter, arrays: dict[str, NDArray[Any]]) -> int:
    return writer.append(arrays, source_demo=0, variant=0, accepted=True, info={})


def test_unfinished_dataset_goes_on_to_the_same_bytes(tmp_path: Path, write, folder_bytes) -> None:
    write(tmp_path / "whole.zarr")
    for until in range(EPISODES + 1):
        path = tmp_path / f"interrupted_{until}.zarr"
        write(path, until=until, finish=False)
        write(path)
        assert folder_bytes(path) == folder_bytes(tmp_path / "whole.zarr")


def test_garbage_beyond_the_committed_end_leaves_no_trace(tmp_path: Path, write, folder_bytes) -> None:
    write(tmp_path / "whole.zarr")
    path = tmp_path / "torn.zarr"
    for until in range(EPISODES):
        write(path, until=until, finish=False)
        for folder in (path / "data").glob("*/"):
            array = RowArray(folder)
            garbage = np.ones((len(array) % 5 + 3, *array.shape[1:]), dtype=array.dtype)
            RowArrayWriter(folder, array.layout, len(array)).append(garbage)
        for name in ("source_demo", "variant", "accepted"):
            array = RowArray(path / "meta" / name)
            RowArrayWriter(array.path, array.layout, len(array)).append(np.ones(2, dtype=array.dtype))
        with (path / "journal.jsonl").open("ab") as journal:
            journal.write(b'{"torn')
        (path / "data" / ".zgroup.tmp-0").write_bytes(b"")
        (path / "data" / ".action.tmp-0").mkdir()
    (path / "data" / ".zgroup.tmp-0").unlink()
    write(path)
    assert folder_bytes(path) == folder_bytes(tmp_path / "whole.zarr")


def test_kill_before_any_file_operation_ends_in_the_same_bytes(
    tmp_path: Path, write, folder_bytes, kill_at_operation
) -> None:
    write(tmp_path / "whole.zarr", until=2)
    whole = folder_bytes(tmp_path / "whole.zarr")
    operation = 1
    rng = np.random.default_rng(0)
    path = tmp_path / "killed.zarr"
    while kill_at_operation(operation, path, lambda: write(path, until=2)):
        complete = (path / "certificate.json").exists()
        if (path / ".zgroup").exists() and not complete:
            dataset = Dataset(path, unfinished_ok=True)
            for index in range(dataset.episode_count):
                dataset.episode(index)  # what was committed reads, also before anybody mends the rest
        with pytest.raises(InputError, match="is complete") if complete else nullcontext():
            write(path, until=2)
        assert folder_bytes(path) == whole
        assert sorted(file.name for file in tmp_path.iterdir()) == ["killed.zarr", "whole.zarr"]
        shutil.rmtree(path)
        operation += int(rng.integers(1, 36))
    assert operation > 100


def test_kills_at_any_time_end_in_the_same_bytes(tmp_path: Path, write, folder_bytes, kill_after) -> None:
    write(tmp_path / "whole.zarr", until=24)
    path = tmp_path / "killed.zarr"
    rng = np.random.default_rng(0)
    for _ in range(5):
        kill_after(rng.uniform(0.02, 0.15), lambda: write(path, until=24, finish=False))
    write(path, until=24)
    assert folder_bytes(path) == folder_bytes(tmp_path / "whole.zarr")


def test_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path / "a.zarr", attrs=ATTRS),
        pytest.raises(InputError, match="is writing here; only one writer"),
    ):
        DatasetWriter(tmp_path / "a.zarr", attrs=ATTRS)


def test_full_disk_keeps_what_was_committed(
    tmp_path: Path, write, make_episode, dataset_arrays, file_size_limit, folder_bytes
) -> None:
    write(tmp_path / "whole.zarr")
    path = tmp_path / "a.zarr"
    write(path, until=2, finish=False)
    with DatasetWriter(path, attrs=ATTRS) as writer:
        with file_size_limit(2000), pytest.raises(InputError, match="cannot be written: File too large"):
            _append(writer, _first(dataset_arrays, make_episode))
        with pytest.raises(RuntimeError, match="closed writer"):
            _append(writer, _first(dataset_arrays, make_episode))
    assert Dataset(path, unfinished_ok=True).episode_count == 2
    write(path)
    assert folder_bytes(path) == folder_bytes(tmp_path / "whole.zarr")


def test_complete_dataset_is_not_written_again(tmp_path: Path, write, folder_bytes) -> None:
    write(tmp_path / "a.zarr")
    before = folder_bytes(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="exists and is complete; choose another output"):
        DatasetWriter(tmp_path / "a.zarr", attrs=ATTRS)
    assert folder_bytes(tmp_path / "a.zarr") == before


def test_work_folder_goes_when_the_dataset_is_complete(tmp_path: Path, write, folder_bytes) -> None:
    write(tmp_path / "whole.zarr")
    path = tmp_path / "a.zarr"
    write(path, until=2, finish=False)
    with DatasetWriter(path, attrs=ATTRS) as writer:
        writer.work.mkdir()
        (writer.work / "notes").write_text("to go on from")
    write(path, until=3, finish=False)
    assert (path / "work" / "notes").read_text() == "to go on from"
    write(path)
    assert folder_bytes(path) == folder_bytes(tmp_path / "whole.zarr")
    (path / "work").mkdir()  # as if the writer had been killed right after the certificate
    with pytest.raises(InputError, match="is complete"):
        write(path)
    assert folder_bytes(path) == folder_bytes(tmp_path / "whole.zarr")
    assert not (path / "work").exists()


def test_dataset_begun_with_other_attributes_is_refused(tmp_path: Path, write) -> None:
    write(tmp_path / "a.zarr", until=1, finish=False)
    with pytest.raises(InputError, match="begun with another step_hz"):
        DatasetWriter(tmp_path / "a.zarr", attrs={**ATTRS, "step_hz": 10.0})


def test_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="exists and is no dataset begun here"):
        DatasetWriter(tmp_path, attrs=ATTRS)
    with pytest.raises(InputError, match=r"thesis\.tex: cannot be written: Not a directory"):
        DatasetWriter(tmp_path / "thesis.tex", attrs=ATTRS)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_finishing_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path / "a.zarr", attrs=ATTRS) as writer,
        pytest.raises(InputError, match="no episode was written"),
    ):
        writer.finish({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("state"), "'state': missing; an episode needs action, state, timestamp"),
        (lambda a: a.update(action=a["action"].astype("f8")), r"'action': expected float32 .* got float64"),
        (lambda a: a.update(timestamp=a["timestamp"][1:]), "'timestamp': expected float64"),
        (
            lambda a: a.update(agentview_image=a["agentview_image"][..., :1]),
            r"'agentview_image': expected .*, got .* x 1\)",
        ),
        (
            lambda a: a.update({key: array[:0] for key, array in a.items()}),
            "'action': an episode needs at least one row",
        ),
    ],
)
def test_array_that_does_not_fit_is_named(tmp_path, make_episode, dataset_arrays, change, message: str) -> None:
    arrays = _first(dataset_arrays, make_episode)
    change(arrays)
    with DatasetWriter(tmp_path / "a.zarr", attrs=ATTRS) as writer, pytest.raises(InputError, match=message):
        _append(writer, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("robot0_eef_pos"), "'robot0_eef_pos' is not in every episode"),
        (lambda a: a.update(action=a["action"][:, :3]), r"'action': expected float32 rows of shape \(7,\)"),
    ],
)
def test_episodes_that_differ_in_layout_are_refused(tmp_path, make_episode, dataset_arrays, change, message) -> None:
    arrays = _first(dataset_arrays, make_episode)
    with DatasetWriter(tmp_path / "a.zarr", attrs=ATTRS) as writer:
        _append(writer, arrays)
        change(arrays)
        with pytest.raises(InputError, match=message):
            _append(writer, arrays)
        assert _append(writer, _first(dataset_arrays, make_episode)) == 1
