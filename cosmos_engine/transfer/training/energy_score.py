"""The energy score: a loss under which a network that maps noise to a latent learns to sample, not to average.

A squared error at pure noise teaches the mean of all textures that a prompt allows, which is no texture. The energy
score E|X - y| - E|X - X'| / 2, of two draws X, X' for one target y, is strictly proper (Gneiting and Raftery 2007,
Strictly Proper Scoring Rules, sec. 4.3): it is least where draws are distributed as targets are. One denoise step then
gives one of the textures, and the seed says which.

Shape legend: B clip, C channel, L latent frame, h w latent cell.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

# Sides of the square pieces of latent, in cells, whose draws are compared as a whole, over all frames. Large ones teach
# how cells belong together, small ones each cell's own spread. With 1, 2 and 4 alone a network of 200 updates drew a
# patchwork: every 16 pixels a colour of their own.
PIECES = (1, 2, 4, 8, 16)
_SMALLEST_SQUARE = 1e-6  # the root's slope is infinite at 0, where both draws agree


def energy_score(
    first_BCLhw: Tensor, second_BCLhw: Tensor, target_BCLhw: Tensor, weight_B1Lhw: Tensor, mean_weight: Tensor
) -> Tensor:
    """Return the energy score of two draws, per channel's root mean square, averaged over pieces of several sizes.

    Args:
        first_BCLhw, second_BCLhw: what the network makes of two noises under the same conditions.
        target_BCLhw: the true latent.
        weight_B1Lhw: of cells; 0 where the latent is given.
        mean_weight: mean of `weight_B1Lhw` over the batch of all processes.
    """
    total = target_BCLhw.new_zeros(())
    sides = [side for side in PIECES if side <= min(target_BCLhw.shape[-2:])]
    for side in sides:
        weight = _pooled(weight_B1Lhw.mean(2), side)
        known = (weight_B1Lhw > 0).to(target_BCLhw.dtype)

        def distance(a: Tensor, b: Tensor, known: Tensor = known, side: int = side) -> Tensor:
            squares = ((a - b).square() * known).mean((1, 2))[:, None]
            return (_pooled(squares, side) + _SMALLEST_SQUARE).sqrt()

        to_target = (distance(first_BCLhw, target_BCLhw) + distance(second_BCLhw, target_BCLhw)) / 2
        apart = distance(first_BCLhw, second_BCLhw) / 2
        total = total + ((to_target - apart) * weight).mean() / mean_weight
    return total / len(sides)


def _pooled(cells_B1hw: Tensor, side: int) -> Tensor:
    """Return means over overlapping square pieces, half a piece apart, so that no border is never inside one."""
    return F.avg_pool2d(cells_B1hw, side, stride=max(side // 2, 1))
