"""Normalisation by limits."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.normalizer import LimitsNormalizer


@given(arrays(np.float32, (6, 3), elements=st.floats(-100, 100, width=32)))
def test_round_trip_and_limits(rows: np.ndarray) -> None:
    normalizer = LimitsNormalizer(3)
    normalizer.fit(rows)
    values = torch.from_numpy(rows)
    normalized = normalizer.normalize(values)
    assert normalized.abs().max() <= 1.0 + 1e-2
    torch.testing.assert_close(normalizer.denormalize(normalized), values, rtol=1e-4, atol=1e-4)


def test_limits_map_to_plus_and_minus_one() -> None:
    normalizer = LimitsNormalizer(2)
    normalizer.fit(np.array([[0.0, -5.0], [10.0, 5.0], [5.0, 0.0]], np.float32))
    expected = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(normalizer.normalize(torch.tensor([[0.0, -5.0], [10.0, 5.0], [5.0, 0.0]])), expected)


def test_constant_dimension_maps_to_zero_and_back() -> None:
    normalizer = LimitsNormalizer(1)
    normalizer.fit(np.full((5, 1), 0.7, np.float32))
    assert normalizer.normalize(torch.tensor([[0.7]])).abs().item() < 1e-6
    torch.testing.assert_close(normalizer.denormalize(torch.zeros(1, 1)), torch.tensor([[0.7]]))


def test_limits_are_part_of_the_saved_weights() -> None:
    normalizer, other = LimitsNormalizer(1), LimitsNormalizer(1)
    normalizer.fit(np.array([[2.0], [6.0]], np.float32))
    other.load_state_dict(normalizer.state_dict())
    assert other.normalize(torch.tensor([[6.0]])).item() == 1.0
