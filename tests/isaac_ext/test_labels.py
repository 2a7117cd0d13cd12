"""Every form of segmentation output becomes the same instance ids and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from isaac_ext.labels import InstanceIds, PrimLabel, parse_labels, pixel_ids

prim_paths = st.lists(st.from_regex(r"/World/[a-z]{1,8}(_[0-9]{1,2})?", fullmatch=True), unique=True, max_size=6)
raw_ids = st.lists(st.integers(1, 2**32 - 1), unique=True, min_size=6, max_size=6)


def channels(pixel_id: int) -> tuple[int, ...]:
    return tuple(pixel_id.to_bytes(4, "little"))


# How each annotator setting writes one id as a key, and the pixels of an id image.
KEY_FORMS: dict[str, Any] = {
    "number": lambda pixel_id: pixel_id,
    "text": str,
    "signed": lambda pixel_id: pixel_id - 2**32 if pixel_id >= 2**31 else pixel_id,
    "rgba text": lambda pixel_id: str(channels(pixel_id)),
    "rgba tuple": channels,
}
PIXEL_FORMS: dict[str, Any] = {
    "uint32": lambda ids: ids,
    "int32": lambda ids: ids.view(np.int32),
    "with channel": lambda ids: ids[..., None],
    "rgba": lambda ids: ids[..., None].view(np.uint8),
}


def test_packed_rgba_key_is_the_signed_id_that_rtx_returns() -> None:
    labels = parse_labels({"idToLabels": {"(33, 243, 3, 255)": {"class": "cube"}}})
    assert labels == {-16518367 % 2**32: PrimLabel("cube", "cube")}
    assert pixel_ids(np.array([[-16518367]], np.int32))[0, 0] in labels


def test_semantic_segmentation_is_read() -> None:
    info = {"idToLabels": {"0": {"class": "BACKGROUND"}, "1": {"class": "UNLABELLED"}, "2": {"class": "cube"}}}
    assert parse_labels(info) == {2: PrimLabel("cube", "cube")}


def test_instance_segmentation_is_read_with_its_semantics() -> None:
    info = {
        "idToLabels": {0: "BACKGROUND", 1: "UNLABELLED", 2: "/World/Cone", 4: "/World/Cube", 5: "INVALID"},
        "idToSemantics": {
            0: {"class": "BACKGROUND"},
            1: {"class": "UNLABELLED"},
            2: {"class": "rectangle, cone"},
            4: {"shape": "boxy", "prim": "cube"},
        },
    }
    assert parse_labels(info) == {
        2: PrimLabel("/World/Cone", "rectangle, cone"),
        4: PrimLabel("/World/Cube", "prim=cube,shape=boxy"),
    }


def test_instance_id_segmentation_has_no_classes() -> None:
    assert parse_labels({"idToLabels": {7: "/World/a"}}) == {7: PrimLabel("/World/a", "")}


@given(
    names=prim_paths,
    ids=raw_ids,
    key_form=st.sampled_from(sorted(KEY_FORMS)),
    pixel_form=st.sampled_from(sorted(PIXEL_FORMS)),
)
def test_every_form_gives_the_same_instances(names: list[str], ids: list[int], key_form: str, pixel_form: str) -> None:
    key = KEY_FORMS[key_form]
    info = {
        "idToLabels": {key(0): "BACKGROUND", **{key(i): name for i, name in zip(ids, names, strict=False)}},
        "idToSemantics": {key(i): {"class": name[7:]} for i, name in zip(ids, names, strict=False)},
    }
    used = ids[: len(names)]
    image = np.array([[0, *used], [*used, 0]], np.uint32)
    instances = InstanceIds()
    instance = instances.frame(PIXEL_FORMS[pixel_form](image), info)
    by_name = {label.name: (instance_id, label.class_name) for instance_id, label in instances.labels.items()}
    assert sorted(by_name) == sorted(names)
    assert sorted(instance_id for instance_id, _ in by_name.values()) == list(range(1, len(names) + 1))
    for pixel_id, name in zip(used, names, strict=True):
        assert set(instance[image == pixel_id]) == {by_name[name][0]}
        assert by_name[name][1] == name[7:]
    assert not instance[image == 0].any()


@given(first=raw_ids, second=raw_ids)
def test_instances_keep_their_id_when_the_renderer_renumbers(first: list[int], second: list[int]) -> None:
    names = [f"/World/part_{index}" for index in range(6)]
    instances = InstanceIds()
    frames = [
        instances.frame(np.array([ids], np.uint32), {"idToLabels": dict(zip(ids, names, strict=True))})
        for ids in (first, second)
    ]
    np.testing.assert_array_equal(frames[0], frames[1])


def test_a_prim_out_of_view_keeps_its_id() -> None:
    instances = InstanceIds()
    instances.frame(np.array([[2, 3]], np.uint32), {"idToLabels": {2: "/a", 3: "/b"}})
    later = instances.frame(np.array([[2, 2]], np.uint32), {"idToLabels": {2: "/b"}})
    assert {label.name: instance_id for instance_id, label in instances.labels.items()}["/b"] == later[0, 0]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({}, "no 'idToLabels'"),
        ({"idToLabels": {"cube": "/World/cube"}}, "'cube'"),
        ({"idToLabels": {"(1, 2, 3)": "/World/cube"}}, "expected a 32-bit id"),
        ({"idToLabels": {"(1, 2, 3, 256)": "/World/cube"}}, "0..255"),
        ({"idToLabels": {2**32: "/World/cube"}}, "32-bit"),
        ({"idToLabels": {2: {}}}, "expected a prim path"),
        ({"idToLabels": {2: 7}}, "got 7"),
    ],
)
def test_unreadable_labels_are_named(info: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_labels(info)


def test_a_pixel_without_a_label_is_named() -> None:
    with pytest.raises(InputError, match=r"without a label: \[9\]"):
        InstanceIds().frame(np.array([[2, 9]], np.uint32), {"idToLabels": {2: "/a"}})


def test_a_prim_that_changes_its_class_is_named() -> None:
    instances = InstanceIds()
    info = {"idToLabels": {2: "/a"}, "idToSemantics": {2: {"class": "cube"}}}
    instances.frame(np.array([[2]], np.uint32), info)
    with pytest.raises(InputError, match="had class 'cube' and now has 'ball'"):
        instances.frame(np.array([[2]], np.uint32), info | {"idToSemantics": {2: {"class": "ball"}}})


@pytest.mark.parametrize("data", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 3), np.uint8), np.zeros(4, np.uint32)])
def test_pixels_of_another_shape_or_dtype_are_refused(data: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected \(h, w\) integers"):
        pixel_ids(data)
