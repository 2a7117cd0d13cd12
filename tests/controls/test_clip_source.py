import numpy as np
import pytest

from cosmos_engine.controls import ControlClip, Recipe, control_clip, frame_for
from cosmos_engine.controls.clip import ClipSource
from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.errors import InputError

LABELS = {1: InstanceLabel("table", "table", "scene")}


def passes(h: int = 48, w: int = 64) -> CameraPasses:
    """A plane that recedes to the right, seen by a camera whose principal point is not in the middle."""
    depth = np.broadcast_to(np.linspace(0.5, 1.5, w, dtype=np.float32), (2, h, w)).copy()
    return CameraPasses(
        rgb=np.random.default_rng(0).integers(0, 256, (2, h, w, 3), dtype=np.uint8),
        depth_m=depth,
        instance=np.ones((2, h, w), np.uint16),
        intrinsics_px=np.array([[70.0, 0, 30], [0, 70, 20], [0, 0, 1]]),
        world_from_camera=np.tile(np.eye(4), (2, 1, 1)),
    )


def seen_points(given: CameraPasses) -> np.ndarray:
    h, w = given.size
    row, column = np.mgrid[0:h, 0:w]
    rays = np.stack([column, row, np.ones((h, w))], -1) @ np.linalg.inv(given.intrinsics_px).T
    return rays * given.depth_m[0][..., None]


def test_a_clip_of_control_clip_carries_its_own_passes_and_labels():
    given = passes()
    source = control_clip(given, LABELS, Recipe(), seed=0).source
    assert source.framed() is given
    assert source.labels is LABELS


def test_a_clip_made_by_hand_has_no_source():
    rgb = passes().rgb
    assert ControlClip(rgb, {"edge": rgb}, {"edge": 1.0}).source is None


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_framed_passes_see_the_same_points_of_the_world(fit):
    given = passes(h=50)
    framing = frame_for(*given.size, "256", fit)
    framed = control_clip(given, LABELS, Recipe(), seed=0, framing=framing).source.framed()
    assert framed.size == framing.size
    scale, (row, column) = float(framing.scale), framing.corner
    camera, clip = seen_points(given), seen_points(framed)
    inside = slice(20, 200, 7)
    for y in range(*inside.indices(framing.size[0])):
        for x in range(*inside.indices(framing.size[1])):
            at_row, at_column = row + (y + 0.5) / scale - 0.5, column + (x + 0.5) / scale - 0.5
            nearest = camera[round(at_row), round(at_column)]
            # Depth is that of the nearest camera pixel, so a point is off by half a camera pixel at most.
            assert np.abs(clip[y, x] - nearest).max() <= 0.51 * max(1.5 / 70, 1.0 / 63) + 1e-3


def test_a_source_of_another_size_is_one_line():
    rgb = passes().rgb
    source = ClipSource(passes(h=40), LABELS, frame_for(40, 64, "256"))
    with pytest.raises(InputError, match=r"source: expected passes that are framed to rgb \(2, 48, 64, 3\)"):
        ControlClip(rgb, {"edge": rgb}, {"edge": 1.0}, source=source)
