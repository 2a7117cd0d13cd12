from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.control_weights import latent_map, resolve_weights, token_weight

SCALARS = st.dictionaries(st.sampled_from(["edge", "vis", "depth", "seg"]), st.floats(0, 1), min_size=1)


@given(SCALARS)
def test_capped_scalars_sum_to_at_most_one_and_keep_their_ratios(weights: dict[str, float]) -> None:
    capped = resolve_weights(weights, "capped")
    assert sum(capped.values()) <= 1 + 1e-9
    total = max(1.0, sum(weights.values()))
    assert capped == pytest.approx({modality: weight / total for modality, weight in weights.items()})


@given(SCALARS)
def test_raw_scalars_are_added_as_they_are(weights: dict[str, float]) -> None:
    assert resolve_weights(weights, "raw") == weights


@pytest.mark.parametrize("policy", ["capped", "raw"])
def test_maps_are_capped_token_by_token(policy: str) -> None:
    edge = torch.tensor([1.0, 0.25]).view(1, 1, 1, 1, 2)
    resolved = resolve_weights({"edge": edge, "seg": 0.5}, policy)
    torch.testing.assert_close(resolved["edge"].flatten(), torch.tensor([2 / 3, 0.25]))
    torch.testing.assert_close(resolved["seg"].flatten(), torch.tensor([1 / 3, 0.5]))


def test_empty_map_switches_its_branch_off() -> None:
    resolved = resolve_weights({"edge": torch.zeros(1, 1, 2, 2, 2), "seg": 0.5}, "raw")
    assert resolved == {"edge": 0.0, "seg": 0.5}


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), torch.full((1, 1, 1, 1, 1), 2.0)])
def test_weight_outside_zero_to_one_is_one_line(weight: float | torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"control weight of depth: expected a value within \[0, 1\]"):
        resolve_weights({"edge": 1.0, "depth": weight}, "capped")


@settings(max_examples=20, deadline=None)
@given(latents=st.integers(1, 5), factor=st.sampled_from([1, 4]), value=st.floats(0, 1))
def test_constant_map_stays_constant(latents: int, factor: int, value: float) -> None:
    frames = torch.full((1, 1, (latents - 1) * factor + 1, 32, 48), value, dtype=torch.float64)
    got = latent_map(frames, (latents, 2, 3))
    torch.testing.assert_close(got, torch.full((1, 1, latents, 2, 3), value, dtype=torch.float64))


def test_frame_zero_stands_for_itself() -> None:
    frames = torch.zeros(1, 1, 9, 32, 32)
    frames[:, :, 0] = 1
    got = latent_map(frames, (3, 2, 2))
    assert bool((got[:, :, 0] == 1).all())
    assert bool((got[:, :, 1:] == 0).all())


def test_each_latent_frame_is_resized_from_its_own_four_frames() -> None:
    frames = torch.rand(1, 1, 9, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = [
        F.interpolate(frames[:, :, group], size=(1, 4, 4), mode="trilinear")
        for group in (slice(0, 1), slice(1, 5), slice(5, 9))
    ]
    torch.testing.assert_close(latent_map(frames, (3, 4, 4)), torch.cat(expected, dim=2))


@pytest.mark.parametrize(("frames", "latents"), [(1, 2), (9, 1), (10, 3)])
def test_frame_counts_must_belong_together(frames: int, latents: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames"):
        latent_map(torch.zeros(1, 1, frames, 8, 8), (latents, 2, 2))


def test_map_of_another_grid_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(batch, 1, 3, 4, 4\), got \(1, 1, 3, 4, 5\)"):
        token_weight(torch.zeros(1, 1, 3, 4, 5), (3, 4, 4), torch.float32)
