"""The U-Net keeps shapes, learns everywhere and treats the rows of a batch apart."""

from __future__ import annotations

import pytest
import torch

from policies.unet import StepEmbedding, Unet1d


def _unet(widths: tuple[int, ...] = (16, 32)) -> Unet1d:
    torch.manual_seed(0)
    return Unet1d(action_dim=7, observation_width=11, widths=widths)


def _inputs(batch: int = 4, positions: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    actions = torch.randn(batch, positions, 7, generator=generator)
    return actions, torch.arange(batch), torch.randn(batch, 11, generator=generator)


@pytest.mark.parametrize("widths", [(8,), (16, 32), (8, 16, 32), (64, 64, 64, 64)])
@pytest.mark.parametrize("positions", [8, 16, 32])
def test_output_has_the_shape_of_the_actions(widths: tuple[int, ...], positions: int) -> None:
    actions, steps, observation = _inputs(positions=positions)
    assert _unet(widths)(actions, steps, observation).shape == actions.shape


def test_every_weight_gets_a_gradient() -> None:
    unet = _unet((16, 32, 32))
    unet(*_inputs()).square().sum().backward()
    silent = [name for name, weight in unet.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_denoise_step_and_observation_condition_the_output() -> None:
    unet = _unet()
    actions, steps, observation = _inputs()
    output = unet(actions, steps, observation)
    assert not torch.allclose(unet(actions, steps + 20, observation), output, atol=1e-3)
    assert not torch.allclose(unet(actions, steps, observation + 1.0), output, atol=1e-3)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    unet = _unet()
    actions, steps, observation = _inputs()
    alone = unet(actions[2:3], steps[2:3], observation[2:3])
    torch.testing.assert_close(unet(actions, steps, observation)[2:3], alone, rtol=1e-4, atol=1e-5)


def test_step_embedding_tells_all_denoise_steps_apart() -> None:
    torch.manual_seed(0)
    embeddings = StepEmbedding(32)(torch.arange(100))
    distances = torch.cdist(embeddings, embeddings) + torch.eye(100)
    assert distances.min() > 1e-4
