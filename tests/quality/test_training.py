import json

import numpy as np
import pytest
import torch

from cosmos_engine.data import InstanceLabel
from cosmos_engine.quality import training
from cosmos_engine.quality.distortion import MANIPULATED, ROBOT, SCENE, LabelledFrame, changed, distorted
from cosmos_engine.quality.training import (
    ReaderTrainingConfig,
    depth_loss,
    held_out_indices,
    held_out_scores,
    role_loss,
    train_reader,
    training_indices,
)
from cosmos_engine.transfer.training.clips import CLIPS_PER_GROUP, ClipPool, group_file, labels_as_json, write_group
from cosmos_engine.transfer.training.stage import StageConfig

from .conftest import painted, scene

WORDS = {"table": "", "wall": "", "floor": "", "robot": "", "light": "", "objects": {}}


@pytest.fixture
def pool(tmp_path) -> ClipPool:
    """Three groups of clips: one of them held out."""
    passes = scene(frames=5)
    labels = {key: InstanceLabel(f"{key}", "thing", "manipulated") for key in (1, 6, 7)}
    described = [{"words": WORDS, "labels": labels_as_json(labels)}] * CLIPS_PER_GROUP
    folder = tmp_path / "clips"
    (folder / "groups").mkdir(parents=True)
    for group in range(3):
        write_group(group_file(folder, group), [passes] * CLIPS_PER_GROUP, described)
    config = {"clips": 3 * CLIPS_PER_GROUP, "frames": 5, "image_size": 48, "seed": 0}
    (folder / "manifest.json").write_text(json.dumps(config))
    return ClipPool(folder)


@pytest.fixture
def frame() -> LabelledFrame:
    passes = scene(frames=1)
    role = np.full(passes.instance[0].shape, SCENE, np.uint8)
    role[passes.instance[0] == 1] = ROBOT
    role[passes.instance[0] >= 6] = MANIPULATED
    return LabelledFrame(passes.rgb[0], role, passes.instance[0].astype(np.uint8), np.log(passes.depth_m[0]))


def config(updates: int) -> ReaderTrainingConfig:
    return ReaderTrainingConfig(StageConfig(updates=updates, batch=2, frames=1, save_every=1), cut_px=32)


def test_whole_episodes_are_held_out(pool):
    assert training_indices(pool) == range(2 * CLIPS_PER_GROUP)
    assert held_out_indices(pool) == range(2 * CLIPS_PER_GROUP, 3 * CLIPS_PER_GROUP)


def test_a_stopped_training_ends_in_the_same_file(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ReaderNetwork", training_network)
    whole = train_reader(pool, tmp_path / "whole", config(3))

    drawn = training._drawn

    def stopped(pool, indices, settings, rng):
        stopped.calls += 1
        if stopped.calls > 4:
            raise KeyboardInterrupt
        return drawn(pool, indices, settings, rng)

    stopped.calls = 0
    monkeypatch.setattr(training, "_drawn", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_reader(pool, tmp_path / "stopped", config(3))
    monkeypatch.setattr(training, "_drawn", drawn)
    assert train_reader(pool, tmp_path / "stopped", config(3)).read_bytes() == whole.read_bytes()
    assert train_reader(pool, tmp_path / "stopped", config(3)).read_bytes() == whole.read_bytes()  # nothing is left


def test_training_goes_on_from_given_weights(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "ReaderNetwork", training_network)
    first = train_reader(pool, tmp_path / "first", config(1))
    given = training_network()
    monkeypatch.setattr(training, "load_network", lambda file: given if file == first else None)
    train_reader(pool, tmp_path / "second", config(1), first)
    assert (tmp_path / "second" / "reader.safetensors").is_file()


def training_network() -> torch.nn.Module:
    from cosmos_engine.quality.reader_network import ReaderNetwork

    return ReaderNetwork(widths=(8, 8, 8, 8), detail_width=4)


def test_held_out_scores_are_full_for_a_reader_that_knows(pool):
    class Knowing:
        name = "knowing"

        def read(self, rgb):
            from cosmos_engine.quality import Readings

            passes = scene(frames=len(rgb))
            roles = np.stack([passes.instance == 1, passes.instance >= 6, passes.instance == 3], axis=-1)
            return Readings(roles.astype(np.float32), np.log(passes.depth_m))

    scores = held_out_scores(Knowing(), pool, held_out_indices(pool), distort=True)
    assert scores["iou_robot"] == scores["iou_manipulated"] == 1.0
    assert scores["si_rmse"] == pytest.approx(0, abs=1e-3)  # the pool keeps depth in float16


def test_losses_are_lowest_for_the_truth():
    role = torch.randint(0, 3, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    right = torch.nn.functional.one_hot(role, 3).permute(0, 3, 1, 2).float() * 40
    assert role_loss(right, role) < 0.01
    assert role_loss(right.roll(1, 1), role) > 1
    truth = torch.rand(2, 8, 8)
    truth[0, 0, 0] = float("nan")
    assert depth_loss(truth.nan_to_num(), truth) < 0.002
    assert depth_loss(truth.nan_to_num() + 1, truth) < 0.5  # most of a common factor is forgiven
    assert depth_loss(-truth.nan_to_num(), truth) > 0.5


def test_distorted_frames_keep_labels_and_pixels_together(frame):
    """Without changes of look, a pixel's colour still says its role: cuts, mirrors and pastes move both."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        made = distorted(frame, frame, 40, rng)
        assert made.rgb.shape == (40, 40, 3)
        assert made.role.shape == made.instance.shape == made.log_depth.shape == (40, 40)
        assert set(np.unique(made.role)) <= {ROBOT, MANIPULATED, SCENE}
        known = np.isfinite(made.log_depth)
        assert known.any()
        assert (np.abs(np.exp(made.log_depth[known & (made.role == ROBOT)]) - 0.8) < 1e-5).all()


def test_distortion_follows_from_its_seed(frame):
    first, again = (distorted(frame, frame, 40, np.random.default_rng(3)) for _ in range(2))
    for name in ("rgb", "role", "instance", "log_depth"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


def test_changed_frames_keep_their_size_and_type():
    rgb = painted(scene(frames=1).instance[0])
    for seed in range(10):
        made = changed(rgb, np.random.default_rng(seed))
        assert made.shape == rgb.shape
        assert made.dtype == np.uint8
