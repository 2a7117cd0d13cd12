"""The benchmark's shifts as Isaac Sim is told them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import default_appearance
from cosmos_engine.sim.shifts import SHIFTS, SINGLE_SHIFTS
from cosmos_engine.sim.strengths import Distractors, ShiftStrengths, Texture
from isaac_ext import arena, franka
from isaac_ext.franka import HAND, FrankaConfig
from isaac_ext.look import SceneLook
from isaac_ext.outside.shifts import GRASP_REACH_M, drawn_look

CONFIG = FrankaConfig()
STRENGTHS = ShiftStrengths()
GROUND = [(-50.0, -50.0, 0.0), (50.0, -50.0, 0.0), (50.0, 50.0, 0.0), (-50.0, 50.0, 0.0)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_look_follows_from_shift_and_seed(shift: str, tmp_path: Path) -> None:
    look, sensor = drawn_look(shift, 4, STRENGTHS, CONFIG, tmp_path)
    assert drawn_look(shift, 4, STRENGTHS, CONFIG, tmp_path) == (look, sensor)
    others = [drawn_look(shift, seed, STRENGTHS, CONFIG, tmp_path) for seed in range(5, 8)]
    assert all((other == (look, sensor)) == (shift == "vanilla") for other in others)


def test_vanilla_changes_nothing(tmp_path: Path) -> None:
    assert drawn_look("vanilla", 4, STRENGTHS, CONFIG, tmp_path) == (SceneLook(), None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shift", SINGLE_SHIFTS)
def test_shift_changes_only_what_it_names(shift: str, tmp_path: Path) -> None:
    look, sensor = drawn_look(shift, 4, STRENGTHS, CONFIG, tmp_path)
    changed = {name for name, value in vars(look).items() if value != getattr(SceneLook(), name)}
    assert changed == {
        "light_intensity": {"light_factor"},
        "light_color": {"light_rgb"},
        "distractors": {"bystanders"},
        "camera_pose": {"camera_move_m", "camera_turn_rad"},
        "camera_noise": set(),
    }.get(shift, {"surfaces"})
    assert (sensor is not None) == (shift == "camera_noise")
    places = {
        "background": {"wall", "floor"},
        "table_texture": {"table"},
        "robot_texture": {"robot"},
        "object_color": {"object"},
    }
    assert set(look.surfaces) == places.get(shift, set())


def test_light_is_as_many_times_brighter_as_on_the_table_top(tmp_path: Path) -> None:
    usual = default_appearance({}).level()
    factors = [drawn_look("light_intensity", seed, STRENGTHS, CONFIG, tmp_path)[0].light_factor for seed in range(40)]
    levels = np.array(factors) * usual
    dim = levels < 1
    assert 5 < dim.sum() < 35
    assert np.all((levels[dim] >= 0.35 - 1e-9) & (levels[dim] <= 0.5 + 1e-9))
    assert np.all((levels[~dim] >= 1.4 - 1e-9) & (levels[~dim] <= 1.8 + 1e-9))


def test_textures_are_files_of_the_drawn_pattern(tmp_path: Path) -> None:
    strengths = replace(STRENGTHS, table_texture=Texture(families=["checker"], scale=[1.0, 1.0]))
    table = drawn_look("table_texture", 0, strengths, CONFIG, tmp_path)[0].surfaces["table"]
    pixels = cv2.imread(table.texture)
    assert pixels.shape == (512, 512, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 2  # a checker has two colours
    assert (pixels[:64, :64] == pixels[0, 0]).all()
    assert (pixels[:64, 64:128] != pixels[0, 0]).any()
    assert (table.tile_m, table.in_world) == (1.0, True)
    robot = drawn_look("robot_texture", 0, STRENGTHS, CONFIG, tmp_path)[0].surfaces["robot"]
    assert not robot.in_world  # it goes along with the links
    assert robot.texture != table.texture
    assert len(list(tmp_path.iterdir())) == 2
    drawn_look("table_texture", 0, strengths, CONFIG, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_plain_surface_needs_no_texture(tmp_path: Path) -> None:
    strengths = replace(STRENGTHS, table_texture=Texture(families=["plain"]))
    look, _ = drawn_look("table_texture", 0, strengths, CONFIG, tmp_path)
    assert look.surfaces["table"].texture == ""
    assert list(tmp_path.iterdir()) == []


def test_object_stays_nearest_to_blue(tmp_path: Path) -> None:
    for seed in range(20):
        red, green, blue = drawn_look("object_color", seed, STRENGTHS, CONFIG, tmp_path)[0].surfaces["object"].rgb
        assert blue > 2 * max(red, green)


@pytest.mark.parametrize("middle", [(0.5, 0.0), (0.4, 0.1)])
def test_distractors_stand_clear_of_the_cube_and_the_fingers(middle: tuple[float, float], tmp_path: Path) -> None:
    x_m, y_m = middle
    config = replace(CONFIG, cube_x_m=[x_m - 0.1, x_m + 0.1], cube_y_m=[y_m - 0.2, y_m + 0.2])
    for seed in range(40):
        look, _ = drawn_look("distractors", seed, STRENGTHS, config, tmp_path)
        assert 2 <= len(look.bystanders) <= 4
        for seen in look.bystanders:
            assert seen.position_m[2] == seen.size_m[2] / 2  # on the ground
            reach_m = np.hypot(*seen.size_m[:2]) / 2 if seen.shape == "box" else seen.size_m[0] / 2
            away_m = [
                max(limits[0] - at_m, at_m - limits[1]) - reach_m
                for limits, at_m in zip((config.cube_x_m, config.cube_y_m), seen.position_m, strict=False)
            ]
            assert max(away_m) >= GRASP_REACH_M - 1e-6


def front_camera() -> tuple[np.ndarray, float]:
    """Return the front camera's pose (USD: it looks along its own -z) and the tangent of half its angle of view."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.Xform.Define(stage, HAND)
    franka._add_cameras(stage)
    prim = stage.GetPrimAtPath(franka.FRONT)
    lens = UsdGeom.Camera(prim)
    half = lens.GetHorizontalApertureAttr().Get() / lens.GetFocalLengthAttr().Get() / 2
    return np.array(UsdGeom.XformCache().GetLocalToWorldTransform(prim)).T, float(half)


