"""`cosmos-engine import` and `export`: they are there, say where the result is, and bad input is one line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from cosmos_engine.data import Recording
from cosmos_engine.transfer.spec.sample import read_spec


def test_recording_goes_out_and_comes_back(command, small_recording: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "demos.hdf5", tmp_path / "back"
    assert command("export", "robomimic", small_recording, "--out", out, "validation_fraction=0.25").out[-1] == (
        f"robomimic: {out} (16 episodes)"
    )
    with h5py.File(out) as file:
        assert (len(file["mask/train"]), len(file["mask/valid"])) == (12, 4)
    assert command("import", "robomimic", out, "--out", back).out == [f"recording: {back} (16 episodes imported)"]
    np.testing.assert_array_equal(Recording(back).episode(3).actions, Recording(small_recording).episode(3).actions)
    again = command("import", "robomimic", out, "--out", back)
    assert again.out[-1] == f"recording: {back} (0 episodes imported, 16 were there before)"


def test_recording_without_cameras_says_so(command, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "raw.hdf5", "w") as file:  # robomimic's raw files: what was done, and no observations
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["states"] = np.zeros((3, 7)), np.ones((3, 5))
        demo["obs/agentview_image"] = np.zeros((3, 4, 4, 3), np.uint8)
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
    words = ("import", "robomimic", tmp_path / "raw.hdf5", "--out", tmp_path / "x", "skip=[agentview]")
    assert "say assume_success=true" in command(*words).error
    assert command(*words, "assume_success=true").out == [
        f"recording: {tmp_path}/x (1 episodes imported)",
        "kept for exports only, neither augmented nor trained on: agentview",
        "it has no camera with depth and segmentation, so there is nothing to augment",
    ]


def test_dataset_goes_out_for_isaac_lab_and_dppo(command, small_dataset: Path, small_recording: Path, tmp_path) -> None:
    lab = tmp_path / "lab.hdf5"
    assert command("export", "isaaclab", small_dataset, "--recording", small_recording, "--out", lab).code == 0
    with h5py.File(lab) as file:
        assert len(file["data"]) == 44
    assert command("export", "dppo", small_dataset, "--out", tmp_path / "dppo").code == 0
    assert {file.name for file in (tmp_path / "dppo").iterdir()} >= {"train.npz", "val.npz", "normalization.npz"}


def test_dataset_goes_out_for_lerobot(command, small_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'cosmos-engine[lerobot]'")
    assert command("export", "lerobot", small_dataset, "--out", tmp_path / "lr", "images=png").code == 0
    assert json.loads((tmp_path / "lr" / "meta" / "info.json").read_text())["total_episodes"] == 44


def test_cosmoswriter_folder_becomes_a_spec(command, tmp_path: Path) -> None:
    for name in ("rgb", "depth"):
        where = tmp_path / "cosmos" / "clip_0000" / name
        where.mkdir(parents=True)
        for frame in range(2):
            cv2.imwrite(str(where / f"{name}_{frame:04d}.png"), np.full((8, 8, 3), 90 + frame, np.uint8))
    out = tmp_path / "spec"
    ran = command("import", "cosmoswriter", tmp_path / "cosmos", "--out", out, "prompt=a workshop at noon")
    assert ran.code == 0
    assert "cosmos-engine transfer" in ran.out[-1]
    assert read_spec(out / "spec.jsonl")[0].prompt == "a workshop at noon"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("import", "robomimic", "{tmp}/none.hdf5", "--out", "{tmp}/x"), "none.hdf5: no such file"),
        (("import", "isaaclab", "{tmp}/text.hdf5", "--out", "{tmp}/x"), "truncated or damaged HDF5 file"),
        (("import", "isaaclab", "{tmp}/text.hdf5", "--out", "{tmp}/x", "step=3"), "unknown key 'step'"),
        (("export", "dppo", "{tmp}", "--out", "{tmp}/x"), "no dataset here"),
        (("export", "lerobot", "{tmp}", "--out", "{tmp}/x", "images=gif"), "expected video or png, got 'gif'"),
        (("import", "cosmoswriter", "{tmp}", "--out", "{tmp}/x"), "no clip_0000, clip_0001, ... here"),
    ],
)
def test_bad_input_is_one_line(command, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    (tmp_path / "text.hdf5").write_text("no HDF5")
    ran = command(*(word.format(tmp=tmp_path) for word in arguments))
    assert ran.code == 2
    assert line in ran.error
    assert not (tmp_path / "x").exists()
