import torch

from cosmos_engine.transfer.solid_noise import CHANNELS, FREQUENCIES, UNHEARD, solid_noise


def points(*shape: int, pixel_m: float = 1e-4) -> torch.Tensor:
    placed = torch.rand(1, 4, *shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    placed[:, 3] = pixel_m
    return placed


def test_a_place_has_one_value_whatever_is_around_it():
    several = points(2, 8, 8)
    noise = solid_noise(several, [5])
    assert noise.shape == (1, CHANNELS, 2, 8, 8)
    turned = solid_noise(several.flip(-1).flip(2), [5])
    torch.testing.assert_close(turned.flip(-1).flip(2), noise)


def test_rows_draw_by_their_seed():
    twice = points(1, 8, 8).expand(3, -1, -1, -1, -1)
    first, second, again = solid_noise(twice, [1, 2, 1])
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first - second).abs().mean() > 0.3


def test_about_unit_variance_and_continuous_over_the_seam():
    deviation = solid_noise(points(4, 64, 64), [0]).std((0, 2, 3, 4))
    assert deviation.min() > 0.6
    assert deviation.max() < 1.4
    x = torch.linspace(3.9, 4.1, 2001)  # 24 lattice cells at 6 a metre end at x = 4
    line = torch.zeros(1, 4, 1, 1, len(x))
    line[0, 0, 0, 0] = x
    steps = solid_noise(line, [0])[0, 0, 0, 0].diff().abs()
    assert steps.max() < 0.02


def test_a_pixel_too_coarse_for_a_channel_does_not_show_it():
    fine = solid_noise(points(1, 16, 16), [0])
    pixel_m = 4 * UNHEARD / max(FREQUENCIES[3])
    coarse = solid_noise(points(1, 16, 16, pixel_m=pixel_m), [0])
    torch.testing.assert_close(coarse[:, 3], fine[:, 3] / 16)
    torch.testing.assert_close(coarse[:, 0], fine[:, 0])
