"""The average of weights."""

from __future__ import annotations

import pytest
import torch

from policies.ema import ema_decay, update_ema


def test_decay_starts_low_and_is_bounded() -> None:
    assert ema_decay(1) == pytest.approx(1 - 2**-0.75)
    assert ema_decay(10**9) == 0.9999
    decays = [ema_decay(update) for update in range(1, 1000)]
    assert decays == sorted(decays)


def test_average_follows_its_recurrence() -> None:
    average, weights = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.full((2,), 3.0)]
    update_ema(average, weights, 0.75)
    torch.testing.assert_close(average[0], torch.full((3,), 0.25))
    torch.testing.assert_close(average[1], torch.full((2,), 1.5))
