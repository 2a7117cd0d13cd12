from __future__ import annotations

import pytest
import torch

from cosmos_engine.transfer.block import BlockContext
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.rope import rotary_for_grid

CONFIG = TransferConfig(
    width=48,
    blocks=6,
    heads=2,
    adaln_rank=4,
    control_channels=20,
    text_width=16,
    inject_after=(0, 2, 4),
    modalities=("edge",),
)
B, T, H, W = 2, 2, 4, 6
GRID = (T, H // 2, W // 2)


@pytest.fixture
def network() -> TransferNetwork:
    generator = torch.Generator().manual_seed(0)
    network = TransferNetwork(CONFIG).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_residuals_equal_those_of_diffusers_control_network(network: TransferNetwork, diffusers_oracle: type) -> None:
    control, latent, text = draw(B, 16, T, H, W), draw(B, 16, T, H, W) * 2, draw(B, 5, CONFIG.text_width)
    mask = torch.zeros(B, 1, T, H, W, dtype=torch.float64)
    mask[:, :, 0] = 1
    timestep = torch.tensor([0.2, 0.8], dtype=torch.float64)
    expected = diffusers_oracle(network).controlnets["edge"](
        controls_latents=control,
        latents=latent,
        timestep=timestep,
        encoder_hidden_states=text,
        condition_mask=mask,
        padding_mask=torch.zeros(1, 1, H, W, dtype=torch.float64),
        return_dict=False,
    )[0]
    context = BlockContext(
        network.base.embed_time(timestep), text, None, rotary_for_grid(GRID, CONFIG.head_dim, CONFIG.rope_ratios)
    )
    masked = torch.cat((latent, mask, torch.zeros_like(mask)), dim=1)
    branch = network.branch("edge")
    got = list(branch(network.base.x_embedder(masked), branch.embed_control(control, mask), context))
    assert len(got) == len(expected) == CONFIG.control_blocks
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).abs().max() / theirs.abs().max() <= 1e-7


def test_missing_control_channels_are_zeros(network: TransferNetwork) -> None:
    control, mask = draw(B, 16, T, H, W), torch.zeros(1, 1, T, 1, 1, dtype=torch.float64)
    padded = torch.cat((control, torch.zeros(B, 4, T, H, W, dtype=torch.float64)), dim=1)
    branch = network.branch("edge")
    torch.testing.assert_close(branch.embed_control(control, mask), branch.embed_control(padded, mask), rtol=0, atol=0)


def test_control_of_too_many_channels_is_refused(network: TransferNetwork) -> None:
    mask = torch.zeros(1, 1, T, 1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="at most 20 channels, got 21"):
        network.branch("edge").embed_control(draw(B, 21, T, H, W), mask)
