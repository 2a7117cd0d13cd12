"""The diffusion policy (Chi et al. 2023): a window of observations conditions the denoising of an action sequence.

Legend: B batch, T observation frames, P horizon positions, A action, C channels, Y rows, X columns, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import nn

from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes
from policies.encoders import ENCODERS, EncoderConfig, check_encoder_config
from policies.images import centre_crop, crop_at, padded_by_edges, resize_by_area
from policies.normalizer import LimitsNormalizer
from policies.policy import PolicySpec
from policies.schedule import NoiseSchedule
from policies.unet import Unet1d


@dataclass(frozen=True)
class DiffusionPolicyConfig:
    """Size the policy. The defaults suit two CPU cores; (256, 512, 1024) is the literature's image policy."""

    observation_frames: int = 2
    horizon: int = 16
    action_chunk: int = 8  # actions executed of the horizon
    image_size: int = 64  # pixels that windows are kept at
    crop_size: int = 64  # pixels that the encoder sees: a random crop in training, the centre when acting
    random_shift: int = 0  # in training the image first grows by so many edge pixels a side (Yarats et al. 2021)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    unet_widths: tuple[int, ...] = (64, 128, 128)
    kernel_size: int = 5
    prediction: Literal["epsilon", "v"] = "epsilon"
    training_denoise_steps: int = 100
    sampler: Literal["ddim", "ddpm"] = "ddim"
    denoise_steps: int = 8  # of DDIM; DDPM takes all training denoise steps
    eta: float = 0.0  # of DDIM: the noise that a denoise step adds, from none to DDPM's at 1

    @property
    def inference_denoise_steps(self) -> int:
        """Denoise steps of acting: DDPM takes all of training's."""
        return self.training_denoise_steps if self.sampler == "ddpm" else self.denoise_steps

    @property
    def executed(self) -> slice:
        """The positions of the horizon that are executed: an action chunk from the present on."""
        present = self.observation_frames - 1
        return slice(present, present + self.action_chunk)


def check_policy_config(config: DiffusionPolicyConfig) -> None:
    """Make sure that the sizes fit together.

    Raises:
        InputError: names the key that does not fit.
    """
    shrink = 2 ** (len(config.unet_widths) - 1)
    last = config.observation_frames - 1 + config.action_chunk
    checks = [
        (config.observation_frames >= 1, f"observation_frames: expected at least 1, got {config.observation_frames}"),
        (config.action_chunk >= 1, f"action_chunk: expected at least 1, got {config.action_chunk}"),
        (config.horizon >= last, f"horizon: expected at least {last} (frames and chunk), got {config.horizon}"),
        (
            config.horizon % shrink == 0,
            f"horizon: expected a multiple of {shrink} for {len(config.unet_widths)} unet_widths, got {config.horizon}",
        ),
        (
            0 < config.crop_size <= config.image_size,
            f"crop_size: expected 1 to image_size {config.image_size}, got {config.crop_size}",
        ),
        (
            0 <= config.random_shift < config.image_size,
            f"random_shift: expected 0 to below image_size {config.image_size}, got {config.random_shift}",
        ),
        (
            bool(config.unet_widths) and all(width > 0 and width % 8 == 0 for width in config.unet_widths),
            f"unet_widths: expected multiples of 8, got {list(config.unet_widths)}",
        ),
        (config.kernel_size % 2 == 1, f"kernel_size: expected an odd number, got {config.kernel_size}"),
        (
            1 <= config.denoise_steps <= config.training_denoise_steps,
            f"denoise_steps: expected 1 to {config.training_denoise_steps}, got {config.denoise_steps}",
        ),
        (0.0 <= config.eta <= 1.0, f"eta: expected 0 to 1, got {config.eta}"),
    ]
    for holds, message in checks:
        if not holds:
            raise InputError(f"policy.{message}")
    check_encoder_config(config.encoder, config.crop_size)


@dataclass(frozen=True)
class WindowBatch:
    """Hold training windows: what was seen, what was done, and which of it lies inside the episode."""

    images: Mapping[str, UInt8[torch.Tensor, "b t y x 3"]]
    low_dim: Mapping[str, Float32[torch.Tensor, "b t _"]]
    actions: Float32[torch.Tensor, "b p a"]
    inside: Bool[torch.Tensor, "b p"]  # False where the action is padding beyond the episode's ends


