"""Clips are embedded at a size that a page can hold, with a still that shows them."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
from PIL import Image

from cosmos_engine.report.clips import LEAST_HEIGHT_PX, MOST_HEIGHT_PX, STILL_HEIGHT_PX, clip_view, shrunk


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


@pytest.mark.parametrize(
    ("size", "shown"),
    [((48, 64), (240, 320)), ((240, 320), (240, 320)), ((720, 1280), (360, 640)), ((1, 9), (224, 2016))],
)
def test_clips_of_any_size_are_shown_at_a_few_hundred_rows(size: tuple[int, int], shown: tuple[int, int]) -> None:
    view = clip_view("wrist", np.zeros((3, *size, 3), np.uint8), 20.0)
    with av.open(io.BytesIO(content(view.video))) as container:
        frames = [(frame.height, frame.width) for frame in container.decode(video=0)]
    assert frames == [shown] * 3
    assert LEAST_HEIGHT_PX <= shown[0] <= MOST_HEIGHT_PX
    assert Image.open(io.BytesIO(content(view.still))).size[1] <= STILL_HEIGHT_PX
    assert view.size == len(view.video) + len(view.still)


def test_the_still_is_the_middle_frame() -> None:
    clip = np.zeros((5, 16, 16, 3), np.uint8)
    clip[2, ..., 0] = 200
    still = np.asarray(Image.open(io.BytesIO(content(clip_view("wrist", clip, 20.0).still))).convert("RGB"))
    assert abs(still.astype(int) - (200, 0, 0)).max() < 12


def test_shrinking_keeps_aspect_and_mean_and_leaves_small_clips_alone(rng: np.random.Generator) -> None:
    clip = rng.integers(0, 255, (2, 40, 80, 3), np.uint8)
    assert shrunk(clip, 40) is clip
    small = shrunk(clip, 10)
    assert small.shape == (2, 10, 20, 3)
    assert abs(small.mean() - clip.mean()) < 1
