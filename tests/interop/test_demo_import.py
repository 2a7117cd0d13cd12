"""Imports of HDF5: what an Isaac Lab or a robomimic file holds arrives, and what is missing is named."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosmos_engine.config import load_config
from cosmos_engine.data import Recording, verify_recording
from cosmos_engine.errors import InputError
from cosmos_engine.interop import demo_import
from cosmos_engine.interop.import_config import ImportConfig
from cosmos_engine.interop.isaaclab import import_isaaclab
from cosmos_engine.interop.robomimic import import_robomimic

PRESET = "interop/isaaclab_stack_cosmos"


def config(*overrides: str, name: str | None = PRESET) -> ImportConfig:
    return load_config(ImportConfig, name, list(overrides))


def change(path: Path, make) -> None:
    with h5py.File(path, "r+") as file:
        make(file)


def test_isaac_lab_file_becomes_a_recording(lab_file: Path, tmp_path: Path) -> None:
    done = import_isaaclab(lab_file, tmp_path / "demos", config())
    recording = Recording(tmp_path / "demos")
    assert (done.made, done.before, len(recording)) == (2, 0, 2)
    assert verify_recording(recording.folder).sound
    episode = recording.episode(1, extras=True)
    with h5py.File(lab_file) as file:
        demo = file["data/demo_1"]
        np.testing.assert_array_equal(episode.actions, demo["actions"])
        np.testing.assert_array_equal(episode.observations["eef_quat"], demo["obs/eef_quat"])
        table = episode.cameras["table_cam"]
        np.testing.assert_array_equal(table.rgb, demo["obs/table_cam"])
        written = demo["obs/table_cam_depth"][..., 0]
        np.testing.assert_array_equal(table.depth_m, np.where(written > 0, written, np.inf))
        np.testing.assert_array_equal(episode.extras["obs/wrist_cam"], demo["obs/wrist_cam"])
        segmentation = demo["obs/table_cam_segmentation"][:]
        for number, label in episode.labels.items():
            shown = (segmentation == (*_color(label.name), 255)).all(-1)
            np.testing.assert_array_equal(table.instance == number, shown, label.name)
        # Isaac Lab records states after each action: before action t is after action t - 1.
        joints = demo["states/articulation/robot/joint_position"][:]
        first = demo["initial_state/articulation/robot/joint_position"][:]
        np.testing.assert_array_equal(episode.states[:, :9], np.concatenate([first, joints[:-1]]))
    assert {label.role for label in episode.labels.values()} == {"robot", "manipulated", "scene"}
    assert episode.step_hz == 20.0
    assert episode.instruction.startswith("stack the red cube")


def _color(name: str) -> tuple[int, ...]:
    return next(tuple(label.color) for label in config().labels if label.name == name)


def test_preset_camera_looks_at_the_table() -> None:
    """The table camera of the Cosmos environment stands at x = 1 m, 0.4 m high, and looks back and down."""
    from cosmos_engine.interop.foreign_camera import _from_quaternions

    camera = config().cameras["table_cam"]
    pose = _from_quaternions(np.array([[*camera.position_m, *camera.quat_wxyz]]), "")[0]
    forward = pose[:3, 2]
    assert forward[0] < -0.5
    assert forward[2] < -0.2
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("change_file", "overrides", "line"),
    [
        (None, ["skip=[]"], r"demo_0: camera 'wrist_cam' has no depth: no 'obs/wrist_cam_depth'; record it, .* skip="),
        (
            None,
            ["labels=[{name: cube, role: manipulated, color: [1, 2, 3]}]"],
            r"no label has colour \[.*and 3 more; add",
        ),
        (None, ["step_hz=0"], "the control rate is not in the file; say step_hz=20"),
        (None, ["cameras.table_cam.quat_wxyz=[1,1,1,1]"], "expected unit quaternions"),
        (None, ["cameras.table_cam.intrinsics_px=[[1,0],[0,1]]"], "expected 3 x 3 numbers"),
        (None, ["labels=[{name: a, role: boss, color: [120, 230, 255]}]"], "role 'boss' is none of|no label has"),
        (None, ["rename={eef_pos: action}"], "observation 'action': the name is taken in a dataset"),
        (None, ["rename={eef_pos: eef_quat}"], "two observations become 'eef_quat'"),
        (None, ["rename={eef_pos: ../x}"], "names a file, so expected letters"),
        (lambda file: file["data/demo_0"].pop("actions"), [], "no 'actions'"),
        (lambda file: file["data/demo_0"].attrs.pop("success"), [], "say assume_success=true"),
        (lambda file: file["data/demo_0/obs"].pop("table_cam_segmentation"), [], "has no segmentation"),
        (lambda file: file.pop("data"), [], "no group 'data'"),
        (lambda file: [file["data"].pop(name) for name in list(file["data"])], [], "no demo in 'data'"),
        (lambda file: file["data"].attrs.__setitem__("env_args", "{"), [], "'env_args' of data: no JSON"),
    ],
)
def test_first_thing_missing_is_named(lab_file: Path, tmp_path: Path, change_file, overrides, line) -> None:
    if change_file:
        change(lab_file, change_file)
    with pytest.raises(InputError, match=line):
        import_isaaclab(lab_file, tmp_path / "demos", config(*overrides))
    assert not list(tmp_path.glob("demos/episodes/*.hdf5"))


def test_camera_of_an_unknown_place_asks_for_its_pinhole_and_pose(lab_file: Path, tmp_path: Path) -> None:
    bare = dataclasses.replace(config(), cameras={})
    with pytest.raises(InputError, match=r"intrinsics are not in the file .*; say cameras.table_cam.intrinsics_px="):
        import_isaaclab(lab_file, tmp_path / "demos", bare)
    half = load_config(ImportConfig, None, ["cameras.table_cam.focal_length_mm=24"], defaults=bare)
    with pytest.raises(InputError, match=r"pose is not in the file .*; say cameras.table_cam.position_m="):
        import_isaaclab(lab_file, tmp_path / "other", half)


def test_import_goes_on_where_it_was_killed(lab_file: Path, tmp_path: Path, kill_at_operation) -> None:
    folder = tmp_path / "demos"
    import_isaaclab(lab_file, tmp_path / "whole", config())
    whole = [Recording(tmp_path / "whole").episode(index, extras=True) for index in range(2)]
    for operation in (2, 6, 11):
        killed = kill_at_operation(operation, folder, lambda: import_isaaclab(lab_file, folder, config()))
        assert killed or operation > 12
        done = import_isaaclab(lab_file, folder, config())
        assert done.made + done.before == 2
        for index in range(2):
            _same(Recording(folder).episode(index, extras=True), whole[index])
        shutil.rmtree(folder)


def _same(actual, expected) -> None:
    assert actual.episode_id == expected.episode_id
    np.testing.assert_array_equal(actual.states, expected.states)
    assert actual.extras.keys() == expected.extras.keys()
    for camera, passes in expected.cameras.items():
        np.testing.assert_array_equal(actual.cameras[camera].depth_m, passes.depth_m)


def test_another_file_or_config_does_not_go_on(lab_file: Path, tmp_path: Path) -> None:
    import_isaaclab(lab_file, tmp_path / "demos", config())
    with pytest.raises(InputError, match="demos: begun with another config; choose another output"):
        import_isaaclab(lab_file, tmp_path / "demos", config("task=other"))
    change(lab_file, lambda file: file["data"].attrs.__setitem__("total", 0))
    with pytest.raises(InputError, match="demos: begun with another file"):
        import_isaaclab(lab_file, tmp_path / "demos", config())


def test_truncated_files_are_one_line(lab_file: Path, tmp_path: Path) -> None:
    content = lab_file.read_bytes()
    broken = tmp_path / "broken.hdf5"
    for share in (0.0, 0.001, 0.2, 0.7, 0.99):
        broken.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="truncated or damaged"):
            import_isaaclab(broken, tmp_path / "out", config())
    assert not (tmp_path / "out").exists()


def test_flipped_bits_are_no_traceback_and_leave_whole_episodes(lab_file: Path, tmp_path: Path) -> None:
    """In a process of its own: HDF5 itself may crash on a file that was damaged on purpose."""
    content = lab_file.read_bytes()
    rng = np.random.default_rng(0)

    def bring(broken: Path, out: Path) -> None:
        with contextlib.suppress(InputError):
            import_isaaclab(broken, out, config())

    for number in range(6):
        flipped = bytearray(content)
        for place in rng.integers(0, min(len(content), 20_000), 20):
            flipped[place] ^= 1 << int(rng.integers(8))
        broken, out = tmp_path / f"broken{number}.hdf5", tmp_path / f"out{number}"
        broken.write_bytes(flipped)
        process = multiprocessing.get_context("fork").Process(target=bring, args=(broken, out))
        process.start()
        process.join(60)
        assert process.exitcode is not None, "hangs"
        assert process.exitcode <= 0, "traceback"
        if (out / "episodes").is_dir():
            assert verify_recording(out).sound


def test_links_that_leave_the_folder_are_refused(lab_file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    secret = shutil.copy(lab_file, elsewhere / "secret.hdf5")
    inside = tmp_path / "inside"
    inside.mkdir()
    for name, target in {"absolute": str(secret), "relative": "../elsewhere/secret.hdf5"}.items():
        path = Path(shutil.copy(lab_file, inside / f"{name}.hdf5"))

        def link(file: h5py.File, target: str = target) -> None:
            file["data/demo_1"].pop("actions")
            file["data/demo_1/actions"] = h5py.ExternalLink(target, "data/demo_0/actions")

        change(path, link)
        with pytest.raises(InputError, match="outside the file's folder"):
            import_isaaclab(path, tmp_path / name, config())
    symlink = inside / "symlink.hdf5"
    symlink.symlink_to(secret)
    path = Path(shutil.copy(lab_file, inside / "through.hdf5"))
    change(path, lambda file: file["data"].__setitem__("demo_2", h5py.ExternalLink("symlink.hdf5", "data/demo_0")))
    with pytest.raises(InputError, match="outside"):
        import_isaaclab(path, tmp_path / "through", config())


def test_links_within_the_folder_are_followed(lab_file: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.hdf5"
    with h5py.File(index, "w") as file:
        file.create_group("data").attrs["env_args"] = "{}"
        file["data/demo_0"] = h5py.ExternalLink("lab.hdf5", "data/demo_1")
    import_isaaclab(index, tmp_path / "demos", config())
    with h5py.File(lab_file) as file:
        np.testing.assert_array_equal(Recording(tmp_path / "demos").episode(0).actions, file["data/demo_1/actions"])


@pytest.mark.parametrize("kind", ["virtual", "external", "huge", "soft", "loop"])
def test_arrays_that_lead_elsewhere_or_nowhere(lab_file: Path, tmp_path: Path, kind: str) -> None:
    def make(file: h5py.File) -> None:
        demo = file["data/demo_0"]
        if kind == "virtual":
            layout = h5py.VirtualLayout((5, 3), "f4")
            layout[:] = h5py.VirtualSource("/etc/hostname", "x", (5, 3))
            demo["obs"].create_virtual_dataset("leak", layout)
        elif kind == "external":
            demo["obs"].create_dataset("leak", (5, 3), "f4", external=[("/etc/hostname", 0, 60)])
        elif kind == "huge":
            demo.create_dataset("obs/leak", (5, 10**12), "f4", chunks=(1, 1024))
        elif kind == "soft":
            demo["obs/leak"] = h5py.SoftLink("/data/demo_1/actions")
        else:
            demo["obs/again"] = demo

    change(lab_file, make)
    if kind in ("soft", "loop"):
        import_isaaclab(lab_file, tmp_path / "demos", config())
        assert "leak" not in Recording(tmp_path / "demos").episode(0).observations
    else:
        with pytest.raises(InputError, match=r"rows lie in other files|claims"):
            import_isaaclab(lab_file, tmp_path / "demos", config())


def test_two_armed_robomimic_file_keeps_its_float64_and_its_model(tmp_path: Path, robomimic_file) -> None:
    file = robomimic_file(tmp_path / "low_dim.hdf5")
    import_robomimic(file, tmp_path / "demos", ImportConfig())
    recording = Recording(tmp_path / "demos")
    assert len(recording) == 3
    assert recording.env_args["env_kwargs"]["import"]["masks"] == {"train": [0, 2], "valid": [1]}
    episode = recording.episode(2, extras=True)
    assert episode.instruction == "lift it, way 10"
    assert episode.success
    assert bytes(episode.extras["attribute/text/model_file"]).decode() == "<mujoco>10</mujoco>"
    with h5py.File(file) as source:
        demo = source["data/demo_10"]
        np.testing.assert_array_equal(episode.extras["actions"], demo["actions"])
        np.testing.assert_array_equal(episode.extras["next_obs/robot1_eef_pos"], demo["next_obs/robot1_eef_pos"])
        np.testing.assert_array_equal(episode.states, demo["states"])
        np.testing.assert_array_equal(episode.actions, demo["actions"][:].astype("f4"))


def test_masks_of_ten_thousand_demos_are_kept(tmp_path: Path, robomimic_file, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HDF5 attribute holds 64 kB at most unless its file is of a newer format."""
    file = robomimic_file(tmp_path / "low_dim.hdf5")
    many = {f"mask {number}": list(range(10_000)) for number in range(3)}
    monkeypatch.setattr(demo_import, "_masks_of", lambda masks, originals: masks | many)
    import_robomimic(file, tmp_path / "demos", ImportConfig())
    assert Recording(tmp_path / "demos").env_args["env_kwargs"]["import"]["masks"]["mask 2"] == many["mask 2"]


def test_robomimic_images_without_depth_say_so(tmp_path: Path, robomimic_file) -> None:
    file = robomimic_file(tmp_path / "image.hdf5")
    images = np.zeros((5, 8, 8, 3), np.uint8)
    change(file, lambda source: [source[f"data/{name}/obs"].create_dataset("agentview_image", data=images)
                                 for name in source["data"]])  # fmt: skip
    with pytest.raises(
        InputError, match=r"camera 'agentview' has no depth.*leave the camera out by skip=\[agentview\]"
    ):
        import_robomimic(file, tmp_path / "demos", ImportConfig())
    import_robomimic(file, tmp_path / "demos", ImportConfig(skip=["agentview"]))
    episode = Recording(tmp_path / "demos").episode(0, extras=True)
    assert not episode.cameras
    np.testing.assert_array_equal(episode.extras["obs/agentview_image"], images)
