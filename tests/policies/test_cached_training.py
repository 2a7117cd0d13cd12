"""Training from the frame cache: the frames, the windows and the policy are those of training from RAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import frame_cache
from cosmos_engine.data.dataset import Dataset
from policies.images import resize_by_area
from policies.training import train
from policies.windows import load_frames
from tests.policies.small_run import SMALL

OBSERVATIONS = ["agentview_image", "robot0_eef_pos"]


@pytest.mark.parametrize("image_size", [16, 9])
@pytest.mark.parametrize("variants_per_demo", [None, 0, 1])
def test_map_and_ram_give_what_each_episode_decodes_to(
    image_size: int,
    variants_per_demo: int | None,
    dataset_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = Dataset(dataset_of(tmp_path / "d.zarr", demos=2, variants=2, rejected=((0, 1),)))
    chosen = {None: [0, 2, 3, 4, 5], 0: [0, 3], 1: [0, 2, 3, 4]}[variants_per_demo]
    stored = [dataset.episode(episode)["agentview_image"] for episode in chosen]
    expected = np.concatenate([resize_by_area(images, image_size) for images in stored])
    for ram_bytes in (1 << 30, 0, 0):
        monkeypatch.setattr(frame_cache, "RAM_BYTES", ram_bytes)
        frames = load_frames(dataset, OBSERVATIONS, image_size, variants_per_demo)
        np.testing.assert_array_equal(frames.images["agentview_image"], expected)
        batch = frames.gather(np.arange(len(frames)), 2, 4)
        np.testing.assert_array_equal(batch.images["agentview_image"][:, 1], expected)
        assert frames.actions.shape[0] == len(expected)
    assert len(list(tmp_path.glob("d.zarr.frames/*/*"))) == 1


def test_policy_trained_from_a_map_is_the_same_bytes(
    dataset_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of(tmp_path / "d.zarr", demos=3)
    config = replace(SMALL, policy=replace(SMALL.policy, image_size=15))
    policies = []
    for name, ram_bytes in (("ram", 1 << 30), ("made", 0), ("found", 0)):
        monkeypatch.setattr(frame_cache, "RAM_BYTES", ram_bytes)
        train(dataset, tmp_path / name, config)
        policies.append((tmp_path / name / "policy.safetensors").read_bytes())
        assert (tmp_path / "d.zarr.frames").exists() == (ram_bytes == 0)
    assert policies[0] == policies[1] == policies[2]
