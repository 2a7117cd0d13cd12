"""Render passes to control videos: edge, vis, depth, seg."""

from cosmos_engine.controls.clip import ClipSource, ClipWeight, ControlClip, control_clip
from cosmos_engine.controls.depth import depth_control
from cosmos_engine.controls.edge import edge_control
from cosmos_engine.controls.framing import RESOLUTIONS, Fit, Framing, frame_for, identity_framing
from cosmos_engine.controls.modality import MODALITIES, Modality
from cosmos_engine.controls.recipe import Recipe
from cosmos_engine.controls.role_map import role_map, role_mask
from cosmos_engine.controls.seg import instance_colors, seg_control
from cosmos_engine.controls.surface_points import surface_points
from cosmos_engine.controls.vis import vis_control

__all__ = [
    "MODALITIES",
    "RESOLUTIONS",
    "ClipSource",
    "ClipWeight",
    "ControlClip",
    "Fit",
    "Framing",
    "Modality",
    "Recipe",
    "control_clip",
    "depth_control",
    "edge_control",
    "frame_for",
    "identity_framing",
    "instance_colors",
    "role_map",
    "role_mask",
    "seg_control",
    "surface_points",
    "vis_control",
]
