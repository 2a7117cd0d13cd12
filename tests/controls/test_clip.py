import numpy as np
import pytest

from cosmos_engine.controls import ControlClip, Recipe, control_clip, edge_control, frame_for, role_map, role_mask
from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.errors import InputError

ROBOT, CUBE, TABLE = 3, 7, 9
LABELS = {
    ROBOT: InstanceLabel("panda", "robot", "robot"),
    CUBE: InstanceLabel("cube", "cube", "manipulated"),
    TABLE: InstanceLabel("table", "table", "scene"),
}


def passes(t: int = 3, h: int = 32, w: int = 48) -> CameraPasses:
    """A robot block that moves by a pixel a frame, a cube, a table strip, and background."""
    rng = np.random.default_rng(0)
    instance = np.zeros((t, h, w), np.uint16)
    instance[:, 28:] = TABLE
    instance[:, 2:6, 2:6] = CUBE
    for frame in range(t):
        instance[frame, 8:24, 10 + frame : 30 + frame] = ROBOT
    return CameraPasses(
        rgb=rng.integers(0, 256, (t, h, w, 3), dtype=np.uint8),
        depth_m=rng.uniform(0.3, 2.0, (t, h, w)).astype(np.float32),
        instance=instance,
        intrinsics_px=np.eye(3),
        world_from_camera=np.tile(np.eye(4), (t, 1, 1)),
    )


def without(role_id: int) -> CameraPasses:
    seen = passes()
    seen.instance[seen.instance == role_id] = 0
    return seen


def test_clip_has_only_the_controls_of_its_recipe():
    clip = control_clip(passes(), LABELS, Recipe(edge=1.0, vis=0.0, depth=0.4, seg=0.0), seed=0)
    assert clip.weights == {"edge": 1.0, "depth": 0.4}
    assert set(clip.controls) == {"edge", "depth"}
    assert clip.length == 3
    assert clip.keep is None
    assert clip.keep_steps == 0


def test_a_map_is_the_weight_times_the_factor_of_each_pixels_role():
    source = passes()
    recipe = Recipe(vis=0.5, vis_by_role={"robot": 1.0, "manipulated": 0.25, "scene": 0.0})
    weight = control_clip(source, LABELS, recipe, seed=0).weights["vis"]
    assert weight.dtype == np.float32
    expected = np.zeros(source.instance.shape)
    expected[source.instance == ROBOT] = 0.5
    expected[source.instance == CUBE] = 0.125
    np.testing.assert_array_equal(weight, expected)


def test_background_is_scene():
    instance = passes().instance
    factors = role_map(instance, LABELS, {"scene": 0.5})
    assert set(np.unique(factors[instance == 0])) == set(np.unique(factors[instance == TABLE])) == {0.5}
    assert (factors[instance == ROBOT] == 1).all()
    np.testing.assert_array_equal(role_mask(instance, LABELS, ["scene"]), ~np.isin(instance, [ROBOT, CUBE]))


def test_a_map_that_is_the_same_everywhere_is_a_number():
    everywhere = {"robot": 1.0, "manipulated": 1.0, "scene": 1.0}
    mapped = control_clip(passes(), LABELS, Recipe(edge=0.75, edge_by_role=everywhere), seed=0)
    plain = control_clip(passes(), LABELS, Recipe(edge=0.75), seed=0)
    assert mapped.weights == plain.weights
    halved = control_clip(passes(), LABELS, Recipe(edge_by_role=dict.fromkeys(everywhere, 0.5)), seed=0)
    assert halved.weights["edge"] == 0.5


def test_a_control_whose_role_is_not_in_view_is_left_out():
    recipe = Recipe(vis=1.0, vis_by_role={"robot": 1.0, "manipulated": 0.0, "scene": 0.0})
    clip = control_clip(without(ROBOT), LABELS, recipe, seed=0)
    assert set(clip.controls) == {"edge", "depth", "seg"}


def test_a_camera_without_any_control_is_one_line():
    only_robot = {"robot": 1.0, "manipulated": 0.0, "scene": 0.0}
    recipe = Recipe(edge=1.0, depth=0.0, seg=0.0, edge_by_role=only_robot)
    with pytest.raises(InputError, match="no control is left for a camera, since edge_by_role"):
        control_clip(without(ROBOT), LABELS, recipe, seed=0)


def test_labels_without_a_needed_role_are_one_line():
    with pytest.raises(InputError, match="'keep_roles' needs instances of role 'robot', got labels of roles: scene"):
        control_clip(passes(), {TABLE: LABELS[TABLE]}, Recipe(keep_roles=["robot"]), seed=0)


