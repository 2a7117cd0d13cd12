"""The photometric baseline: what users of diffusion_policy and robomimic do to images, drawn once for each variant.

It changes colours, sharpness and noise and knows nothing of what the pixels show, so every control of a clip, its
prompt and its labels are left unread. One draw holds for all frames and cameras of a variant: the same colour of the
source becomes the same colour everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_engine.controls import ControlClip, Framing, Modality, identity_framing
from cosmos_engine.errors import InputError
from cosmos_engine.sim.colors import Rgb, light_rgb

PHOTOMETRIC = "photometric"
Adjustment = Literal["brightness", "contrast", "saturation", "hue"]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601, the grey of torchvision's rgb_to_grayscale."""
PIVOT = 0.5
"""The grey that contrast leaves as it is. torchvision takes each image's mean, which differs from frame to frame."""


@dataclass(frozen=True)
class PhotometricRanges:
    """How far a variant may go from its source.

    Attributes:
        brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x], as by torchvision's ColorJitter. The
            defaults, with that of `hue`, are those of diffusion_policy's own authors for manipulation
            (universal_manipulation_interface, train_diffusion_unet_timm_umi_workspace.yaml).
        hue: turns of the colour circle, drawn from [-x, x]. robomimic's ColorRandomizer defaults to 0.3 for all four;
            a hue of 0.3 makes a red cube a green one, which tasks that name colours do not bear.
        gamma: exponents are drawn from [1 - x, 1 + x]; albumentations' RandomGamma has the default of 0.2.
        temperature_k: colour temperature of the light, drawn evenly in its reciprocal, which looks even; 3,000 to
            15,000 K as in Zini et al. 2022, "Planckian Jitter". 6,600 K is white.
        blur_px: half of the variants are blurred by a Gaussian of up to this standard deviation. SimCLR (Chen et al.
            2020) has 2 at 224 pixels, which is about 1 at 128.
        noise: standard deviation of Gaussian noise, of a full scale of 1, drawn from [0, x]: five grey levels.

    Raises:
        InputError: a number out of range.
    """

    brightness: float = 0.3
    contrast: float = 0.4
    saturation: float = 0.5
    hue: float = 0.08
    gamma: float = 0.2
    temperature_k: tuple[float, float] = (3000.0, 15000.0)
    blur_px: float = 1.0
    noise: float = 0.02

    def __post_init__(self) -> None:
        for field, most in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5), ("noise", 1.0)):
            _check(field, getattr(self, field), most)
        _check("gamma", self.gamma, 0.9)
        _check("blur_px", self.blur_px, 100.0)
        low, high = self.temperature_k
        if not 1000 <= low <= high <= 40000:
            raise InputError(
                f"photometric temperature_k: expected 1,000 <= low <= high <= 40,000, got {low} and {high}"
            )


@dataclass(frozen=True)
class Jitter:
    """One draw: what is done to every frame of every camera of a variant.

    Attributes:
        order: the adjustments in the order in which they are applied.
        brightness, contrast, saturation, hue: factors, and turns of the colour circle.
        gamma: exponent of values in [0, 1].
        gains: factor of each channel: the colour of the light, at the luma of white.
        blur_px: standard deviation of the blur; 0 for none.
        noise: standard deviation of the noise, of a full scale of 1.
        noise_seed: of the noise, which is the same in all frames, as the fixed pattern of a sensor is.
    """

    order: tuple[Adjustment, ...] = get_args(Adjustment)
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    gamma: float = 1.0
    gains: Rgb = (1.0, 1.0, 1.0)
    blur_px: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0


