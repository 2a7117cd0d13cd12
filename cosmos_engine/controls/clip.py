"""A control clip: what the generator sees of one camera of one episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from cosmos_engine.controls.depth import depth_control
from cosmos_engine.controls.edge import edge_control
from cosmos_engine.controls.modality import Modality
from cosmos_engine.controls.recipe import Recipe
from cosmos_engine.controls.seg import seg_control
from cosmos_engine.controls.vis import vis_control
from cosmos_engine.data import CameraPasses
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class ControlClip:
    """Contiguous frames of one camera with the control videos made from its render passes.

    Attributes:
        rgb: the source frames, uint8 (t, h, w, 3).
        controls: control videos by modality, uint8 (t, h, w, 3), lossless and at the size of `rgb`.
        weights: the branch weight of each control, in (0, 1]; the same keys as `controls`.
    """

    rgb: UInt8[np.ndarray, "t h w 3"]
    controls: Mapping[Modality, UInt8[np.ndarray, "_ _ _ 3"]]  # their shape is checked below, in one line
    weights: Mapping[Modality, float]

    def __post_init__(self) -> None:
        if set(self.controls) != set(self.weights):
            raise InputError(f"control clip: controls {sorted(self.controls)} but weights {sorted(self.weights)}")
        for modality, video in self.controls.items():
            if video.shape != self.rgb.shape:
                raise InputError(f"control {modality!r}: expected the shape of rgb {self.rgb.shape}, got {video.shape}")

    @property
    def length(self) -> int:
        """Return the number of frames."""
        return len(self.rgb)


def control_clip(passes: CameraPasses, recipe: Recipe, seed: int) -> ControlClip:
    """Make the controls that `recipe` weights above 0 from one camera's render passes.

    Args:
        passes: the render passes of all frames.
        recipe: weights and presets.
        seed: chooses the instance colours of the seg control; use one seed for all cameras of an episode.
    """
    makers = {
        "edge": lambda: edge_control(passes.rgb, recipe.edge_preset),  # type: ignore[arg-type]
        "vis": lambda: vis_control(passes.rgb, recipe.vis_preset),  # type: ignore[arg-type]
        "depth": lambda: depth_control(passes.depth_m),
        "seg": lambda: seg_control(passes.instance, seed),
    }
    return ControlClip(passes.rgb, {modality: makers[modality]() for modality in recipe.weights}, recipe.weights)
