"""A recording holds whole demos, in which states, observations, passes and actions tell of the same moments."""

import numpy as np
import pytest

from cosmos_engine.config import load_config
from cosmos_engine.data import Recording, RecordingWriter, verify_recording
from cosmos_engine.errors import InputError
from cosmos_engine.sim import recorder
from cosmos_engine.sim.recorder import RecordConfig, record_demos
from cosmos_engine.sim.tabletop import TabletopEnvironment

CONFIG = RecordConfig(task="lift", episodes=3, seed=20, image_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "demos"
    record_demos(CONFIG, out)
    return out


def _same(first, second):
    assert (first.episode_id, first.seed, first.length) == (second.episode_id, second.seed, second.length)
    for name in ("actions", "states", "rewards", "dones"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for camera, passes in first.cameras.items():
        for name in ("rgb", "depth_m", "instance", "world_from_camera"):
            np.testing.assert_array_equal(getattr(passes, name), getattr(second.cameras[camera], name))


def test_a_recording_holds_the_demos_asked_for(folder):
    recording = Recording(folder)
    assert recording.seeds() == [20, 21, 22]
    assert recording.env_args["env_name"] == "lift"
    assert verify_recording(folder).sound
    for index in range(3):
        header = recording.header(index)
        assert header.success
        assert header.cameras == {"agentview": (32, 32), "robot0_eye_in_hand": (32, 32)}
        assert (header.task, header.instruction, header.source) == ("lift", "lift the red cube", "embedded-mujoco")


def test_actions_replay_the_recorded_states_bitwise(folder):
    episode = Recording(folder).episode(1)
    environment = TabletopEnvironment("lift", render=False)
    environment.reset(episode.seed)
    for step in range(episode.length):
        np.testing.assert_array_equal(environment.get_state(), episode.states[step])
        result = environment.step(episode.actions[step])
        assert result.reward == episode.rewards[step]


def test_observations_and_passes_are_those_of_the_recorded_states(folder):
    episode = Recording(folder).episode(0)
    environment = TabletopEnvironment("lift", image_size=32)
    for step in (0, episode.length // 2, episode.length - 1):
        environment.set_state(episode.states[step])
        observation = environment.observe()
        for name, values in episode.observations.items():
            np.testing.assert_array_equal(values[step], observation[name])
        for camera, passes in episode.cameras.items():
            frame = environment.render_passes(camera)
            np.testing.assert_array_equal(passes.rgb[step], frame.rgb)
            np.testing.assert_array_equal(passes.depth_m[step], frame.depth_m)
            np.testing.assert_array_equal(passes.instance[step], frame.instance)
            np.testing.assert_array_equal(passes.world_from_camera[step], frame.world_from_camera)
    environment.close()


def test_a_demo_ends_with_lasting_success_and_only_then_is_done(folder):
    episode = Recording(folder).episode(2)
    assert (episode.rewards[-5:] == 1).all()
    assert episode.rewards[-6] == 0
    assert episode.dones[-1]
    assert not episode.dones[:-1].any()


def test_the_same_command_has_nothing_left_to_do(folder):
    assert record_demos(CONFIG, folder).demos == 0
    assert len(Recording(folder)) == 3


def test_a_stopped_recording_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch):
    append = RecordingWriter.append

    def stop_at_the_second(writer, episode):
        if len(writer) == 1:
            raise KeyboardInterrupt
        return append(writer, episode)

    monkeypatch.setattr(RecordingWriter, "append", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        record_demos(CONFIG, tmp_path / "demos")
    monkeypatch.undo()
    assert verify_recording(tmp_path / "demos").sound
    assert len(Recording(tmp_path / "demos")) == 1
    assert record_demos(CONFIG, tmp_path / "demos").demos == 2
    for index in range(3):
        _same(Recording(tmp_path / "demos").episode(index), Recording(folder).episode(index))


@pytest.mark.parametrize("change", ["task=stack", "seed=21", "image_size=16", "action_noise=0", "cameras=[agentview]"])
def test_a_recording_of_another_config_is_left_alone(folder, change):
    other = load_config(RecordConfig, None, ["seed=20", "image_size=32", "episodes=4", change])
    with pytest.raises(InputError, match="recorded with"):
        record_demos(other, folder)
    assert len(Recording(folder)) == 3


def test_failed_seeds_are_counted_and_left_out(tmp_path, monkeypatch):
    record_demo = recorder.record_demo

    def fail_at_odd_seeds(environment, seed, action_noise, env_args):
        return None if seed % 2 else record_demo(environment, seed, action_noise, env_args)

    monkeypatch.setattr(recorder, "record_demo", fail_at_odd_seeds)
    summary = record_demos(RecordConfig(episodes=2, image_size=16, seed=1), tmp_path / "demos")
    assert summary.failed_seeds == (1, 3)
    assert Recording(tmp_path / "demos").seeds() == [2, 4]


def test_an_expert_that_cannot_succeed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "record_demo", lambda *_: None)
    with pytest.raises(InputError, match="20 seeds in a row"):
        record_demos(RecordConfig(episodes=1, image_size=16), tmp_path / "demos")


@pytest.mark.parametrize(
    "override", ["episodes=0", "seed=-1", "action_noise=2", "cameras=[]", "task=lit", "cameras=[front]", "image_size=0"]
)
def test_bad_values_are_refused_before_anything_is_written(tmp_path, override):
    with pytest.raises(InputError, match=override.split("=")[0].rstrip("s")):
        record_demos(load_config(RecordConfig, None, [override]), tmp_path / "demos")
    assert not (tmp_path / "demos").exists()
