"""Bad input: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import h5py
import pytest

from cosmos_engine.cli import main
from cosmos_engine.data import Recording
from cosmos_engine.data.trailer import with_trailer


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "demos"
    assert main(["record", "--task", "lift", "--episodes", "1", "--out", str(folder), "image_size=32"]) == 0
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that a command was refused with."""
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-engine")]
    assert len(lines) == 1
    return lines[0]


def test_unknown_way_of_rendering_is_one_line(tmp_path):
    command = [sys.executable, "-m", "cosmos_engine", "record", "--task", "lift", "--episodes", "1"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "r")],
        env=os.environ | {"MUJOCO_GL": "elg"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert "MUJOCO_GL: elg; expected egl" in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["record", "--task", "lfit", "--episodes", "1", "--out", "{tmp}/r"], ["lfit", "did you mean 'lift'"]),
        (["record", "--task", "lift", "--episodes", "0", "--out", "{tmp}/r"], ["episodes", "0"]),
        (
            ["record", "--task", "lift", "--episodes", "1", "--out", "{tmp}/r", "imagesize=3"],
            ["imagesize", "image_size"],
        ),
        (
            ["record", "--task", "lift", "--episodes", "1", "--out", "{tmp}/r", "cameras=[agentviw]"],
            ["agentviw", "agentview"],
        ),
        (["augment", "{tmp}/none", "--out", "{tmp}/x.zarr"], ["none", "no recording here"]),
        (["augment", "{demos}", "--out", "{tmp}/x.zarr", "--generator", "transfer25-tny"], ["transfer25-tiny"]),
        (["augment", "{demos}", "--out", "{tmp}/x.zarr", "--recipe", "strct"], ["strct", "recipe/strict"]),
        (["augment", "{demos}", "--out", "{tmp}/x.zarr", "recipe.edge=2"], ["edge", "[0, 1]"]),
        (
            ["augment", "{demos}", "--out", "{tmp}/x.zarr", "--checkpoint", "{tmp}/none.safetensors"],
            ["none.safetensors"],
        ),
        (["augment", "{demos}", "--out", "{tmp}/x.zarr", "--prompts", "{tmp}/none.txt"], ["none.txt"]),
        (["verify", "{tmp}/none"], ["none"]),
        (["inspect", "{tmp}/none"], ["none"]),
        (["view", "{tmp}/none.zarr", "--out", "{tmp}/r.html"], ["none.zarr"]),
        (["train", "{tmp}/none.zarr", "--out", "{tmp}/bc"], ["none.zarr"]),
        (["benchmark", "{tmp}/none", "--task", "lift", "--out", "{tmp}/b"], ["none"]),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments, named, demos, tmp_path, capsys):
    line = refused([a.format(tmp=tmp_path, demos=demos) for a in arguments], capsys)
    for part in named:
        assert part in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dropped", ["obs/agentview_depth", "obs/robot0_eye_in_hand_instance"])
def test_an_episode_without_a_pass_is_refused(dropped, demos, tmp_path, capsys):
    broken = tmp_path / "demos"
    subprocess.run(["cp", "-r", str(demos), str(broken)], check=True)
    changed = broken / "episodes" / "episode_000000.hdf5"
    with h5py.File(changed, "a") as file:
        del file[f"data/demo_0/{dropped}"]
    changed.write_bytes(with_trailer(changed.read_bytes()))
    line = refused(["augment", str(broken), "--out", f"{tmp_path}/x.zarr"], capsys)
    assert "episode_000000.hdf5" in line
    assert dropped in line


def test_a_folder_of_something_else_is_not_written_over(demos, tmp_path, capsys):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "mine.txt").write_text("keep")
    assert "x.zarr" in refused(["augment", str(demos), "--out", f"{tmp_path}/x.zarr"], capsys)
    assert [path.name for path in (tmp_path / "x.zarr").iterdir()] == ["mine.txt"]


def test_overrides_may_stand_anywhere_and_other_words_are_refused(tmp_path, capsys):
    line = refused(["train", f"{tmp_path}/none.zarr", "--out", f"{tmp_path}/bc", "updtes=1"], capsys)
    assert "did you mean 'updates'" in line
    with pytest.raises(SystemExit) as stop:
        main(["train", f"{tmp_path}/none.zarr", "--out", f"{tmp_path}/bc", "--epochs", "3"])
    assert stop.value.code == 2


def test_ctrl_c_keeps_whole_episodes_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "-c", "import sys; from cosmos_engine.cli import main; sys.exit(main())"]
    command += ["record", "--task", "lift", "--episodes", "24", "--out", str(tmp_path / "r"), "image_size=32"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )
    first = tmp_path / "r" / "episodes" / "episode_000000.hdf5"
    while not first.is_file() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    recorded = len(Recording(tmp_path / "r"))
    assert 1 <= recorded < 24
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert len(Recording(tmp_path / "r")) == 24
    assert main(["verify", str(tmp_path / "r")]) == 0
