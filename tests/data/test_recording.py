from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cosmos_engine.data import CameraPasses, Episode, Recording, RecordingWriter
from cosmos_engine.data.episode_file import encode_episode, read_episode
from cosmos_engine.data.trailer import with_trailer
from cosmos_engine.errors import InputError


def _assert_same_episode(actual: Episode, expected: Episode) -> None:
    for field in dataclasses.fields(Episode):
        if field.name not in {"observations", "cameras"}:
            np.testing.assert_array_equal(getattr(actual, field.name), getattr(expected, field.name), field.name)
    assert actual.observations.keys() == expected.observations.keys()
    for name, array in expected.observations.items():
        np.testing.assert_array_equal(actual.observations[name], array, name)
    assert actual.cameras.keys() == expected.cameras.keys()
    for camera, passes in expected.cameras.items():
        for field in dataclasses.fields(CameraPasses):
            actual_array, array = getattr(actual.cameras[camera], field.name), getattr(passes, field.name)
            assert actual_array.dtype == array.dtype
            np.testing.assert_array_equal(actual_array, array, f"{camera} {field.name}")


def _assert_whole(folder: Path, made: list[Episode]) -> None:
    recording = Recording(folder)
    assert len(recording) == len(made)
    for index, episode in enumerate(made):
        _assert_same_episode(recording.episode(index), episode)
    with h5py.File(folder / "demos.hdf5", "r") as index:
        assert len(index["data"]) == len(made)
        assert index["data"].attrs["total"] == sum(episode.length for episode in made)
    assert not list(folder.rglob(".*"))


def _change_file(path: Path, change) -> None:
    """Change a file as a writer would that keeps the format."""
    with h5py.File(path, "r+") as file:
        change(file["data/demo_0"])
    path.write_bytes(with_trailer(path.read_bytes()))


def test_every_array_survives_bit_for_bit(recording_folder: Path, make_episode) -> None:
    recording = Recording(recording_folder)
    assert len(recording) == 3
    for index in range(3):
        _assert_same_episode(recording.episode(index), make_episode(index))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), frames=st.integers(1, 5), height=st.integers(1, 9), width=st.integers(1, 9))
