"""The recorder writes episodes whose passes show the recorded states, whatever stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pxr")

from fake_kit import HAND_SPEED_M, LABEL_FORMATS

from cosmos_engine.data import Episode, Recording, verify_recording
from cosmos_engine.errors import InputError
from isaac_ext import kit as kit_module
from isaac_ext import stage as stage_module
from isaac_ext.recorder import TAPES, DemoRecorder
from isaac_ext.recorder_config import RecorderConfig, camera_names, whole_ratio

CUBE, ROBOT = "/World/Cube", "/World/robot"
FRONT, WRIST = "/World/front", "/World/robot/panda_hand/wrist"
VERSIONS = ("5.1", "6.0")


def config(folder: Path | str, **changed: Any) -> RecorderConfig:
    values: dict[str, Any] = {
        "folder": str(folder),
        "cameras": (FRONT, WRIST),
        "robot": ROBOT,
        "manipulated": (CUBE,),
        "task": "push",
        "instruction": "push the cube",
        "height": 48,
        "width": 64,
        "control_hz": 20.0,
    }
    return RecorderConfig(**values | changed)


async def record(recorder: DemoRecorder, steps: int, *, success: bool = True) -> int:
    await recorder.start(seed=7)
    while recorder.steps < steps:
        await kit_module.next_update()
    return await recorder.stop(success=success)


def cube_offsets_px(episode: Episode, camera: str) -> np.ndarray:
    """Return how far the cube's mask is from where the episode's own state, lens and pose draw its centre, (t,)."""
    passes = episode.cameras[camera]
    instance = next(number for number, label in episode.labels.items() if label.role == "manipulated")
    offsets = []
    for step in range(episode.length):
        rows, columns = np.nonzero(passes.instance[step] == instance)
        centre = [*episode.observations["object"][step, :3], 1.0]
        seen = np.linalg.inv(passes.world_from_camera[step]) @ centre
        drawn = passes.intrinsics_px @ seen[:3] / seen[2]
        offsets.append(np.hypot(columns.mean() - drawn[0], rows.mean() - drawn[1]))
    return np.array(offsets)


@pytest.mark.parametrize("mode", ["replay", "live"])
@pytest.mark.parametrize("version", VERSIONS)
def test_passes_show_the_state_of_their_row(make_kit, in_kit, tmp_path: Path, version: str, mode: str) -> None:
    kit = make_kit(version)
    recorder = DemoRecorder(config(tmp_path / "demos", mode=mode))
    assert in_kit(kit, record(recorder, 20)) == 0
    recorder.close()
    episode = Recording(tmp_path / "demos").episode(0)
    assert episode.length >= 20
    assert (episode.task, episode.instruction, episode.seed, episode.step_hz) == ("push", "push the cube", 7, 20.0)
    assert episode.success
    moved = episode.observations["object"][-1, 0] - episode.observations["object"][0, 0]
    assert moved > 0.1  # many pixels: a frame of another row would show
    assert cube_offsets_px(episode, "front").max() < 1.0
    verify_recording(tmp_path / "demos")


@pytest.mark.parametrize("version", VERSIONS)
def test_action_is_the_target_that_the_state_of_its_row_did_not_know_yet(
    make_kit, in_kit, tmp_path: Path, version: str
) -> None:
    kit = make_kit(version)
    recorder = DemoRecorder(config(tmp_path / "demos"))
    in_kit(kit, record(recorder, 10))
    recorder.close()
    episode = Recording(tmp_path / "demos").episode(0)
    # In this world a step reaches its target: what was asked is the position one physics step later, never the present.
    np.testing.assert_allclose(episode.actions[:, 0] - episode.states[:, 0], HAND_SPEED_M, atol=1e-6)
    np.testing.assert_allclose(np.diff(episode.states[:, 0]), 3 * HAND_SPEED_M, atol=1e-6)
    np.testing.assert_allclose(episode.observations["robot0_eef_pos"][:, 0], 0.1 + episode.states[:, 0], atol=1e-6)
    assert episode.observations["robot0_gripper_qpos"].shape == (episode.length, 1)
    np.testing.assert_allclose(episode.observations["robot0_eef_quat"], [[0, 0, 0, 1]] * episode.length)


@pytest.mark.parametrize("label_format", LABEL_FORMATS)
def test_every_form_of_labels_gives_the_same_roles(make_kit, in_kit, tmp_path: Path, label_format: str) -> None:
    kit = make_kit("6.0", labelled=True, label_format=label_format)
    recorder = DemoRecorder(config(tmp_path / "demos", robot="", manipulated=()))
    in_kit(kit, record(recorder, 4))
    recorder.close()
    episode = Recording(tmp_path / "demos").episode(0)
    roles = {label.class_name: label.role for label in episode.labels.values()}
    assert roles == {"robot": "robot", "cube": "manipulated", "table": "scene"}
    assert cube_offsets_px(episode, "front").max() < 1.0
    front = episode.cameras["front"]
    assert np.isinf(front.depth_m).any()
    assert (front.instance[np.isinf(front.depth_m)] == 0).all()


def test_replay_leaves_the_stage_and_replicator_as_they_were(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    before = kit.world.stage.ExportToString()
    layers = list(kit.world.stage.GetSessionLayer().subLayerPaths)
    recorder = DemoRecorder(config(tmp_path / "demos"))
    in_kit(kit, record(recorder, 5))
    assert kit.settings["/omni/replicator/captureOnPlay"] is False
    recorder.close()
    assert kit.world.stage.ExportToString() == before
    assert list(kit.world.stage.GetSessionLayer().subLayerPaths) == layers
    assert kit.settings == {"/omni/replicator/captureOnPlay": True, "/rtx/post/dlss/execMode": 0}
    assert not kit.attached
    assert not kit.callbacks


def test_two_episodes_have_their_own_starts_and_first_frames(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    recorder = DemoRecorder(config(tmp_path / "demos"))

    async def both() -> None:
        await record(recorder, 12)
        await record(recorder, 5, success=False)

    in_kit(kit, both())
    recorder.close()
    recording = Recording(tmp_path / "demos")
    assert [recording.header(index).success for index in range(2)] == [True, False]
    for index in range(2):
        assert cube_offsets_px(recording.episode(index), "front").max() < 1.0


def test_discarded_episode_leaves_nothing(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    recorder = DemoRecorder(config(tmp_path / "demos"))

    async def discarded() -> None:
        await recorder.start()
        for _ in range(10):
            await kit_module.next_update()
        recorder.discard()
        for _ in range(10):
            await kit_module.next_update()

    in_kit(kit, discarded())
    assert recorder.episodes == 0
    assert recorder.state == "idle"
    assert recorder.pending == []
    recorder.close()


def test_timeline_stopped_half_way_keeps_what_was_recorded(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    said: list[str] = []
    recorder = DemoRecorder(config(tmp_path / "demos"), said.append)

    async def stopped() -> None:
        await recorder.start()
        while recorder.steps < 6:
            await kit_module.next_update()
        kit_module.stop()
        while not said:
            await kit_module.next_update()

    in_kit(kit, stopped())
    recorder.close()
    assert len(said) == 1
    assert said[0].startswith("the timeline was stopped; episode 0 was kept")
    assert Recording(tmp_path / "demos").header(0).length >= 6


def test_simulator_closed_while_recording_keeps_the_states_and_the_next_run_renders_them(
    make_kit, in_kit, tmp_path: Path
) -> None:
    kit = make_kit("5.1")
    recorder = DemoRecorder(config(tmp_path / "demos"))

    async def closed() -> None:
        await recorder.start(seed=3)
        while recorder.steps < 8:
            await kit_module.next_update()
        recorder.mark_success()
        recorder.close()

    in_kit(kit, closed())
    assert len(Recording(tmp_path / "demos")) == 0

    kit = make_kit("5.1")
    recorder = DemoRecorder(config(tmp_path / "demos"))
    assert len(recorder.pending) == 1
    assert in_kit(kit, recorder.render_pending()) == [0]
    assert recorder.pending == []
    recorder.close()
    episode = Recording(tmp_path / "demos").episode(0)
    assert (episode.success, episode.seed) == (True, 3)
    assert cube_offsets_px(episode, "front").max() < 1.0


def test_failed_rendering_keeps_the_states(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0", empty_passes=True)
    recorder = DemoRecorder(config(tmp_path / "demos"))
    with pytest.raises(InputError, match=r"camera 'front': rgb: expected 48 x 64 .*one.*states are kept"):
        in_kit(kit, record(recorder, 4))
    assert recorder.state == "idle"
    kit.world.empty_passes = False
    assert in_kit(kit, recorder.render_pending()) == [0]
    recorder.close()


def test_truncated_tape_is_named(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")
    (tmp_path / "demos" / TAPES).mkdir(parents=True)
    (tmp_path / "demos" / TAPES / "000000_x.npz").write_bytes(b"PK\x03\x04 cut off")
    recorder = DemoRecorder(config(tmp_path / "demos"))
    with pytest.raises(InputError, match=r"000000_x\.npz: no readable tape"):
        in_kit(kit, recorder.render_pending())
    recorder.close()


def test_physics_that_goes_on_while_rendering_is_not_kept(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0", physics_goes_on_while_rendering=True)
    said: list[str] = []
    recorder = DemoRecorder(config(tmp_path / "demos", mode="live"), said.append)

    async def recorded() -> None:
        await recorder.start()
        while recorder.state != "idle":
            await kit_module.next_update()

    in_kit(kit, recorded())
    assert recorder.episodes == 0
    assert "physics went on while a frame was rendered" in said[0]
    recorder.close()


def test_control_step_between_two_updates_is_not_kept(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1", physics_per_update=2)
    recorder = DemoRecorder(config(tmp_path / "demos", mode="live", control_hz=60.0))
    with pytest.raises(InputError, match="fell between two updates"):
        in_kit(kit, record(recorder, 6))
    recorder.close()


def test_states_of_control_steps_between_updates_are_recorded_and_replayed(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1", physics_per_update=2)
    recorder = DemoRecorder(config(tmp_path / "demos", control_hz=60.0))
    in_kit(kit, record(recorder, 20))
    recorder.close()
    assert cube_offsets_px(Recording(tmp_path / "demos").episode(0), "front").max() < 1.0


def test_moved_camera_is_refused(make_kit, in_kit, tmp_path: Path) -> None:
    from pxr import Gf, UsdGeom

    kit = make_kit("5.1")
    recorder = DemoRecorder(config(tmp_path / "demos"))

    async def moved() -> None:
        await recorder.start()
        while recorder.steps < 3:
            await kit_module.next_update()
        op = UsdGeom.Xformable(kit.world.stage.GetPrimAtPath(FRONT)).GetOrderedXformOps()[0]
        op.Set(Gf.Matrix4d(op.Get()).SetTranslateOnly(Gf.Vec3d(1, 1, 1)))
        await recorder.stop()

    with pytest.raises(InputError, match="a camera was moved"):
        in_kit(kit, moved())
    recorder.close()


BAD = {
    "no camera": ({"cameras": ()}, "cameras: none is chosen"),
    "camera that is not there": ({"cameras": ("/World/none",)}, "camera '/World/none': no such prim"),
    "no folder": ({"folder": ""}, "recording folder: none is given"),
    "robot that is not there": ({"robot": "/World/arm"}, "robot: prim '/World/arm': no such prim"),
    "no labels and no paths": ({"robot": "", "manipulated": ()}, "roles: no prim is robot: choose its path"),
    "nothing manipulated": ({"manipulated": ()}, "roles: no prim is manipulated: choose its path"),
    "one prim in two roles": ({"manipulated": (ROBOT,)}, "chosen both as robot and as manipulated"),
    "unknown mode": ({"mode": "later"}, "mode 'later': expected replay or live"),
    "no pixels": ({"width": 0}, "width: expected a number above 0"),
    "no warm-up": ({"warm_up_frames": 0}, "warm_up_frames: expected at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_recorded_is_one_line(make_kit, tmp_path: Path, case: str) -> None:
    changed, line = BAD[case]
    make_kit("6.0")
    with pytest.raises(InputError, match=line.replace("(", r"\(")) as raised:
        DemoRecorder(config(**{"folder": tmp_path / "demos"} | changed))
    assert "\n" not in str(raised.value)


def test_control_rate_must_divide_the_physics_rate(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    recorder = DemoRecorder(config(tmp_path / "demos", control_hz=25.0))
    with pytest.raises(InputError, match="expected a divisor of the physics rate 60 Hz, got 25"):
        in_kit(kit, recorder.start())
    assert recorder.state == "idle"
    recorder.close()
    assert whole_ratio(59.9999, 20.0) == 3


def test_robot_without_an_articulation_is_named(make_kit, in_kit, tmp_path: Path) -> None:
    kit = make_kit("6.0")

    def refuse(made: Any) -> None:
        raise ValueError("no root API")

    kit.behaviour["isaacsim.core.experimental.prims.Articulation()"] = refuse
    recorder = DemoRecorder(config(tmp_path / "demos"))
    with pytest.raises(InputError, match=r"robot '/World/robot': physics has no articulation there: no root API"):
        in_kit(kit, recorder.start())
    assert recorder.state == "idle"
    recorder.close()


def test_h5py_that_writes_wrong_checksums_is_refused(make_kit, tmp_path: Path, monkeypatch) -> None:
    import h5py

    make_kit("5.1")
    monkeypatch.setattr(h5py.version, "hdf5_version_tuple", (1, 14, 6))
    with pytest.raises(InputError, match=r"too old, expected 3\.16 or later; run `cosmos-engine isaac install`"):
        DemoRecorder(config(tmp_path / "demos"))


def test_folder_that_cannot_be_written_is_named(make_kit, tmp_path: Path) -> None:
    make_kit("5.1")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        DemoRecorder(config(tmp_path / "file" / "demos"))


def test_folder_of_other_things_is_left_alone(make_kit, tmp_path: Path) -> None:
    make_kit("5.1")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something other than a recording"):
        DemoRecorder(config(tmp_path))


def test_no_stage_and_an_old_isaac_sim_are_one_line(make_kit, tmp_path: Path) -> None:
    kit = make_kit("5.1")
    kit.world.stage = None
    with pytest.raises(InputError, match="no stage is open"):
        DemoRecorder(config(tmp_path / "demos"))
    kit.behaviour["isaacsim.core.version.get_version"] = lambda owner: ("4.5.0", "", "4", "5", "0", "", "", "")
    with pytest.raises(InputError, match=r"Isaac Sim 4\.5: expected 5\.1 or later"):
        kit_module.is_6()


def test_cameras_are_named_by_as_much_of_their_path_as_tells_them_apart() -> None:
    assert camera_names(["/World/Front Cam", "/World/hand/wrist"]) == {
        "front_cam": "/World/Front Cam",
        "wrist": "/World/hand/wrist",
    }
    assert list(camera_names(["/World/left/cam", "/World/right/cam"])) == ["left_cam", "right_cam"]
    with pytest.raises(InputError, match="two have one name"):
        camera_names(["/World/cam", "/World/cam"])


def test_what_the_fake_forbids_is_forbidden(make_kit, in_kit) -> None:
    """The stand-in is strict, or none of the above would mean anything."""
    make_kit("5.1")
    import isaacsim.core.simulation_manager as manager
    import omni.replicator.core as rep

    with pytest.raises(RuntimeError, match="cannot be called inside Kit"):
        rep.orchestrator.step()
    with pytest.raises(TypeError, match="unexpected keyword"):
        rep.create.render_product("/World/front", (4, 4), label="x")
    with pytest.raises(AttributeError):
        _ = rep.orchestrator.capture_now
    with pytest.raises(AttributeError):
        _ = manager.SimulationEvent
    with pytest.raises(AttributeError, match="not recorded"):
        rep.AnnotatorRegistry.get_annotator("rgb").read()
    assert stage_module.is_under("/World/robot/link", "/World/robot")
    assert not stage_module.is_under("/World/robot2", "/World/robot")
