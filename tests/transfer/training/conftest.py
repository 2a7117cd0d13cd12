"""A clip pool without a simulator: noise with two instances that move."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import CameraPasses, InstanceLabel
from cosmos_engine.transfer.training.clips import (
    CLIPS_PER_GROUP,
    MANIFEST,
    ClipPool,
    group_file,
    labels_as_json,
    write_group,
)
from tests.transfer.training.small_run import write_begun

WORDS = {
    "table": "brown wood",
    "wall": "plain grey",
    "floor": "white tiles",
    "robot": "plain white",
    "light": "soft light from above",
    "objects": {"cube": "red cube"},
}

LABELS = {
    1: InstanceLabel("robot", "robot_arm", "robot"),
    3: InstanceLabel("table", "table", "scene"),
    6: InstanceLabel("cube", "red cube", "manipulated"),
}


def write_pool(folder: Path, groups: int = 2, frames: int = 5, size: int = 32, seed: int = 0) -> ClipPool:
    """Write a pool of 4 clips a group, as the renderer would; as of recordings where the renderer has no such size."""
    (folder / "groups").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for group in range(groups):
        clips = []
        for _ in range(CLIPS_PER_GROUP):
            instance = np.full((frames, size, size), 3, np.uint16)
            instance[:, : size // 2, : size // 2] = 1
            instance[:, size // 2 :, rng.integers(size // 2) :] = 6
            colors = rng.integers(0, 256, (8, 3), dtype=np.uint8)
            clips.append(
                CameraPasses(
                    colors[instance] ^ rng.integers(0, 8, (frames, size, size, 3), dtype=np.uint8),
                    (1.0 + instance / 4.0).astype(np.float32),
                    instance,
                    np.array([[float(size), 0, size / 2], [0, float(size), size / 2], [0, 0, 1]]),
                    np.tile(np.eye(4), (frames, 1, 1)),
                )
            )
        described = [{"words": WORDS, "labels": labels_as_json(LABELS)}] * CLIPS_PER_GROUP
        write_group(group_file(folder, group), clips, described)
    manifest: dict[str, object] = {
        "frames": frames,
        "image_size": size,
        "seed": seed,
        "clips": groups * CLIPS_PER_GROUP,
    }
    if size % 16:
        manifest = {"frames": frames, "size": [size, size], "groups": [CLIPS_PER_GROUP] * groups}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return ClipPool(folder)


@pytest.fixture(scope="session")
def pool(tmp_path_factory) -> ClipPool:
    return write_pool(tmp_path_factory.mktemp("pool") / "clips")


@pytest.fixture(scope="session")
def begun(tmp_path_factory) -> Path:
    """A small checkpoint to go on from."""
    return write_begun(tmp_path_factory.mktemp("begun") / "tiny.safetensors")
