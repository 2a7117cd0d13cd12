"""Render passes against analytic truth, and looks that depend on nothing but the appearance."""

import dataclasses
import itertools
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import Appearance, Light, Material, default_appearance, sample_appearance
from cosmos_engine.sim.renderer import FLAT_TEXTURE_M, Renderer

SPHERE_CENTRE_M, SPHERE_RADIUS_M = np.array([0.1, -0.15, 0.3]), 0.08
BOX_CENTRE_M, BOX_HALF_M = np.array([-0.1, 0.15, 0.1]), 0.1
TABLE_CENTRE_M, TABLE_HALF_M = np.array([0, 0, -0.05]), np.array([0.6, 0.6, 0.05])
OBJECT_COLORS = {"ball": "red", "box": "green"}
INSTANCES = {"table": 7, "ball": 300, "box": 2}
HEIGHT, WIDTH = 96, 128
SQRT_HALF = np.sqrt(0.5)


def _surface_xml(name, kind, size):
    return f"""<texture name="{name}" type="{kind}" builtin="flat" width="{size}" height="{size}"/>
        <material name="{name}" texture="{name}"/>"""


SCENE = f"""
<mujoco>
  <visual><map znear="0.01" zfar="20"/></visual>
  <statistic center="0 0 0" extent="1"/>
  <asset>
    {"".join(_surface_xml(name, "2d", 64) for name in ("table", "wall", "floor"))}
    {"".join(_surface_xml(name, "cube", 32) for name in ("robot", "robot_dark", "ball", "box"))}
  </asset>
  <worldbody>
    {"".join(f'<light name="light{i}" type="directional" pos="0 0 3" dir="0 0 -1"/>' for i in range(3))}
    <camera name="down" pos="0 0 1" fovy="60"/>
    <camera name="tilted" pos="0 -1 1" xyaxes="1 0 0 0 {SQRT_HALF} {SQRT_HALF}" fovy="50"/>
    <camera name="rolled" pos="0.7 -0.5 0.9" xyaxes="0.3 0.9 0.1 -0.7 0.1 0.6" fovy="55"/>
    <geom name="table" type="box" size="0.6 0.6 0.05" pos="0 0 -0.05" material="table"/>
    <geom name="ball" type="sphere" size="{SPHERE_RADIUS_M}" pos="0.1 -0.15 0.3" material="ball"/>
    <geom name="box" type="box" size="{BOX_HALF_M} {BOX_HALF_M} {BOX_HALF_M}" pos="-0.1 0.15 0.1" material="box"/>
  </worldbody>
</mujoco>"""


class Stage:
    """A model, its data, the instance of every geom, and a renderer."""

    def __init__(self, xml=SCENE):
        self.model = mujoco.MjModel.from_xml_string(xml)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        names = [self.model.geom(index).name for index in range(self.model.ngeom)]
        self.instances = np.array([INSTANCES[name] for name in names], dtype=np.uint16)
        self.renderer = Renderer(self.model, height=HEIGHT, width=WIDTH)

    def frame(self, appearance, camera="tilted"):
        self.renderer.set_appearance(appearance)
        return self.renderer.render(self.data, camera, self.instances)


@pytest.fixture(scope="module")
def stage():
    stage = Stage()
    yield stage
    stage.renderer.close()


def _look(**changes) -> Appearance:
    return dataclasses.replace(default_appearance(OBJECT_COLORS), **changes)


def _sampled(seed):
    return sample_appearance(np.random.default_rng(seed), OBJECT_COLORS)


def _points_world_m(frame, mask):
    """Unproject the pixels of a mask by their depths: (n, 3)."""
    rows, columns = np.nonzero(mask)
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(frame.intrinsics_px).T
    points_camera_m = rays * frame.depth_m[mask][:, None]
    return points_camera_m @ frame.world_from_camera[:3, :3].T + frame.world_from_camera[:3, 3]


def _pixel(frame, point_world_m):
    """Project a world point: (column, row, depth along the optical axis)."""
    x, y, z = np.linalg.inv(frame.world_from_camera) @ [*point_world_m, 1.0] @ np.eye(4)[:, :3]
    column, row, _ = frame.intrinsics_px @ [x / z, y / z, 1]
    return column, row, z


def test_depth_of_a_plane_seen_head_on_is_its_distance(stage):
    frame = stage.frame(_look(), "down")
    table = frame.instance == INSTANCES["table"]
    assert table.any()
    np.testing.assert_allclose(frame.depth_m[table], 1.0, atol=1e-5)


