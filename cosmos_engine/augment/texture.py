"""The texture baseline: scene and robot repainted by their ground-truth masks, light and shadow kept.

Every part of the scene gets a procedural texture that is fixed in the world; the robot gets a colour; manipulated
objects keep their pixels, bit for bit. It does with exact masks what compositing on a green screen does with a chroma
key (Teoh et al. 2024, "Green Screen Augmentation", which found random textures better than generated backgrounds) and
what inpainting does by a model (Yu et al. 2023, "Scaling robot learning with semantically imagined experience").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from cosmos_engine.augment.part_materials import BACKGROUND, ROBOT, check_prompt, part_materials, part_of
from cosmos_engine.augment.shading import luma, surface_shading
from cosmos_engine.augment.surfaces import Surfaces, find_surfaces, laid, texture_levels
from cosmos_engine.controls import ControlClip, Framing, Modality, identity_framing
from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Material
from cosmos_engine.sim.textures import TRAINING_FAMILIES, flat_texture

TEXTURE = "texture"
TEXTURE_PX = 256
"""Texels along `surfaces.TEXTURE_M`, as in the embedded renderer."""
USUAL_BRIGHTNESS = 0.9
"""Of a white surface at its median shading. The embedded looks have 0.65 to 1.1 on a level white surface."""
ROBOT_REFERENCE = 0.5
"""Least luma that counts as the robot's full brightness, so that black joints stay black where only they are seen."""


@dataclass(frozen=True)
class _Scene:
    """What a clip shows, before any variant: the pixels of each part, where they lie, and how bright they are."""

    labels: Mapping[int, InstanceLabel]
    masks: Mapping[str, Bool[np.ndarray, "t h w"]]
    surfaces: Surfaces
    brightness: Float32[np.ndarray, "t h w"]
    shading: Float32[np.ndarray, "t h w"]


class Texture:
    """Generate by repainting masks; implements `Generator`. It needs clips that `control_clip` made.

    Args:
        repaint_robot: whether the robot gets a new colour, or keeps its pixels as manipulated objects do.
    """

    def __init__(self, repaint_robot: bool = True) -> None:
        self.name = TEXTURE
        self._repaint_robot = repaint_robot

    @property
    def uses_prompts(self) -> bool:
        """A prompt names materials."""
        return True

    @property
    def provenance(self) -> dict[str, Any]:
        """What is painted, and versions; a variant's materials follow from its prompt, seed and labels."""
        return {
            "weights_sha256": {},
            "reads": ["rgb", "instance", "depth", "intrinsics", "world_from_camera", "labels"],
            "prompt": "materials of table, wall, floor, robot and other scene parts; what it leaves open is drawn",
            "families": sorted(TRAINING_FAMILIES),
            "robot": "mean colour of its texture" if self._repaint_robot else "kept",
            "manipulated": "kept",
            "light": "shading of the source",
            "texture_px": TEXTURE_PX,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        }

    def framing(self, height: int, width: int) -> Framing:
        """Return the identity: any size will do."""
        return identity_framing(height, width)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Check that no prompt asks for a texture that belongs to the benchmark."""
        for prompt in prompts:
            check_prompt(prompt)

    def plan(self, sizes: Sequence[tuple[int, int]], modalities: Sequence[Modality], rows: int) -> str:
        """Return nothing: there is no memory to plan, and no control is read."""
        return ""

    def generate(
        self, clips: Sequence[ControlClip], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[UInt8[np.ndarray, "n t h w 3"]]:
        """Return for each clip one variant under each (prompt, seed).

        Raises:
            InputError: a clip without render passes and labels, a prompt that asks for a texture of the benchmark.
        """
        return [self._variants(clip, list(zip(prompts, seeds, strict=True))) for clip in clips]

    def close(self) -> None:
        """Do nothing: there is no device memory."""

    def _variants(self, clip: ControlClip, asked: Sequence[tuple[str, int]]) -> UInt8[np.ndarray, "n t h w 3"]:
        if clip.source is None:
            raise InputError(
                f"{TEXTURE}: expected a clip with render passes and labels, as control_clip makes it from a recording; "
                "this one has rgb and controls only"
            )
        scene = _scene(clip.rgb, clip.source.framed(), clip.source.labels)
        variants = np.repeat(clip.rgb[None], len(asked), axis=0)
        for variant, (prompt, seed) in zip(variants, asked, strict=True):
            for part, material in part_materials(prompt, seed, scene.labels).items():
                if part == ROBOT and self._repaint_robot:
                    _paint_robot(variant, scene, material)
                elif part != ROBOT and part in scene.masks:
                    _paint_part(variant, scene, part, material)
        return variants


def _scene(rgb: UInt8[np.ndarray, "t h w 3"], passes: CameraPasses, labels: Mapping[int, InstanceLabel]) -> _Scene:
    """Sort the pixels by part, manipulated objects left out; id 0, and any id without a label, is background."""
    ids_of_part: dict[str, list[int]] = {}
    for instance_id in np.unique(passes.instance).tolist():
        label = labels.get(instance_id) if instance_id else None
        if label is None or label.role != "manipulated":
            ids_of_part.setdefault(BACKGROUND if label is None else part_of(label), []).append(instance_id)
    masks = {part: np.isin(passes.instance, ids) for part, ids in ids_of_part.items()}
    still = np.zeros(passes.instance.shape, bool)
    for part, mask in masks.items():
        if part != ROBOT:
            still |= mask
    surfaces, brightness = find_surfaces(passes), luma(rgb)
    return _Scene(labels, masks, surfaces, brightness, surface_shading(brightness, passes.instance, surfaces, still))


def _paint_part(variant: UInt8[np.ndarray, "t h w 3"], scene: _Scene, part: str, material: Material) -> None:
    """Write a part's pixels: its texture where it lies in the world, times the source's shading."""
    levels, surfaces = texture_levels(_texture(material)), scene.surfaces
    for index in np.flatnonzero(scene.masks[part].any(axis=(1, 2))).tolist():
        rows, columns = (np.flatnonzero(scene.masks[part][index].any(axis=axis)) for axis in (1, 0))
        box = (index, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        albedo = laid(levels, surfaces.uv_m[box], surfaces.footprint_m[box])
        painted = albedo * (np.float32(USUAL_BRIGHTNESS) * scene.shading[box])[..., None]
        mask = scene.masks[part][box]
        variant[box][mask] = np.rint(np.clip(painted[mask], 0, 255)).astype(np.uint8)


def _paint_robot(variant: UInt8[np.ndarray, "t h w 3"], scene: _Scene, material: Material) -> None:
    """Write the robot's pixels: one colour times their own brightness.

    A recording does not say how the robot's links move, so a pattern would slide over them: the robot gets the mean
    colour of its texture.
    """
    if ROBOT not in scene.masks:
        return
    mask = scene.masks[ROBOT]
    brightness = scene.brightness[mask]
    reference = max(float(np.quantile(brightness, 0.95)), ROBOT_REFERENCE)
    color = _texture(material).mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    painted = color * (brightness / np.float32(reference))[:, None]
    variant[mask] = np.rint(np.clip(painted, 0, 255)).astype(np.uint8)


def _texture(material: Material) -> UInt8[np.ndarray, "n n 3"]:
    color, accent = material.colors()
    return flat_texture(material.family, color, accent, scale=material.scale, seed=material.seed, size=TEXTURE_PX)
