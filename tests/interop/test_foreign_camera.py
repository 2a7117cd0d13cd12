"""Depth and segmentation encodings of other projects, against their own formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.interop.foreign_camera import depth_in_metres
from cosmos_engine.interop.import_config import DepthConfig, LabelConfig
from cosmos_engine.interop.segmentation import color_of, colorized, instance_ids, labels_json, read_labels

PINHOLE = np.array([[20.0, 0, 3.5], [0, 20.0, 2.5], [0, 0, 1]])
DEPTH_M = np.random.default_rng(0).uniform(0.2, 1.4, (2, 6, 8))


def decoded(written, **keys) -> np.ndarray:
    return depth_in_metres(np.asarray(written), DepthConfig(**keys), PINHOLE, "here")


def test_millimetres_of_16_bits() -> None:
    written = np.round(DEPTH_M * 1000).astype(np.uint16)
    written[0, 0, 0] = 0
    found = decoded(written, unit_m=0.001)
    assert found[0, 0, 0] == np.inf
    np.testing.assert_allclose(found.ravel()[1:], DEPTH_M.ravel()[1:], atol=6e-4)


def test_z_buffer_as_opengl_makes_it() -> None:
    near, far = 0.01, 5.0
    # OpenGL's projection: window depth = (f + n) / 2(f - n) + 1/2 - f n / ((f - n) z)
    buffer = (far + near) / (2 * (far - near)) + 0.5 - far * near / ((far - near) * DEPTH_M)
    buffer[0, 0, 0] = 1.0
    found = decoded(buffer, encoding="buffer", near_m=near, far_m=far)
    assert found[0, 0, 0] == np.inf
    np.testing.assert_allclose(found.ravel()[1:], DEPTH_M.ravel()[1:], rtol=1e-5)


def test_eight_bits_as_isaac_labs_script_writes_videos() -> None:
    scaled = DEPTH_M / 1.5  # MIN_DEPTH 0, MAX_DEPTH 1.5
    written = ((1.0 - scaled) * 255.0).astype(np.uint8)
    found = decoded(written, encoding="inverted", far_m=1.5)
    np.testing.assert_allclose(found, DEPTH_M, atol=1.5 / 255)


def test_distance_along_rays_becomes_depth_along_the_axis() -> None:
    rows, columns = np.indices((6, 8))
    rays = np.stack([(columns - 3.5) / 20, (rows - 2.5) / 20, np.ones((6, 8))], -1)
    written = DEPTH_M * np.linalg.norm(rays, axis=-1)
    np.testing.assert_allclose(decoded(written, along="ray"), DEPTH_M, rtol=1e-6)


@pytest.mark.parametrize(
    ("written", "keys", "line"),
    [
        (np.array([[[-1.0]]]), {}, "expected depth of 0 and more"),
        (np.array([[[np.nan]]]), {}, "expected depth of 0 and more"),
        (np.array([[[1.5]]]), {"encoding": "buffer"}, r"values within \[0, 1\]"),
    ],
)
def test_impossible_depth_is_refused(written, keys, line) -> None:
    with pytest.raises(InputError, match=line):
        decoded(written, **keys)


@pytest.mark.parametrize("keys", [{"encoding": "log"}, {"along": "x"}, {"unit_m": 0.0}, {"near_m": 2.0, "far_m": 1.0}])
def test_unknown_encodings_are_refused(keys) -> None:
    with pytest.raises(InputError):
        DepthConfig(**keys)


@settings(max_examples=12, deadline=None)
@given(st.sets(st.integers(1, 200), min_size=1, max_size=12), st.integers(0, 2**31))
def test_ids_survive_colours(ids, seed) -> None:
    numbers = sorted(ids)
    rng = np.random.default_rng(seed)
    instance = rng.choice(np.array([0, *numbers], np.uint16), (2, 5, 7)).astype(np.uint16)
    labels = {number: InstanceLabel(f"thing {number}", "thing", "scene") for number in numbers}
    by_id = read_labels(labels_json(labels, {}))
    background = by_id.pop(0)
    gap = LabelConfig(role="background")
    ordered = [by_id.get(number, gap) for number in range(1, max(numbers) + 1)]
    found, kept = instance_ids(colorized(instance, {}), [*ordered, background], "here")
    np.testing.assert_array_equal(found, instance)
    assert {number: kept[number] for number in numbers} == labels


def test_every_id_has_a_colour_of_its_own() -> None:
    numbers = range(0, 1 << 16, 97)
    assert len({color_of(number) for number in numbers}) == len(numbers)


def test_packed_colours_and_plain_ids_are_read() -> None:
    """Isaac Sim's ids can be the colour with red in the lowest byte: (33, 243, 3, 255) is -16518367 as int32."""
    packed = np.full((1, 2, 2, 1), -16518367, np.int32)
    found, labels = instance_ids(packed, [LabelConfig("cube", role="manipulated", color=[33, 243, 3])], "here")
    assert (found == 1).all()
    assert labels[1].role == "manipulated"
    numbers = np.array([[[5, 9]]], np.int64)
    found, labels = instance_ids(
        numbers, [LabelConfig("a", ids=[9]), LabelConfig("b", role="background", ids=[5])], "here"
    )
    np.testing.assert_array_equal(found, [[[0, 1]]])
    assert list(labels) == [1]


def test_unknown_number_is_named() -> None:
    with pytest.raises(InputError, match=r"no label has id 7 \(2 pixels\); add .* ids: \[7\]"):
        instance_ids(np.full((1, 1, 2), 7, np.uint32), [LabelConfig("a", ids=[1])], "here")
