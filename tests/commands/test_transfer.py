"""`cosmos-engine transfer`: a spec in, videos out; bad input is one line and exit code 2."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_engine.cli import main
from cosmos_engine.transfer.spec.video_file import probe_video, write_video


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    clip = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), np.uint8)
    write_video(tmp_path / "video.mp4", clip, Fraction(20))
    return written(tmp_path)


def written(folder: Path, **keys: Any) -> Path:
    sample = {"name": "kitchen", "prompt": "a kitchen", "video_path": "video.mp4", "resolution": "256", "edge": {}}
    file = folder / "spec.json"
    file.write_text(json.dumps(sample | keys))
    return file


def command(spec: Path, *options: str) -> list[str]:
    return ["transfer", str(spec), "--out", str(spec.parent / "out"), *options]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-engine")]
    assert len(lines) == 1
    return lines[0]


def test_spec_becomes_videos_and_the_same_command_goes_on(spec, capsys):
    tiny = ("--generator", "transfer25-tiny")
    written(spec.parent, num_video_frames_per_chunk=5)
    assert main(command(spec, *tiny)) == 0
    assert "1 samples made" in capsys.readouterr().out
    info = probe_video(spec.parent / "out" / "kitchen.mp4")
    assert (info.frames, info.height, info.width, info.fps) == (5, 48, 64, 20)
    assert main(command(spec, *tiny)) == 0
    assert "0 samples made, 1 were whole before" in capsys.readouterr().out
    # How weights combine decides the pixels, so another policy makes the sample again.
    assert main(command(spec, *tiny, "--weight-policy", "raw")) == 0
    assert "1 samples made" in capsys.readouterr().out
    provenance = json.loads((spec.parent / "out" / "kitchen_provenance.json").read_text())
    assert provenance["generator"]["sampling"]["weight_policy"] == "raw"


@pytest.mark.parametrize(
    ("keys", "options", "said"),
    [
        ({}, ["--generator", "transfer25-tny"], ["transfer25-tny", "transfer25-tiny"]),
        ({}, ["--resolution", "480"], ["--resolution", "'resolution'"]),
        ({}, ["--fit", "crop"], ["--fit", "letterboxed"]),
        ({"guidence": 3}, [], ["spec.json", "'guidence'", "'guidance'"]),
        ({"max_frames": 9}, [], ["'kitchen'", "max_frames is 9, but the video has 5"]),
        ({"video_path": "none.mp4"}, [], ["'video_path'", "none.mp4"]),
        ({"prompt": "word " * 65}, ["--generator", "transfer25-tiny"], ["64 words"]),
        # Files are looked at before weights are: these pass, so what is missing is the weights.
        ({}, ["--weights", "{tmp}/none", "--device", "cpu"], ["none"]),
        ({"num_steps": 35}, ["--generator", "transfer25-2b-distilled"], ["'kitchen'", "1 to 4"]),
    ],
)
def test_bad_input_is_one_line(spec, capsys, keys, options, said):
    written(spec.parent, **keys)
    line = refused(command(spec, *(option.format(tmp=spec.parent) for option in options)), capsys)
    for words in said:
        assert words in line
    assert not list((spec.parent / "out").glob("*.mp4"))


def test_missing_spec_is_one_line(tmp_path, capsys):
    assert "none.json" in refused(command(tmp_path / "none.json"), capsys)
