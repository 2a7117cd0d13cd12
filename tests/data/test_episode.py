from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cosmos_engine.data import CameraPasses, Episode, InstanceLabel
from cosmos_engine.errors import InputError


def _frames(name: str, episode: Episode) -> str:
    return rf"{name}: expected \w+ \({episode.length}\b.*, got \w+ \({episode.length - 1}\b"


def test_timestamps_are_control_steps_over_rate(episode: Episode) -> None:
    np.testing.assert_array_equal(episode.timestamps_s, np.arange(episode.length) / 20.0)


@pytest.mark.parametrize("name", ["states", "rewards", "dones"])
def test_frame_counts_that_differ_name_the_array(episode: Episode, name: str) -> None:
    with pytest.raises(InputError, match=_frames(name, episode)):
        dataclasses.replace(episode, **{name: getattr(episode, name)[1:]})


def test_observation_of_another_length_is_named(episode: Episode) -> None:
    observations = {**episode.observations, "object": np.zeros((3, 2), dtype=np.float32)}
    with pytest.raises(InputError, match="observation 'object': expected float32"):
        dataclasses.replace(episode, observations=observations)


@pytest.mark.parametrize("name", ["depth_m", "instance", "world_from_camera"])
def test_passes_of_another_length_are_named(episode: Episode, name: str) -> None:
    passes = episode.cameras["agentview"]
    with pytest.raises(InputError, match=_frames(name, episode)):
        dataclasses.replace(passes, **{name: getattr(passes, name)[1:]})


def test_passes_of_another_size_are_named(episode: Episode) -> None:
    passes = episode.cameras["agentview"]
    with pytest.raises(InputError, match=r"depth_m: expected float32 \(\d x 8 x 10\), got float32 \(\d x 7 x 10\)"):
        dataclasses.replace(passes, depth_m=passes.depth_m[:, 1:])


def test_camera_of_another_length_is_named(episode: Episode) -> None:
    passes = episode.cameras["agentview"]
    frames = ("rgb", "depth_m", "instance", "world_from_camera")
    shorter: CameraPasses = dataclasses.replace(passes, **{name: getattr(passes, name)[1:] for name in frames})
    with pytest.raises(InputError, match="camera 'agentview'"):
        dataclasses.replace(episode, cameras={"agentview": shorter})


def test_not_finite_action_is_named_with_its_step(episode: Episode) -> None:
    actions = episode.actions.copy()
    actions[2, 3] = np.nan
    with pytest.raises(InputError, match="actions: not finite at control step 2"):
        dataclasses.replace(episode, actions=actions)


def test_instance_without_label_is_named(episode: Episode) -> None:
    labels = {i: label for i, label in episode.labels.items() if i != 2}
    with pytest.raises(InputError, match=r"camera 'agentview' instance: ids \[2\] have no label"):
        dataclasses.replace(episode, labels=labels)


def test_empty_episode_is_refused(episode: Episode) -> None:
    with pytest.raises(InputError, match="at least one control step"):
        dataclasses.replace(episode, actions=episode.actions[:0])


def test_array_of_another_type_is_named(episode: Episode) -> None:
    passes = episode.cameras["agentview"]
    with pytest.raises(InputError, match=r"instance: expected uint16 .* got int32"):
        dataclasses.replace(passes, instance=passes.instance.astype(np.int32))


def test_unknown_role_is_refused() -> None:
    with pytest.raises(InputError, match="role 'prop' is none of robot, manipulated, scene"):
        InstanceLabel("cube", "cube", "prop")  # type: ignore[arg-type]
