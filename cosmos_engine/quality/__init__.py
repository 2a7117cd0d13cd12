"""What a variant is worth: metrics against the recording, and a reader that sees geometry in rgb."""

from cosmos_engine.quality.color_adherence import cielab, color_adherence, named_colors
from cosmos_engine.quality.contours import (
    EdgeScores,
    boundary_f1,
    contour_adherence,
    contour_mask,
    edge_scores,
    geometry_edges,
    tolerance_px,
)
from cosmos_engine.quality.depth_error import si_rmse
from cosmos_engine.quality.geometry_reader import GeometryReader, shipped_weights
from cosmos_engine.quality.likeness import diversity, psnr_db
from cosmos_engine.quality.measure import Measures, mean_measures, measure
from cosmos_engine.quality.motion import InstancePoses, TrueFlow, embedded_poses, flicker, true_flow
from cosmos_engine.quality.overlap import assigned, centroid_error_px, frame_iou, iou
from cosmos_engine.quality.reader import Reader, Readings

__all__ = [
    "EdgeScores",
    "GeometryReader",
    "InstancePoses",
    "Measures",
    "Reader",
    "Readings",
    "TrueFlow",
    "assigned",
    "boundary_f1",
    "centroid_error_px",
    "cielab",
    "color_adherence",
    "contour_adherence",
    "contour_mask",
    "diversity",
    "edge_scores",
    "embedded_poses",
    "flicker",
    "frame_iou",
    "geometry_edges",
    "iou",
    "mean_measures",
    "measure",
    "named_colors",
    "psnr_db",
    "shipped_weights",
    "si_rmse",
    "tolerance_px",
    "true_flow",
]
