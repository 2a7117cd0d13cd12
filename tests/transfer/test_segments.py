from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.segments import (
    conditional_latent_frames,
    join_segments,
    latent_frames,
    plan_segments,
)


@settings(max_examples=300, deadline=None)
@given(frames=st.integers(1, 200), segment_frames=st.integers(3, 101), conditional_frames=st.integers(0, 2))
def test_as_many_frames_come_out_as_went_in_and_in_order(
    frames: int, segment_frames: int, conditional_frames: int
) -> None:
    clip = np.arange(frames)
    segments = plan_segments(frames, segment_frames=segment_frames, conditional_frames=conditional_frames)
    videos = [clip[list(segment.source_frames)] for segment in segments]
    np.testing.assert_array_equal(join_segments(segments, videos), clip)
    assert all(len(video) == segment_frames for video in videos)
    assert all(segment.keep.stop > segment.keep.start for segment in segments)


@pytest.mark.parametrize("conditional_frames", [0, 1, 2])
def test_published_segments_return_every_clip_of_1_to_200_frames_exactly(conditional_frames: int) -> None:
    for frames in range(1, 201):
        clip = np.arange(frames)
        segments = plan_segments(frames, conditional_frames=conditional_frames)
        videos = [clip[list(segment.source_frames)] for segment in segments]
        np.testing.assert_array_equal(join_segments(segments, videos), clip)


@settings(max_examples=100, deadline=None)
@given(frames=st.integers(1, 200), conditional_frames=st.integers(0, 2))
def test_conditional_frames_are_the_end_of_the_segment_before(frames: int, conditional_frames: int) -> None:
    segments = plan_segments(frames, segment_frames=17, conditional_frames=conditional_frames)
    assert segments[0].conditional_frames == 0
    for before, segment in itertools.pairwise(segments):
        assert segment.conditional_frames == conditional_frames
        given_frames = segment.source_frames[:conditional_frames]
        assert given_frames == before.source_frames[len(before.source_frames) - conditional_frames :]


def test_segments_start_every_92_frames_as_published() -> None:
    segments = plan_segments(200)
    assert [segment.source_frames[0] for segment in segments] == [0, 92, 184]
    assert [segment.index for segment in segments] == [0, 1, 2]


def test_padding_mirrors_the_end() -> None:
    (segment,) = plan_segments(4, segment_frames=9)
    assert segment.source_frames == (0, 1, 2, 3, 3, 2, 1, 1, 2)
    (single,) = plan_segments(1, segment_frames=3)
    assert single.source_frames == (0, 0, 0)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (17, 5), (93, 24)])
def test_latent_frames_of_a_causal_codec(frames: int, latents: int) -> None:
    assert latent_frames(frames) == latents


@pytest.mark.parametrize(("given_frames", "latents"), [(0, 0), (1, 1), (2, 1)])
def test_given_frames_fix_their_latent(given_frames: int, latents: int) -> None:
    assert conditional_latent_frames(given_frames) == latents


def test_bad_plans_are_one_line() -> None:
    with pytest.raises(InputError, match="at least 1 frame, got 0"):
        plan_segments(0)
    with pytest.raises(InputError, match=r"0, 1 or 2.*got 3"):
        plan_segments(10, conditional_frames=3)
    with pytest.raises(InputError, match="1, 5"):
        latent_frames(16)
