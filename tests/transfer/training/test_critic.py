import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.training.critic import Critic, CriticConfig, frame_pairs
from cosmos_engine.transfer.training.processes import Processes

CONFIG = CriticConfig(weight=0.1, width=8)


def videos(seed: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """True clips with texture, made clips without, and a control."""
    generator = torch.Generator().manual_seed(seed)
    plain = torch.rand(2, 3, 1, 1, 1, generator=generator).expand(2, 3, 3, 32, 32)
    texture = 0.3 * torch.randn(2, 3, 1, 32, 32, generator=generator)
    return plain + texture, plain.contiguous(), {"depth": torch.zeros(2, 3, 3, 32, 32)}


def test_a_critic_learns_to_tell_texture_from_blur():
    critic = Critic(CONFIG, 0, Processes())
    losses = [critic.learn(*videos(update)) for update in range(40)]
    assert losses[0] == pytest.approx(2.0, abs=0.2)
    assert sum(losses[-10:]) / 10 < 1.4


def test_the_decoder_hears_less_of_clips_that_look_true():
    critic = Critic(CONFIG, 0, Processes())
    for update in range(30):
        critic.learn(*videos(update))
    true, made, controls = videos(99)
    assert critic.loss(true, true, controls) < critic.loss(true, made, controls)
    heard = made.clone().requires_grad_()
    critic.loss(true, heard, controls).backward()
    assert heard.grad.abs().sum() > 0
    assert all(parameter.grad is None or not parameter.requires_grad for parameter in critic.network.parameters())


def test_a_critic_goes_on_from_its_state_bit_for_bit():
    whole, stopped, resumed = (Critic(CONFIG, seed, Processes()) for seed in (0, 0, 1))
    for update in range(4):
        whole.learn(*videos(update))
    for update in range(2):
        stopped.learn(*videos(update))
    resumed.load_state({key: value.clone() for key, value in stopped.state().items()})
    for update in range(2, 4):
        resumed.learn(*videos(update))
    for ours, theirs in zip(resumed.state().values(), whole.state().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_pairs_are_neighbours_with_the_guide_of_the_first():
    video = torch.arange(3.0).view(1, 1, 3, 1, 1).expand(1, 3, 3, 4, 4)
    depth = torch.full((1, 3, 3, 4, 4), -1.0)
    depth[:, :, 1] = 1.0
    pairs = frame_pairs(video, {"depth": depth})
    assert pairs.shape == (2, 14, 4, 4)
    assert pairs[:, 0, 0, 0].tolist() == [0.0, 1.0]
    assert pairs[:, 3, 0, 0].tolist() == [1.0, 2.0]
    assert pairs[:, 6 + 1 + 3, 0, 0].tolist() == [0.0, 1.0]
    assert frame_pairs(video[:, :, :1], {}).shape == (1, 14, 4, 4)


def test_the_weight_rises_after_the_start():
    config = CriticConfig(weight=0.4, start=10, ramp=4)
    assert [config.weight_at(update) for update in (0, 10, 12, 14, 99)] == [0.0, 0.0, 0.2, 0.4, 0.4]
    with pytest.raises(InputError, match=r"critic\.ramp"):
        CriticConfig(ramp=0)
