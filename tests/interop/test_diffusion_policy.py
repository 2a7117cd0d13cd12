"""diffusion_policy's unmodified ReplayBuffer and SequenceSampler on a dataset, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.data import Dataset

READER = Path(__file__).with_name("read_replay_buffer.py")


def test_replay_buffer_and_sampler_read_a_dataset(dataset: Path, tmp_path: Path) -> None:
    """Set COSMOS_ENGINE_DIFFUSION_POLICY to a checkout of real-stanford/diffusion_policy, and
    COSMOS_ENGINE_DIFFUSION_POLICY_PYTHON to a Python with `zarr==2.18.*`, `numcodecs<0.16` and numba.
    """
    checkout = os.environ.get("COSMOS_ENGINE_DIFFUSION_POLICY")
    python = os.environ.get("COSMOS_ENGINE_DIFFUSION_POLICY_PYTHON")
    if not checkout or not python:
        pytest.skip(
            "set COSMOS_ENGINE_DIFFUSION_POLICY (a checkout) and COSMOS_ENGINE_DIFFUSION_POLICY_PYTHON (zarr 2)"
        )
    subprocess.run([python, str(READER), checkout, str(dataset), str(tmp_path / "found.npz")], check=True)
    source = Dataset(dataset)
    with np.load(tmp_path / "found.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["episode_ends"], source.episode_ends)
        keys = [name.removeprefix("rows/") for name in found if name.startswith("rows/")]
        assert set(keys) == {"action", "robot0_eef_pos", "robot1_eef_pos", "wrench", "table_image", "wrist_image"}
        for key in keys:
            rows = source.array(key)[:]
            assert found[f"rows/{key}"].dtype == rows.dtype
            np.testing.assert_array_equal(found[f"rows/{key}"], rows)
            np.testing.assert_array_equal(found[f"episode/{key}"], source.episode(1)[key])
        lengths = np.diff(source.episode_ends, prepend=0)[source.accepted]
        assert len(found["action"]) == sum(length - 4 + 1 + 2 + 1 for length in lengths)
        first = source.episode(0)["action"]
        np.testing.assert_array_equal(found["action"][0], first[[0, 0, 1, 2]])  # the edge is repeated before the start
        np.testing.assert_array_equal(found["wrist_image"][1], source.episode(0)["wrist_image"][:4])