def test_passes_of_any_size_and_value_survive(tmp_path: Path, episode: Episode, data, frames, height, width) -> None:
    def draw(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        elements = {"elements": {"allow_nan": False}} if dtype == "f4" else {}
        return data.draw(arrays.arrays(dtype, shape, **elements))

    passes = CameraPasses(
        rgb=draw("u1", (frames, height, width, 3)),
        depth_m=draw("f4", (frames, height, width)),
        instance=draw("u2", (frames, height, width)),
        intrinsics_px=np.eye(3),
        world_from_camera=np.tile(np.eye(4), (frames, 1, 1)),
    )
    ids = {int(i) for i in np.unique(passes.instance)} - {0}
    made = dataclasses.replace(
        episode,
        **{name: getattr(episode, name)[:1].repeat(frames, 0) for name in ("actions", "states", "rewards", "dones")},
        observations={},
        cameras={"wrist": passes},
        labels=dict.fromkeys(ids, episode.labels[1]),
    )
    path = tmp_path / "episode.hdf5"
    path.write_bytes(encode_episode(made, {}))
    _assert_same_episode(read_episode(path), made)


def test_header_tells_an_episode_without_its_arrays(recording_folder: Path, episode: Episode) -> None:
    header = Recording(recording_folder).header(1)
    assert (header.length, header.seed, header.success) == (episode.length, 1, True)
    assert (header.task, header.instruction, header.episode_id) == ("lift", "lift the cube", episode.episode_id)
    assert header.cameras == {"agentview": (8, 10), "robot0_eye_in_hand": (6, 6)}
    assert Recording(recording_folder).seeds() == [0, 1, 2]


def test_only_the_wanted_cameras_are_read(recording_folder: Path) -> None:
    recording = Recording(recording_folder)
    assert list(recording.episode(0, cameras=("agentview",)).cameras) == ["agentview"]
    assert list(recording.episode(0, cameras=()).cameras) == []
    with pytest.raises(InputError, match="no camera 'agentvew'; did you mean 'agentview'"):
        recording.episode(0, cameras=("agentvew",))


def test_index_reads_as_one_file_wherever_the_folder_is_moved(recording_folder: Path, tmp_path: Path, env_args) -> None:
    moved = recording_folder.rename(tmp_path / "elsewhere")
    recording = Recording(moved)
    with h5py.File(moved / "demos.hdf5", "r") as index:
        data = index["data"]
        assert list(data) == ["demo_0", "demo_1", "demo_2"]
        assert json.loads(data.attrs["env_args"]) == recording.env_args == env_args
        assert data.attrs["total"] == sum(recording.header(i).length for i in range(3))
        for i in range(3):
            demo = data[f"demo_{i}"]
            assert demo.attrs["num_samples"] == len(demo["actions"]) == recording.header(i).length
            assert demo["obs/agentview_depth"].shape == (*demo["obs/agentview_image"].shape[:3], 1)
            assert demo["obs/agentview_instance"].dtype == np.uint16
            assert json.loads(demo.attrs["labels"])["2"] == {"name": "cube", "class": "cube", "role": "manipulated"}


def test_robomimic_reads_the_index(recording_folder: Path, make_episode) -> None:
    reason = "needs robomimic: pip install --no-deps robomimic==0.3.0 six termcolor"
    dataset_module = pytest.importorskip("robomimic.utils.dataset", reason=reason)
    obs_utils = pytest.importorskip("robomimic.utils.obs_utils", reason=reason)
    modalities = {"low_dim": ["robot0_eef_pos"], "rgb": ["agentview_image"], "depth": ["agentview_depth"]}
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": modalities})
    dataset = dataset_module.SequenceDataset(
        hdf5_path=str(recording_folder / "demos.hdf5"),
        obs_keys=("robot0_eef_pos", "agentview_image", "agentview_depth"),
        dataset_keys=("actions", "rewards", "dones"),
        frame_stack=2,
        seq_length=3,
        load_next_obs=False,
    )
    first, second = make_episode(0), make_episode(1)
    assert dataset.n_demos == 3
    window = dataset[first.length + 1]
    np.testing.assert_array_equal(window["actions"], second.actions[:4])
    np.testing.assert_array_equal(window["obs"]["robot0_eef_pos"], second.observations["robot0_eef_pos"][:4])
    np.testing.assert_array_equal(window["obs"]["agentview_image"], second.cameras["agentview"].rgb[:4])


def test_recording_goes_on_where_it_stopped(recording_folder: Path, make_episode, env_args) -> None:
    with RecordingWriter(recording_folder, env_args) as writer:
        assert len(writer) == 3
        assert writer.append(make_episode(3)) == 3
    assert Recording(recording_folder).seeds() == [0, 1, 2, 3]


def test_index_that_lags_or_is_damaged_is_mended(recording_folder: Path, make_episode, env_args) -> None:
    index = recording_folder / "demos.hdf5"
    for damage in (index.unlink, lambda: index.write_bytes(index.read_bytes()[:100])):
        damage()
        with RecordingWriter(recording_folder, env_args):
            pass
        with h5py.File(index, "r") as file:
            assert len(file["data"]) == 3
            assert file["data"].attrs["total"] == sum(make_episode(i).length for i in range(3))


def test_killed_writer_loses_at_most_the_episode_in_progress(
    tmp_path, make_episode, env_args, kill_at_operation
) -> None:
    folder = tmp_path / "demos"
    made = [make_episode(seed) for seed in range(2)]

    def record() -> None:
        with RecordingWriter(folder, env_args) as writer:
            for episode in made[len(writer) :]:
                writer.append(episode)

    operation = 1
    while kill_at_operation(operation, tmp_path, record):
        committed = len(list(folder.glob("episodes/episode_*.hdf5")))
        with RecordingWriter(folder, env_args) as writer:
            assert len(writer) == committed
        _assert_whole(folder, made[:committed])
        shutil.rmtree(folder)
        operation += 1
    assert operation > 20
    _assert_whole(folder, made)


def test_recording_survives_kills_at_any_time(tmp_path: Path, make_episode, env_args, kill_after) -> None:
    folder = tmp_path / "demos"
    made = [make_episode(seed) for seed in range(4)]

    def record() -> None:
        with RecordingWriter(folder, env_args) as writer:
            while True:
                writer.append(made[len(writer) % 4])

    before = 0
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert kill_after(rng.uniform(0.05, 0.15), record)
        with RecordingWriter(folder, env_args) as writer:
            assert len(writer) >= before
            before = len(writer)
        _assert_whole(folder, [made[i % 4] for i in range(before)])


def test_second_writer_is_refused(recording_folder: Path, env_args) -> None:
    with (
        RecordingWriter(recording_folder, env_args),
        pytest.raises(InputError, match="is writing here; only one writer"),
    ):
        RecordingWriter(recording_folder, env_args)


def test_full_disk_leaves_the_recording_as_it_was(recording_folder, make_episode, env_args, file_size_limit) -> None:
    with RecordingWriter(recording_folder, env_args) as writer:
        with (
            file_size_limit(5000),
            pytest.raises(InputError, match=r"episode_000003\.hdf5: cannot be written: File too large"),
        ):
            writer.append(make_episode(3))
        assert writer.append(make_episode(4)) == 3
    assert Recording(recording_folder).seeds() == [0, 1, 2, 4]
    assert len(list((recording_folder / "episodes").iterdir())) == 4


def test_recording_of_another_environment_is_refused(recording_folder: Path, env_args) -> None:
    with pytest.raises(InputError, match=r"recorded with env_args .*lift.* not .*stack"):
        RecordingWriter(recording_folder, {**env_args, "env_name": "stack"})


def test_env_args_that_robomimic_cannot_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="env_args: 'type' must be int, got None"):
        RecordingWriter(tmp_path / "demos", {"env_name": "lift", "env_kwargs": {}})
    assert not (tmp_path / "demos").exists()


