"""What Isaac Sim's annotators return, as the engine's recordings keep it. Needs numpy only; imports no Kit module."""

from isaac_ext.camera import intrinsics_px, world_from_camera
from isaac_ext.labels import InstanceIds, PrimLabel, parse_labels

__all__ = ["InstanceIds", "PrimLabel", "intrinsics_px", "parse_labels", "world_from_camera"]
