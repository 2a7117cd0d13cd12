"""LeRobot v3: real LeRobot loads what is written, and what it loads is the dataset."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import Dataset, Recording
from cosmos_engine.errors import InputError
from cosmos_engine.interop import lerobot
from cosmos_engine.interop.lerobot import LeRobotOptions, export_lerobot
from cosmos_engine.interop.lerobot_stats import image_stats, joined, vector_stats

READER = Path(__file__).with_name("read_lerobot.py")


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'cosmos-engine[lerobot]'")


def loaded_by_lerobot(root: Path, out: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """What the LeRobotDataset of COSMOS_ENGINE_LEROBOT (a Python with lerobot 0.4) gives."""
    python = os.environ.get("COSMOS_ENGINE_LEROBOT")
    if not python:
        pytest.skip("set COSMOS_ENGINE_LEROBOT to a Python that has lerobot 0.4")
    subprocess.run([python, str(READER), str(root), str(out)], check=True)
    with np.load(out, allow_pickle=False) as arrays:
        found = {key: arrays[key] for key in arrays}
    return json.loads(bytes(found.pop("told"))), found


@pytest.mark.parametrize("images", ["png", "video"])
def test_lerobot_loads_every_frame(dataset: Path, recording: Recording, tmp_path: Path, parquet, images: str) -> None:
    root = tmp_path / "lerobot"
    assert export_lerobot(dataset, root, recording.folder, LeRobotOptions(images=images, crf=0)) == 8
    told, found = loaded_by_lerobot(root, tmp_path / "found.npz")
    source = Dataset(dataset)
    assert (told["episodes"], told["fps"], told["splits"]) == (8, 20, {"train": "0:6", "val": "6:8"})
    assert told["cameras"] == ["observation.images.table", "observation.images.wrist"]
    accepted = np.flatnonzero(source.accepted).tolist()
    order = sorted(accepted, key=lambda row: source.source_demo[row] == 2)  # the split with seed 0 holds demo 2 out
    episodes = [source.episode(row) for row in order]
    state = [f"robot{arm}_{part}" for arm in (0, 1) for part in ("eef_pos", "eef_quat", "gripper_qpos")]
    columns = {
        "action": np.concatenate([one["action"] for one in episodes]),
        "observation.state": np.concatenate([np.hstack([one[name] for name in state]) for one in episodes]),
        "observation.environment_state": np.concatenate([one["object"] for one in episodes]),
        "observation.wrench": np.concatenate([one["wrench"] for one in episodes]),
    }
    for name, rows in columns.items():
        np.testing.assert_array_equal(found[name], rows, name)
    np.testing.assert_allclose(found["sim_state"], np.concatenate([one["state"] for one in episodes]), rtol=1e-6)
    lengths = [len(one["action"]) for one in episodes]
    np.testing.assert_array_equal(found["episode_index"], np.repeat(range(8), lengths))
    np.testing.assert_allclose(found["timestamp"], np.concatenate([one["timestamp"] for one in episodes]), rtol=1e-6)
    assert told["tasks"] == [
        f"hand over the cube, way {source.source_demo[row]}"
        for row, n in zip(order, lengths, strict=True)
        for _ in range(n)
    ]
    assert told["prompts"] == [f"oak table {source.source_demo[row]}" if source.variant[row] else "" for row in order]
    np.testing.assert_array_equal(found["next.done"], np.concatenate([np.arange(n) == n - 1 for n in lengths]))
    for camera in ("table", "wrist"):
        rgb = np.concatenate([one[f"{camera}_image"] for one in episodes]).transpose(0, 3, 1, 2) / 255.0
        shown = found[f"observation.images.{camera}"]
        if images == "png":
            np.testing.assert_allclose(shown, rgb, atol=1e-6)
        else:  # noise is the worst case of halved colour: the brightness is what survives
            brightness = np.array([0.299, 0.587, 0.114])
            error = np.abs((shown - rgb).transpose(0, 2, 3, 1) @ brightness)
            assert error.mean() < 0.04
    np.testing.assert_allclose(told["stats"]["action"]["mean"], columns["action"].mean(0), atol=1e-6)
    np.testing.assert_allclose(told["window_actions"], episodes[1]["action"][:3])
    assert set(told["cameras"]) < {path.lstrip("/") for path in told["shown"]}


def test_plain_colours_survive_video(tmp_path: Path, parquet) -> None:
    """A decoder that takes the wrong matrix or range shows itself in plain colours."""
    import av

    from cosmos_engine.interop.lerobot_video import video_file

    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [90, 160, 40]], np.uint8)
    frames = np.broadcast_to(colors[:, None, None], (6, 16, 16, 3)).copy()
    with video_file(tmp_path / "colors.mp4", 16, 16, 20, 0) as write:
        write(frames)
    with av.open(str(tmp_path / "colors.mp4")) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    np.testing.assert_allclose(shown.astype(int), frames.astype(int), atol=4)


def test_export_goes_on_group_by_group(
    dataset: Path, tmp_path: Path, parquet, kill_at_operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lerobot, "_GROUP_RAW_BYTES", 12_000)  # two groups of some episodes each
    whole = tmp_path / "whole"
    export_lerobot(dataset, whole, None, LeRobotOptions())
    expected = {str(file.relative_to(whole)): file.read_bytes() for file in whole.rglob("*") if file.is_file()}
    assert len([name for name in expected if name.startswith("data/")]) > 1
    out = tmp_path / "killed" / "out"
    for operation in (5, 30, 60, 90, 120):
        if not kill_at_operation(operation, out.parent, lambda: export_lerobot(dataset, out, None, LeRobotOptions())):
            break
        assert not out.exists()
    if not out.exists():
        export_lerobot(dataset, out, None, LeRobotOptions())
    found = {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        if not name.endswith(".mp4"):
            assert found[name] == content, name


def test_truncated_dataset_is_no_dataset(dataset: Path, tmp_path: Path, parquet) -> None:
    (dataset / "certificate.json").write_bytes(b"")
    (dataset / "data" / "action" / "0.0").write_bytes(b"x")
    with pytest.raises(InputError, match="truncated or damaged"):
        export_lerobot(dataset, tmp_path / "out", None, LeRobotOptions())
    assert not (tmp_path / "out").exists()


def test_stats_are_those_of_all_rows_together() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(length, 3)) for length in (4, 9)]
    images = [rng.integers(0, 256, (length, 5, 6, 3), dtype=np.uint8) for length in (4, 9)]
    both = joined([{"x": vector_stats(a), "i": image_stats(b)} for a, b in zip(parts, images, strict=True)])
    rows, pixels = np.concatenate(parts), np.concatenate(images) / 255.0
    np.testing.assert_allclose(both["x"].mean, rows.mean(0))
    np.testing.assert_allclose(both["x"].std, rows.std(0))
    np.testing.assert_allclose(both["x"].max, rows.max(0))
    assert both["x"].count == [13]
    np.testing.assert_allclose(np.ravel(both["i"].mean), pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(np.ravel(both["i"].std), pixels.std((0, 1, 2)))
    np.testing.assert_allclose(np.ravel(both["i"].min), pixels.min((0, 1, 2)))
    single = image_stats(images[0])
    median = np.quantile(images[0] / 255.0, 0.5, axis=(0, 1, 2))
    np.testing.assert_allclose(np.ravel(single.q50), median, atol=1 / 255)


def test_chosen_state_is_in_the_order_that_was_asked_for(dataset: Path, tmp_path: Path, parquet) -> None:
    root = tmp_path / "lerobot"
    options = LeRobotOptions(state=["wrench", "robot0_eef_pos"], images="png", validation_fraction=0.0)
    export_lerobot(dataset, root, None, options)
    features = json.loads((root / "meta" / "info.json").read_text())["features"]
    state = features["observation.state"]
    assert (state["shape"], state["names"][0], state["names"][-1]) == ([9], "wrench.0", "robot0_eef_pos.2")
    assert "observation.wrench" not in features
    assert features["observation.robot1_eef_pos"]["shape"] == [3]
    rows = parquet.read_table(root / "data/chunk-000/file-000.parquet")["observation.state"][0].as_py()
    first = Dataset(dataset).episode(0)
    np.testing.assert_array_equal(np.float32(rows), [*first["wrench"][0], *first["robot0_eef_pos"][0]])
    with pytest.raises(InputError, match="state 'speed': not in the source"):
        export_lerobot(dataset, tmp_path / "other", None, LeRobotOptions(state=["speed"]))


@pytest.mark.parametrize("options", [{"images": "gif"}, {"crf": 60}, {"fps": -1}])
def test_bad_options_are_named(options: dict) -> None:
    with pytest.raises(InputError):
        LeRobotOptions(**options)


def test_pyarrow_is_asked_for(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(lerobot.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'cosmos-engine\[lerobot\]'"):
        export_lerobot(dataset, tmp_path / "out", None, LeRobotOptions())