def test_depth_of_a_sphere_is_where_its_rays_enter_it(stage):
    frame = stage.frame(_look(), "rolled")
    ball = frame.instance == INSTANCES["ball"]
    origin = frame.world_from_camera[:3, 3]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(frame.intrinsics_px).T
    rays = rays @ frame.world_from_camera[:3, :3].T
    # |origin + depth ray - centre| = radius, the nearer root.
    a, b = (rays**2).sum(-1), rays @ (origin - SPHERE_CENTRE_M)
    discriminant = b**2 - a * (((origin - SPHERE_CENTRE_M) ** 2).sum() - SPHERE_RADIUS_M**2)
    depth_m = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    # The renderer's sphere is a polyhedron: it cuts inside by millimetres, and ends earlier at the silhouette.
    inside = discriminant > 0.2 * discriminant.max()
    assert inside.sum() > 100
    assert ball[inside].all()
    assert not ball[discriminant < 0].any()
    np.testing.assert_allclose(frame.depth_m[inside], depth_m[inside], atol=5e-3)


@pytest.mark.parametrize("camera", ["down", "tilted", "rolled"])
def test_unprojected_pixels_lie_on_the_surface_that_their_id_names(stage, camera):
    frame = stage.frame(_look(), camera)
    boxes = {"box": (BOX_CENTRE_M, BOX_HALF_M), "table": (TABLE_CENTRE_M, TABLE_HALF_M)}
    for name, (centre_m, half_m) in boxes.items():
        points_m = _points_world_m(frame, frame.instance == INSTANCES[name])
        assert len(points_m) > 100
        outside_m = (np.abs(points_m - centre_m) - half_m).max(axis=-1)  # 0 on the surface of a box
        np.testing.assert_allclose(outside_m, 0, atol=1e-4)


@pytest.mark.parametrize("camera", ["down", "tilted", "rolled"])
def test_known_point_projects_to_the_pixel_with_its_depth_and_id(stage, camera):
    frame = stage.frame(_look(), camera)
    column, row, depth_m = _pixel(
        frame, BOX_CENTRE_M + np.array([0, 0, BOX_HALF_M])
    )  # the middle of the box's upper face
    row, column = round(row), round(column)
    assert frame.instance[row, column] == INSTANCES["box"]
    assert frame.depth_m[row, column] == pytest.approx(depth_m, abs=0.02)  # half a pixel of a slanted face


def test_outline_of_a_box_falls_between_the_pixels_that_its_corners_project_to(stage):
    frame = stage.frame(_look(), "down")
    corners = [_pixel(frame, BOX_CENTRE_M + BOX_HALF_M * np.array(c)) for c in itertools.product((-1, 1), repeat=3)]
    columns, rows, _ = np.array(corners).T
    seen_rows, seen_columns = np.nonzero(frame.instance == INSTANCES["box"])
    # A pixel belongs to the box when its centre, at whole coordinates, lies inside.
    assert (seen_rows.min(), seen_rows.max()) == (np.ceil(rows.min()), np.floor(rows.max()))
    assert (seen_columns.min(), seen_columns.max()) == (np.ceil(columns.min()), np.floor(columns.max()))


def test_nothing_hit_is_infinitely_far_and_has_id_zero(stage):
    frame = stage.frame(_look(), "tilted")
    assert (np.isinf(frame.depth_m) == (frame.instance == 0)).all()
    assert (frame.instance == 0).any()


def test_first_row_is_the_upper_one(stage):
    frame = stage.frame(_look(), "tilted")
    assert (frame.instance[0] == 0).all()
    assert (frame.instance[-1] == INSTANCES["table"]).any()


def test_ids_are_never_blended(stage):
    for camera in ("down", "tilted", "rolled"):
        assert set(np.unique(stage.frame(_look(), camera).instance)) <= {0, *INSTANCES.values()}


def test_geometry_passes_do_not_depend_on_the_look(stage):
    plain = stage.frame(_look(), "rolled")
    for seed in range(5):
        other = stage.frame(_sampled(seed), "rolled")
        assert (other.rgb != plain.rgb).mean() > 0.2
        np.testing.assert_array_equal(other.depth_m, plain.depth_m)
        np.testing.assert_array_equal(other.instance, plain.instance)


def test_same_look_gives_the_same_pixels_whatever_was_set_before(stage):
    fresh = Stage()
    looks = [_look(), _sampled(1), _sampled(2), _look(lights=(Light(shadows=False),), ambient=0.1)]
    with fresh.renderer:
        expected = [fresh.frame(look).rgb for look in looks]
    for index in (3, 0, 2, 2, 1, 0, 3, 1):
        np.testing.assert_array_equal(stage.frame(looks[index]).rgb, expected[index])


