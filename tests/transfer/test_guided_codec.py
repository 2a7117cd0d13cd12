import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.controls.seg import instance_colors
from cosmos_engine.transfer.codec import Guide
from cosmos_engine.transfer.guided_codec import CODE_CHANNELS, LATENT_CHANNELS, PATTERN_GAIN, GuidedCodec, painted
from cosmos_engine.transfer.part_head import TABLETOP_IDS
from cosmos_engine.transfer.parts import PARTS
from cosmos_engine.transfer.solid_noise import CHANNELS

GROUND = torch.tensor([0.0, 0.0, 0.0, 0.01])


@pytest.fixture(scope="module")
def codec() -> GuidedCodec:
    torch.manual_seed(0)
    codec = GuidedCodec(width=8)
    with torch.no_grad():  # what is zero at the start would hide half of the decoder
        for parameter in codec.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return codec.eval()


def seg_video(part_HW: np.ndarray, frames: int) -> torch.Tensor:
    """Return the seg control of seed 0 for a map of parts."""
    colors = np.concatenate([instance_colors(np.array(TABLETOP_IDS), 0), np.zeros((1, 3), np.uint8)])
    picture = torch.from_numpy(colors[part_HW]).permute(2, 0, 1).float() / 127.5 - 1
    return picture[None, :, None].expand(1, -1, frames, -1, -1)


def ground_points(frames: int, side: int) -> torch.Tensor:
    """Return points of a level ground, a centimetre a pixel."""
    rows, columns = torch.meshgrid(torch.arange(side) / 100, torch.arange(side) / 100, indexing="ij")
    points = torch.stack([columns, rows, torch.zeros_like(rows), torch.full_like(rows, 0.01)])
    return points[None, :, None].expand(1, -1, frames, -1, -1)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))
def test_frames_in_are_frames_out(codec, groups, rows, columns):
    video = torch.rand(2, 3, 4 * groups + 1, 16 * rows, 16 * columns) * 2 - 1
    with torch.no_grad():
        latent = codec.encode(video)
        rebuilt = codec.decode(latent, Guide({"seg": video}))
    assert latent.shape == (2, LATENT_CHANNELS, groups + 1, 2 * rows, 2 * columns)
    assert rebuilt.shape == video.shape


def test_latents_are_causal(codec):
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    changed = video.clone()
    changed[:, :, 5:] = 0.0  # the third latent frame's group
    with torch.no_grad():
        a, b = codec.encode(video), codec.encode(changed)
    torch.testing.assert_close(a[:, :, :2], b[:, :, :2])
    assert (a[:, :, 2] - b[:, :, 2]).abs().max() > 1e-3


def test_decoding_frame_by_frame_is_decoding_at_once(codec):
    """Outside of training the pixels' work is done in pieces of a few frames."""
    video = torch.rand(1, 3, 17, 16, 32) * 2 - 1
    guide = Guide({"seg": video, "depth": video}, torch.rand(1, 4, 17, 16, 32), [3])
    latent = codec.encode(video).detach()
    at_once = codec.decode(latent, guide).detach()
    with torch.no_grad():
        in_pieces = codec.decode(latent, guide)
    torch.testing.assert_close(in_pieces, at_once, rtol=1e-4, atol=1e-5)


def test_a_new_decoder_paints_each_part_in_the_colour_its_cells_say():
    torch.manual_seed(0)
    codec = GuidedCodec().eval()
    part_HW = np.zeros((32, 32), int)
    part_HW[:, 16:] = PARTS.index("robot")
    latent = torch.zeros(1, LATENT_CHANNELS, 1, 4, 4)
    latent[:, :3] = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1, 1)
    robot = PARTS.index("robot") * CODE_CHANNELS
    latent[:, robot : robot + 3] = torch.tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1, 1)
    with torch.no_grad():
        for last in (codec.parts.up2[-1], codec.parts.of_pixel[-1]):  # what is learnt of other palettes says nothing
            last.weight.zero_()
            last.bias.zero_()
        codec.style.weight[:, 3:] = 0.0
        codec.style.bias[3:6] = 0.0  # no pattern
        codec.style.weight[3:6] = 0.0
        video = codec.decode(latent, Guide({"seg": seg_video(part_HW, 1)}))
    left, right = video[0, :, 0, :, :16].mean((1, 2)), video[0, :, 0, :, 16:].mean((1, 2))
    torch.testing.assert_close(left, torch.tensor([0.4, -0.4, -0.4]), atol=0.05, rtol=0)
    torch.testing.assert_close(right, torch.tensor([-0.4, 0.4, 0.4]), atol=0.05, rtol=0)
    assert video[0, :, 0, :, :15].std((1, 2)).max() < 0.01, "no colour runs over the contour"


def test_a_part_is_the_same_in_all_frames_and_its_style_counts_by_squared_share(codec):
    latent = torch.randn(1, LATENT_CHANNELS, 2, 2, 2)
    shares = torch.zeros(1, len(PARTS), 5, 2, 2)
    shares[0, 0, :, 0, 0] = 1.0
    shares[0, 0, :, 1, 1] = 0.5
    codes = latent[0, :CODE_CHANNELS]
    pooled = (codes[:, :, 0, 0].sum(1) + 0.25 * codes[:, :, 1, 1].sum(1)) / 2.5
    with torch.no_grad():
        expected = codec.style(pooled) + codec.style_more(pooled)
        styles = codec.styles(latent, shares)
    torch.testing.assert_close(styles[0, 0], expected, rtol=1e-3, atol=1e-4)


def test_the_seed_draws_the_pattern(codec):
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    latent = torch.randn(1, LATENT_CHANNELS, 2, 4, 4)
    points = ground_points(5, 32)
    with torch.no_grad():
        first, again, other = (codec.decode(latent, Guide({"seg": video}, points, [seed])) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first - other).abs().max() > 1e-3


def test_painted_by_hand():
    style = torch.zeros(2, 3 + 3 + CHANNELS + 1)
    style[0, :3] = torch.tensor([0.1, 0.2, 0.3])
    style[0, 3:6] = torch.tensor([0.5, 0.0, -0.5])
    style[0, 6] = 2.0  # weight of the first channel
    style[0, -1] = -1.0  # bias
    parts = torch.zeros(2, 1, 1, 2)
    parts[0, ..., 0] = parts[1, ..., 1] = 1.0
    noise = torch.zeros(CHANNELS, 1, 1, 2)
    noise[0] = 0.25
    made = painted(parts, style, noise)
    pattern = np.tanh(PATTERN_GAIN * 2.0 * 0.25 - 1.0)
    np.testing.assert_allclose(made[:, 0, 0, 0], [0.1 + 0.5 * pattern, 0.2, 0.3 - 0.5 * pattern], rtol=1e-6)
    np.testing.assert_array_equal(made[:, 0, 0, 1], 0.0)
