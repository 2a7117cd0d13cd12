"""Watching: one playable video a rollout, the same trial as the benchmark's, and one line without a display."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.report.video import read_mp4
from policies.live_window import LiveWindow
from policies.policy import PolicySpec
from policies.watching import watch


class _Seeker:
    """Act towards the goal from the state."""

    spec = PolicySpec({"robot0_eef_pos": [2], "goal": [2]}, action_dim=2, step_hz=20.0, action_chunk=3)

    def act(self, observations: Mapping[str, np.ndarray], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        towards = (observations["goal"][:, -1] - observations["robot0_eef_pos"][:, -1]) / 0.3
        return np.repeat(towards[:, None], 3, axis=1).astype(np.float32)


class _Arena:
    task = "reach"
    shifts = ("vanilla", "bright")

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def prepare(self, environment: Any, shift: str, seed: int) -> None:
        environment.brightness = 100 if shift == "bright" else 0


def _watch(point_mass: Callable[..., Any], out: Path | None, **changes: Any) -> list[Any]:
    settings: dict[str, Any] = {"shift": "bright", "seeds": [4, 5], "filmed": "agentview_image", "window": False}
    settings |= changes
    seeds = settings.pop("seeds")
    make = settings.pop("make", point_mass)
    return watch(
        "seeker", _Seeker(), _Arena(make), settings["shift"], seeds, settings["filmed"], out, window=settings["window"]
    )


def test_each_rollout_is_a_video_of_all_its_control_steps(
    point_mass: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = _watch(point_mass, tmp_path / "new" / "videos")
    assert [trial.outcome for trial in trials] == ["success", "success"]
    for trial in trials:
        content = read_mp4(tmp_path / "new" / "videos" / f"reach_bright_{trial.seed}_success.mp4")
        with av.open(io.BytesIO(content)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == trial.steps + 1
        assert frames[0].shape == (256, 256, 3)
        assert np.median(frames[0]) == pytest.approx(100, abs=3)
    said = capsys.readouterr().out
    assert f"seed 4: success after {trials[0].steps} control steps" in said
    assert "2/2 succeeded [34, 100] %" in said


def test_crash_is_said_and_not_counted(
    point_mass: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _watch(point_mass, tmp_path, seeds=[0], make=lambda: point_mass(crash_seeds=frozenset({0})))
    said = capsys.readouterr().out
    assert "seed 0: crash after 3 control steps (RuntimeError: the solver diverged)" in said
    assert "succeeded" not in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "expected at least 1 episode"),
        ({"seeds": [-1]}, "seeds of at least 0"),
        ({"filmed": "wrist_image"}, "environment 'reach' gives no 'wrist_image'"),
    ],
)
def test_what_cannot_be_watched_is_one_line(
    point_mass: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _watch(point_mass, tmp_path / "videos", **changes)
    assert not (tmp_path / "videos").exists()


def test_without_a_display_the_window_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(InputError, match="window: ") as error:
        LiveWindow("nothing to see", 20.0)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="no display")
def test_window_shows_every_frame_no_faster_than_the_policy_acts(point_mass: Callable[..., Any]) -> None:
    trials = _watch(point_mass, None, window=True)
    assert all(trial.outcome == "success" for trial in trials)
