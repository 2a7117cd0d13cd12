import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cosmos_engine.controls import depth_control, edge_control, seg_control, vis_control
from cosmos_engine.controls.edge import THRESHOLDS
from cosmos_engine.controls.vis import FACTORS
from cosmos_engine.data import CameraPasses


def passes(t: int = 3, h: int = 32, w: int = 48) -> CameraPasses:
    rng = np.random.default_rng(0)
    instance = np.zeros((t, h, w), np.uint16)
    instance[:, 8:24, 10:30] = 3
    instance[:, 2:6, 2:6] = 7
    return CameraPasses(
        rgb=rng.integers(0, 256, (t, h, w, 3), dtype=np.uint8),
        depth_m=rng.uniform(0.3, 2.0, (t, h, w)).astype(np.float32),
        instance=instance,
        intrinsics_px=np.eye(3),
        world_from_camera=np.tile(np.eye(4), (t, 1, 1)),
    )


def test_edge_of_a_white_square_is_its_outline():
    rgb = np.zeros((1, 64, 64, 3), np.uint8)
    rgb[:, 20:40, 20:40] = 255
    edge = edge_control(rgb)
    rows, columns = np.nonzero(edge[0, ..., 0])
    assert set(np.unique(edge)) == {0, 255}
    assert np.minimum.reduce([abs(rows - 20), abs(rows - 39), abs(columns - 20), abs(columns - 39)]).max() <= 1
    assert edge[0, 30, 30, 0] == 0


def test_lower_edge_presets_keep_every_edge_of_higher_ones():
    rgb = cv2.GaussianBlur(passes().rgb[0], (5, 5), 0)[None]
    counts = [(edge_control(rgb, preset) > 0).sum() for preset in THRESHOLDS]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


@pytest.mark.parametrize("preset", FACTORS)
def test_vis_keeps_size_and_mean_colour_and_removes_detail(preset):
    ramp = np.linspace(40, 200, 64)[None, :, None, None] + np.array([0, 20, -20])
    noise = np.random.default_rng(0).normal(0, 12, (1, 64, 64, 3))
    source = (ramp + noise).clip(0, 255).astype(np.uint8)
    blurred = vis_control(source, preset)
    assert blurred.shape == source.shape
    assert np.abs(blurred.mean((0, 1, 2)) - source.mean((0, 1, 2))).max() < 4
    detail = [np.abs(np.diff(video.astype(float), axis=2)).mean() for video in (source, blurred)]
    assert detail[1] < detail[0] / 4


def test_vis_leaves_a_flat_frame_as_it_is():
    flat = np.full((2, 32, 32, 3), (10, 200, 90), np.uint8)
    np.testing.assert_array_equal(vis_control(flat, "very_low"), flat)


def test_depth_is_disparity_over_the_whole_clip():
    depth_m = np.full((2, 4, 4), 2.0, np.float32)
    depth_m[0, 0, 0] = 1.0  # nearest in the clip
    depth_m[1, 0, 0] = 4.0  # farthest in the clip
    control = depth_control(depth_m)[..., 0]
    # (1/z - 1/4) / (1/1 - 1/4): 2 m is a third.
    assert control[0, 0, 0] == 255
    assert control[1, 0, 0] == 0
    assert control[0, 1, 1] == control[1, 1, 1] == 85


def test_depth_of_no_hit_is_black_and_does_not_shift_the_range():
    depth_m = np.array([[[np.inf, 1.0, 2.0]]], np.float32)
    np.testing.assert_array_equal(depth_control(depth_m)[0, 0, :, 0], [0, 255, 128])


@given(hnp.arrays(np.float32, (2, 3, 3), elements=st.floats(0.015625, 128, width=32) | st.just(np.inf)))
def test_depth_is_monotone_nearer_is_never_darker(depth_m):
    control = depth_control(depth_m)[..., 0]
    order = np.argsort(depth_m, axis=None)
    assert (np.diff(control.ravel()[order].astype(int)) <= 0).all()


def test_seg_gives_each_instance_one_colour_and_background_black():
    instance = passes().instance
    control = seg_control(instance, seed=4)
    colors = {i: {tuple(c) for c in control[instance == i]} for i in (0, 3, 7)}
    assert colors[0] == {(0, 0, 0)}
    assert all(len(c) == 1 for c in colors.values())
    assert len(set.union(*colors.values())) == 3


def test_seg_colour_of_an_object_is_the_same_in_every_camera():
    a, b = np.full((1, 2, 2), 9, np.uint16), np.array([[[1, 9]]], np.uint16)
    np.testing.assert_array_equal(seg_control(a, 5)[0, 0, 0], seg_control(b, 5)[0, 0, 1])
    assert (seg_control(a, 5) != seg_control(a, 6)).any()
