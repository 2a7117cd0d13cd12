"""Vis control: a blurred copy of the rendered rgb that keeps coarse colour and light."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

VisPreset = Literal["very_low", "low", "medium", "high", "very_high"]

# (area downsize before the bilateral filter, bicubic down and up after it); cosmos-transfer2.5, blur control input.
FACTORS: dict[VisPreset, tuple[int, int]] = {
    "very_low": (1, 4),
    "low": (4, 4),
    "medium": (2, 10),
    "high": (1, 16),
    "very_high": (4, 16),
}
BILATERAL_DIAMETER_PX = 30
BILATERAL_SIGMA_COLOR = 150.0
BILATERAL_SIGMA_SPACE = 100.0


def vis_control(rgb: UInt8[np.ndarray, "t h w 3"], preset: VisPreset = "medium") -> UInt8[np.ndarray, "t h w 3"]:
    """Return `rgb` after a bilateral filter and a bicubic down- and upscaling, at the same size."""
    area_factor, bicubic_factor = FACTORS[preset]
    return np.stack([_blur(np.ascontiguousarray(frame), area_factor, bicubic_factor) for frame in rgb])


def _blur(frame: UInt8[np.ndarray, "h w 3"], area_factor: int, bicubic_factor: int) -> UInt8[np.ndarray, "h w 3"]:
    height, width = frame.shape[:2]
    small = _resized(frame, height // area_factor, width // area_factor, cv2.INTER_AREA)
    small = cv2.bilateralFilter(small, BILATERAL_DIAMETER_PX, BILATERAL_SIGMA_COLOR, BILATERAL_SIGMA_SPACE)
    smooth = _resized(small, height, width, cv2.INTER_LINEAR)
    coarse = _resized(smooth, height // bicubic_factor, width // bicubic_factor, cv2.INTER_CUBIC)
    return _resized(coarse, height, width, cv2.INTER_CUBIC)


def _resized(frame: np.ndarray, height: int, width: int, interpolation: int) -> np.ndarray:
    return cv2.resize(frame, (max(width, 1), max(height, 1)), interpolation=interpolation)
