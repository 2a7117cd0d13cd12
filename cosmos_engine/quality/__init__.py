"""What a variant is worth: metrics against the recording, and a reader that sees geometry in rgb."""

from cosmos_engine.quality.adherence import flow_measures, pixel_measures, reader_measures
from cosmos_engine.quality.clip_geometry import ClipGeometry
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
from cosmos_engine.quality.critic import ChatCritic, Critic, Opinion
from cosmos_engine.quality.cross_view import view_difference
from cosmos_engine.quality.depth_error import si_rmse
from cosmos_engine.quality.faults import FAULTS, inject
from cosmos_engine.quality.geometry_reader import GeometryReader, shipped_weights
from cosmos_engine.quality.likeness import diversity, psnr_db
from cosmos_engine.quality.measure import Measures, mean_measures, measure
from cosmos_engine.quality.motion import InstancePoses, TrueFlow, embedded_poses, flicker, true_flow
from cosmos_engine.quality.object_color import hue_difference, hue_error
from cosmos_engine.quality.optical_flow import flow_error, optical_flow
from cosmos_engine.quality.overlap import assigned, centroid_error_px, frame_iou, iou
from cosmos_engine.quality.reader import Reader, Readings
from cosmos_engine.quality.sam2_reader import Sam2Reader
from cosmos_engine.quality.shown_reader import JoinedReader, ShownReader
from cosmos_engine.quality.video_depth_reader import VideoDepthReader

__all__ = [
    "FAULTS",
    "ChatCritic",
    "ClipGeometry",
    "Critic",
    "EdgeScores",
    "GeometryReader",
    "InstancePoses",
    "JoinedReader",
    "Measures",
    "Opinion",
    "Reader",
    "Readings",
    "Sam2Reader",
    "ShownReader",
    "TrueFlow",
    "VideoDepthReader",
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
    "flow_error",
    "flow_measures",
    "frame_iou",
    "geometry_edges",
    "hue_difference",
    "hue_error",
    "inject",
    "iou",
    "mean_measures",
    "measure",
    "named_colors",
    "optical_flow",
    "pixel_measures",
    "psnr_db",
    "reader_measures",
    "shipped_weights",
    "si_rmse",
    "tolerance_px",
    "true_flow",
    "view_difference",
]
