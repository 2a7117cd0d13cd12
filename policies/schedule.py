"""The noise schedule of a diffusion policy: forward noising, what the network predicts, and the two samplers' updates.

Legend: B batch, P horizon positions, A action. All maths runs in float64 and returns the dtype of its input.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int

Prediction = Literal["epsilon", "v"]


def squared_cosine_betas(count: int, max_beta: float = 0.999) -> Float[torch.Tensor, " {count}"]:
    """Return the betas of the squared-cosine schedule (Nichol and Dhariwal 2021, equation 17), float64.

    Args:
        count: number of training denoise steps.
        max_beta: bound near the end of the schedule (the same paper, section 3.2).
    """

    def alpha_bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1.0 - alpha_bar((i + 1) / count) / alpha_bar(i / count), max_beta) for i in range(count)]
    return torch.tensor(betas, dtype=torch.float64)


class NoiseSchedule:
    """Hold the tables of one variance schedule over `step_count` denoise steps; step 0 is the least noisy.

    Args:
        step_count: denoise steps of training.
        prediction: what the network puts out: the noise ("epsilon", Ho et al. 2020) or the velocity
            sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) clean ("v", Salimans and Ho 2022).
        clip: predicted clean samples are clipped to [-clip, clip]; normalised actions lie in [-1, 1].
    """

    def __init__(self, step_count: int, prediction: Prediction = "epsilon", clip: float = 1.0) -> None:
        self.step_count = step_count
        self.prediction: Prediction = prediction
        self.clip = clip
        self.betas = squared_cosine_betas(step_count)
        self.alpha_bars = torch.cumprod(1.0 - self.betas, dim=0)

    def add_noise(
        self, clean: Float[torch.Tensor, "b p a"], noise: Float[torch.Tensor, "b p a"], steps: Int[torch.Tensor, " b"]
    ) -> Float[torch.Tensor, "b p a"]:
        """Return samples of q(x_step | clean): sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise (Ho et al., eq. 4)."""
        signal, spread = self._signal_and_spread(steps)
        return (signal * clean + spread * noise).to(clean.dtype)

    def target(
        self, clean: Float[torch.Tensor, "b p a"], noise: Float[torch.Tensor, "b p a"], steps: Int[torch.Tensor, " b"]
    ) -> Float[torch.Tensor, "b p a"]:
        """Return what the network should put out for these noised samples."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._signal_and_spread(steps)
        return (signal * noise - spread * clean).to(clean.dtype)

    def inference_steps(self, count: int) -> list[int]:
        """Return `count` denoise steps in the order of sampling, evenly spaced and starting at the noisiest.

        The spacing is "trailing" (Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed",
        section 3.3): sampling starts from pure noise, so the first denoise step has to be the one trained on it.
        """
        if not 1 <= count <= self.step_count:
            raise ValueError(f"denoise steps at inference: expected 1 to {self.step_count}, got {count}")
        return [round(self.step_count - i * self.step_count / count) - 1 for i in range(count)]

    def ddim_mean_and_std(
        self,
        noisy: Float[torch.Tensor, "b p a"],
        output: Float[torch.Tensor, "b p a"],
        step: int,
        next_step: int,
        eta: float = 0.0,
    ) -> tuple[Float[torch.Tensor, "b p a"], float]:
        """Return mean and standard deviation of the sample at `next_step` < `step` (-1: clean).

        Song et al. 2021, equations 12 and 16: with eta 0 nothing is drawn, with 1 on neighbouring denoise steps it is
        DDPM's variance.
        """
        clean, noise = self._clean_and_noise(noisy, output, step)
        (signal, spread), (next_signal, next_spread) = self._scalars(step), self._scalars(next_step)
        std = eta * next_spread / spread * math.sqrt(1.0 - (signal / next_signal) ** 2)
        mean = next_signal * clean + math.sqrt(max(0.0, next_spread**2 - std**2)) * noise
        return mean.to(noisy.dtype), std

    def ddpm_mean_and_std(
        self, noisy: Float[torch.Tensor, "b p a"], output: Float[torch.Tensor, "b p a"], step: int
    ) -> tuple[Float[torch.Tensor, "b p a"], float]:
        """Return mean and standard deviation of p(x_{step-1} | x_step) (Ho et al. 2020, equations 6 and 7)."""
        clean, _ = self._clean_and_noise(noisy, output, step)
        alpha_bar = float(self.alpha_bars[step])
        earlier_alpha_bar = float(self.alpha_bars[step - 1]) if step > 0 else 1.0
        beta = float(self.betas[step])
        clean_weight = math.sqrt(earlier_alpha_bar) * beta / (1.0 - alpha_bar)
        noisy_weight = math.sqrt(1.0 - beta) * (1.0 - earlier_alpha_bar) / (1.0 - alpha_bar)
        variance = beta * (1.0 - earlier_alpha_bar) / (1.0 - alpha_bar)
        mean = (clean_weight * clean + noisy_weight * noisy.double()).to(noisy.dtype)
        return mean, math.sqrt(variance)

    def clean_and_noise(
        self, noisy: Float[torch.Tensor, "b p a"], output: Float[torch.Tensor, "b p a"], steps: Int[torch.Tensor, " b"]
    ) -> tuple[Float[torch.Tensor, "b p a"], Float[torch.Tensor, "b p a"]]:
        """Return the clean samples, clipped, and the noise that the network sees in these samples, both float64."""
        return self._separated(noisy, output, *self._signal_and_spread(steps))

    def _clean_and_noise(
        self, noisy: torch.Tensor, output: torch.Tensor, step: int
    ) -> tuple[Float[torch.Tensor, "b p a"], Float[torch.Tensor, "b p a"]]:
        return self._separated(noisy, output, *self._scalars(step))

    def _separated(
        self, noisy: torch.Tensor, output: torch.Tensor, signal: torch.Tensor | float, spread: torch.Tensor | float
    ) -> tuple[Float[torch.Tensor, "b p a"], Float[torch.Tensor, "b p a"]]:
        sample, prediction = noisy.double(), output.double()
        if self.prediction == "epsilon":
            clean, noise = (sample - spread * prediction) / signal, prediction
        else:
            clean, noise = signal * sample - spread * prediction, signal * prediction + spread * sample
        return clean.clamp(-self.clip, self.clip), noise

    def _scalars(self, step: int) -> tuple[float, float]:
        alpha_bar = float(self.alpha_bars[step]) if step >= 0 else 1.0
        return math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar)

    def _signal_and_spread(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha_bars = self.alpha_bars.to(steps.device)[steps][:, None, None]
        return alpha_bars.sqrt(), (1.0 - alpha_bars).sqrt()
