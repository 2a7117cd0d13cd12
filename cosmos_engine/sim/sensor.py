"""What a camera adds to the light that reaches it: blur, exposure, white balance, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_engine.errors import InputError
from cosmos_engine.sim.ranges import (
    TRAINING_BLUR_PX,
    TRAINING_EXPOSURE_STOPS,
    TRAINING_NOISE_LEVELS,
    TRAINING_WHITE_BALANCE_STOPS,
    Range,
)

BLUR_REFERENCE_PX = 128
"""Image height that `blur_px` is stated for; other sizes are blurred in proportion, as the same lens would."""


@dataclass(frozen=True)
class SensorModel:
    """Describe a camera's departure from an ideal one, in the order in which light meets it.

    Attributes:
        blur_px: standard deviation of the lens's Gaussian blur in pixels of an image 128 high, in [0, 16].
        exposure_stops: factor 2^stops on the linear light, in [-4, 4].
        white_balance: gains of red, green and blue on the linear light, each in [0.25, 4].
        noise_levels: standard deviation of the Gaussian noise on the encoded image, in levels of 255, in [0, 64].
        seed: of the noise.

    Raises:
        InputError: a number out of range.
    """

    blur_px: float = 0.0
    exposure_stops: float = 0.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise_levels: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = (("blur_px", 0, 16), ("exposure_stops", -4, 4), ("noise_levels", 0, 64), ("seed", 0, 2**63 - 1))
        for name, low, high in ranges:
            if not low <= getattr(self, name) <= high:
                raise InputError(f"sensor {name}: expected a number in [{low}, {high}], got {getattr(self, name)!r}")
        if not all(0.25 <= gain <= 4 for gain in self.white_balance):
            raise InputError(f"sensor white_balance: expected three gains in [0.25, 4], got {self.white_balance}")

    def frame_rng(self, camera: int, control_step: int) -> np.random.Generator:
        """Return the source of one frame's noise: new in every frame, the same whenever that frame is seen again."""
        return np.random.default_rng((self.seed, camera, control_step))

    def developed(self, rgb: UInt8[np.ndarray, "*frames h w 3"], rng: np.random.Generator) -> np.ndarray:
        """Return what this camera makes of ideal images: one (h, w, 3) or several with axes before, uint8 sRGB."""
        linear = _LINEAR_OF_LEVEL[rgb]
        if self.blur_px:
            sigma_px = self.blur_px * rgb.shape[-3] / BLUR_REFERENCE_PX
            flat = linear.reshape(-1, *linear.shape[-3:])
            blurred = [cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE) for image in flat]
            linear = np.stack(blurred).reshape(linear.shape)
        linear = linear * np.float32(2**self.exposure_stops) * np.array(self.white_balance, dtype=np.float32)
        levels = 255 * _encoded(np.clip(linear, 0, 1))
        if self.noise_levels:
            levels += np.float32(self.noise_levels) * rng.standard_normal(levels.shape, dtype=np.float32)
        return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def sample_sensor(
    rng: np.random.Generator,
    *,
    blur_px: Range,
    exposure_stops: Range,
    white_balance_stops: Range,
    noise_levels: Range,
) -> SensorModel:
    """Draw a camera: every magnitude uniform in its range, exposure and white balance to either side."""
    warmth_stops = _either_way(rng, white_balance_stops)
    return SensorModel(
        blur_px=round(rng.uniform(*blur_px), 4),
        exposure_stops=round(_either_way(rng, exposure_stops), 4),
        white_balance=(round(2**warmth_stops, 4), 1.0, round(2**-warmth_stops, 4)),
        noise_levels=round(rng.uniform(*noise_levels), 4),
        seed=int(rng.integers(2**31)),
    )


def sample_training_sensor(rng: np.random.Generator) -> SensorModel:
    """Draw a camera as training may show it: never one of the shift `camera_noise`."""
    return sample_sensor(
        rng,
        blur_px=TRAINING_BLUR_PX,
        exposure_stops=TRAINING_EXPOSURE_STOPS,
        white_balance_stops=TRAINING_WHITE_BALANCE_STOPS,
        noise_levels=TRAINING_NOISE_LEVELS,
    )


def _either_way(rng: np.random.Generator, magnitude: Range) -> float:
    return float(rng.uniform(*magnitude) * rng.choice([-1, 1]))


def _encoded(linear: Float32[np.ndarray, "*pixels"]) -> Float32[np.ndarray, "*pixels"]:
    """Apply sRGB's transfer function (IEC 61966-2-1) to linear light in [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)


def _linear_of_level() -> Float32[np.ndarray, " 256"]:
    encoded = np.arange(256) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR_OF_LEVEL = _linear_of_level()
