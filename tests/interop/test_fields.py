"""What a recording may hold reaches the windows: two arms, cameras of different sizes, lengths, instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.curation import CurationConfig
from cosmos_engine.augment.job import augment
from cosmos_engine.augment.photometric import Photometric
from cosmos_engine.controls import Recipe
from cosmos_engine.data import Dataset, Recording, verify_dataset
from cosmos_engine.errors import InputError
from policies.windows import choose_observations, load_frames

LOW_DIM = ("robot0_eef_pos", "robot1_eef_pos", "robot1_gripper_qpos", "wrench")


@pytest.fixture(scope="module")
def augmented(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording's four demos and a variant of each, by the cheapest generator."""
    path, recording = tmp_path_factory.mktemp("augmented") / "augmented.zarr", Recording(made_once / "demos")
    config = AugmentConfig(
        variants=1, recipe=Recipe(depth=0.0, seg=0.0), curation=CurationConfig(min_frames=1, near_duplicate=0.0)
    )
    augment(recording, path, Photometric(), config)
    return path


def test_every_field_survives_record_and_augment(augmented: Path, recording: Recording) -> None:
    assert verify_dataset(augmented, recording.folder).intact
    dataset = Dataset(augmented)
    assert dataset.episode_count == 8
    assert dataset.cameras == ("table", "wrist")
    for index in range(8):
        episode = recording.episode(int(dataset.source_demo[index]))
        rows = dataset.episode(index)
        assert rows["action"].shape == (episode.length, 14)
        np.testing.assert_array_equal(rows["action"], episode.actions)
        for name, array in episode.observations.items():
            np.testing.assert_array_equal(rows[name], array, name)
        assert rows["table_image"].shape == (episode.length, 16, 20, 3)
        assert rows["wrist_image"].shape == (episode.length, 12, 12, 3)
        assert dataset.info[index]["instruction"] == episode.instruction
    assert len(set(np.diff(dataset.episode_ends, prepend=0).tolist())) > 1
    assert len({info["instruction"] for info in dataset.info}) == 4


def test_windows_hold_both_arms_and_both_cameras(augmented: Path) -> None:
    dataset = Dataset(augmented)
    frames = load_frames(dataset, choose_observations(dataset, None, LOW_DIM), 12)
    batch = frames.gather(np.arange(len(frames)), 2, 4)
    assert batch.actions.shape == (len(frames), 4, 14)
    assert {name: tuple(image.shape[1:]) for name, image in batch.images.items()} == {
        "table_image": (2, 12, 12, 3),
        "wrist_image": (2, 12, 12, 3),
    }
    assert set(batch.low_dim) == set(LOW_DIM)
    ends = dataset.episode_ends
    for index in range(dataset.episode_count):
        first, rows = (int(ends[index - 1]) if index else 0), dataset.episode(index)
        np.testing.assert_array_equal(batch.actions[first].numpy(), rows["action"][[0, 0, 1, 2]])
        np.testing.assert_array_equal(batch.low_dim["wrench"][first + 2].numpy(), rows["wrench"][1:3])


def test_names_that_would_overwrite_others_are_refused(make_episode) -> None:
    import dataclasses

    episode = make_episode(0)
    reading = np.zeros((episode.length, 1), np.float32)
    for name, line in {
        "action": "the name is taken in a dataset",
        "table_depth": "the name is taken by camera 'table'",
        "../x": "names a file",
        ".": "names a file",
    }.items():
        with pytest.raises(InputError, match=line):
            dataclasses.replace(episode, observations={name: reading})
    with pytest.raises(InputError, match=r"extra 'a//b'"):
        dataclasses.replace(episode, extras={"a//b": reading})
    with pytest.raises(InputError, match=r"extra 'a': expected numbers"):
        dataclasses.replace(episode, extras={"a": np.array(["text"])})


def test_extras_are_carried_and_read_on_request_only(recording: Recording, make_episode) -> None:
    assert recording.episode(2).extras == {}
    found, made = recording.episode(2, extras=True).extras, make_episode(2).extras
    assert found.keys() == made.keys()
    for path, array in made.items():
        assert found[path].dtype == array.dtype
        np.testing.assert_array_equal(found[path], array, path)
