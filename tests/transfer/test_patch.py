from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.transfer.patch import Patchify, token_grid, unpatchify


@settings(max_examples=25, deadline=None)
@given(grid=st.tuples(*[st.integers(1, 3)] * 3), patch=st.tuples(*[st.integers(1, 3)] * 3))
def test_every_cell_goes_to_one_token_and_back(grid: tuple[int, int, int], patch: tuple[int, int, int]) -> None:
    channels = 2
    size = [tokens * step for tokens, step in zip(grid, patch, strict=True)]
    latent = torch.arange(channels * size[0] * size[1] * size[2]).float().view(1, channels, *size)
    tokens = Patchify(patch)(latent)
    assert token_grid(latent.shape[2:], patch) == grid
    # The input lays a patch out (channel, time, height, width), the output (height, width, time, channel).
    reordered = tokens.unflatten(-1, (channels, *patch)).permute(0, 1, 4, 5, 3, 2).flatten(2)
    assert torch.equal(unpatchify(reordered, grid, patch), latent)


def test_half_patches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 5, 4\).*\(1, 2, 2\)"):
        token_grid([3, 5, 4], (1, 2, 2))
