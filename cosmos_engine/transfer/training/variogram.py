"""Variograms: how much neighbouring pixels of a part differ, by distance, direction and colour.

Two patterns that look alike have the same variogram wherever their spots lie (Matheron 1963), which no error of pixels
can say: the mean picture of all patterns is a flat one.

Shapes: B clip, T frame, H W pixel, K part, G lag.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from cosmos_engine.transfer.parts import PARTS

LAGS_PX = (1, 2, 4, 8)
LEAST_PAIRS = 64  # of neighbouring pixels of a part, for its variogram to count
SMALLEST = 1e-4  # variance under which differences are rounding


def variogram_distance(
    made_B3THW: Float[Tensor, "b 3 t h w"], true_B3THW: Float[Tensor, "b 3 t h w"], parts_BTHW: UInt8[Tensor, "b t h w"]
) -> Float[Tensor, ""]:
    """Return the mean absolute difference of two videos' variograms as deviations, over parts, lags and channels.

    Channels are brightness, red less blue, and green less both. A part counts by the square root of its pixels.
    """
    is_part = F.one_hot(parts_BTHW.long(), len(PARTS)).float()  # B T H W K
    both = torch.cat([_opponents(made_B3THW), _opponents(true_B3THW)], dim=1)  # B 6 T H W
    error = made_B3THW.new_zeros(())
    total = made_B3THW.new_zeros(())
    for lag in LAGS_PX:
        for axis in (-1, -2):
            length = both.shape[axis] - lag
            squared = (both.narrow(axis, lag, length) - both.narrow(axis, 0, length)).square()
            of_parts = axis - 1 if axis < 0 else axis
            pairs = is_part.narrow(of_parts, lag, length) * is_part.narrow(of_parts, 0, length)
            count_BK = pairs.flatten(1, 3).sum(1)
            sums_BCK = torch.bmm(squared.flatten(2), pairs.flatten(1, 3))
            deviation = (sums_BCK / count_BK.clamp(min=1.0)[:, None] + SMALLEST).sqrt()
            made, true = deviation.chunk(2, dim=1)
            weight_BK = count_BK.sqrt() * (count_BK >= LEAST_PAIRS)
            error = error + ((made - true.detach()).abs().sum(1) * weight_BK).sum()
            total = total + 3 * weight_BK.sum()
    return error / total.clamp(min=1.0)


def _opponents(rgb_B3THW: Tensor) -> Tensor:
    red, green, blue = rgb_B3THW.unbind(1)
    return torch.stack([(red + green + blue) / 3, red - blue, green - (red + blue) / 2], dim=1)
