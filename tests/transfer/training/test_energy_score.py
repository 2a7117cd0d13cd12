import numpy as np
import pytest
import torch

from cosmos_engine.transfer.training.energy_score import energy_score

B = 4000


def score(first: torch.Tensor, second: torch.Tensor, target: torch.Tensor) -> float:
    weight = torch.ones_like(target[:, :1])
    return float(energy_score(first, second, target, weight, weight.mean()))


def drawn(spread: float, seed: int, mean: float = 0.0) -> torch.Tensor:
    """Latents of B clips, 2 channels, 1 frame, 4x4 cells."""
    return mean + spread * torch.randn(B, 2, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_the_score_is_least_for_draws_that_are_distributed_as_the_targets():
    target = drawn(1.0, 0)
    scores = {spread: score(drawn(spread, 1), drawn(spread, 2), target) for spread in (0.0, 0.5, 1.0, 1.5, 2.0)}
    assert min(scores, key=lambda spread: scores[spread]) == 1.0
    assert score(drawn(1.0, 1, mean=0.5), drawn(1.0, 2, mean=0.5), target) > scores[1.0]


def test_the_score_of_the_mean_is_its_distance():
    target = drawn(1.0, 0)
    mean = torch.zeros_like(target)
    expected = np.mean(
        [
            target.square()
            .mean((1, 2))
            .unfold(1, s, max(s // 2, 1))
            .unfold(2, s, max(s // 2, 1))
            .mean((-1, -2))
            .sqrt()
            .mean()
            for s in (1, 2, 4)
        ]
    )
    assert score(mean, mean, target) == pytest.approx(float(expected), abs=2e-3)


def test_draws_that_agree_give_a_finite_gradient():
    target = drawn(1.0, 0)[:2]
    first = torch.zeros_like(target).requires_grad_()
    weight = torch.ones_like(target[:, :1])
    energy_score(first, first * 1.0, target, weight, weight.mean()).backward()
    assert bool(first.grad.isfinite().all())


def test_given_frames_count_for_nothing():
    target = drawn(1.0, 0)[:8].expand(-1, -1, 3, -1, -1).contiguous()
    weight = torch.ones_like(target[:, :1])
    weight[:, :, 0] = 0.0
    other = target.clone()
    other[:, :, 0] += 5.0
    first, second = torch.zeros_like(target), torch.ones_like(target)
    ours, theirs = (energy_score(first, second, shown, weight, weight.mean()) for shown in (target, other))
    torch.testing.assert_close(ours, theirs)
