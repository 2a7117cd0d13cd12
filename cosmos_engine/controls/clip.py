"""A control clip: what the generator sees of one camera of one episode.

Shapes: t frames, h rows, w columns, at the generator's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16

from cosmos_engine.controls.depth import depth_control
from cosmos_engine.controls.edge import edge_control
from cosmos_engine.controls.framing import Framing, identity_framing
from cosmos_engine.controls.modality import Modality
from cosmos_engine.controls.recipe import Recipe
from cosmos_engine.controls.role_map import role_map, role_mask
from cosmos_engine.controls.seg import seg_control
from cosmos_engine.controls.vis import vis_control
from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.errors import InputError

# Axes are free here: `ControlClip` checks the shapes itself, in one line that names the control.
ClipWeight: TypeAlias = float | Float32[np.ndarray, "_ _ _"]


@dataclass(frozen=True)
class ClipSource:
    """What a clip was made from, for generators that look at geometry rather than at controls.

    Attributes:
        passes: the camera's render passes, at the camera's own size.
        labels: what each instance id is; 0 is background.
        framing: how the camera's frames became the clip's.
    """

    passes: CameraPasses
    labels: Mapping[int, InstanceLabel]
    framing: Framing

    def framed(self) -> CameraPasses:
        """Return the render passes at the clip's size; the identity returns those that came.

        Ids and depth are framed by nearest, so that both tell of the same surface. What a letterbox mirrors outside
        the camera's picture is mirrored in all passes, and is where no pinhole would see it.
        """
        if self.framing.is_identity:
            return self.passes
        scale, (row, column) = float(self.framing.scale), self.framing.corner
        # Pixel centres lie at whole coordinates: the clip's x is the camera's column + (x + 1/2) / scale - 1/2.
        clip_from_camera = np.array(
            [[scale, 0, scale * (0.5 - column) - 0.5], [0, scale, scale * (0.5 - row) - 0.5], [0, 0, 1]]
        )
        return CameraPasses(
            self.framing.fitted(self.passes.rgb),
            self.framing.fitted(self.passes.depth_m, "nearest"),
            self.framing.fitted(self.passes.instance, "nearest"),
            clip_from_camera @ self.passes.intrinsics_px,
            self.passes.world_from_camera,
        )


@dataclass(frozen=True)
class ControlClip:
    """Contiguous frames of one camera with the control videos made from its render passes.

    Attributes:
        rgb: the source frames, uint8 (t, h, w, 3).
        controls: control videos by modality, uint8 (t, h, w, 3), lossless and at the size of `rgb`.
        weights: the branch weight of each control; the same keys as `controls`. A number in (0, 1], or a map, float32
            (t, h, w), within [0, 1] and not zero everywhere.
        keep: pixels that keep the content of `rgb` under guided generation, bool (t, h, w); None: nothing is kept.
        keep_steps: how many denoise steps, counted from the first, are guided; 0 without `keep`.
        guidance: the recipe's wish for classifier-free guidance; None leaves it to the generator.
        source: the render passes and labels that the clip was made from; None where there are none, as for a video.

    Raises:
        InputError: shapes that differ, or a weight out of range; names the control.
    """

    rgb: UInt8[np.ndarray, "t h w 3"]
    controls: Mapping[Modality, UInt8[np.ndarray, "_ _ _ 3"]]
    weights: Mapping[Modality, ClipWeight]
    keep: Bool[np.ndarray, "_ _ _"] | None = None
    keep_steps: int = 0
    guidance: float | None = None
    source: ClipSource | None = None

    def __post_init__(self) -> None:
        if set(self.controls) != set(self.weights):
            raise InputError(f"control clip: controls {sorted(self.controls)} but weights {sorted(self.weights)}")
        for modality, video in self.controls.items():
            if video.shape != self.rgb.shape:
                raise InputError(f"control {modality!r}: expected the shape of rgb {self.rgb.shape}, got {video.shape}")
        for modality, weight in self.weights.items():
            self._check_weight(modality, weight)
        if self.keep is not None and self.keep.shape != self.rgb.shape[:3]:
            raise InputError(f"keep: expected the frames of rgb {self.rgb.shape[:3]}, got {self.keep.shape}")
        if (self.keep is None) != (self.keep_steps == 0) or self.keep_steps < 0:
            raise InputError(
                f"keep_steps: expected above 0 with a keep mask and 0 without, got {self.keep_steps} "
                f"{'without' if self.keep is None else 'with'} one"
            )
        if self.source is not None:
            made = (len(self.source.passes.rgb), *self.source.framing.size, 3)
            if made != self.rgb.shape:
                raise InputError(f"source: expected passes that are framed to rgb {self.rgb.shape}, got {made}")

    @property
    def length(self) -> int:
        """Return the number of frames."""
        return len(self.rgb)

    def _check_weight(self, modality: Modality, weight: ClipWeight) -> None:
        if isinstance(weight, np.ndarray):
            if weight.shape != self.rgb.shape[:3]:
                raise InputError(
                    f"weight map of {modality!r}: expected the frames of rgb {self.rgb.shape[:3]}, got {weight.shape}"
                )
            low, high = float(weight.min()), float(weight.max())
            if not (low >= 0.0 and 0.0 < high <= 1.0):
                raise InputError(f"weight map of {modality!r}: expected [0, 1], not all 0, got [{low:g}, {high:g}]")
        elif not 0.0 < weight <= 1.0:
            raise InputError(f"weight of {modality!r}: expected a number in (0, 1], got {weight}")


def control_clip(
    passes: CameraPasses,
    labels: Mapping[int, InstanceLabel],
    recipe: Recipe,
    seed: int,
    framing: Framing | None = None,
) -> ControlClip:
    """Make the controls, weight maps and keep mask of a recipe from one camera's render passes.

    Edge and vis are made from the framed rgb: edges that are resized are not what the branch was trained on. Depth is
    framed as disparity, which is linear over the picture of any plane. Ids are framed by nearest before they become
    colours, maps and masks, so no pixel is between two instances. A control whose map is zero over the whole clip, as
    when the robot is not in view, is left out; a map that is one number everywhere becomes that number.

    Args:
        passes: the render passes of all frames.
        labels: what each instance id is, for weights and masks by role.
        recipe: weights, presets and roles.
        seed: chooses the instance colours of the seg control; use one seed for all cameras of an episode.
        framing: how the frames are brought to the generator's size; by default they stay as they are.

    Raises:
        InputError: the recipe needs a role that no instance has, or leaves no control for this camera.
    """
    recipe.check_labels(labels)
    framing = framing or identity_framing(*passes.size)
    instance = framing.fitted(passes.instance, "nearest")
    possible = {modality: _weight(recipe, modality, instance, labels) for modality in recipe.weights}
    weights = {modality: weight for modality, weight in possible.items() if weight is not None}
    if not weights:
        keys = ", ".join(f"{modality}_by_role" for modality in possible)
        raise InputError(f"recipe: no control is left for a camera, since {keys} are 0 for every role that it sees")
    rgb = framing.fitted(passes.rgb)
    makers = {
        "edge": lambda: edge_control(rgb, recipe.edge_preset),  # type: ignore[arg-type]
        "vis": lambda: vis_control(rgb, recipe.vis_preset),  # type: ignore[arg-type]
        "depth": lambda: framing.fitted(depth_control(passes.depth_m), "linear"),
        "seg": lambda: seg_control(instance, seed),
    }
    keep = role_mask(instance, labels, recipe.keep_roles) if recipe.keep_roles else None
    is_kept = keep is not None and bool(keep.any())
    return ControlClip(
        rgb,
        {modality: makers[modality]() for modality in weights},
        weights,
        keep=keep if is_kept else None,
        keep_steps=recipe.keep_steps if is_kept else 0,
        guidance=recipe.guidance,
        source=ClipSource(passes, labels, framing),
    )


def _weight(
    recipe: Recipe, modality: Modality, instance: UInt16[np.ndarray, "t h w"], labels: Mapping[int, InstanceLabel]
) -> ClipWeight | None:
    """Return a control's weight as a number where one is enough, else as a map; None if it is zero everywhere."""
    weight, factors = recipe.weights[modality], recipe.factors(modality)
    if not factors:
        return weight
    factor = role_map(instance, labels, factors)
    low, high = float(factor.min()), float(factor.max())
    if low == high:
        return weight * low or None
    return np.float32(weight) * factor
