import dataclasses

import numpy as np
import pytest

from cosmos_engine.data import CameraPasses
from cosmos_engine.quality.clip_geometry import ClipGeometry, reduced

from .conftest import LABELS, scene


def large(height: int = 256, width: int = 320) -> CameraPasses:
    """A tilted plane and a box, larger than what is judged."""
    rows, columns = np.mgrid[:height, :width]
    instance = np.full((2, height, width), 3, np.uint16)
    instance[:, 64:128, 80:160] = 6
    depth = np.tile((1.0 + rows / height).astype(np.float32), (2, 1, 1))
    rgb = np.repeat(np.stack([rows % 256, columns % 256, rows * 0], -1)[None].astype(np.uint8), 2, 0)
    intrinsics = np.array([[300.0, 0, (width - 1) / 2], [0, 300.0, (height - 1) / 2], [0, 0, 1]])
    return CameraPasses(rgb, depth, instance, intrinsics, np.tile(np.eye(4), (2, 1, 1)))


def test_small_frames_are_judged_as_they_are(passes):
    assert reduced(passes) is passes
    clip = ClipGeometry(passes, LABELS)
    assert clip.judged(passes.rgb) is passes.rgb
    assert clip.px == pytest.approx(48 / 128)


def test_large_frames_are_judged_128_high_with_the_same_geometry():
    passes = large()
    small = reduced(passes)
    assert small.size == (128, 160)
    assert (small.instance == 6).sum() * 4 == (passes.instance == 6).sum()
    np.testing.assert_allclose(small.depth_m, passes.depth_m[:, ::2, ::2], atol=0.006)
    # The same ray: the middle of the frame, and the corner of the box at rows 63 | 64, columns 79 | 80.
    for old, new in (((159.5, 127.5), (79.5, 63.5)), ((79.5, 63.5), (39.5, 31.5))):
        rays = [np.linalg.inv(one.intrinsics_px) @ (*at, 1.0) for one, at in ((passes, old), (small, new))]
        np.testing.assert_allclose(*rays, atol=1e-12)


def test_thresholds_are_in_pixels_of_a_frame_128_high():
    clip = ClipGeometry(large(), LABELS)
    assert clip.px == 1
    assert clip.judged(large().rgb).shape == (2, 128, 160, 3)


def test_a_camera_is_fixed_until_it_moves_a_millimetre():
    passes = scene(3)
    poses = passes.world_from_camera.copy()
    poses[2, 0, 3] = 5e-4
    assert ClipGeometry(dataclasses.replace(passes, world_from_camera=poses), LABELS).is_fixed
    poses[2, 0, 3] = 5e-3
    assert not ClipGeometry(dataclasses.replace(passes, world_from_camera=poses), LABELS).is_fixed


def test_masks_and_roles_are_those_of_the_labels(passes):
    clip = ClipGeometry(passes, LABELS)
    assert (clip.masks["manipulated"] == (passes.instance >= 6)).all()
    assert (clip.masks["robot"] == (passes.instance == 1)).all()
    assert [int((clip.roles == index).sum()) for index in range(3)] == [
        int(clip.masks["robot"].sum()),
        int(clip.masks["manipulated"].sum()),
        int((passes.instance == 3).sum()),
    ]
    assert clip.scene_ids == [0, 3]
    assert clip.beside[clip.masks["robot"]].all()
    assert not clip.swept.any()