def test_folder_of_other_things_is_refused(tmp_path: Path, env_args) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds something other than a recording"):
        RecordingWriter(tmp_path, env_args)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_missing_recording_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recording here"):
        Recording(tmp_path / "absent")


def test_missing_episode_is_one_line(recording_folder: Path) -> None:
    with pytest.raises(InputError, match="no episode 3; there are 3"):
        Recording(recording_folder).episode(3)
    (recording_folder / "episodes" / "episode_000001.hdf5").unlink()
    with pytest.raises(InputError, match=r"episode_000001\.hdf5: missing, though episode 2 is there"):
        Recording(recording_folder)


@pytest.mark.parametrize("render_pass", ["depth", "instance"])
def test_episode_without_a_pass_names_pass_and_remedy(recording_folder: Path, render_pass: str) -> None:
    path = Recording(recording_folder).path(0)
    _change_file(path, lambda demo: demo.pop(f"obs/agentview_{render_pass}"))
    message = rf"episode_000000\.hdf5: obs/agentview_{render_pass}: missing; record this camera with its {render_pass}"
    with pytest.raises(InputError, match=message):
        read_episode(path)


def test_frame_counts_that_differ_in_a_file_are_one_line(recording_folder: Path, make_episode) -> None:
    path = Recording(recording_folder).path(0)

    def shorten(demo: h5py.Group) -> None:
        depth = demo["obs/agentview_depth"][1:]
        del demo["obs/agentview_depth"]
        demo["obs/agentview_depth"] = depth

    _change_file(path, shorten)
    length = make_episode(0).length
    message = rf"episode_000000\.hdf5: camera 'agentview': depth_m: expected float32 \({length} x 8 x 10\), got"
    with pytest.raises(InputError, match=message):
        read_episode(path)


def test_truncated_file_is_one_line_wherever_it_is_cut(recording_folder: Path) -> None:
    path = Recording(recording_folder).path(0)
    whole = path.read_bytes()
    for length in np.random.default_rng(0).integers(0, len(whole), 60):
        path.write_bytes(whole[: int(length)])
        with pytest.raises(InputError, match=r"episode_000000\.hdf5: truncated, damaged or changed"):
            read_episode(path)


def test_flipped_bits_are_found(recording_folder: Path, make_episode) -> None:
    path = Recording(recording_folder).path(0)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="truncated, damaged or changed by another program"):
            read_episode(path)
    path.write_bytes(whole)
    _assert_same_episode(read_episode(path), make_episode(0))


def test_file_that_another_program_changed_is_refused(recording_folder: Path) -> None:
    path = Recording(recording_folder).path(0)
    with h5py.File(path, "r+") as file:
        file["data/demo_0"]["note"] = 1
    with pytest.raises(InputError, match=r"episode_000000\.hdf5: truncated, damaged or changed by another program"):
        read_episode(path)
