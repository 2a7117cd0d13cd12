"""Depth Anything as a reader of depth, through transformers, where a user has its weights.

Any model of transformers' depth estimation classes fits that returns `predicted_depth`: Depth Anything V2 frame by
frame, and Video-Depth-Anything's weights where they have been brought into that layout. Its relative models predict
disparity up to a factor and a shift; both are fitted once for a clip against the recording, as their authors do when
they score video (Chen et al. 2025, "Video Depth Anything"). Yang et al. 2024, "Depth Anything V2".

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch.nn import functional as F

from cosmos_engine.controls.role_map import ROLES
from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.quality.reader import Readings
from cosmos_engine.quality.sam2_reader import IMAGE_MEAN, IMAGE_STD, load_pretrained

PATCH_PX = 14
"""Of the DINOv2 backbone: sides of the input are multiples of it."""
FARTHEST_M = 100.0
BATCH_FRAMES = 8


class VideoDepthReader:
    """Read depth with a depth estimation model; implements `ShownReader`. It knows no roles: use a `JoinedReader`.

    Args:
        model: such as transformers' `DepthAnythingForDepthEstimation`.
        weights_sha256: digest of the weights file, part of the name.
        input_px: the shorter side that the model sees; Depth Anything V2 has 518.
        is_metric: whether the model predicts metres instead of disparity.
        device: where to compute.
    """

    def __init__(
        self,
        model: Any,
        weights_sha256: str = "",
        *,
        input_px: int = 518,
        is_metric: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self._model = model.to(device).eval()
        self._weights_sha256 = weights_sha256
        self._input_px = input_px
        self._is_metric = is_metric
        self._device = torch.device(device)

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> VideoDepthReader:
        """Load a folder in transformers' layout: config.json and model.safetensors.

        Raises:
            InputError: transformers is missing, or the folder holds no depth model that loads.
        """
        model = load_pretrained("AutoModelForDepthEstimation", folder)
        is_metric = getattr(model.config, "depth_estimation_type", "relative") == "metric"
        return cls(model, file_sha256(folder / "model.safetensors"), is_metric=is_metric, device=device)

    @property
    def name(self) -> str:
        """Name and the first digits of the weights' SHA-256."""
        return f"depth-anything {self._weights_sha256[:12]}".rstrip()

    def shown(self, passes: CameraPasses, labels: Mapping[int, InstanceLabel]) -> _ShownDepth:
        """Return a reader whose factor and shift are fitted to this camera's recorded depth."""
        return _ShownDepth(self, passes.depth_m)

    @torch.inference_mode()
    def predict(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Float32[np.ndarray, "t h w"]:
        """Return what the model says of each pixel: metres, or disparity up to a factor and a shift."""
        height, width = rgb.shape[1:3]
        scale = self._input_px / min(height, width)
        rows, columns = (max(1, round(side * scale / PATCH_PX)) * PATCH_PX for side in (height, width))
        found = []
        for start in range(0, len(rgb), BATCH_FRAMES):
            resized = [
                cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_CUBIC)
                for frame in rgb[start : start + BATCH_FRAMES]
            ]
            scaled = (np.stack(resized).astype(np.float32) / 255.0 - np.array(IMAGE_MEAN, np.float32)) / np.array(
                IMAGE_STD, np.float32
            )
            pixels = torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous().to(self._device)
            predicted = self._model(pixel_values=pixels).predicted_depth.float()
            found.append(F.interpolate(predicted[:, None], (height, width), mode="bilinear")[:, 0].cpu())
        return torch.cat(found).numpy()

    def log_depth(
        self, rgb: UInt8[np.ndarray, "t h w 3"], recorded_m: Float32[np.ndarray, "t h w"]
    ) -> Float32[np.ndarray, "t h w"]:
        """Return the natural logarithm of the depth in metres."""
        predicted = self.predict(rgb).astype(np.float64)
        if not self._is_metric:
            predicted = 1.0 / np.maximum(fitted_disparity(predicted, recorded_m), 1.0 / FARTHEST_M)
        return np.log(np.clip(predicted, 1e-3, FARTHEST_M)).astype(np.float32)


class _ShownDepth:
    """Read the depth of variants of one clip; implements `Reader`."""

    def __init__(self, depth: VideoDepthReader, recorded_m: Float32[np.ndarray, "t h w"]) -> None:
        self._depth = depth
        self._recorded_m = recorded_m

    @property
    def name(self) -> str:
        """The name of the reader behind."""
        return self._depth.name

    def read(self, rgb: UInt8[np.ndarray, "t h w 3"]) -> Readings:
        """Return depth; all is scene, since a depth model knows no roles."""
        roles = np.zeros((*rgb.shape[:3], len(ROLES)), np.float32)
        roles[..., ROLES.index("scene")] = 1.0
        return Readings(roles, self._depth.log_depth(rgb, self._recorded_m))


def fitted_disparity(
    predicted: Float64[np.ndarray, "t h w"], recorded_m: Float32[np.ndarray, "t h w"]
) -> Float64[np.ndarray, "t h w"]:
    """Return a * predicted + b, least squares to the recorded disparity over the whole clip; a is above 0.

    One factor and one shift for all frames and pixels: they cannot move an edge, nor bring a lost object back. A
    prediction that runs the wrong way round gets the recorded mean everywhere.
    """
    known = np.isfinite(recorded_m)
    ours, theirs = predicted[known], 1.0 / recorded_m[known].astype(np.float64)
    if not len(ours):
        return predicted
    spread = float(((ours - ours.mean()) ** 2).mean())
    factor = float(((ours - ours.mean()) * (theirs - theirs.mean())).mean()) / spread if spread else 0.0
    factor = max(factor, 0.0)
    return factor * (predicted - ours.mean()) + theirs.mean()
