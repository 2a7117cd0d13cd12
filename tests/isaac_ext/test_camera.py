"""camera_params become intrinsics and poses that put world points where Isaac Sim draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from isaac_ext.camera import intrinsics_px, world_from_camera


def look_at_view(eye: np.ndarray, target: np.ndarray, roll_rad: float = 0.0) -> np.ndarray:
    """Return a row-vector world -> USD camera matrix (x right, y up, -z forward)."""
    backward = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.13, 0.21, 1.0], backward)
    right /= np.linalg.norm(right)
    up = np.cross(backward, right)
    turned_right = np.cos(roll_rad) * right + np.sin(roll_rad) * up
    turned_up = np.cos(roll_rad) * up - np.sin(roll_rad) * right
    world_from_usd = np.eye(4)
    world_from_usd[:3, :3] = np.stack([turned_right, turned_up, backward], axis=1)
    world_from_usd[:3, 3] = eye
    return np.linalg.inv(world_from_usd).T


def projection(focal: float, aperture: float, size: tuple[int, int], offset: tuple[float, float]) -> np.ndarray:
    """Return a row-vector projection with square pixels and reversed infinite depth, as RTX makes it."""
    width, height = size
    matrix = np.zeros((4, 4))
    matrix[0, 0] = 2.0 * focal / aperture
    matrix[1, 1] = matrix[0, 0] * width / height
    matrix[2, 0], matrix[2, 1] = offset
    matrix[2, 3] = -1.0
    matrix[3, 2] = 0.01
    return matrix


def parameters(**changed: Any) -> dict[str, Any]:
    params = {
        "cameraModel": "pinhole",
        "cameraViewTransform": look_at_view(np.array([2.0, 1.0, 1.5]), np.zeros(3)).reshape(-1),
        "cameraProjection": projection(24.0, 20.955, (1024, 512), (0.0, 0.0)).reshape(-1),
        "renderProductResolution": np.array([1024, 512]),
        "metersPerSceneUnit": 1.0,
    }
    return {key: value for key, value in (params | changed).items() if value is not None}


def test_intrinsics_equal_the_hand_computed_ones() -> None:
    # Focal length 24 over an aperture of 20.955 on 1024 pixels: 24 / 20.955 * 1024 = 1172.7989 px.
    expected = [[1172.7989, 0.0, 511.5], [0.0, 1172.7989, 255.5], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(intrinsics_px(parameters()), expected, atol=1e-4)


def test_projection_equals_the_hand_computed_one() -> None:
    # A camera 5 m above the origin looks straight down, world y up in the image. focal = aperture / 2 gives
    # P00 = 1, so at 200x100 pixels fx = fy = 100. The point (1, 0.5, 1) is 4 m below it:
    # u = 99.5 + 100 * 1 / 4 = 124.5, v = 49.5 - 100 * 0.5 / 4 = 37.
    view = np.eye(4)
    view[3, 2] = -5.0
    params = parameters(
        cameraViewTransform=view,
        cameraProjection=projection(1.0, 2.0, (200, 100), (0.0, 0.0)),
        renderProductResolution=(200, 100),
    )
    in_camera = np.linalg.inv(world_from_camera(params)) @ [1.0, 0.5, 1.0, 1.0]
    np.testing.assert_allclose(in_camera, [1.0, -0.5, 4.0, 1.0])
    pixel = intrinsics_px(params) @ in_camera[:3]
    np.testing.assert_allclose(pixel / pixel[2], [124.5, 37.0, 1.0])


coordinate = st.floats(-3.0, 3.0, allow_nan=False)


@given(
    eye=st.tuples(coordinate, coordinate, st.floats(0.5, 4.0)),
    roll_rad=st.floats(-3.1, 3.1),
    focal=st.floats(5.0, 50.0),
    size=st.tuples(st.integers(16, 2000), st.integers(16, 2000)),
    offset=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    metres_per_unit=st.sampled_from([1.0, 0.01]),
    camera_point=st.tuples(coordinate, coordinate, st.floats(0.1, 5.0)),
)
def test_pixels_agree_with_isaac_sims_clip_space(
    eye: tuple[float, float, float],
    roll_rad: float,
    focal: float,
    size: tuple[int, int],
    offset: tuple[float, float],
    metres_per_unit: float,
    camera_point: tuple[float, float, float],
) -> None:
    view = look_at_view(np.array(eye), np.array([0.1, 0.2, 0.0]), roll_rad)
    clip_from_camera = projection(focal, 20.955, size, offset)
    params = parameters(
        cameraViewTransform=view,
        cameraProjection=clip_from_camera,
        renderProductResolution=np.array(size),
        metersPerSceneUnit=metres_per_unit,
    )
    right, up, depth = camera_point
    usd_point = np.array([right, up, -depth, 1.0])
    world_units = usd_point @ np.linalg.inv(view)
    clip = usd_point @ clip_from_camera
    drawn_px = (clip[:2] / clip[3] * [1.0, -1.0] + 1.0) * np.array(size) / 2.0

    world_m = np.append(world_units[:3] * metres_per_unit, 1.0)
    in_camera_m = np.linalg.inv(world_from_camera(params)) @ world_m
    pixel = intrinsics_px(params) @ in_camera_m[:3]
    np.testing.assert_allclose(pixel[:2] / pixel[2], drawn_px - 0.5, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(in_camera_m[2], depth * metres_per_unit, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cameraProjection": None}, "no 'cameraProjection'"),
        ({"cameraProjection": np.eye(4)}, "row-vector perspective"),
        ({"cameraProjection": projection(24, 21, (4, 4), (0, 0)).T}, "row-vector perspective"),
        ({"cameraProjection": np.full(16, np.nan)}, "16 finite numbers"),
        ({"cameraModel": "fisheyePolynomial"}, "got 'fisheyePolynomial'"),
        ({"renderProductResolution": (0, 512)}, "renderProductResolution"),
    ],
)
def test_no_intrinsics_from_what_is_no_pinhole(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        intrinsics_px(parameters(**changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cameraViewTransform": np.diag([2.0, 2.0, 2.0, 1.0])}, "scaled"),
        ({"cameraViewTransform": np.diag([-1.0, 1.0, 1.0, 1.0])}, "rotation"),
        ({"cameraViewTransform": np.eye(3)}, "16 finite numbers"),
        ({"metersPerSceneUnit": 0.0}, "metersPerSceneUnit"),
        ({"metersPerSceneUnit": None}, "no 'metersPerSceneUnit'"),
    ],
)
def test_no_pose_from_what_is_not_rigid(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        world_from_camera(parameters(**changed))
