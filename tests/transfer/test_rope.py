from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.transfer.config import SIZES
from cosmos_engine.transfer.rope import Rotary, axis_widths, rotary_for_grid, rotate


def test_2b_splits_a_head_as_published() -> None:
    assert axis_widths(SIZES["2b"].head_dim) == (44, 42, 42)


@given(st.integers(6, 80).map(lambda half: 2 * half))
def test_axes_share_the_whole_head_evenly(head_dim: int) -> None:
    widths = axis_widths(head_dim)
    assert sum(widths) == head_dim
    assert all(width % 2 == 0 for width in widths)
    assert widths[0] >= widths[1] == widths[2] > 0


def test_angles_follow_the_closed_form() -> None:
    ratios = (1.0, 3.0, 2.0)
    rotary = rotary_for_grid((3, 4, 5), 24, ratios)
    t, h, w = 2, 3, 1
    angles = []
    for position, ratio in zip((t, h, w), ratios, strict=True):
        theta = 10_000 * ratio ** (8 / 6)
        angles += [position * theta ** (-2 * index / 8) for index in range(4)]
    token = (t * 4 + h) * 5 + w
    torch.testing.assert_close(rotary.cos_LF[token], torch.tensor(angles).cos())
    torch.testing.assert_close(rotary.sin_LF[token], torch.tensor(angles).sin())


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(0, 3))
def test_scores_depend_on_relative_position_only(shift: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 24, generator=generator, dtype=torch.float64)
    rotary = rotary_for_grid((8, 1, 1), 24, (1.0, 1.0, 1.0))

    def score(query_at: int, key_at: int) -> torch.Tensor:
        def at(index: int) -> Rotary:
            return Rotary(rotary.cos_LF[index : index + 1], rotary.sin_LF[index : index + 1])

        return (rotate(query, at(query_at)) * rotate(key, at(key_at))).sum()

    torch.testing.assert_close(score(1 + shift, 4 + shift), score(1, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rotation_keeps_length_and_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    rotated = rotate(x, rotary_for_grid((2, 3, 4), 24, (1.0, 3.0, 3.0)))
    assert rotated.dtype == dtype
    torch.testing.assert_close(rotated.double().norm(dim=-1), x.double().norm(dim=-1), rtol=0.01, atol=0)
