"""DPPO's files: its own loader reads them, and what it reads is the dataset."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import Dataset
from cosmos_engine.errors import InputError
from cosmos_engine.interop.dppo import DppoOptions, export_dppo

LOW_DIM = [f"robot{arm}_{part}" for arm in (0, 1) for part in ("eef_pos", "eef_quat", "gripper_qpos")]


def read(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays}


def unnormalized(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return (rows + 1) / 2 * (high - low + 1e-6) + low


def test_files_hold_the_dataset_normalized(dataset: Path, tmp_path: Path) -> None:
    assert export_dppo(dataset, tmp_path / "out", None, DppoOptions()) == 8
    source, ranges = Dataset(dataset), read(tmp_path / "out", "normalization")
    splits = {name: read(tmp_path / "out", name) for name in ("train", "val")}
    assert sum(len(split["traj_lengths"]) for split in splits.values()) == 8
    rows = [source.episode(row) for row in np.flatnonzero(source.accepted).tolist() if source.source_demo[row] != 2]
    states = np.concatenate([np.hstack([one[name] for name in [*LOW_DIM, "object"]]) for one in rows])
    train = splits["train"]
    held_out = source.source_demo[source.accepted]
    assert len(train["states"]) == train["traj_lengths"].sum()
    assert set(held_out.tolist()) == {0, 1, 2, 3}
    np.testing.assert_allclose(
        unnormalized(train["states"], ranges["obs_min"], ranges["obs_max"]), states, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        unnormalized(train["actions"], ranges["action_min"], ranges["action_max"]),
        np.concatenate([one["action"] for one in rows]),
        atol=1e-5,
    )
    for split in splits.values():
        assert not split["terminals"].any()
        assert split["states"].dtype == np.float32
        assert np.abs(split["actions"]).max() <= 1.0


def test_rewards_come_from_the_recording(dataset: Path, recording, tmp_path: Path) -> None:
    export_dppo(dataset, tmp_path / "out", recording.folder, DppoOptions(validation_fraction=0.0))
    train = read(tmp_path / "out", "train")
    assert train["rewards"].sum() == 8
    assert (train["rewards"][np.cumsum(train["traj_lengths"]) - 1] == 1).all()
    assert not (tmp_path / "out" / "val.npz").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (DppoOptions(cameras=["table", "wrist"]), "need one size; got table 16x20, wrist 12x12; say image_size=96"),
        (DppoOptions(cameras=["head"]), "camera 'head': not in the source, which has: table, wrist"),
        (DppoOptions(low_dim=["speed"]), "low_dim 'speed': not in the source, which has: object, robot0_eef_pos"),
    ],
)
def test_what_is_not_there_is_named(dataset: Path, tmp_path: Path, options: DppoOptions, line: str) -> None:
    with pytest.raises(InputError, match=line):
        export_dppo(dataset, tmp_path / "out", None, options)
    assert not (tmp_path / "out").exists()


def test_killed_export_leaves_nothing_and_starts_anew(dataset: Path, tmp_path: Path, kill_at_operation) -> None:
    out = tmp_path / "exports" / "out"

    def export() -> None:
        export_dppo(dataset, out, None, DppoOptions(cameras=["table"]))

    for operation in (4, 20, 60):
        assert kill_at_operation(operation, out.parent, export) == (not out.exists())
        if out.exists():
            break
    if not out.exists():
        export()
    assert len(read(out, "train")["traj_lengths"]) + len(read(out, "val")["traj_lengths"]) == 8
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]


def test_dppos_own_loader_reads_windows_and_images(dataset: Path, tmp_path: Path) -> None:
    """Set COSMOS_ENGINE_DPPO to a checkout of irom-princeton/dppo."""
    checkout = os.environ.get("COSMOS_ENGINE_DPPO")
    if not checkout:
        pytest.skip("set COSMOS_ENGINE_DPPO to a checkout of irom-princeton/dppo")
    spec = importlib.util.spec_from_file_location("dppo_sequence", Path(checkout) / "agent/dataset/sequence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = DppoOptions(cameras=["table", "wrist"], image_size=8, validation_fraction=0.0)
    export_dppo(dataset, tmp_path / "out", None, options)
    windows = module.StitchedSequenceDataset(
        str(tmp_path / "out" / "train.npz"),
        horizon_steps=4,
        cond_steps=2,
        img_cond_steps=2,
        use_img=True,
        device="cpu",
    )
    train = read(tmp_path / "out", "train")
    assert len(windows) == sum(length - 3 for length in train["traj_lengths"])
    first_of_second = int(train["traj_lengths"][0]) - 3
    batch = windows[first_of_second]
    start = int(train["traj_lengths"][0])
    np.testing.assert_array_equal(batch.actions.numpy(), train["actions"][start : start + 4])
    np.testing.assert_array_equal(batch.conditions["state"].numpy(), train["states"][[start, start]])
    np.testing.assert_array_equal(batch.conditions["rgb"].numpy(), train["images"][[start, start]])
    assert batch.conditions["rgb"].shape == (2, 6, 8, 8)