def draw_jitter(seed: int, ranges: PhotometricRanges) -> Jitter:
    """Return the draw of a variant's seed."""
    rng = np.random.default_rng(seed)
    order: tuple[Adjustment, ...] = tuple(get_args(Adjustment)[index] for index in rng.permutation(4))
    brightness, contrast, saturation, gamma = (
        float(rng.uniform(1 - reach, 1 + reach))
        for reach in (ranges.brightness, ranges.contrast, ranges.saturation, ranges.gamma)
    )
    low, high = ranges.temperature_k
    light = np.array(light_rgb(1 / float(rng.uniform(1 / high, 1 / low))))
    red, green, blue = (light / (light @ LUMA)).tolist()
    return Jitter(
        order,
        brightness,
        contrast,
        saturation,
        hue=float(rng.uniform(-ranges.hue, ranges.hue)),
        gamma=gamma,
        gains=(red, green, blue),
        blur_px=float(rng.uniform(0, ranges.blur_px)) * bool(rng.random() < 0.5),
        noise=float(rng.uniform(0, ranges.noise)),
        noise_seed=int(rng.integers(2**31)),
    )


def jittered(frames: UInt8[np.ndarray, "t h w 3"], jitter: Jitter) -> UInt8[np.ndarray, "t h w 3"]:
    """Return frames under a draw: the light's colour, the adjustments in their order, gamma, blur, noise."""
    noise = np.random.default_rng(jitter.noise_seed).standard_normal(frames.shape[1:], np.float32) * jitter.noise
    made = np.empty_like(frames)
    for index, frame in enumerate(frames):
        rgb = np.clip(frame.astype(np.float32) / 255 * np.array(jitter.gains, np.float32), 0, 1)
        for adjustment in jitter.order:
            rgb = _adjusted(rgb, adjustment, getattr(jitter, adjustment))
        rgb **= jitter.gamma
        if jitter.blur_px > 0:
            rgb = cv2.GaussianBlur(rgb, (0, 0), jitter.blur_px)
        made[index] = np.rint(np.clip(rgb + noise, 0, 1) * 255)
    return made


class Photometric:
    """Generate by photometric jitter; implements `Generator`. It needs nothing but a clip's frames.

    Args:
        ranges: how far a variant may go from its source.
    """

    def __init__(self, ranges: PhotometricRanges | None = None) -> None:
        self.name = PHOTOMETRIC
        self._ranges = ranges or PhotometricRanges()

    @property
    def uses_prompts(self) -> bool:
        """The draw follows from the seed alone."""
        return False

    @property
    def provenance(self) -> dict[str, Any]:
        """The ranges and versions; a variant's draw follows from its seed."""
        return {
            "weights_sha256": {},
            "reads": ["rgb"],
            "prompt": "not read",
            "ranges": dataclasses.asdict(self._ranges) | {"temperature_k": list(self._ranges.temperature_k)},
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        }

    def framing(self, height: int, width: int) -> Framing:
        """Return the identity: any size will do."""
        return identity_framing(height, width)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Do nothing: no prompt is read."""

    def plan(self, sizes: Sequence[tuple[int, int]], modalities: Sequence[Modality], rows: int) -> str:
        """Return nothing: there is no memory to plan, and no control is read."""
        return ""

    def generate(
        self, clips: Sequence[ControlClip], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[UInt8[np.ndarray, "n t h w 3"]]:
        """Return for each clip one variant under each seed."""
        jitters = [draw_jitter(seed, self._ranges) for _, seed in zip(prompts, seeds, strict=True)]
        return [np.stack([jittered(clip.rgb, jitter) for jitter in jitters]) for clip in clips]

    def close(self) -> None:
        """Do nothing: there is no device memory."""


def _adjusted(rgb: Float32[np.ndarray, "h w 3"], adjustment: Adjustment, amount: float) -> Float32[np.ndarray, "h w 3"]:
    """Return rgb in [0, 1] after one adjustment of torchvision's ColorJitter, but for the pivot of contrast."""
    if adjustment == "hue":
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * amount) % 360
        return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)
    if adjustment == "brightness":
        towards: Any = 0.0
    elif adjustment == "contrast":
        towards = PIVOT
    else:
        towards = (rgb @ LUMA)[..., None]
    return np.clip(towards + np.float32(amount) * (rgb - towards), 0, 1, dtype=np.float32)


def _check(field: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        raise InputError(f"photometric {field}: expected a number in [0, {most:g}], got {value}")