def test_keep_is_the_pixels_of_its_roles():
    source = passes()
    recipe = Recipe(keep_roles=["robot", "manipulated"], keep_steps=5, guidance=2.5)
    clip = control_clip(source, LABELS, recipe, seed=0)
    np.testing.assert_array_equal(clip.keep, np.isin(source.instance, [ROBOT, CUBE]))
    assert clip.keep_steps == 5
    assert clip.guidance == 2.5


def test_nothing_is_kept_where_the_kept_roles_are_not_in_view():
    clip = control_clip(without(ROBOT), LABELS, Recipe(keep_roles=["robot"]), seed=0)
    assert clip.keep is None
    assert clip.keep_steps == 0


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_everything_of_a_framed_clip_lies_where_it_lies_in_the_framed_ids(fit):
    source = passes()
    framing = frame_for(*source.size, "256", fit)
    by_role = {"manipulated": 0.0, "scene": 0.0}
    recipe = Recipe(edge=1.0, depth=1.0, seg=1.0, seg_by_role=by_role, keep_roles=["robot"])
    clip = control_clip(source, LABELS, recipe, seed=0, framing=framing)
    size = (source.rgb.shape[0], *framing.size)
    assert clip.rgb.shape == (*size, 3)
    assert all(video.shape == (*size, 3) and video.dtype == np.uint8 for video in clip.controls.values())
    ids = framing.fitted(source.instance, "nearest")
    np.testing.assert_array_equal(clip.weights["seg"], ids == ROBOT)
    np.testing.assert_array_equal(clip.keep, ids == ROBOT)
    colours = {tuple(colour) for colour in clip.controls["seg"][ids == ROBOT]}
    assert len(colours) == 1
    # Edges are those of the framed rgb, not resized ones; depth is the framed disparity.
    np.testing.assert_array_equal(clip.controls["edge"], edge_control(framing.fitted(source.rgb)))


def test_framed_depth_of_a_plane_is_the_plane():
    source = passes(t=1, h=64, w=64)
    disparity = np.linspace(0.5, 2.0, 64)[None, None, :].repeat(64, axis=1)  # of a wall that recedes to the left
    slanted = CameraPasses(
        source.rgb, (1.0 / disparity).astype(np.float32), source.instance, np.eye(3), source.world_from_camera
    )
    framing = frame_for(64, 64, "256")
    clip = control_clip(slanted, LABELS, Recipe(edge=0.0, seg=0.0), seed=0, framing=framing)
    grey = clip.controls["depth"][0, :, 4:-4, 0].astype(float)
    line = ((np.arange(256) + 0.5) / 4 - 0.5)[4:-4] / 63 * 255
    assert np.abs(grey - line).max() <= 1.5


def test_clip_refuses_a_control_of_another_size():
    rgb = passes().rgb
    with pytest.raises(InputError, match=r"control 'edge'.*\(3, 32, 48, 3\).*\(2, 32, 48, 3\)"):
        ControlClip(rgb, {"edge": rgb[:2]}, {"edge": 1.0})


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (0.0, r"weight of 'edge': expected a number in \(0, 1\], got 0.0"),
        (1.5, "weight of 'edge'"),
        (np.zeros((3, 32, 48), np.float32), "weight map of 'edge'.*not all 0"),
        (np.full((3, 32, 48), 2.0, np.float32), r"weight map of 'edge'.*got \[2, 2\]"),
        (np.full((3, 32, 48), np.nan, np.float32), "weight map of 'edge'"),
        (np.ones((3, 32, 47), np.float32), r"weight map of 'edge'.*\(3, 32, 48\).*\(3, 32, 47\)"),
    ],
)
def test_clip_refuses_a_weight(weight, message):
    rgb = passes().rgb
    with pytest.raises(InputError, match=message):
        ControlClip(rgb, {"edge": rgb}, {"edge": weight})


def test_clip_refuses_a_keep_mask_that_does_not_fit():
    rgb = passes().rgb
    with pytest.raises(InputError, match="keep: expected the frames of rgb"):
        ControlClip(rgb, {"edge": rgb}, {"edge": 1.0}, keep=np.ones((2, 32, 48), bool), keep_steps=1)
    with pytest.raises(InputError, match="keep_steps: expected above 0 with a keep mask"):
        ControlClip(rgb, {"edge": rgb}, {"edge": 1.0}, keep=np.ones((3, 32, 48), bool))
    with pytest.raises(InputError, match="got 3 without one"):
        ControlClip(rgb, {"edge": rgb}, {"edge": 1.0}, keep_steps=3)
