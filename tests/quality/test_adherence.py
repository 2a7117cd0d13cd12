import dataclasses
import math

import numpy as np
import pytest

from cosmos_engine.quality import Readings
from cosmos_engine.quality.adherence import flow_measures, pixel_measures, reader_measures
from cosmos_engine.quality.clip_geometry import ClipGeometry

from .conftest import COLORS, LABELS, painted, scene

FRAMES = 24


def moving() -> ClipGeometry:
    """A cube that moves a pixel every second frame, and poses that say so: 1 px at 0.9 m and f = 60 px is 0.015 m."""
    passes = scene(FRAMES)
    instance = passes.instance.copy()
    depth = passes.depth_m.copy()
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    for frame in range(FRAMES):
        was = instance[frame] == 6
        instance[frame][was], depth[frame][was] = 3, 1.0
        at = np.s_[frame, 20:30, 6 + frame // 2 : 16 + frame // 2]
        instance[at], depth[at] = 6, 0.9
        poses[frame, 0, 3] = 0.015 * (frame // 2)
    made = dataclasses.replace(passes, rgb=painted(instance), instance=instance, depth_m=depth)
    return ClipGeometry(made, LABELS, {6: poses})


def read(rgb: np.ndarray, clip: ClipGeometry) -> Readings:
    roles = [(rgb == COLORS[1]).all(-1), (rgb == COLORS[6]).all(-1) | (rgb == COLORS[7]).all(-1)]
    roles.append(~(roles[0] | roles[1]))
    return Readings(np.stack(roles, -1).astype(np.float32), np.log(clip.passes.depth_m))


def all_measures(rgb: np.ndarray, clip: ClipGeometry) -> dict[str, float]:
    return pixel_measures(rgb, clip, {}) | flow_measures(rgb, clip) | reader_measures(rgb, clip, read(rgb, clip))


def test_the_recording_itself_is_as_good_as_can_be():
    clip = moving()
    found = all_measures(clip.passes.rgb, clip)
    best = dict.fromkeys(
        ("iou_robot", "iou_manipulated", "presence_robot", "presence_manipulated", "own_time", "edge_f1"), 1.0
    )
    best |= dict.fromkeys(
        ("hue_manipulated", "displacement_px", "centroid_px", "extra_px_robot", "extra_px_manipulated", "odd_color"),
        0.0,
    )
    best |= {"si_rmse": 0.0, "unexplained_change": 0.0, "flicker_scene": 0.0}
    assert {name: found[name] for name in best} == pytest.approx(best, abs=0.02)
    assert found["advantage_manipulated"] < 0
    assert found["contour_advantage_manipulated"] < 0
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_a_vanished_object_shows_in_presence_contour_and_overlap():
    clip = moving()
    right = all_measures(clip.passes.rgb, clip)
    wrong = all_measures(painted(clip.passes.instance, COLORS | {6: COLORS[3]}), clip)
    assert wrong["presence_manipulated"] < 0.1 < right["presence_manipulated"]
    assert wrong["iou_manipulated"] < 0.8
    assert wrong["contour_presence_manipulated"] < 0.5 < right["contour_presence_manipulated"]


def test_a_fault_of_half_a_second_shows():
    clip = moving()
    rgb = clip.passes.rgb.copy()
    rgb[6:18] = painted(clip.passes.instance, COLORS | {6: COLORS[3]})[6:18]
    assert all_measures(rgb, clip)["presence_manipulated"] < 0.1


def test_an_instance_that_is_barely_seen_is_not_judged():
    clip = moving()
    instance = np.where(clip.passes.instance >= 6, 3, clip.passes.instance).astype(np.uint16)
    instance[:, 40:42, 40:42] = 6
    unseen = ClipGeometry(dataclasses.replace(clip.passes, instance=instance), LABELS)
    rgb = painted(instance, COLORS | {6: COLORS[3]})
    found = all_measures(rgb, unseen)
    for name in ("iou", "presence", "advantage", "contour_presence", "contour_advantage", "hue"):
        assert f"{name}_manipulated" not in found
        assert name == "hue" or f"{name}_robot" in found


def test_slipped_frames_show_in_time_and_flow():
    clip = moving()
    slipped = clip.passes.rgb[np.clip(np.arange(FRAMES) + 6, 0, FRAMES - 1)]
    assert all_measures(slipped, clip)["own_time"] < 0.5 < all_measures(clip.passes.rgb, clip)["own_time"]


def test_another_colour_on_purpose_is_none_by_accident():
    clip = moving()
    blue = painted(clip.passes.instance, COLORS | {6: COLORS[7]})
    assert pixel_measures(blue, clip, {})["hue_manipulated"] > 40
    assert pixel_measures(blue, clip, {6: "blue"})["hue_manipulated"] < 5
