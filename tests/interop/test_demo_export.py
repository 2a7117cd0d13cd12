"""Exports to one HDF5 file: Isaac Lab's own handler and robomimic's own loader read them, and nothing is lost."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_engine.config import load_config
from cosmos_engine.data import Dataset, Recording
from cosmos_engine.errors import InputError
from cosmos_engine.interop.demo_export import ExportOptions
from cosmos_engine.interop.import_config import ImportConfig
from cosmos_engine.interop.isaaclab import export_isaaclab, import_isaaclab
from cosmos_engine.interop.robomimic import export_robomimic, import_robomimic

FORMATS = {"isaaclab": (export_isaaclab, import_isaaclab), "robomimic": (export_robomimic, import_robomimic)}


@pytest.mark.parametrize("name", FORMATS)
def test_recording_survives_the_round_trip(recording: Recording, tmp_path: Path, same_episode, name: str) -> None:
    give, bring = FORMATS[name]
    assert give(recording.folder, tmp_path / "out.hdf5", None, ExportOptions()) == 4
    bring(tmp_path / "out.hdf5", tmp_path / "back", ImportConfig())
    back = Recording(tmp_path / "back")
    for index in range(4):
        # Isaac Lab's states are taken after each action, and nobody recorded the last one.
        but = ("extras",) if name == "isaaclab" else ()
        same_episode(back.episode(index, extras=True), recording.episode(index, extras=True), but=but)


@pytest.mark.parametrize("with_recording", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_dataset_becomes_contiguous_demos(
    dataset: Path, recording: Recording, tmp_path: Path, name: str, with_recording: bool
) -> None:
    out = tmp_path / "out.hdf5"
    give = FORMATS[name][0]
    assert give(dataset, out, recording.folder if with_recording else None, ExportOptions()) == 8
    source = Dataset(dataset)
    image = "obs/table_image" if name == "robomimic" else "obs/table"
    with h5py.File(out) as file:
        data = file["data"]
        assert sorted(data, key=lambda demo: int(demo[5:])) == [f"demo_{index}" for index in range(8)]
        assert data.attrs["total"] == sum(data[demo].attrs["num_samples"] for demo in data)
        for index, row in enumerate(np.flatnonzero(source.accepted).tolist()):
            demo = data[f"demo_{index}"]
            np.testing.assert_array_equal(demo["actions"], source.episode(row)["action"])
            np.testing.assert_array_equal(demo["obs/wrench"], source.episode(row)["wrench"])
            np.testing.assert_array_equal(demo[image], source.episode(row)["table_image"])
            assert demo.attrs["instruction"] == f"hand over the cube, way {source.source_demo[row]}"
            assert demo.attrs["prompt"] == (f"oak table {source.source_demo[row]}" if source.variant[row] else "")
            assert demo.attrs["rewards_from"] == ("recording" if with_recording else "none")
            assert ("obs/table_depth" in demo) == with_recording
            assert ("success" in demo.attrs) == with_recording
        split = {
            mask: {data[demo.decode()].attrs["source_demo"] for demo in file["mask"][mask]} for mask in file["mask"]
        }
        assert split["train"] | split["valid"] == {0, 1, 2, 3}
        assert not split["train"] & split["valid"]


def test_recording_that_the_dataset_was_not_made_from_is_refused(dataset: Path, tmp_path: Path, lab_file: Path) -> None:
    import_isaaclab(lab_file, tmp_path / "lab", load_config(ImportConfig, "interop/isaaclab_stack_cosmos"))
    with pytest.raises(InputError, match="demo 0 is not the one that"):
        export_isaaclab(dataset, tmp_path / "out.hdf5", tmp_path / "lab", ExportOptions())
    assert not (tmp_path / "out.hdf5").exists()


def test_variants_are_not_imported_as_demos_of_their_own(dataset: Path, recording: Recording, tmp_path: Path) -> None:
    export_robomimic(dataset, tmp_path / "out.hdf5", recording.folder, ExportOptions())
    done = import_robomimic(tmp_path / "out.hdf5", tmp_path / "back", ImportConfig())
    assert (done.made, done.variants) == (4, 4)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file["data"].visititems(
            lambda name, node: found.__setitem__(name, node[...]) if isinstance(node, h5py.Dataset) else None
        )
    return found


def _assert_all_there(source: Path, back: Path) -> None:
    before, after = _arrays(source), _arrays(back)
    for name, array in before.items():
        assert after[name].dtype == array.dtype, name
        np.testing.assert_array_equal(after[name], array, name)


def test_isaac_lab_file_comes_back_bit_for_bit(lab_file: Path, tmp_path: Path) -> None:
    import_isaaclab(lab_file, tmp_path / "demos", load_config(ImportConfig, "interop/isaaclab_stack_cosmos"))
    export_isaaclab(tmp_path / "demos", tmp_path / "back.hdf5", None, ExportOptions())
    _assert_all_there(lab_file, tmp_path / "back.hdf5")


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.sampled_from(["f4", "f8"]), number=st.integers(0, 10**6))
def test_robomimic_file_comes_back_bit_for_bit(tmp_path_factory, robomimic_file, actions: str, number: int) -> None:
    folder = tmp_path_factory.mktemp("trip")
    file = robomimic_file(folder / "low_dim.hdf5", actions=actions)
    with h5py.File(file, "r+") as source:
        for demo in source["data"].values():
            demo.attrs["number"] = number
            demo["datagen/pose"] = np.random.default_rng(number).normal(size=(5, 4, 4))
    import_robomimic(file, folder / "demos", ImportConfig())
    export_robomimic(folder / "demos", folder / "back.hdf5", None, ExportOptions())
    before = _arrays(file)
    after = _arrays(folder / "back.hdf5")
    renumbered = {"demo_0": "demo_0", "demo_1": "demo_2", "demo_2": "demo_10"}
    for new, old in renumbered.items():
        for name, array in before.items():
            if name.startswith(f"{old}/"):
                found = after[name.replace(old, new, 1)]
                if name.endswith(("rewards", "dones")):  # float32 and bool here; the originals are extras too
                    assert np.array_equal(found, array)
                else:
                    assert found.dtype == array.dtype, name
                    np.testing.assert_array_equal(found, array, name)
    with h5py.File(folder / "back.hdf5") as back:
        assert list(back["mask/train"]) == [b"demo_0", b"demo_2"]
        assert list(back["mask/valid"]) == [b"demo_1"]
        assert back["data/demo_2"].attrs["model_file"] == "<mujoco>10</mujoco>"
        assert back["data/demo_2"].attrs["number"] == number


def test_robomimic_trains_on_an_export_by_its_masks(dataset: Path, tmp_path: Path) -> None:
    reason = "needs robomimic: pip install --no-deps robomimic==0.3.0 six termcolor"
    loader = pytest.importorskip("robomimic.utils.dataset", reason=reason)
    names = pytest.importorskip("robomimic.utils.obs_utils", reason=reason)
    export_isaaclab(dataset, tmp_path / "out.hdf5", None, ExportOptions())
    keys = ("robot0_eef_pos", "robot1_eef_pos", "wrench", "table", "wrist")
    names.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(keys[:3]), "rgb": list(keys[3:])}})
    lengths = {}
    for mask in ("train", "valid"):
        windows = loader.SequenceDataset(
            hdf5_path=str(tmp_path / "out.hdf5"),
            obs_keys=keys,
            dataset_keys=("actions", "rewards", "dones"),
            frame_stack=2,
            seq_length=3,
            load_next_obs=False,
            filter_by_attribute=mask,
        )
        lengths[mask] = len(windows)
        assert windows[0]["obs"]["wrist"].shape == (4, 12, 12, 3)
        assert windows[0]["actions"].shape == (4, 14)
    assert sum(lengths.values()) == int(Dataset(dataset).episode_ends[-1]) - 6  # one episode of 6 was not accepted


def test_isaac_labs_handler_reads_an_export(dataset: Path, recording: Recording, tmp_path: Path) -> None:
    """Set COSMOS_ENGINE_ISAACLAB to `isaaclab/utils/datasets` of an unpacked wheel (isaaclab 2.3.2.post1)."""
    folder = os.environ.get("COSMOS_ENGINE_ISAACLAB")
    if not folder:
        pytest.skip("set COSMOS_ENGINE_ISAACLAB to the folder isaaclab/utils/datasets of the wheel isaaclab")
    handler_class = _datasets_package(Path(folder)).HDF5DatasetFileHandler
    export_isaaclab(dataset, tmp_path / "out.hdf5", recording.folder, ExportOptions())
    handler = handler_class()
    handler.open(str(tmp_path / "out.hdf5"))
    assert handler.get_env_name() == "hand_over"
    assert handler.get_num_episodes() == 8
    assert sorted(handler.get_episode_names()) == sorted(f"demo_{index}" for index in range(8))
    source = Dataset(dataset)
    for index, row in enumerate(np.flatnonzero(source.accepted).tolist()):
        episode = handler.load_episode(f"demo_{index}", "cpu")
        rows = source.episode(row)
        assert bool(episode.success)
        assert episode.seed == source.source_demo[row]
        np.testing.assert_array_equal(episode.data["actions"].numpy(), rows["action"])
        np.testing.assert_array_equal(episode.data["obs"]["wrist"].numpy(), rows["wrist_image"])
        np.testing.assert_array_equal(episode.data["initial_state"]["simulator"].numpy(), rows["state"][:1])
        for step in range(len(rows["action"])):  # replayed as Isaac Lab's replay script does
            np.testing.assert_array_equal(episode.get_next_action().numpy(), rows["action"][step])
        state = episode.get_state(2)
        np.testing.assert_array_equal(state["simulator"].numpy(), rows["state"][3:4])
    handler.close()


def test_what_isaac_labs_handler_writes_is_imported(tmp_path: Path) -> None:
    folder = os.environ.get("COSMOS_ENGINE_ISAACLAB")
    if not folder:
        pytest.skip("set COSMOS_ENGINE_ISAACLAB to the folder isaaclab/utils/datasets of the wheel isaaclab")
    import torch

    package = _datasets_package(Path(folder))
    rng = np.random.default_rng(0)
    episode = package.EpisodeData()
    colors = torch.tensor([[204, 110, 248, 255], [255, 237, 218, 255]], dtype=torch.uint8)
    steps = {
        "actions": torch.tensor(rng.uniform(-1, 1, (4, 7)), dtype=torch.float32),
        "obs/eef_pos": torch.tensor(rng.normal(size=(4, 3)), dtype=torch.float32),
        "obs/table_cam": torch.tensor(rng.integers(0, 256, (4, 8, 8, 3)), dtype=torch.uint8),
        "obs/table_cam_depth": torch.tensor(rng.uniform(0.3, 1, (4, 8, 8, 1)), dtype=torch.float32),
        "obs/table_cam_segmentation": colors[torch.tensor(rng.integers(0, 2, (4, 8, 8)))],
        "states/articulation/robot/joint_position": torch.tensor(rng.normal(size=(4, 9)), dtype=torch.float32),
    }
    for path, rows in steps.items():
        for row in rows:
            episode.add(path, row)
    first = torch.tensor(rng.normal(size=(1, 9)), dtype=torch.float32)
    episode.add("initial_state/articulation/robot/joint_position", first[0])
    episode.pre_export()
    episode.success, episode.seed = True, 5
    handler = package.HDF5DatasetFileHandler()
    handler.create(str(tmp_path / "lab.hdf5"), env_name="Isaac-Stack-Cube-v0")
    handler.write_episode(episode)
    handler.flush()
    handler.close()
    import_isaaclab(
        tmp_path / "lab.hdf5", tmp_path / "demos", load_config(ImportConfig, "interop/isaaclab_stack_cosmos")
    )
    made = Recording(tmp_path / "demos").episode(0)
    np.testing.assert_array_equal(made.cameras["table_cam"].rgb, steps["obs/table_cam"].numpy())
    np.testing.assert_array_equal(made.states[0], first[0].numpy())
    assert (made.seed, made.success) == (5, True)
    _assert_all_there_after(tmp_path)


def _assert_all_there_after(tmp_path: Path) -> None:
    export_isaaclab(tmp_path / "demos", tmp_path / "back.hdf5", None, ExportOptions())
    _assert_all_there(tmp_path / "lab.hdf5", tmp_path / "back.hdf5")


def _datasets_package(folder: Path):
    """Import Isaac Lab's `datasets` package alone: the packages above it need Isaac Sim."""
    spec = importlib.util.spec_from_file_location(
        "isaaclab_datasets", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["isaaclab_datasets"] = package
    spec.loader.exec_module(package)
    return package


def test_export_is_whole_or_not_there(dataset: Path, tmp_path: Path, kill_at_operation) -> None:
    out = tmp_path / "exports" / "out.hdf5"

    def export() -> None:
        export_robomimic(dataset, out, None, ExportOptions())

    for operation in (3, 6, 9, 40):
        killed = kill_at_operation(operation, out.parent, export)
        assert killed == (not out.exists()) or operation > 9
        if not out.exists():
            export()
        with h5py.File(out) as file:
            assert len(file["data"]) == 8
            assert "train" in file["mask"]
        out.unlink()
        assert killed or operation > 9
    assert not [entry for entry in out.parent.iterdir() if not entry.name.endswith(".part")]


def test_no_time_of_writing_is_in_the_bytes(dataset: Path, tmp_path: Path) -> None:
    export_robomimic(dataset, tmp_path / "out.hdf5", None, ExportOptions())
    timed = []

    def look(name: str, item: h5py.HLObject) -> None:
        if h5py.h5o.get_info(item.id).mtime:
            timed.append(name)

    with h5py.File(tmp_path / "out.hdf5") as file:
        assert "mask/train" in file
        file.visititems(look)
    assert timed == []


def test_full_disk_is_one_line_and_leaves_nothing(dataset: Path, tmp_path: Path, file_size_limit) -> None:
    out = tmp_path / "exports" / "out.hdf5"
    with file_size_limit(30_000), pytest.raises(InputError, match="cannot be written: File too large"):
        export_robomimic(dataset, out, None, ExportOptions())
    assert not out.exists()
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: (path / "x.hdf5").write_bytes(b""), "exists; choose another output"),
        (lambda path: None, "validation_fraction: expected a value within"),
    ],
)
def test_bad_orders_are_one_line(dataset: Path, tmp_path: Path, make, line: str) -> None:
    make(tmp_path)
    options = ExportOptions(validation_fraction=1.0 if "fraction" in line else 0.1)
    with pytest.raises(InputError, match=line):
        export_robomimic(dataset, tmp_path / "x.hdf5", None, options)


def test_something_else_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset here"):
        export_robomimic(tmp_path, tmp_path / "x.hdf5", None, ExportOptions())


def test_own_masks_are_json(recording: Recording, tmp_path: Path) -> None:
    export_robomimic(recording.folder, tmp_path / "x.hdf5", None, ExportOptions(validation_fraction=0.0))
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert list(file["mask"]) == ["train"]
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "hand_over"
