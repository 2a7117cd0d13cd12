"""Frame cache: the frames of the dataset and no others, whatever was killed, cut, flipped or written over."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cosmos_engine.data import Dataset, DatasetWriter, Recording, build_certificate
from cosmos_engine.data import frame_cache as module
from cosmos_engine.data.atomic import temporaries
from cosmos_engine.data.frame_cache import FRAMES_FILE, FrameForm, decoded_images
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.errors import InputError

KEY = "agentview_image"
KEYS = (KEY, "robot0_eye_in_hand_image")
HALVED = FrameForm("halved", lambda images: images[:, ::2, ::2])


@pytest.fixture
def dataset(
    recording_folder: Path,
    dataset_arrays: Callable[..., dict[str, NDArray[Any]]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    """Originals and one variant of each of three demos, certified; the second variant was not accepted."""
    made = tmp_path_factory.getbasetemp() / "frame_cache.zarr"
    if not made.exists():
        _written(made, recording_folder, dataset_arrays, brighter=40)
    shutil.copytree(made, tmp_path / "d.zarr")
    return Dataset(tmp_path / "d.zarr")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a few hundred bytes lie in several blocks and pieces."""
    monkeypatch.setattr(module, "_SUM_BYTES", 1000)
    monkeypatch.delenv(module.CACHE_VARIABLE, raising=False)


def _written(path: Path, recording_folder: Path, dataset_arrays: Callable[..., Any], brighter: int) -> Dataset:
    recording = Recording(recording_folder)
    with DatasetWriter(path, attrs={}) as writer:
        for demo in range(len(recording)):
            arrays = dataset_arrays(recording.episode(demo))
            writer.append(arrays, source_demo=demo, variant=0, accepted=True, info={})
            for key in KEYS:
                arrays[key] = np.minimum(arrays[key].astype(int) + brighter, 255).astype(np.uint8)
            writer.append(arrays, source_demo=demo, variant=1, accepted=demo != 1, info={})
        writer.finish(build_certificate(recording, writer, config={}, weights_sha256={}))
    return Dataset(path)


def _expected(dataset: Dataset, key: str, episodes: NDArray[Any], form: FrameForm | None = None) -> NDArray[Any]:
    return (form or FrameForm()).apply(np.concatenate([dataset.array(key)[dataset.rows(int(e))] for e in episodes]))


def _files(dataset: Dataset) -> list[Path]:
    return sorted(dataset.path.with_name("d.zarr.frames").glob(f"*/{FRAMES_FILE}"))


def _mapped(dataset: Dataset, form: FrameForm | None = None) -> NDArray[Any]:
    return decoded_images(dataset, [KEY], np.flatnonzero(dataset.accepted), form, ram_bytes=0)[KEY]


@pytest.mark.parametrize("ram_bytes", [0, 1 << 30])
@pytest.mark.parametrize("episodes", [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 5], [5, 0], [3]])
@pytest.mark.parametrize("form", [None, HALVED])
def test_map_and_ram_hold_the_frames_of_the_episodes(
    dataset: Dataset, ram_bytes: int, episodes: list[int], form: FrameForm | None
) -> None:
    chosen = np.array(episodes)
    for _ in range(2):  # made, then found
        images = decoded_images(dataset, KEYS, chosen, form, ram_bytes=ram_bytes)
        assert tuple(images) == KEYS
        for key in KEYS:
            assert images[key].dtype == np.uint8
            np.testing.assert_array_equal(images[key], _expected(dataset, key, chosen, form))
    assert len(_files(dataset)) == (0 if ram_bytes else 2)


