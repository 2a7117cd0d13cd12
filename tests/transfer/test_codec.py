import numpy as np
import torch

from cosmos_engine.transfer.codec import control_latent, guide_frames


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
