import dataclasses

import numpy as np
import pytest

from cosmos_engine.quality import (
    EdgeScores,
    boundary_f1,
    contour_adherence,
    contour_mask,
    edge_scores,
    geometry_edges,
    tolerance_px,
)

from .conftest import COLORS, painted, scene


def test_tolerance_is_a_share_of_the_diagonal():
    assert tolerance_px(128, 128) == pytest.approx(1.36, abs=0.01)
    assert tolerance_px(300, 400) == pytest.approx(3.75)
    assert tolerance_px(32, 32) == 1


def test_frames_that_show_the_geometry_score_full(passes):
    scores = edge_scores(passes.rgb, passes.instance, passes.depth_m, [1, 6, 7])
    assert scores.f1 == pytest.approx(1.0)
    assert contour_adherence(passes.rgb, passes.instance, [1, 6, 7]) == {1: 1.0, 6: 1.0, 7: 1.0}


def test_a_lost_object_costs_its_contour_only(passes):
    lost = painted(passes.instance, COLORS | {6: COLORS[3]})
    adherence = contour_adherence(lost, passes.instance, [1, 6, 7])
    assert adherence[6] == 0.0
    assert adherence[7] == 1.0
    assert edge_scores(lost, passes.instance, passes.depth_m, [6]).f1 == 0.0


def test_a_moved_object_loses_recall_and_precision(passes):
    moved = np.roll(passes.rgb, 6, axis=2)
    scores = edge_scores(moved, passes.instance, passes.depth_m, [6, 7])
    assert scores.recall is not None
    assert scores.precision is not None
    assert scores.recall < 0.8
    assert scores.f1 < 0.75


def test_edges_of_the_scene_count_nothing(passes):
    rgb = passes.rgb.copy()
    rgb[:, 18:20, 8:20] = 255
    assert edge_scores(rgb, passes.instance, passes.depth_m, [7]).f1 == pytest.approx(1.0)


def test_no_foreground_no_score(passes):
    assert edge_scores(passes.rgb, passes.instance, passes.depth_m, []).f1 is None


def test_contours_are_both_sides_of_a_change_but_only_inside_the_instances():
    instance = np.zeros((6, 6), np.uint16)
    instance[2:4, 2:4] = 5
    assert np.array_equal(contour_mask(instance, [5]), instance == 5)
    assert contour_mask(instance, [0, 5]).sum() == 4 + 8


def test_a_tilted_plane_has_no_edges_and_a_crease_has():
    columns = np.arange(32, dtype=np.float32)
    plane = np.tile(1 / (0.5 + 0.01 * columns), (32, 1)).astype(np.float32)
    roof = np.tile(1 / (0.5 + 0.01 * np.minimum(columns, 31 - columns)), (32, 1)).astype(np.float32)
    nothing = np.zeros((32, 32), np.uint16)
    assert not geometry_edges(nothing, plane).any()
    found = geometry_edges(nothing, roof)
    assert found[:, 15:17].all()
    assert not found[:, :14].any()


def test_boundary_of_a_mask_moved_beyond_the_tolerance_scores_less():
    truth = scene().instance == 7
    assert boundary_f1(truth, truth) == 1.0
    near = boundary_f1(np.roll(truth, 1, axis=2), truth)
    far = boundary_f1(np.roll(truth, 5, axis=2), truth)
    assert near == 1.0
    assert far is not None
    assert far < 0.8
    assert boundary_f1(np.zeros_like(truth), truth) == 0.0
    assert boundary_f1(np.zeros_like(truth), np.zeros_like(truth)) is None


def test_scores_are_a_harmonic_mean():
    assert EdgeScores(0.5, 1.0).f1 == pytest.approx(2 / 3)
    assert EdgeScores(None, 0.0).f1 == 0.0
    assert EdgeScores(0.3, None).f1 is None
    assert dataclasses.astuple(EdgeScores(0.5, 1.0)) == (0.5, 1.0)