def test_floor_and_walls_are_behind_the_scene_in_the_front_camera() -> None:
    """By rays: what of the picture is wall, floor, and still the ground that the cube lies on."""
    pytest.importorskip("pxr")
    pose, half = front_camera()
    x, y = np.meshgrid(np.linspace(-half, half, 64), np.linspace(half, -half, 64))
    rays = np.stack([x, y, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    seen = np.full(x.shape, "sky  ")
    nearest = np.full(x.shape, np.inf)
    for name, quads in (("wall", arena._wall_quads()), ("floor", arena._floor_quads()), ("table", [GROUND])):
        for quad in quads:
            corners = np.array(quad)
            normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
            along = ((corners[0] - pose[:3, 3]) @ normal) / (rays @ normal)
            hit = pose[:3, 3] + along[..., None] * rays
            low, high = corners.min(axis=0) - 1e-6, corners.max(axis=0) + 1e-6
            shown = (along > 0) & (along < nearest) & ((hit >= low) & (hit <= high)).all(axis=-1)
            nearest[shown], seen[shown] = along[shown], name
    share = {name: float((seen == name).mean()) for name in ("wall", "floor", "table", "sky  ")}
    assert share["wall"] > 0.1
    assert share["floor"] > 0.1
    assert share["table"] > 0.5
    assert share["sky  "] == 0.0


def test_most_distractors_are_in_the_front_camera(tmp_path: Path) -> None:
    pytest.importorskip("pxr")
    pose, half = front_camera()
    inside = []
    for seed in range(40):
        for seen in drawn_look("distractors", seed, STRENGTHS, CONFIG, tmp_path)[0].bystanders:
            x, y, z = (np.linalg.inv(pose) @ [*seen.position_m, 1.0])[:3]
            inside.append(max(abs(x), abs(y)) / -z < half)
    assert np.mean(inside) > 0.9


def test_cube_that_starts_where_distractors_stand_is_refused(tmp_path: Path) -> None:
    config = replace(CONFIG, cube_y_m=[-0.3, 0.3])
    with pytest.raises(InputError, match=r"shift 'distractors': demos.cube_y_m \[-0.3, 0.3\] leaves them no room"):
        drawn_look("distractors", 0, STRENGTHS, config, tmp_path)
    drawn_look("table_texture", 0, STRENGTHS, config, tmp_path)


def test_strengths_are_those_that_were_asked_for(tmp_path: Path) -> None:
    strengths = replace(STRENGTHS, distractors=Distractors(count=[6, 6], size_cm=[1.0, 2.0], height_cm=[1.0, 2.0]))
    look, _ = drawn_look("distractors", 0, strengths, CONFIG, tmp_path)
    assert len(look.bystanders) == 6
    assert all(max(seen.size_m) <= 0.02 for seen in look.bystanders)


def test_unknown_shift_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shift 'light_colour': unknown; did you mean 'light_color'"):
        drawn_look("light_colour", 0, STRENGTHS, CONFIG, tmp_path)
