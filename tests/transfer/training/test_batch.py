import dataclasses

import numpy as np
import pytest
import torch

from cosmos_engine.controls import MODALITIES, edge_control
from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes
from cosmos_engine.transfer.parts import PARTS
from cosmos_engine.transfer.training.batch import BatchDraw, DrawConfig, draw_batch, load_batch, shrunk
from cosmos_engine.transfer.training.stage import StageConfig
from cosmos_engine.transfer.training.stream import BatchSource, Noise
from tests.transfer.training.conftest import write_pool

CPU = torch.device("cpu")


def drawn(pool, seed: int = 0, size: int = 2, **config) -> BatchDraw:
    return draw_batch(pool, range(len(pool)), size, 5, np.random.default_rng(seed), DrawConfig(**config))


def test_every_subset_of_controls_is_drawn_but_never_none(pool):
    subsets = {drawn(pool, seed, 1).present for seed in range(200)}
    assert () not in subsets
    assert {modality for subset in subsets for modality in subset} == set(MODALITIES)
    assert len(subsets) > 10


def test_a_control_of_share_0_is_never_drawn(pool):
    subsets = {drawn(pool, seed, 1, edge=0.1, depth=0.0, vis=0.0, seg=0.0).present for seed in range(20)}
    assert subsets == {("edge",)}


def test_text_is_dropped_as_often_as_asked(pool):
    dropped = [clip.prompt == "" for clip in drawn(pool, size=400, text_dropout=0.25).clips]
    assert 0.15 < np.mean(dropped) < 0.35
    assert not any(clip.prompt == "" for clip in drawn(pool, size=50, text_dropout=0.0).clips)


def test_a_sensor_changes_what_controls_see_and_never_the_target(pool):
    plain = drawn(pool, edge=1.0, vis=1.0)
    noisy = drawn(pool, edge=1.0, vis=1.0, sensor=1.0)
    assert [dataclasses.replace(clip, sensor=None) for clip in noisy.clips] == list(plain.clips)
    with_sensor, without = load_batch(pool, noisy), load_batch(pool, plain)
    assert torch.equal(with_sensor.rgb_BTHWC, without.rgb_BTHWC)
    assert not torch.equal(with_sensor.controls["vis"], without.controls["vis"])
    for modality in {"depth", "seg"} & set(plain.present):
        assert torch.equal(with_sensor.controls[modality], without.controls[modality])


def test_a_batch_shows_the_frames_that_were_drawn(pool):
    draw = drawn(pool, edge=1.0, foreground_edges=0.0)
    batch = load_batch(pool, draw).on(CPU)
    for row, how in enumerate(draw.clips):
        clip = pool.clip(how.index, how.start, how.frames)
        torch.testing.assert_close(batch.rgb_BCTHW[row].permute(1, 2, 3, 0), torch.from_numpy(clip.rgb) / 127.5 - 1.0)
        edges = torch.from_numpy(edge_control(clip.rgb, how.edge)) / 127.5 - 1.0
        torch.testing.assert_close(batch.controls["edge"][row].permute(1, 2, 3, 0), edges)


def test_edges_may_be_those_of_the_foreground_alone(pool):
    draw = drawn(pool, edge=1.0, foreground_edges=1.0)
    batch = load_batch(pool, draw).on(CPU)
    edges = batch.controls["edge"]
    assert (edges[:, 0][~batch.foreground_BTHW] == -1).all()
    assert (edges[:, 0][batch.foreground_BTHW] == 1).any()


def test_clips_of_an_odd_size_are_padded_to_whole_tokens(tmp_path):
    pool = write_pool(tmp_path / "clips", size=40)
    loaded = load_batch(pool, drawn(pool, seg=1.0))
    assert (
        loaded.rgb_BTHWC.shape[2:4] == loaded.controls["seg"].shape[2:4] == loaded.foreground_BTHW.shape[2:] == (48, 48)
    )
    assert torch.equal(loaded.rgb_BTHWC[:, :, 45], loaded.rgb_BTHWC[:, :, 39])


def test_parts_and_points_are_those_of_the_clip(pool):
    draw = drawn(pool, size=1)
    batch = load_batch(pool, draw).on(CPU)
    clip = pool.clip(draw.clips[0].index, draw.clips[0].start, draw.clips[0].frames)
    of_instance = {1: PARTS.index("robot"), 3: PARTS.index("table"), 6: PARTS.index("object")}
    expected = np.vectorize(of_instance.get)(clip.instance)
    np.testing.assert_array_equal(batch.parts_BTHW[0], expected)
    still = clip.instance == 3
    np.testing.assert_allclose(batch.points_B4THW[0, 2].numpy()[still], clip.depth_m[still])


def test_shrunk_clips_show_the_same_at_half_the_size(pool):
    clip = pool.clip(0)
    half = shrunk(clip, 2)
    assert half.rgb.shape == (5, 16, 16, 3)
    np.testing.assert_allclose(half.rgb[0, 3, 5], clip.rgb[0, 6:8, 10:12].mean((0, 1)), atol=0.5)
    np.testing.assert_array_equal(half.instance, clip.instance[:, ::2, ::2])
    # A pixel's centre is the middle of the four that it is made of.
    middle = np.linalg.inv(clip.passes.intrinsics_px) @ [10.5, 6.5, 1]
    np.testing.assert_allclose(np.linalg.inv(half.passes.intrinsics_px) @ [5, 3, 1], middle)


@pytest.mark.parametrize(
    "values", [{"edge": 1.5}, {"sensor": -1.0}, {"edge": 0.0, "vis": 0.0, "depth": 0.0, "seg": 0.0}]
)
def test_shares_that_make_no_sense_are_refused(values):
    with pytest.raises(InputError, match="draw"):
        DrawConfig(**values)


def test_batches_are_the_same_drawn_ahead_in_threads_or_one_by_one(pool):
    config = StageConfig(updates=5, batch=2, frames=5)
    with BatchSource(pool, DrawConfig(), Processes(), threads=3).stream(2, config) as ahead:
        alone = BatchSource(pool, DrawConfig(), Processes()).stream(2, config)
        for update in (2, 3, 4):  # as after a resume
            ours, theirs = ahead[update], alone[update]
            assert torch.equal(ours.batch.rgb_BCTHW, theirs.batch.rgb_BCTHW)
            assert ours.batch.prompts == theirs.batch.prompts
            assert torch.equal(ours.noise.normal(2, 3), theirs.noise.normal(2, 3))
            assert ours.rng.random() == theirs.rng.random()


def test_processes_share_one_batch_and_its_noise(pool):
    config = StageConfig(batch=4, frames=5)
    whole = BatchSource(pool, DrawConfig(), Processes()).stream(1, config)[0]
    parts = [BatchSource(pool, DrawConfig(), Processes(CPU, rank, 2)).stream(1, config)[0] for rank in range(2)]
    assert torch.equal(torch.cat([part.batch.rgb_BCTHW for part in parts]), whole.batch.rgb_BCTHW)
    noise = whole.noise.normal(4, 3)
    assert torch.equal(torch.cat([part.noise.normal(2, 3) for part in parts]), noise)
    assert not torch.equal(Noise(1, Processes()).uniform(4), Noise(2, Processes()).uniform(4))