def test_two_renderers_at_once_do_not_disturb_each_other(stage):
    expected = stage.frame(_sampled(3)).rgb
    other = Stage()
    with other.renderer:
        other.frame(_sampled(4))
        stage.renderer.set_appearance(_sampled(3))
        other.renderer.rgb(other.data, "down")
        np.testing.assert_array_equal(stage.renderer.rgb(stage.data, "tilted"), expected)


def test_color_only_path_gives_the_pixels_of_the_full_one(stage):
    frame = stage.frame(_sampled(5))
    np.testing.assert_array_equal(stage.renderer.rgb(stage.data, "tilted"), frame.rgb)


def test_surfaces_show_their_named_colors(stage):
    white_light = Light((0.0, 0.0, -1.0), 6600.0, 0.5, shadows=False)
    look = _look(table=Material("plain", "blue", "blue", specular=0.0), lights=(white_light,), ambient=0.5)
    frame = stage.frame(look, "down")
    rgb = frame.rgb[frame.instance == INSTANCES["table"]] / 255
    np.testing.assert_allclose(np.median(rgb, axis=0), look.table.colors()[0], atol=0.02)


def test_shadows_only_darken_and_fall_along_the_light(stage):
    light = Light((0.5, 0.3, -1.0), 6500.0, 0.5, shadows=True)
    hard = stage.frame(_look(lights=(light,), ambient=0.3)).rgb.astype(int)
    soft = stage.frame(_look(lights=(dataclasses.replace(light, shadows=False),), ambient=0.3)).rgb.astype(int)
    assert (hard <= soft + 1).all()
    frame = stage.frame(_look(), "tilted")
    shadow_m = SPHERE_CENTRE_M + SPHERE_CENTRE_M[2] * np.array(light.direction)  # where the ball's shadow meets z = 0
    column, row, _ = _pixel(frame, shadow_m)
    assert frame.instance[round(row), round(column)] == INSTANCES["table"]
    assert (hard[round(row), round(column)] < 0.7 * soft[round(row), round(column)]).all()


def test_warm_light_is_redder_than_cool_light(stage):
    def redness(temperature_k):
        rgb = stage.frame(_look(lights=(Light(temperature_k=temperature_k),))).rgb
        return rgb[..., 0].mean() / rgb[..., 2].mean()

    assert redness(2800.0) > 1.3 * redness(10000.0)


def test_flat_textures_repeat_by_length(stage):
    frame = stage.frame(_look(table=Material("checker", "black", "white", scale=0.5)), "down")
    row = HEIGHT - 6  # of the table only: the objects lie higher up
    bright = frame.rgb[row, frame.instance[row] == INSTANCES["table"], 0] > 90
    borders = np.flatnonzero(bright[1:] != bright[:-1])
    square_m = np.diff(borders).mean() / frame.intrinsics_px[0, 0] * frame.depth_m[row, WIDTH // 2]
    assert square_m == pytest.approx(FLAT_TEXTURE_M / 4, abs=0.02)  # four squares of a checker at half scale


def test_focal_length_follows_the_field_of_view(stage):
    intrinsics_px = stage.frame(_look(), "down").intrinsics_px
    focal_px = HEIGHT / 2 / np.tan(np.deg2rad(30))
    expected = [[focal_px, 0, (WIDTH - 1) / 2], [0, focal_px, (HEIGHT - 1) / 2], [0, 0, 1]]
    np.testing.assert_allclose(intrinsics_px, expected)


def test_unknown_camera_is_answered_with_the_nearest(stage):
    with pytest.raises(InputError, match=r"camera 'titled'.*did you mean 'tilted'"):
        stage.renderer.rgb(stage.data, "titled")


def test_look_of_objects_that_the_model_lacks_is_refused(stage):
    with pytest.raises(ValueError, match="named 'banana'"):
        stage.renderer.set_appearance(default_appearance({"banana": "yellow"}))


def test_closing_twice_is_harmless():
    renderer = Renderer(mujoco.MjModel.from_xml_string(SCENE), height=8, width=8)
    renderer.close()
    renderer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is used on Linux")
def test_missing_opengl_names_what_to_install():
    program = (
        "import mujoco; from cosmos_engine.sim.renderer import Renderer\n"
        "Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), height=8, width=8)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    environment["__EGL_VENDOR_LIBRARY_FILENAMES"] = "/nowhere.json"  # glvnd then finds no driver
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    message = done.stderr.strip().splitlines()[-1]
    assert "InputError: rendering: no off-screen OpenGL" in message
    assert "libegl1" in message
    assert "libgl1-mesa-dri" in message
    assert "MUJOCO_GL=egl" in message
