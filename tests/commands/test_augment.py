"""The command `augment`: what it refuses, what it prints, and that workers change nothing."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from cosmos_engine.cli import main
from cosmos_engine.data import Dataset, verify_dataset
from cosmos_engine.data.rejected import read_rejected


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augment") / "demos"
    assert main(["record", "--task", "lift", "--episodes", "2", "--out", str(folder), "image_size=32"]) == 0
    return folder


def command(demos, out, *words: str) -> list[str]:
    return ["augment", str(demos), "--generator", "photometric", "--variants", "2", "--out", str(out), *words]


def folder_bytes(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--gate", "off", "gate.fixed.iou_robot=0.5"], "override 'gate.fixed.iou_robot=0.5': --gate off"),
        (["--gate", "{tmp}/none.yaml"], "none.yaml"),
        (["--gate", "{tmp}/bad.yaml"], "unknown key 'nonsense'"),
        (["--gate", "off", "--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--gate", "off", "--devices", "cuda:0"], "--devices: only for transfer25"),
        (["--gate", "off", "--ray", "--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--ray", "--generator", "transfer25-tiny", "--device", "cuda:1"], "--device cuda:1: Ray says which GPU"),
        (["--ray", "--generator", "transfer25-tiny", "--devices", "cpu,cpu"], "--ray: gives every worker a GPU"),
        (["--gate", "off", "--exclude", "{tmp}/none.txt"], "none.txt: exclusions cannot be read"),
        (["--gate", "off", "--exclude", "{tmp}/other.txt"], "--exclude: no demo 7; the recording has 2"),
        (["--gate", "off", "--stricter", "strict"], "--stricter: only for transfer25"),
        (["--gate", "off", "--prompt-command", "x"], "--prompt-command: photometric reads no prompt"),
        (["--gate", "off", "curation.min_frames=100000"], "no demo is left: 2 short"),
        (["--gate", "off", "curation.min_frame=1"], "did you mean 'curation.min_frames'"),
        (["--gate", "off", "ladder.new_seeds=-1"], "ladder.new_seeds: expected 0 or more"),
        (["--gate", "off", "--config", "{tmp}/none.yaml"], "none.yaml"),
        (["--gate", "off", "batch=0"], "batch: expected 1 or more, got 0"),
    ],
)
def test_bad_input_is_one_line(words, named, demos, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("nonsense: 1\n")
    (tmp_path / "other.txt").write_text("7 1\n")
    out = tmp_path / "x.zarr"
    assert main(command(demos, out, *[word.format(tmp=tmp_path) for word in words])) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-engine"))
    assert named in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--devices", "cuda:0,,cuda:1"], "expected names separated by commas"),
        (["--devices", "cuda:0", "--device", "cpu"], "--device has no meaning beside it"),
        (["--devices", "cuda:0", "--workers", "2"], "--workers has no meaning beside it"),
        (["--prompts", "roms"], "did you mean 'prompts/rooms'"),
        (["--prompts", "{tmp}/bad.yaml"], "unknown key 'nonsense'"),
        (["--prompts", "{tmp}/slot.yaml"], "scene 'a' has no slot 'tabel'"),
        (["--prompts", "{tmp}/none.txt"], "none.txt: prompts cannot be read"),
        (["--prompt-command", "'"], "--prompt-command"),
        (["--stricter", "stict"], "did you mean 'recipe/strict'"),
    ],
)
def test_bad_input_of_a_model_is_one_line(words, named, demos, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("nonsense: 1\n")
    (tmp_path / "slot.yaml").write_text("sentences: {any: ['{tabel}']}\nscenes: {a: {table: [b]}}\n")
    out = tmp_path / "x.zarr"
    words = [word.format(tmp=tmp_path) for word in words]
    assert main(["augment", str(demos), "--out", str(out), "--gate", "off", *words]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-engine"))
    assert named in line
    assert not out.exists()


def test_the_yield_is_printed_and_exclusions_are_left_out(demos, tmp_path, capsys):
    (tmp_path / "exclude.txt").write_text("# dull\n1 2\n")
    out = tmp_path / "x.zarr"
    assert main(command(demos, out, "--gate", "off", "--exclude", f"{tmp_path}/exclude.txt")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "yield: 3 of 4 variants accepted (75.0 %), in 3 tries",
        "variants left out: 1 excluded",
        f"dataset: {out}",
    ]
    assert Dataset(out).variant.tolist() == [0, 1, 2, 0, 1]
    assert [(entry.source_demo, entry.variant) for entry in read_rejected(out)] == [(1, 2)]
    assert verify_dataset(out, demos).intact


def test_progress_for_programs_is_json_lines_and_nothing_else(demos, tmp_path, capsys):
    assert main(command(demos, tmp_path / "x.zarr", "--gate", "off", "--progress", "json")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["done"], line["total"]) for line in lines if line["stage"] == "augment"][-1] == (4, 4)
    assert {line["stage"] for line in lines} == {"augment", "certificate", "finished"}
    assert lines[-1] == {
        "stage": "finished",
        "dataset": str(tmp_path / "x.zarr"),
        "accepted": 4,
        "asked": 4,
        "tries": 4,
    }


def test_a_program_writes_the_prompts_and_they_are_kept_beside_the_dataset(demos, tmp_path):
    (tmp_path / "writer.py").write_text(
        "import json, sys\nprint('a blue wood table,', json.load(sys.stdin)['variant'])\n"
    )
    words = ["--prompt-command", f"{sys.executable} {tmp_path}/writer.py", "--gate", "off", "--generator", "texture"]
    assert main([*command(demos, tmp_path / "x.zarr"), *words]) == 0
    prompts = [info["prompt"] for info in Dataset(tmp_path / "x.zarr").info if "prompt" in info]
    assert [prompt.split(" The ")[0] for prompt in prompts] == ["a blue wood table, 1", "a blue wood table, 2"] * 2
    assert all("The red cube and the robot arm keep" in prompt for prompt in prompts)
    assert len((tmp_path / "x.zarr.prompts.jsonl").read_text().splitlines()) == 4


def test_a_config_file_says_what_is_made(demos, tmp_path):
    (tmp_path / "job.yaml").write_text("variants: 3\nseed: 9\ncuration: {near_duplicate: 0}\nladder: {new_seeds: 0}\n")
    out = tmp_path / "x.zarr"
    words = ["--generator", "photometric", "--gate", "off", "--config", f"{tmp_path}/job.yaml", "seed=4"]
    assert main(["augment", str(demos), "--out", str(out), *words]) == 0
    assert Dataset(out).variant.tolist() == [0, 1, 2, 3] * 2
    config = Dataset(out).attrs["job"]["config"]
    assert (config["seed"], config["ladder"]["new_seeds"], config["curation"]["near_duplicate"]) == (4, 0, 0.0)


def test_the_gate_is_on_unless_it_is_left_out(demos, tmp_path):
    out = tmp_path / "x.zarr"
    never = [f"gate.{kind}.iou_robot=1.1" for kind in ("fixed", "moving")]
    assert main(command(demos, out, "--variants", "1", *never, "ladder.new_seeds=0")) == 0
    assert Dataset(out).variant.tolist() == [0, 0]
    assert {entry.reason for entry in read_rejected(out)} == {"gate"}
    assert any("iou_robot" in line for entry in read_rejected(out) for line in entry.tries[-1].failures)
    assert Dataset(out).attrs["job"]["gate"]["config"]["fixed"]["iou_robot"] == 1.1


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(demos, tmp_path):
    for workers in (1, 2):
        assert main(command(demos, tmp_path / f"{workers}.zarr", "--gate", "off", "--workers", str(workers))) == 0
    assert folder_bytes(tmp_path / "1.zarr") == folder_bytes(tmp_path / "2.zarr")
    assert np.ptp(Dataset(tmp_path / "1.zarr").variant) == 2
