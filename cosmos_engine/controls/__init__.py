"""Render passes to control videos: edge, vis, depth, seg."""

from cosmos_engine.controls.clip import ControlClip, control_clip
from cosmos_engine.controls.depth import depth_control
from cosmos_engine.controls.edge import edge_control
from cosmos_engine.controls.modality import MODALITIES, Modality
from cosmos_engine.controls.recipe import Recipe
from cosmos_engine.controls.seg import instance_colors, seg_control
from cosmos_engine.controls.vis import vis_control

__all__ = [
    "MODALITIES",
    "ControlClip",
    "Modality",
    "Recipe",
    "control_clip",
    "depth_control",
    "edge_control",
    "instance_colors",
    "seg_control",
    "vis_control",
]
