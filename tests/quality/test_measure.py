import dataclasses

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.quality import Measures, Readings, mean_measures, measure

from .conftest import COLORS, LABELS, painted, scene


class Knowing:
    """Read colours as the ids that they were painted for; depth is the recorded one, doubled."""

    name = "knowing"

    def read(self, rgb):
        roles = [(rgb == COLORS[1]).all(-1), (rgb == COLORS[6]).all(-1) | (rgb == COLORS[7]).all(-1)]
        roles.append(~(roles[0] | roles[1]))
        return Readings(np.stack(roles, axis=-1).astype(np.float32), np.log(2 * scene(len(rgb)).depth_m))


def test_frames_that_show_the_recording_score_full(passes):
    still = np.tile(np.eye(4), (3, 1, 1))
    made = measure(
        passes.rgb,
        passes,
        LABELS,
        Knowing(),
        poses={1: still, 6: still, 7: still},
        phrases={3: "brown wood", 6: "red cube", 7: "blue bowl", 1: "white"},
        truth=passes.rgb,
    )
    full = dict.fromkeys(("miou", "iou_robot", "iou_manipulated", "boundary_f1", "edge_f1", "edge_precision"), 1.0)
    full |= dict.fromkeys(("edge_recall", "contour_adherence", "color_adherence"), 1.0)
    full |= {"centroid_px": 0.0, "si_rmse": 0.0, "flicker_scene": 0.0, "flicker_foreground": 0.0}
    full |= {"psnr_db": float("inf"), "psnr_foreground_db": float("inf")}
    assert dataclasses.asdict(made) == pytest.approx(full, abs=1e-6)


def test_what_was_not_given_is_not_measured(passes):
    made = measure(passes.rgb, passes, LABELS, Knowing())
    assert made.psnr_db is made.psnr_foreground_db is made.color_adherence is made.flicker_foreground is None
    assert made.flicker_scene == 0


def test_a_vanished_object_shows_in_overlap_edges_and_adherence(passes):
    rgb = painted(passes.instance, COLORS | {6: COLORS[3]})
    made = measure(rgb, passes, LABELS, Knowing(), phrases={6: "red cube"})
    assert made.iou_manipulated == pytest.approx(168 / 268)
    assert made.miou == pytest.approx((1 + 168 / 268) / 2)
    assert made.contour_adherence == pytest.approx(2 / 3)
    assert made.color_adherence == 0


def test_a_moved_object_shows_its_distance(passes):
    rgb = painted(scene().instance)
    rgb[passes.instance == 6] = COLORS[3]
    rgb[:, 24:34, 12:22] = COLORS[6]
    assert measure(rgb, passes, LABELS, Knowing()).centroid_px == pytest.approx(4)


def test_another_shape_than_the_source_is_an_error(passes):
    with pytest.raises(InputError, match="variant: expected the shape of its source"):
        measure(passes.rgb[:2], passes, LABELS, Knowing())


def test_clips_without_a_measure_do_not_count_in_its_mean():
    assert mean_measures([Measures(miou=0.5), Measures(miou=1.0, psnr_db=20.0)]) == Measures(miou=0.75, psnr_db=20.0)
    assert mean_measures([Measures()]) == Measures()
