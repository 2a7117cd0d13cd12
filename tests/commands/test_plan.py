"""The command `plan`: sizes from the recording, figures of one's own, and one line for what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_engine.augment.estimate import Figures
from cosmos_engine.cli import main
from cosmos_engine.config import load_config


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "demos"
    assert main(["record", "--task", "lift", "--episodes", "1", "--out", str(folder), "image_size=32"]) == 0
    return folder


def test_words_alone_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    words = "demos=10 variants=3 control_steps=64 cameras=2 height=128 width=128 tries=1 overhead=0 price=3600 hours=1"
    assert main(["plan", *words.split()]) == 0
    printed = capsys.readouterr().out
    assert "240 segments in all" in printed
    assert "0.281 s a segment" in printed
    assert f"cost: {240 * 0.281:,.0f}" in printed


def test_2b_is_reckoned_at_the_size_that_it_generates(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["height=100", "width=128", "--recipe", "edge", "--resolution", "480", "--figure", "2b-h100"]
    assert main(["plan", "--generator", "transfer25-2b", *words]) == 0
    printed = capsys.readouterr().out
    assert "generated at 480x640, 1 controls" in printed
    assert "503 s (2b-h100) x 0.154" in printed
    assert "not measured here" in printed


def test_recording_gives_the_sizes(demos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(demos), "demos=1000"]) == 0
    assert "1,000 demos x 5 variants x 2 cameras of 32x32" in capsys.readouterr().out


def test_measured_figure_is_kept_and_planned_with(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    command = ["plan", str(demos), "--figures", str(file)]
    assert main([*command, "--measure", "--figure", "mine"]) == 0
    figure = load_config(Figures, file).segments["mine"]
    assert (figure.generator, figure.height, figure.width, figure.segment_frames) == ("transfer25-tiny", 32, 32, 17)
    assert figure.seconds > 0
    assert "measured by cosmos-engine" in capsys.readouterr().out
    assert main(command) == 0  # kept
    assert f"{figure.seconds:g} s (mine) x 1 " in capsys.readouterr().out
    assert main([*command, "--measure", "--figure", "again", "--generator", "photometric"]) == 0
    assert sorted(load_config(Figures, file).segments) == ["again", "mine"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demos=0"], "demos: expected 1 or more, got 0"),
        (["demoz=3"], "unknown key 'demoz'; did you mean 'demos'"),
        (["--measure"], "--measure: needs a RECORDING"),
        (["--generator", "texture"], "no figure of texture"),
        (["--figure", "tiny-cpo"], "did you mean 'tiny-cpu'"),
        (["--figures", "{tmp}/none.yaml"], "none.yaml"),
        (["--figures", "{tmp}/bad.yaml"], "unknown key 'segmants'"),
        (["--figures", "{tmp}/odd.yaml"], "secnds"),
        (["{tmp}/nothing"], "nothing"),
        (["--generator", "transfer25"], "no such generator"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("segmants: {}\n")
    (tmp_path / "odd.yaml").write_text("segments: {a: {secnds: 3}}\n")
    assert main(["plan", *(word.replace("{tmp}", str(tmp_path)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cosmos-engine plan: ")
    assert named in error
    assert error.count("\n") == 1
