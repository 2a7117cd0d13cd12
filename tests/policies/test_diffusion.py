"""The diffusion policy: masked loss, reproducible acting, and it can learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cosmos_engine.errors import InputError
from policies.diffusion import DiffusionPolicy, DiffusionPolicyConfig, WindowBatch, check_policy_config
from policies.encoders import EncoderConfig
from policies.policy import PolicySpec
from policies.vit import VitConfig

CONFIG = DiffusionPolicyConfig(
    image_size=16,
    crop_size=12,
    encoder=EncoderConfig(widths=(8, 8), keypoints=4),
    unet_widths=(16, 32),
)
SPEC = PolicySpec(
    observation_shapes={"agentview_image": [32, 32, 3], "robot0_eef_pos": [3]}, action_dim=2, step_hz=20.0
)


def _policy(config: DiffusionPolicyConfig = CONFIG) -> DiffusionPolicy:
    torch.manual_seed(0)
    return DiffusionPolicy(config, SPEC)


def _batch(size: int = 4) -> WindowBatch:
    rng = np.random.default_rng(0)
    return WindowBatch(
        images={"agentview_image": torch.from_numpy(rng.integers(0, 256, (size, 2, 16, 16, 3), dtype=np.uint8))},
        low_dim={"robot0_eef_pos": torch.from_numpy(rng.random((size, 2, 3), dtype=np.float32))},
        actions=torch.from_numpy(rng.uniform(-1, 1, (size, 16, 2)).astype(np.float32)),
        inside=torch.ones(size, 16, dtype=torch.bool),
    )


def _observations(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "agentview_image": rng.integers(0, 256, (size, 2, 32, 32, 3), dtype=np.uint8),
        "robot0_eef_pos": rng.random((size, 2, 3), dtype=np.float32),
    }


def _rngs(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


class _RecordingUnet(torch.nn.Module):
    """Put out the same value everywhere and keep the output's gradient."""

    def forward(self, actions: torch.Tensor, steps: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
        self.output = torch.full_like(actions, 0.3).requires_grad_()
        return self.output


def test_padded_actions_have_no_part_in_the_loss() -> None:
    policy = _policy()
    policy.unet = _RecordingUnet()  # type: ignore[assignment]
    batch = _batch()
    inside = torch.rand(4, 16, generator=torch.Generator().manual_seed(3)) > 0.4
    masked = replace(batch, inside=inside)
    loss = policy.loss(masked, torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.equal(policy.unet.output.grad.abs().sum(-1) > 0, inside)
    garbage = replace(masked, actions=torch.where(inside[:, :, None], batch.actions, torch.tensor(9.0)))
    policy.schedule.prediction = "v"  # its target holds the actions, so a leak would show
    clean_loss = policy.loss(masked, torch.Generator().manual_seed(0))
    assert policy.loss(garbage, torch.Generator().manual_seed(0)).item() == clean_loss.item()


def test_noised_copies_of_a_window_average_to_the_same_loss() -> None:
    policy, batch = _policy(), _batch()
    with torch.no_grad():
        many = policy.loss(batch, torch.Generator().manual_seed(0), noises_per_window=100)
        few = [policy.loss(batch, torch.Generator().manual_seed(seed)) for seed in range(50)]
    assert many.item() == pytest.approx(float(np.mean(few)), rel=0.1)


def test_training_crops_at_random_and_acting_at_the_centre() -> None:
    policy = _policy()
    images, low_dim = _batch().images, _batch().low_dim
    centre = policy.observe(images, low_dim)
    assert torch.equal(policy.observe(images, low_dim), centre)
    drawn = [policy.observe(images, low_dim, torch.Generator().manual_seed(seed)) for seed in range(3)]
    assert not torch.allclose(drawn[0], drawn[1])
    outside_centre = {name: image.clone() for name, image in images.items()}
    outside_centre["agentview_image"][:, :, :2] = 0
    assert torch.equal(policy.observe(outside_centre, low_dim), centre)


def test_a_trials_actions_do_not_depend_on_its_neighbours() -> None:
    policy, observations = _policy().eval(), _observations(3)
    together = policy.act(observations, _rngs(5, 6, 7))
    alone = policy.act({name: array[1:2] for name, array in observations.items()}, _rngs(6))
    assert together.shape == (3, 8, 2)
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_acting_is_reproducible_and_within_the_limits(sampler: str) -> None:
    policy = _policy(replace(CONFIG, sampler=sampler, training_denoise_steps=20)).eval()  # type: ignore[arg-type]
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2)).astype(np.float32)
    policy.fit_normalizers({"robot0_eef_pos": np.random.default_rng(1).random((50, 3), dtype=np.float32)}, actions)
    first, again, other = (policy.act(_observations(1), _rngs(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert (np.abs(first) <= np.abs(actions).max() + 1e-5).all()


def test_ddim_with_all_its_noise_acts_as_ddpm() -> None:
    """On every denoise step with eta 1, from the same draws, where no predicted sample is clipped."""
    clean = torch.linspace(-0.9, 0.9, CONFIG.horizon * SPEC.action_dim).view(1, CONFIG.horizon, SPEC.action_dim)

    def seen(sampler: str, eta: float) -> torch.Tensor:
        config = replace(CONFIG, sampler=sampler, eta=eta, denoise_steps=CONFIG.training_denoise_steps)
        policy = _policy(config)
        samples: list[torch.Tensor] = []

        def predict(sample_BPA: torch.Tensor, step: int) -> torch.Tensor:
            samples.append(sample_BPA)
            alpha_bar = policy.schedule.alpha_bars[step]
            return ((sample_BPA - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()).float()

        policy.denoise(torch.zeros(1, policy.observation_width), _rngs(3), predict)
        return torch.cat(samples)

    ddpm = seen("ddpm", 0.0)
    torch.testing.assert_close(seen("ddim", 1.0), ddpm, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(seen("ddim", 0.0), ddpm, atol=0.1)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_policy_reproduces_the_action_sequence_it_was_shown(prediction: str) -> None:
    config = replace(CONFIG, prediction=prediction, crop_size=16)  # type: ignore[arg-type]
    policy = _policy(config)
    time = np.linspace(0, 2 * np.pi, 16, dtype=np.float32)
    sequence = np.stack([0.8 * np.sin(time), 0.6 * np.cos(time)], axis=-1)
    batch = _batch(16)
    same = {name: image[:1].expand_as(image) for name, image in batch.images.items()}
    low_dim = {name: vector[:1].expand_as(vector) for name, vector in batch.low_dim.items()}
    policy.fit_normalizers({"robot0_eef_pos": low_dim["robot0_eef_pos"][:, 0].numpy()}, sequence)
    shown = replace(batch, images=same, low_dim=low_dim, actions=torch.from_numpy(sequence).expand(16, -1, -1))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        policy.loss(shown, generator, noises_per_window=4).backward()
        optimizer.step()
    images = {name: image[:2].numpy() for name, image in same.items()}
    acted = policy.eval().act(images | {name: vector[:2].numpy() for name, vector in low_dim.items()}, _rngs(0, 1))
    np.testing.assert_allclose(acted, np.stack([sequence[1:9]] * 2), atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 8}, "policy.horizon: expected at least 9"),
        ({"horizon": 17}, "policy.horizon: expected a multiple of 2"),
        ({"crop_size": 17}, "policy.crop_size: expected 1 to image_size 16, got 17"),
        ({"unet_widths": (12, 16)}, "policy.unet_widths: expected multiples of 8"),
        ({"unet_widths": ()}, "policy.unet_widths: expected multiples of 8, got"),
        ({"random_shift": 16}, "policy.random_shift: expected 0 to below image_size 16, got 16"),
        ({"encoder": EncoderConfig(widths=(8,))}, "policy.encoder.widths: expected two or more"),
        ({"encoder": EncoderConfig(widths=(8, 12))}, "policy.encoder.widths: expected multiples of 8"),
        ({"encoder": EncoderConfig(keypoints=0)}, "policy.encoder.keypoints: expected at least 1"),
        ({"encoder": EncoderConfig("resnet18")}, "policy.encoder.kind resnet18: expected crop_size above 32, got 12"),
        ({"encoder": EncoderConfig("vit")}, "policy.encoder.vit.patch: expected at most half of crop_size 12, got 8"),
        ({"encoder": EncoderConfig("vit", vit=VitConfig(patch=3))}, "policy.encoder.vit.patch: expected an even"),
        (
            {"encoder": EncoderConfig("vit", vit=VitConfig(patch=4, width=40, heads=3))},
            "policy.encoder.vit.width: expected a multiple of 8 and of heads 3, got 40",
        ),
        ({"denoise_steps": 0}, "policy.denoise_steps: expected 1 to 100, got 0"),
        ({"kernel_size": 4}, "policy.kernel_size: expected an odd number"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_policy_config(replace(CONFIG, **change))  # type: ignore[arg-type]