class DiffusionPolicy(nn.Module):
    """Own the networks and normalisers of one diffusion policy.

    Args:
        config: sizes.
        spec: what the policy sees and does.
    """

    def __init__(self, config: DiffusionPolicyConfig, spec: PolicySpec) -> None:
        super().__init__()
        check_policy_config(config)
        self.config = config
        self.spec = spec
        self.schedule = NoiseSchedule(config.training_denoise_steps, config.prediction)
        make_encoder = ENCODERS[config.encoder.kind]
        self.encoders = nn.ModuleDict({name: make_encoder(config.encoder, config.crop_size) for name in spec.images})
        self.low_dim_normalizers = nn.ModuleDict(
            {name: LimitsNormalizer(shape[0]) for name, shape in spec.low_dim.items()}
        )
        self.action_normalizer = LimitsNormalizer(spec.action_dim)
        self.unet = Unet1d(
            action_dim=spec.action_dim,
            observation_width=self.observation_width,
            widths=config.unet_widths,
            kernel_size=config.kernel_size,
        )

    @property
    def observation_width(self) -> int:
        """Features of the observation vector that `observe` returns."""
        of_images = sum(encoder.feature_width for encoder in self.encoders.values())  # type: ignore[misc]
        return self.config.observation_frames * (of_images + sum(shape[0] for shape in self.spec.low_dim.values()))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def fit_normalizers(
        self, low_dim: Mapping[str, Float32[np.ndarray, "n _"]], actions: Float32[np.ndarray, "n a"]
    ) -> None:
        """Take the limits of low-dimensional observations and actions; give the frames of the training split only."""
        for name in self.spec.low_dim:
            self.low_dim_normalizers[name].fit(low_dim[name])  # type: ignore[operator]
        self.action_normalizer.fit(actions)

    def loss(
        self,
        batch: WindowBatch,
        generator: torch.Generator,
        *,
        noises_per_window: int = 1,
        random_crop: bool = True,
        bfloat16_encoders: bool = False,
        processes: Processes | None = None,
    ) -> Float[torch.Tensor, ""]:
        """Return the mean squared error of the prediction over the actions inside their episodes.

        Args:
            batch: windows on the policy's device; of several processes, this one's share.
            generator: a CPU generator; crops, denoise steps and noise come from it, the same on every device, and of
                several processes the same in each, who draws for the whole batch.
            noises_per_window: noised copies per encoded window; more of them spare the encoder.
            random_crop: as in training; otherwise the centre, as when acting.
            bfloat16_encoders: run the image encoders in mixed precision, about twice as fast where the processor has
                bfloat16 instructions; the U-Net, whose outputs are integrated, stays in float32.
            processes: who shares the batch; the mean of their losses is the loss of the whole batch.
        """
        processes = processes or Processes(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16_encoders):
            crop_generator = generator if random_crop else None
            observation_BD = self.observe(batch.images, batch.low_dim, crop_generator, processes).float()
        clean_BPA = self.action_normalizer.normalize(batch.actions)
        observation_BD, clean_BPA, inside_BP = (
            tensor.repeat_interleave(noises_per_window, dim=0) for tensor in (observation_BD, clean_BPA, batch.inside)
        )
        rows = processes.count * len(clean_BPA)
        share = processes.share(rows)
        steps_B = torch.randint(self.schedule.step_count, (rows,), generator=generator)[share].to(self.device)
        noise_BPA = torch.randn((rows, *clean_BPA.shape[1:]), generator=generator)[share].to(self.device)
        output_BPA = self.unet(self.schedule.add_noise(clean_BPA, noise_BPA, steps_B), steps_B, observation_BD)
        error_BPA = output_BPA - self.schedule.target(clean_BPA, noise_BPA, steps_B)
        weight_BP1 = inside_BP[:, :, None].float()
        weight = processes.mean(weight_BP1.sum())  # shares hold more padding or less
        return (weight_BP1 * error_BPA.square()).sum() / (weight * self.spec.action_dim)

    def observe(
        self,
        images: Mapping[str, UInt8[torch.Tensor, "b t y x 3"]],
        low_dim: Mapping[str, Float32[torch.Tensor, "b t _"]],
        crop_generator: torch.Generator | None = None,
        processes: Processes | None = None,
    ) -> Float[torch.Tensor, "b d"]:
        """Return the observation vector of each window.

        Args:
            images: at config.image_size.
            low_dim: in their own units.
            crop_generator: draws one crop per window and camera; without it the centre is taken.
            processes: who shares the batch that crops are drawn for.
        """
        features_BTD: list[torch.Tensor] = []
        for name in self.spec.images:
            crop_BTYXC = self._cropped(images[name], crop_generator, processes or Processes())
            batch, frames = crop_BTYXC.shape[:2]
            # Contiguous, not channels-last: torch's group norm is 2 to 3 times slower on a CPU with channels last.
            image_NCYX = crop_BTYXC.flatten(0, 1).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1.0
            features_BTD.append(self.encoders[name](image_NCYX).unflatten(0, (batch, frames)))
        for name in self.spec.low_dim:
            features_BTD.append(self.low_dim_normalizers[name].normalize(low_dim[name]))  # type: ignore[operator]
        return torch.cat(features_BTD, dim=-1).flatten(1)

    @torch.no_grad()
    def act(
        self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]
    ) -> Float32[np.ndarray, "b chunk a"]:
        """Return the action chunk to execute; see `Policy.act`."""
        observation_BD = self.observe(*self.prepared(observations))
        return self.executed(self.denoise(observation_BD, rngs))

    def prepared(
        self, observations: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, UInt8[torch.Tensor, "b t y x 3"]], dict[str, Float32[torch.Tensor, "b t _"]]]:
        """Return the arguments of `observe` for observations as an environment gives them, on the policy's device."""
        images = {name: torch.from_numpy(self._resized(observations[name])) for name in self.spec.images}
        low_dim = {name: torch.from_numpy(observations[name].astype(np.float32)) for name in self.spec.low_dim}
        return (
            {name: image.to(self.device) for name, image in images.items()},
            {name: vector.to(self.device) for name, vector in low_dim.items()},
        )

    def executed(self, sample_BPA: Float[torch.Tensor, "b p a"]) -> Float32[np.ndarray, "b chunk a"]:
        """Return the action chunk, in its own units, that is executed of normalised actions."""
        actions_BPA = self.action_normalizer.denormalize(sample_BPA)
        return actions_BPA[:, self.config.executed].cpu().numpy()

    def denoise(
        self,
        observation_BD: Float[torch.Tensor, "b d"],
        rngs: Sequence[np.random.Generator],
        predict: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
    ) -> Float[torch.Tensor, "b p a"]:
        """Return normalised actions, sampled by the configured sampler from each row's own noise.

        Args:
            observation_BD: of `observe`.
            rngs: one generator per row.
            predict: (sample, denoise step) -> the network's output; None means this policy's U-Net.
        """
        if predict is None:
            predict = partial(self._predict, observation_BD=observation_BD)

        def draw() -> torch.Tensor:
            shape = (self.config.horizon, self.spec.action_dim)
            rows = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])
            return torch.from_numpy(rows).to(self.device)

        sample_BPA = draw()
        for step, next_step in pairwise([*self.schedule.inference_steps(self.config.inference_denoise_steps), -1]):
            output_BPA = predict(sample_BPA, step)
            if self.config.sampler == "ddpm":
                sample_BPA, std = self.schedule.ddpm_mean_and_std(sample_BPA, output_BPA, step)
            else:
                sample_BPA, std = self.schedule.ddim_mean_and_std(
                    sample_BPA, output_BPA, step, next_step, self.config.eta
                )
            if std > 0:
                sample_BPA = sample_BPA + std * draw()
        return sample_BPA

    def _predict(self, sample_BPA: torch.Tensor, step: int, observation_BD: torch.Tensor) -> torch.Tensor:
        steps_B = torch.full((len(sample_BPA),), step, dtype=torch.int64, device=sample_BPA.device)
        return self.unet(sample_BPA, steps_B, observation_BD)

    def _cropped(
        self, images_BTYXC: torch.Tensor, generator: torch.Generator | None, processes: Processes
    ) -> torch.Tensor:
        size, shift = self.config.crop_size, self.config.random_shift
        if generator is None:
            return centre_crop(images_BTYXC, size)
        windows = processes.count * len(images_BTYXC)
        corners = torch.randint(self.config.image_size + 2 * shift - size + 1, (2, windows), generator=generator)
        rows, columns = corners[:, processes.share(windows)].to(images_BTYXC.device)
        return crop_at(padded_by_edges(images_BTYXC, shift), rows, columns, size)

    def _resized(self, images: UInt8[np.ndarray, "b t y x 3"]) -> UInt8[np.ndarray, "b t y2 x2 3"]:
        batch, frames = images.shape[:2]
        size = self.config.image_size
        flat = resize_by_area(images.reshape(batch * frames, *images.shape[2:]), size)
        return flat.reshape(batch, frames, size, size, 3)