def test_map_is_decoded_once_and_cannot_be_written(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _mapped(dataset)
    monkeypatch.setattr(module._Selection, "decoded", None)
    again = _mapped(Dataset(dataset.path))
    np.testing.assert_array_equal(first, again)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0


def test_each_form_and_choice_of_episodes_has_its_own_map(dataset: Dataset) -> None:
    whole, halved = _mapped(dataset), _mapped(dataset, HALVED)
    one = decoded_images(dataset, [KEY], np.array([2]), ram_bytes=0)[KEY]
    assert len(_files(dataset)) == 3
    np.testing.assert_array_equal(halved, whole[:, ::2, ::2])
    np.testing.assert_array_equal(one, _expected(dataset, KEY, np.array([2])))


def test_dataset_made_anew_at_the_same_place_has_its_own_frames(
    dataset: Dataset, recording_folder: Path, dataset_arrays: Callable[..., Any]
) -> None:
    before = _mapped(dataset).copy()
    shutil.rmtree(dataset.path)
    anew = _written(dataset.path, recording_folder, dataset_arrays, brighter=90)
    images = _mapped(anew)
    assert not np.array_equal(images, before)
    np.testing.assert_array_equal(images, _expected(anew, KEY, np.flatnonzero(anew.accepted)))


def test_dataset_whose_certificate_lists_nothing_is_known_by_its_bytes(
    tmp_path: Path, make_episode: Callable[..., Any], dataset_arrays: Callable[..., Any]
) -> None:
    for brightness in (0, 50):
        shutil.rmtree(tmp_path / "d.zarr", ignore_errors=True)
        with DatasetWriter(tmp_path / "d.zarr", attrs={}) as writer:
            arrays = dataset_arrays(make_episode(1))
            arrays[KEY] = arrays[KEY] // 2 + brightness
            writer.append(arrays, source_demo=0, variant=0, accepted=True, info={})
            writer.finish({"kind": "elsewhere"})
        dataset = Dataset(tmp_path / "d.zarr")
        np.testing.assert_array_equal(_mapped(dataset), _expected(dataset, KEY, np.array([0])))


def test_moved_dataset_keeps_its_map(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _mapped(dataset).copy()
    (tmp_path / "there").mkdir()
    for name in ("d.zarr", "d.zarr.frames"):
        shutil.copytree(tmp_path / name, tmp_path / "there" / name)
    monkeypatch.setattr(module._Selection, "decoded", None)
    np.testing.assert_array_equal(_mapped(Dataset(tmp_path / "there" / "d.zarr")), first)


def test_rows_that_are_not_the_certificates_are_refused(dataset: Dataset, dataset_arrays: Callable[..., Any]) -> None:
    other = dataset.path.with_name("other.zarr")
    with DatasetWriter(other, attrs={}) as writer:
        for episode in range(dataset.episode_count):
            arrays = dataset.episode(episode)
            arrays[KEY] = arrays[KEY] ^ np.uint8(episode == 4)
            writer.append(arrays, source_demo=0, variant=0, accepted=True, info={})
    shutil.rmtree(dataset.path / "data" / KEY)
    shutil.copytree(other / "data" / KEY, dataset.path / "data" / KEY)
    rows = dataset.rows(4)
    with pytest.raises(InputError, match=f"{KEY}: rows {rows.start} to {rows.stop} are not those of certificate.json"):
        _mapped(Dataset(dataset.path))
    assert not _files(dataset)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_cut_or_flipped_map_is_read(frames_file: tuple[Dataset, Path, NDArray[Any]], data: st.DataObject) -> None:
    dataset, file, expected = frames_file
    content = file.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "flipped", "longer", "zeroed", "swapped"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        damaged = content[:place]
    elif kind == "flipped":
        flipped = content[place] ^ (1 << data.draw(st.integers(0, 7)))
        damaged = content[:place] + bytes([flipped]) + content[place + 1 :]
    elif kind == "longer":
        damaged = content + bytes(place + 1)
    elif kind == "zeroed":
        damaged = content[:place] + bytes(len(content) - place)
    else:
        start = module._HEADER_BYTES
        damaged = content[:start] + content[start + 1000 : start + 2000] + content[start : start + 1000]
        damaged += content[start + 2000 :]
    try:
        file.write_bytes(damaged)
        np.testing.assert_array_equal(_mapped(dataset), expected)
        assert file.read_bytes() == content
    finally:
        file.write_bytes(content)


@pytest.fixture(scope="module")
def frames_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path, NDArray[Any]]:
    """A dataset of another engine's, with its map and its frames."""
    path = tmp_path_factory.mktemp("frames") / "d.zarr"
    rng = np.random.default_rng(0)
    with DatasetWriter(path, attrs={}) as writer:
        arrays: dict[str, NDArray[Any]] = {
            "action": np.zeros((40, 2), np.float32),
            "state": np.zeros((40, 2)),
            "timestamp": np.arange(40) / 20.0,
            KEY: rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8),
        }
        writer.append(arrays, source_demo=0, variant=0, accepted=True, info={})
        writer.finish({})
    dataset = Dataset(path)
    blocks, module._SUM_BYTES = module._SUM_BYTES, 1000
    try:
        _mapped(dataset)
    finally:
        module._SUM_BYTES = blocks
    return dataset, _files(dataset)[0], arrays[KEY]


