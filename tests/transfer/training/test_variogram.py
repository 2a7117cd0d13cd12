import numpy as np
import torch

from cosmos_engine.transfer.parts import PARTS
from cosmos_engine.transfer.training.variogram import variogram_distance


def patterns(deviation: float, seed: int, side: int = 64) -> torch.Tensor:
    return deviation * torch.randn(1, 3, 1, side, side, generator=torch.Generator().manual_seed(seed))


PARTS_MAP = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)


def test_two_draws_of_one_pattern_are_near_and_a_flat_picture_is_far():
    true, other, flat = patterns(0.2, 0), patterns(0.2, 1), torch.zeros(1, 3, 1, 64, 64)
    near = variogram_distance(other, true, PARTS_MAP)
    far = variogram_distance(flat, true, PARTS_MAP)
    assert near < 0.05 * far
    assert variogram_distance(true, true, PARTS_MAP) < 1e-6


def test_direction_counts():
    rows = patterns(0.2, 0)[..., :1].expand(-1, -1, -1, -1, 64)
    columns = rows.transpose(-1, -2)
    assert variogram_distance(rows, columns, PARTS_MAP) > 0.05


def test_closed_form_of_white_noise():
    """Differences of white noise have twice its variance: grey noise in brightness, coloured in the differences."""
    grey = patterns(0.1, 0, 256)[:, :1].expand(-1, 3, -1, -1, -1)
    flat = torch.zeros_like(grey)
    parts = torch.zeros(1, 1, 256, 256, dtype=torch.uint8)
    expected = (np.sqrt(2 * 0.1**2 + 1e-4) - 1e-2) / 3  # of three channels one differs
    np.testing.assert_allclose(variogram_distance(grey, flat, parts), expected, rtol=0.02)


def test_no_pair_crosses_a_contour_and_small_parts_do_not_count():
    parts = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    parts[..., 32:] = PARTS.index("wall")
    stepped = torch.zeros(1, 3, 1, 64, 64)
    stepped[..., 32:] = 1.0
    assert variogram_distance(stepped, torch.zeros_like(stepped), parts) == 0
    parts = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    parts[..., :4, :4] = PARTS.index("object")
    spotted = torch.zeros(1, 3, 1, 64, 64)
    spotted[..., :4, :4] = patterns(1.0, 0)[..., :4, :4]
    assert variogram_distance(spotted, torch.zeros_like(spotted), parts) == 0


def test_a_pattern_can_be_learnt():
    true = patterns(0.3, 0)
    amount = torch.tensor(0.05, requires_grad=True)
    optimizer = torch.optim.Adam([amount], lr=0.02)
    for step in range(60):
        optimizer.zero_grad()
        variogram_distance(amount * patterns(1.0, 2 + step), true, PARTS_MAP).backward()
        optimizer.step()
    assert abs(amount.item() - 0.3) < 0.05
