"""Rollout videos can be read back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from policies.video import write_video


@pytest.mark.parametrize("size", [(16, 16), (33, 21)])
def test_video_has_every_frame_at_the_control_rate(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = [np.full((*size, 3), 20 * index, np.uint8) for index in range(9)]
    write_video(tmp_path / "rollout.mp4", frames, 20.0)
    with av.open(str(tmp_path / "rollout.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 20
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(read) == 9
    for index, frame in enumerate(read):
        assert abs(float(frame.mean()) - 20 * index) < 4
