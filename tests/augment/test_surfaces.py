import numpy as np
import pytest

from cosmos_engine.augment.surfaces import SKY_FACE, TEXTURE_M, find_surfaces, laid, texture_levels
from cosmos_engine.data import CameraPasses
from cosmos_engine.errors import InputError
from cosmos_engine.sim.textures import flat_texture

from .plane import FOCAL_PX, INTRINSICS_PX, SIZE, grey, looking_down, rays, table_passes

MIDDLE = slice(8, -8)


def texture(size: int = 64) -> np.ndarray:
    return flat_texture("noise", (1.0, 0.2, 0.1), (0.1, 0.3, 1.0), scale=1.0, seed=2, size=size)


def test_a_level_surface_is_laid_by_its_place_in_the_world():
    passes = table_passes(np.array([looking_down(0.3, -0.2, 0.8, tilt_rad=0.5, turn_rad=1.0)]), grey(1))
    surfaces = find_surfaces(passes)
    pose = passes.world_from_camera[0]
    points = (rays() * passes.depth_m[0][..., None]) @ pose[:3, :3].T + pose[:3, 3]
    assert (surfaces.face == 2).all()
    np.testing.assert_allclose(surfaces.uv_m[0], points[..., :2], atol=1e-5)


def test_a_footprint_is_what_a_pixel_covers():
    level = find_surfaces(table_passes(np.array([looking_down(0, 0, 0.8)]), grey(1)))
    straight_down = level.footprint_m[0, SIZE // 2, SIZE // 2]
    assert straight_down == pytest.approx(0.8 / FOCAL_PX, rel=0.01)
    slanted = find_surfaces(table_passes(np.array([looking_down(0, 0, 0.8, tilt_rad=0.9)]), grey(1)))
    assert slanted.footprint_m[0, SIZE // 2, SIZE // 2] > 1.5 * straight_down


def test_walls_face_sideways_up_to_their_edge_with_the_table():
    """A camera looks along +x at a wall at x = 2, over a table at z = 0 of the same instance."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[:3, 3] = (0, 0, 0.5)
    directions = rays() @ pose[:3, :3].T
    to_wall = 2 / directions[..., 0]
    to_table = np.where(directions[..., 2] < 0, -0.5 / np.minimum(directions[..., 2], -1e-9), np.inf)
    depth = np.minimum(to_wall, to_table).astype(np.float32)[None]
    passes = CameraPasses(grey(1), depth, np.ones(depth.shape, np.uint16), INTRINSICS_PX, pose[None])
    face = find_surfaces(passes).face[0]
    is_table = to_table < to_wall
    assert is_table.any()
    at_edge = is_table[:-1] != is_table[1:]
    unsure = np.zeros_like(is_table)
    unsure[:-1] |= at_edge
    unsure[1:] |= at_edge
    assert (face[is_table & ~unsure] == 2).all()
    assert (face[~is_table & ~unsure] == 0).all()


def test_the_same_place_has_the_same_cell_in_every_frame():
    poses = np.array([looking_down(x, 0.1, 0.8) for x in (0.0, 0.1)])
    surfaces = find_surfaces(table_passes(poses, grey(2)))
    assert not surfaces.static
    shift = round(0.1 / 0.8 * FOCAL_PX)
    same = surfaces.cell[0][:, shift:] == surfaces.cell[1][:, :-shift]
    assert same.mean() > 0.95  # but for points on the border of two cells
    assert len(np.unique(surfaces.cell)) > 0.2 * SIZE * SIZE
    assert find_surfaces(table_passes(poses[[0, 0]], grey(2))).static


def test_the_sky_is_laid_by_direction():
    horizon = looking_down(0.0, 0.0, 1.0, tilt_rad=-np.pi / 2 - 0.2)
    turned, moved = horizon.copy(), horizon.copy()
    moved[:3, 3] += (0.4, 0.3, 0.2)
    passes = table_passes(np.array([horizon, turned, moved]), grey(3))
    sky = np.isinf(passes.depth_m[0])
    assert sky.any()
    surfaces = find_surfaces(passes)
    assert (surfaces.face[0][sky] == SKY_FACE).all()
    both = sky & np.isinf(passes.depth_m[2])
    np.testing.assert_allclose(surfaces.uv_m[0][both], surfaces.uv_m[2][both], atol=1e-6)
    assert np.isfinite(surfaces.uv_m).all()
    assert np.isfinite(surfaces.footprint_m).all()


def test_a_laid_texture_is_the_texture_at_texel_centres_and_repeats():
    texels = texture()
    size = len(texels)
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size * TEXTURE_M
    uv = np.stack(np.meshgrid(centres, centres), -1).astype(np.float32)
    fine = np.full((size, size), 1e-4, np.float32)
    levels = texture_levels(texels)
    np.testing.assert_allclose(laid(levels, uv, fine), texels, atol=1.0)
    np.testing.assert_allclose(laid(levels, uv - 3 * TEXTURE_M, fine), texels, atol=2.0)


def test_interpolation_wraps_around():
    texels = np.zeros((8, 8, 3), np.uint8)
    texels[:, 0] = 200
    uv = np.zeros((1, 1, 2), np.float32)  # between the last column and the first
    assert laid(texture_levels(texels), uv, np.full((1, 1), 1e-4, np.float32))[0, 0, 0] == pytest.approx(100, abs=4)


def test_a_far_texture_is_its_mean():
    texels = texture()
    seen = laid(texture_levels(texels), np.zeros((2, 2, 2), np.float32), np.full((2, 2), 5.0, np.float32))
    np.testing.assert_allclose(seen[0, 0], texels.mean(axis=(0, 1)), atol=0.5)


def test_cameras_that_are_no_pinholes_are_one_line():
    passes = table_passes(np.array([looking_down(0, 0, 0.8)]), grey(1))
    flat = CameraPasses(passes.rgb, passes.depth_m, passes.instance, np.zeros((3, 3)), passes.world_from_camera)
    with pytest.raises(InputError, match="intrinsics_px"):
        find_surfaces(flat)
    lost = CameraPasses(passes.rgb, passes.depth_m, passes.instance, INTRINSICS_PX, passes.world_from_camera * np.nan)
    with pytest.raises(InputError, match="world_from_camera"):
        find_surfaces(lost)
