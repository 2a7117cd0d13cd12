import h5py
import numpy as np
import pytest

from cosmos_engine.data import CameraPasses, Episode, InstanceLabel, RecordingWriter
from cosmos_engine.data.trailer import with_trailer
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.training.clips import ClipPool, held_out_indices, training_indices
from cosmos_engine.transfer.training.recorded import RecordedClipsConfig, clip_starts, label_prompts, record_clips

LABELS = {
    1: InstanceLabel("robot", "robot_arm", "robot"),
    2: InstanceLabel("table", "table", "scene"),
    300: InstanceLabel("cube", "red cube", "manipulated"),
}
CONFIG = RecordedClipsConfig(frames=5)


def passes(length: int, size: tuple[int, int], seed: int) -> CameraPasses:
    rng = np.random.default_rng(seed)
    return CameraPasses(
        rgb=rng.integers(0, 256, (length, *size, 3), dtype=np.uint8),
        depth_m=np.float32(1) + rng.random((length, *size), dtype=np.float32),
        instance=rng.choice(np.array([1, 2, 300], np.uint16), (length, *size)),
        intrinsics_px=np.eye(3),
        world_from_camera=np.broadcast_to(np.eye(4), (length, 4, 4)).copy(),
    )


def write_recording(folder, lengths=(12, 7), sizes=None):
    """Write episodes of some lengths; `sizes` are those of the cameras, by name."""
    sizes = sizes or {"front": (32, 32), "wrist": (32, 32)}
    with RecordingWriter(folder, {"env_name": "own", "type": 2, "env_kwargs": {}}) as writer:
        for seed, length in enumerate(lengths):
            episode = Episode(
                actions=np.zeros((length, 2), np.float32),
                states=np.zeros((length, 3)),
                rewards=np.zeros(length, np.float32),
                dones=np.arange(length) == length - 1,
                observations={},
                cameras={name: passes(length, size, seed) for name, size in sizes.items()},
                labels=LABELS,
                success=True,
                seed=seed,
                step_hz=20.0,
                episode_id=f"00000000-0000-0000-0000-{seed:012d}",
                source="own simulator",
                task="lift",
                instruction="lift the red cube",
            )
            writer.append(episode)
    return folder


def test_every_frame_of_every_camera_is_in_a_clip(tmp_path):
    recording = write_recording(tmp_path / "demos")
    pool = record_clips(tmp_path / "clips", [recording], CONFIG)
    assert pool.groups == [2 * 3, 2 * 2]
    first = passes(12, (32, 32), 0)
    for camera in range(2):
        for clip, start in enumerate((0, 5, 7)):
            made = pool.clip(camera * 3 + clip)
            np.testing.assert_array_equal(made.rgb, first.rgb[start : start + 5])
            np.testing.assert_array_equal(made.instance, first.instance[start : start + 5])
            np.testing.assert_allclose(made.depth_m, first.depth_m[start : start + 5], rtol=1e-3)
            assert made.foreground == (1, 300)


@pytest.mark.parametrize(("length", "starts"), [(5, [0]), (10, [0, 5]), (12, [0, 5, 7]), (4, [])])
def test_clips_lie_side_by_side_up_to_the_end(length, starts):
    assert clip_starts(length, 5) == starts


def test_whole_episodes_are_held_out(tmp_path):
    pool = record_clips(tmp_path / "clips", [write_recording(tmp_path / "demos", (10, 10, 10))], CONFIG)
    assert len(training_indices(pool)) == 8
    assert list(held_out_indices(pool)) == [8, 9, 10, 11]


def test_prompts_name_the_objects_and_the_task(tmp_path):
    said = label_prompts(LABELS, "lift the red cube.")
    assert all("red cube" in prompt for prompt in said)
    assert any("lift the red cube. " in prompt for prompt in said)
    assert not any("table" in prompt for prompt in said)
    pool = record_clips(tmp_path / "clips", [write_recording(tmp_path / "demos")], CONFIG)
    assert {pool.prompt(0, np.random.default_rng(seed)) for seed in range(30)} == set(said)


def test_own_prompts_are_taken_one_an_episode_or_one_for_all(tmp_path):
    recording = write_recording(tmp_path / "demos")
    rng = np.random.default_rng(0)
    each = record_clips(tmp_path / "each", [recording], CONFIG, ["oak table", "steel table"])
    assert (each.prompt(0, rng), each.prompt(9, rng)) == ("oak table", "steel table")
    one = record_clips(tmp_path / "one", [recording], CONFIG, ["oak table"])
    assert one.prompt(9, rng) == "oak table"
    with pytest.raises(InputError, match="1 for each of 2 episodes, got 3"):
        record_clips(tmp_path / "three", [recording], CONFIG, ["a", "b", "c"])


def test_several_recordings_make_one_pool_and_a_stopped_cut_goes_on(tmp_path):
    recordings = [write_recording(tmp_path / "a"), write_recording(tmp_path / "b", (9,))]
    pool = record_clips(tmp_path / "clips", recordings, CONFIG)
    assert len(pool.groups) == 3
    (tmp_path / "clips" / "manifest.json").unlink()
    (tmp_path / "clips" / "groups" / "000001.safetensors").unlink()
    assert record_clips(tmp_path / "clips", recordings, CONFIG).groups == pool.groups
    with pytest.raises(InputError, match="clips of other recordings"):
        record_clips(tmp_path / "clips", recordings[:1], CONFIG)
    with pytest.raises(InputError, match="clips of the embedded simulator"):
        _ = ClipPool(tmp_path / "clips").config


def test_short_episodes_are_left_out_and_told(tmp_path, capsys):
    pool = record_clips(tmp_path / "clips", [write_recording(tmp_path / "demos", (12, 4))], CONFIG)
    assert len(pool.groups) == 1
    assert "1 episodes of fewer than 5 frames" in capsys.readouterr().err


def test_cameras_of_two_sizes_are_refused_and_one_can_be_chosen(tmp_path):
    recording = write_recording(tmp_path / "demos", sizes={"front": (32, 32), "wrist": (16, 24)})
    with pytest.raises(InputError, match=r"one size, got 32x32 \(front .*, 16x24 \(wrist .*recorded.cameras"):
        record_clips(tmp_path / "clips", [recording], CONFIG)
    chosen = RecordedClipsConfig(frames=5, cameras=["wrist"])
    assert record_clips(tmp_path / "wrist", [recording], chosen).size == (16, 24)


def test_bad_recordings_are_one_line_before_work(tmp_path):
    recording = write_recording(tmp_path / "demos")
    out = tmp_path / "clips"
    with pytest.raises(InputError, match=r"no camera 'frnt'.*did you mean 'front'"):
        record_clips(out, [recording], RecordedClipsConfig(frames=5, cameras=["frnt"]))
    with pytest.raises(InputError, match="at least 13 frames, got none among 2"):
        record_clips(out, [recording], RecordedClipsConfig(frames=13))
    with pytest.raises(InputError, match="no recording here"):
        record_clips(out, [tmp_path / "none"], CONFIG)
    with pytest.raises(InputError, match="4k"):
        RecordedClipsConfig(frames=6)
    changed = recording / "episodes" / "episode_000001.hdf5"
    with h5py.File(changed, "a") as file:
        del file["data/demo_0/obs/wrist_depth"]
    changed.write_bytes(with_trailer(changed.read_bytes()))
    with pytest.raises(InputError, match=r"episode_000001\.hdf5: camera 'wrist' has no depth pass"):
        record_clips(out, [recording], CONFIG)
    assert not out.exists()