def test_damage_is_said_once_and_mended(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    _mapped(dataset)
    file = _files(dataset)[0]
    os.truncate(file, file.stat().st_size - 1)
    _mapped(dataset)
    assert f"{file}: truncated, damaged or of another dataset; made anew" in capfd.readouterr().err
    _mapped(dataset)
    assert "anew" not in capfd.readouterr().err


def test_killed_at_any_operation_the_next_one_gets_the_same_frames(
    dataset: Dataset, kill_at_operation: Callable[..., bool]
) -> None:
    folder = dataset.path.with_name("d.zarr.frames")
    expected = _expected(dataset, KEY, np.flatnonzero(dataset.accepted))
    operation, killed = 1, 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        came = kill_at_operation(operation, folder, lambda: _mapped(dataset))
        np.testing.assert_array_equal(_mapped(dataset), expected)
        assert not temporaries(folder)
        # A process killed between the rename and its end leaves the name of a lock that nobody holds.
        assert {file.name for file in folder.rglob("*") if file.is_file()} <= {FRAMES_FILE, ".writer.lock"}
        if not came:
            break
        killed, operation = killed + 1, operation + 1
    assert killed >= 6


def test_killed_at_random_moments_the_next_one_gets_the_same_frames(
    dataset: Dataset, kill_after: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module._Selection._decode

    def slow(self: Any, rows: slice) -> Any:
        time.sleep(0.02)
        return original(self, rows)

    monkeypatch.setattr(module._Selection, "_decode", slow)
    monkeypatch.setattr(
        module, "_pieces", lambda rows, array: [slice(i, i + 1) for r in rows for i in range(r.start, r.stop)]
    )
    monkeypatch.setattr(module, "_THREADS", 1)
    expected = _expected(dataset, KEY, np.flatnonzero(dataset.accepted))
    killed = 0
    for seconds in np.random.default_rng(0).uniform(0.0, 0.5, 8):
        killed += kill_after(float(seconds), lambda: _mapped(dataset))
    np.testing.assert_array_equal(_mapped(dataset), expected)
    assert killed
    assert not temporaries(dataset.path.parent)


def test_two_at_once_make_one_map(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "made"
    write = module._write

    def noted(*arguments: Any) -> None:
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        write(*arguments)

    monkeypatch.setattr(module, "_write", noted)
    expected = _expected(dataset, KEY, np.flatnonzero(dataset.accepted))

    def compare() -> None:
        np.testing.assert_array_equal(_mapped(dataset), expected)

    both = [multiprocessing.get_context("fork").Process(target=compare) for _ in range(3)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0, 0]
    assert log.read_text() == "x"


def test_waiting_names_who_decodes(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    home = dataset.path.with_name("held")
    home.mkdir()
    held = WriterLock(home)

    def wait() -> None:
        module._lock(home).release()

    waiting = multiprocessing.get_context("fork").Process(target=wait)
    waiting.start()
    waiting.join(1.0)
    assert waiting.is_alive()
    held.release()
    waiting.join(20)
    assert waiting.exitcode == 0
    assert f"{home}: process {os.getpid()} on " in capfd.readouterr().err


def test_full_disk_is_one_line_and_leaves_nothing(dataset: Dataset, file_size_limit: Callable[..., Any]) -> None:
    with file_size_limit(5000), pytest.raises(InputError, match=f"{FRAMES_FILE}: cannot be written: File too large"):
        _mapped(dataset)
    assert not [file for file in dataset.path.with_name("d.zarr.frames").rglob("*") if file.is_file()]
    np.testing.assert_array_equal(_mapped(dataset), _expected(dataset, KEY, np.flatnonzero(dataset.accepted)))


def test_too_little_space_is_said_before_work(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with pytest.raises(
        InputError, match=r"0\.\d MB free, expected .* for the decoded frames; COSMOS_ENGINE_CACHE names"
    ):
        _mapped(dataset)


def test_folder_that_cannot_be_made_is_one_line(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.path.with_name("file").write_text("")
    monkeypatch.setenv(module.CACHE_VARIABLE, str(dataset.path.with_name("file")))
    with pytest.raises(InputError, match=r"frames.*: cannot be written: Not a directory"):
        _mapped(dataset)


def test_map_is_where_the_user_says(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    _mapped(dataset)
    assert len(list((tmp_path / "elsewhere" / "frames").glob(f"{KEY}-*/{FRAMES_FILE}"))) == 1
    assert not dataset.path.with_name("d.zarr.frames").exists()


def test_dataset_in_a_read_only_folder_is_cached_for_the_user(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    images = _mapped(dataset)
    np.testing.assert_array_equal(images, _expected(dataset, KEY, np.flatnonzero(dataset.accepted)))
    assert not dataset.path.with_name("d.zarr.frames").exists()
    assert list((tmp_path / "home" / ".cache" / "cosmos-engine" / "frames").glob(f"*/{FRAMES_FILE}"))


def test_damaged_chunk_and_unknown_key_are_one_line(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="did you mean 'agentview_image'"):
        decoded_images(dataset, ["agentviev_image"], np.array([0]))
    with pytest.raises(InputError, match="expected uint8"):
        decoded_images(dataset, ["action"], np.array([0]))
    chunk = dataset.path / "data" / KEY / "0.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    for ram_bytes in (0, 1 << 30):
        with pytest.raises(InputError, match="storage chunk is truncated or damaged"):
            decoded_images(dataset, [KEY], np.array([0]), ram_bytes=ram_bytes)
    assert not _files(dataset)
