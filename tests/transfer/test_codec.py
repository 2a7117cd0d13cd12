import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.transfer.codec import GUIDE_CHANNELS, GuidedCodec, control_latent, guide_frames


@pytest.fixture(scope="module")
def codec() -> GuidedCodec:
    torch.manual_seed(0)
    return GuidedCodec(latent_channels=4, width=8).eval()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
def test_frames_in_are_frames_out(codec, groups, rows, columns):
    video = torch.rand(2, 3, 4 * groups + 1, 8 * rows, 8 * columns) * 2 - 1
    with torch.no_grad():
        latent = codec.encode(video)
        rebuilt = codec.decode(latent, {"seg": video})
    assert latent.shape == (2, 4, groups + 1, rows, columns)
    assert rebuilt.shape == video.shape


def test_latents_are_causal(codec):
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    changed = video.clone()
    changed[:, :, 5:] = 0.0  # the third latent frame's group
    with torch.no_grad():
        a, b = codec.encode(video), codec.encode(changed)
    torch.testing.assert_close(a[:, :, :2], b[:, :, :2])
    assert (a[:, :, 2] - b[:, :, 2]).abs().max() > 1e-3


def test_an_absent_control_is_a_black_one(codec):
    latent = torch.randn(1, 4, 2, 2, 2)
    black = torch.full((1, 3, 5, 16, 16), -1.0)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(latent, {}), codec.decode(latent, dict.fromkeys(GUIDE_CHANNELS, black)))


def test_guide_has_every_modality_at_its_place():
    video = torch.full((1, 3, 1, 8, 8), 1.0)
    guide = guide_frames({"depth": video}, video)
    assert guide.shape == (1, 8, 1, 8, 8)
    np.testing.assert_array_equal(guide[0, :, 0, 0, 0].numpy(), [0, 0, 0, 0, 1, 0, 0, 0])


def test_control_latent_keeps_the_mean_of_each_sub_cell():
    video = torch.rand(1, 3, 5, 16, 16)
    latent = control_latent(video)
    assert latent.shape == (1, 48, 2, 2, 2)
    # Channels: frame of the group, colour, sub-cell row, sub-cell column.
    cells = latent.reshape(4, 3, 2, 2, 2, 2, 2)
    expected = video[0, 1, 3, 4:8, 8:12].mean()
    torch.testing.assert_close(cells[2, 1, 1, 0, 1, 0, 1], expected)


def test_control_latent_of_the_first_frame_stands_alone():
    video = torch.rand(1, 3, 5, 8, 8)
    changed = video.clone()
    changed[:, :, 1:] = 0
    torch.testing.assert_close(control_latent(video)[:, :, 0], control_latent(changed)[:, :, 0])
