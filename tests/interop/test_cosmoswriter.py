"""CosmosWriter's folders become a spec that the transfer command reads."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from cosmos_engine.controls.depth import depth_control
from cosmos_engine.errors import InputError
from cosmos_engine.interop.cosmoswriter import CosmosWriterConfig, import_cosmoswriter
from cosmos_engine.transfer.spec.sample import read_spec
from cosmos_engine.transfer.spec.video_file import read_video, write_video

FRAMES, SIZE = 3, (10, 14)
CONFIG = CosmosWriterConfig(prompt="a workshop")


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (FRAMES, *SIZE, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What CosmosWriter 1.13 writes: five modalities a clip, PNG by frame."""
    root = tmp_path / "cosmos"
    for clip in range(2):
        for number, name in enumerate(("rgb", "depth", "segmentation", "shaded_seg", "edges")):
            where = root / f"clip_{clip:04d}" / name
            where.mkdir(parents=True)
            for frame, image in enumerate(images(10 * clip + number)):
                shown = np.repeat(image[..., :1], 3, -1) if name == "depth" else image
                cv2.imwrite(str(where / f"{name}_{frame:04d}.png"), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
    return root


def test_clips_become_samples_without_loss(folder: Path, tmp_path: Path) -> None:
    assert import_cosmoswriter(folder, tmp_path / "out", CONFIG) == 2
    samples = read_spec(tmp_path / "out" / "spec.jsonl")
    assert [sample.name for sample in samples] == ["clip_0000", "clip_0001"]
    assert [sample.seed for sample in samples] == [2025, 2026]
    sample = samples[1]
    assert sample.prompt == "a workshop"
    assert set(sample.controls) == {"edge", "depth", "seg"}
    assert sample.controls["edge"].control_path is None  # made from rgb, as the branch expects
    np.testing.assert_array_equal(read_video(sample.video_path), images(10))
    np.testing.assert_array_equal(read_video(sample.controls["seg"].control_path), images(12))


def test_depth_becomes_disparity(folder: Path, tmp_path: Path) -> None:
    import_cosmoswriter(folder, tmp_path / "out", CONFIG)
    sample = read_spec(tmp_path / "out" / "spec.jsonl")[0]
    codes = images(1)[..., 0].astype(np.float64)
    # Replicator: 255 (1 - (log d - log near) / (log far - log near)) with near 0.1 m and far 100 m
    distance_m = np.exp(np.log(0.1) + (1 - codes / 255) * (np.log(100) - np.log(0.1)))
    distance_m[codes == 0] = np.inf
    expected = depth_control(distance_m.astype(np.float32))
    shown = read_video(sample.controls["depth"].control_path)
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1


def test_writers_edges_and_prompts_of_clips(folder: Path, tmp_path: Path) -> None:
    config = CosmosWriterConfig(prompts={"clip_0000": "a", "clip_0001": "b"}, edges="writer", weights={"edge": 0.5})
    import_cosmoswriter(folder, tmp_path / "out", config)
    first, second = read_spec(tmp_path / "out" / "spec.jsonl")
    assert (first.prompt, second.prompt) == ("a", "b")
    assert set(first.controls) == {"edge"}
    assert first.controls["edge"].control_weight == 0.5
    np.testing.assert_array_equal(read_video(first.controls["edge"].control_path), images(4))


def test_videos_serve_where_images_were_not_kept(folder: Path, tmp_path: Path) -> None:
    for clip in folder.iterdir():
        shutil.rmtree(clip / "rgb")
        (clip / "rgb").mkdir()
        write_video(clip / "rgb" / "rgb.mp4", images(0), Fraction(30))
    import_cosmoswriter(folder, tmp_path / "out", CONFIG)
    assert read_video(read_spec(tmp_path / "out" / "spec.jsonl")[0].video_path).shape == (FRAMES, *SIZE, 3)


@pytest.mark.parametrize(
    ("break_it", "config", "line"),
    [
        (lambda f: shutil.rmtree(f / "clip_0001" / "rgb"), CONFIG, "clip_0001: no rgb/rgb_0000.png"),
        (lambda f: (f / "clip_0001/depth/depth_0002.png").unlink(), CONFIG, "depth has 2 frames of 10x14, rgb 3"),
        (lambda f: (f / "clip_0000/rgb/rgb_0001.png").write_bytes(b"\x89PNG"), CONFIG, "rgb_0001.png: truncated or"),
        (lambda f: None, CosmosWriterConfig(), "clip_0000: no prompt; say 'prompt="),
        (lambda f: None, CosmosWriterConfig(prompt="a", prompts={"x": "b"}), "has no clip 'x'"),
        (lambda f: [shutil.rmtree(clip) for clip in f.iterdir()], CONFIG, "no clip_0000, clip_0001, ... here"),
        (lambda f: None, CosmosWriterConfig(prompt="a", weights={"edge": 0.0}), "no control is left"),
    ],
)
def test_what_is_missing_is_named(folder: Path, tmp_path: Path, break_it, config, line: str) -> None:
    break_it(folder)
    with pytest.raises(InputError, match=line):
        import_cosmoswriter(folder, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_images_outside_the_clip_are_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "clip_0000" / "rgb" / "rgb_0000.png"
    file.rename(tmp_path / "elsewhere.png")
    file.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match="leads outside the clip"):
        import_cosmoswriter(folder, tmp_path / "out", CONFIG)


def test_killed_import_goes_on(folder: Path, tmp_path: Path, kill_at_operation) -> None:
    out = tmp_path / "made" / "out"
    import_cosmoswriter(folder, tmp_path / "whole", CONFIG)
    for operation in (5, 12, 20):
        if not kill_at_operation(operation, out.parent, lambda: import_cosmoswriter(folder, out, CONFIG)):
            break
        assert not out.exists()
    if not out.exists():
        import_cosmoswriter(folder, out, CONFIG)
    assert (out / "spec.jsonl").read_bytes() == (tmp_path / "whole" / "spec.jsonl").read_bytes()
    assert json.loads((out / "spec.jsonl").read_text().splitlines()[0])["video_path"] == "clip_0000/rgb.mkv"


@pytest.mark.parametrize("keys", [{"edges": "x"}, {"near_m": 0.0}, {"fps": 0}, {"weights": {"edge": 2.0}}])
def test_bad_config_is_named(keys: dict) -> None:
    with pytest.raises(InputError):
        CosmosWriterConfig(**keys)
