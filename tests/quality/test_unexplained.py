import numpy as np
import pytest

from cosmos_engine.quality.contours import canny, distance_px
from cosmos_engine.quality.motion import true_flow
from cosmos_engine.quality.unexplained import extra_px, new_edges, unexplained_change

from .conftest import COLORS, scene

FRAMES = 10
SPOT = np.s_[8:16, 6:14]


def spotted(first: int = 0) -> np.ndarray:
    """Frames with an extra thing from `first` on."""
    rgb = scene(FRAMES).rgb.copy()
    rgb[(np.s_[first:], *SPOT)] = COLORS[7]
    return rgb


def seen(first: int = 0) -> np.ndarray:
    objects = (scene(FRAMES).instance >= 6).astype(np.float32)
    objects[(np.s_[first:], *SPOT)] = 0.9
    return objects


def explained() -> np.ndarray:
    return scene(FRAMES).instance >= 6


def test_an_extra_thing_is_as_large_as_it_is():
    edges = np.stack([canny(frame) for frame in spotted()])
    assert extra_px(seen(), explained(), edges, margin_px=1.0, frames=4) == pytest.approx(64)


def test_what_is_recorded_is_no_extra_thing_nor_is_its_rim():
    wide = np.zeros((FRAMES, 48, 48), bool)
    wide[:, 23:35, 7:19] = True  # a pixel more on every side of the cube
    assert extra_px(wide.astype(np.float32), explained(), np.ones_like(wide), margin_px=1.0, frames=4) == 0


def test_a_mistake_of_the_reader_without_an_edge_counts_nothing():
    assert extra_px(seen(), explained(), np.zeros((FRAMES, 48, 48), bool), margin_px=1.0, frames=4) == 0


def test_a_thing_of_one_frame_counts_nothing_one_that_stays_does():
    edges = np.ones((FRAMES, 48, 48), bool)
    once = explained().astype(np.float32)
    once[3][SPOT] = 1
    assert extra_px(once, explained(), edges, margin_px=1.0, frames=4) == 0
    assert extra_px(seen(5), explained(), edges, margin_px=1.0, frames=4) == 64


def test_new_edges_are_those_of_what_came_with_the_variant():
    source = scene(1).rgb[0]
    known_px = distance_px(canny(source))
    assert not new_edges(source, known_px).any()
    found = new_edges(spotted()[0], known_px)
    assert found.sum() > 20
    near = np.zeros((48, 48), bool)
    near[6:18, 4:16] = True
    assert not found[~near].any()


def test_what_comes_from_one_frame_to_the_next_is_unexplained():
    passes = scene(FRAMES)
    flow = true_flow(passes, [3])
    still = passes.instance == 3
    assert unexplained_change(passes.rgb, flow, still, side_px=5) == 0
    assert unexplained_change(spotted(), flow, still, side_px=5) == 0
    assert unexplained_change(spotted(5), flow, still, side_px=5) > 30


def test_a_shadow_is_explained_but_for_a_little():
    passes = scene(FRAMES)
    flow = true_flow(passes, [3])
    rgb = passes.rgb.copy()
    rgb[(np.s_[5:], *SPOT)] //= 2
    assert unexplained_change(rgb, flow, passes.instance == 3, side_px=5) < 15


def test_nothing_is_said_where_no_flow_is_known():
    passes = scene(FRAMES)
    assert unexplained_change(passes.rgb, true_flow(passes, []), passes.instance == 3, side_px=5) is None
