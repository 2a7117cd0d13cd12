import numpy as np

from cosmos_engine.augment.shading import luma, surface_shading
from cosmos_engine.augment.surfaces import find_surfaces

from .plane import SIZE, looking_down, table_passes

FRAMES = 8


def pattern(uv_m: np.ndarray) -> np.ndarray:
    """Return the brightness of fine tiles on the table, 90 or 180, by place in the world."""
    return np.where((np.floor(uv_m / 0.05).sum(-1) % 2) > 0, 180.0, 90.0)


def shadow(frame: int) -> np.ndarray:
    """Return a shadow of half the light that moves to the right."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:40, 4 + 6 * frame : 16 + 6 * frame] = True
    return mask


def shaded(moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the shading that was found on a patterned table under a moving shadow, and where the shadow was."""
    poses = np.array([looking_down(0.02 * index * moving, 0.0, 0.8) for index in range(FRAMES)])
    places = find_surfaces(table_passes(poses, np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))).uv_m
    shadows = np.stack([shadow(frame) for frame in range(FRAMES)])
    brightness = pattern(places) * np.where(shadows, 0.5, 1.0)
    passes = table_passes(poses, np.repeat(np.rint(brightness).astype(np.uint8)[..., None], 3, -1))
    mask = np.ones(brightness.shape, bool)
    return surface_shading(luma(passes.rgb), passes.instance, find_surfaces(passes), mask), shadows


def test_shadows_stay_and_the_pattern_goes_under_a_static_camera():
    shading, shadows = shaded(moving=False)
    inside, outside = shading[shadows], shading[~shadows]
    assert abs(np.median(outside) - 1) < 0.05
    assert abs(np.median(inside) / np.median(outside) - 0.5) < 0.05
    assert outside.std() < 0.06  # of a pattern whose own deviation is a third of its mean


def test_shadows_stay_and_the_pattern_goes_under_a_moving_camera():
    shading, shadows = shaded(moving=True)
    inside, outside = shading[shadows], shading[~shadows]
    assert abs(np.median(inside) / np.median(outside) - 0.5) < 0.1
    assert outside.std() < 0.15


def test_a_surface_too_dark_to_tell_has_no_shading():
    passes = table_passes(np.array([looking_down(0, 0, 0.8)] * 2), np.zeros((2, SIZE, SIZE, 3), np.uint8))
    shading = surface_shading(luma(passes.rgb), passes.instance, find_surfaces(passes), np.ones((2, SIZE, SIZE), bool))
    np.testing.assert_allclose(shading, 1, atol=1e-6)


def test_no_shading_crosses_from_one_instance_to_another():
    rgb = np.full((1, SIZE, SIZE, 3), 40, np.uint8)
    rgb[:, :, 32:] = 200
    instance = np.ones((1, SIZE, SIZE), np.uint16)
    instance[:, :, 32:] = 2
    passes = table_passes(np.array([looking_down(0, 0, 0.8)]), rgb, instance)
    shading = surface_shading(luma(rgb), passes.instance, find_surfaces(passes), np.ones((1, SIZE, SIZE), bool))
    np.testing.assert_allclose(shading, 1, atol=1e-4)
