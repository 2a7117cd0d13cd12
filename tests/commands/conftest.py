"""A small recording and the dataset of a gated job, written without a simulator or a generator."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_engine.cli import main
from cosmos_engine.data import (
    CameraPasses,
    DatasetWriter,
    Episode,
    InstanceLabel,
    Recording,
    RecordingWriter,
    build_certificate,
)

CAMERAS = ("agentview", "wrist")
STEPS = 4
GATE = {"config": {"fixed": {"least_motion": 0.1, "edge_f1": None}, "stop_early": True}, "reader": "r", "critic": None}


@dataclass(frozen=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: list[str]
    error: str
    """The one line of a refusal; empty if there was none."""


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Run a command of `cosmos-engine` as a user types it."""

    def run(*words: object) -> Ran:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line.startswith("cosmos-engine")]
        assert len(lines) == (1 if code else 0)
        return Ran(code, said.out.splitlines(), lines[0] if lines else "")

    return run


def _passes(rng: np.random.Generator) -> CameraPasses:
    return CameraPasses(
        rgb=rng.integers(0, 256, (STEPS, 12, 16, 3), dtype=np.uint8),
        depth_m=rng.uniform(0.5, 2.0, (STEPS, 12, 16)).astype(np.float32),
        instance=rng.integers(0, 4, (STEPS, 12, 16), dtype=np.uint16),
        intrinsics_px=np.array([[50.0, 0, 8], [0, 50.0, 6], [0, 0, 1]]),
        world_from_camera=np.tile(np.eye(4), (STEPS, 1, 1)),
    )


def _episode(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        actions=rng.uniform(-1, 1, (STEPS, 7)).astype(np.float32),
        states=rng.normal(size=(STEPS, 5)),
        rewards=np.zeros(STEPS, np.float32),
        dones=np.arange(STEPS) == STEPS - 1,
        observations={"robot0_eef_pos": rng.normal(size=(STEPS, 3)).astype(np.float32)},
        cameras={name: _passes(rng) for name in CAMERAS},
        labels={
            1: InstanceLabel("arm", "robot", "robot"),
            2: InstanceLabel("cube", "cube", "manipulated"),
            3: InstanceLabel("table", "table", "scene"),
        },
        success=True,
        seed=seed,
        step_hz=20.0,
        episode_id=f"00000000-0000-4000-8000-{seed:012d}",
        source="made by hand",
        task="lift",
        instruction="lift the cube",
    )


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not sync: it matters after a power cut, which no test makes, and takes minutes on a busy disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def small_recording(tmp_path: Path, written_once: Path) -> Path:
    """Sixteen demos of four frames, two cameras of 16 x 12."""
    return Path(shutil.copytree(written_once / "demos", tmp_path / "demos"))


@pytest.fixture
def small_dataset(tmp_path: Path, written_once: Path) -> Path:
    """Two variants of each demo; demo 1's second one was rejected, demo 15 was left out."""
    return Path(shutil.copytree(written_once / "lift.zarr", tmp_path / "lift.zarr"))


def mean_red(images: dict[str, np.ndarray]) -> dict[str, float]:
    """The measure of the gate that tests put in the place of the real one."""
    return {f"{camera}/least_motion": float(frames[..., 0].mean()) for camera, frames in sorted(images.items())}


@pytest.fixture(scope="session")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recording and the dataset, for tests to copy."""
    folder = tmp_path_factory.mktemp("small")
    with RecordingWriter(folder / "demos", {"env_name": "lift", "type": 2, "env_kwargs": {}}) as writer:
        for seed in range(16):
            writer.append(_episode(seed))
    _write_dataset(Recording(folder / "demos"), folder / "lift.zarr")
    return folder


def _write_dataset(recording: Recording, path: Path) -> None:
    strip = io.BytesIO()
    Image.fromarray(np.zeros((12, 64, 3), np.uint8)).save(strip, "JPEG")
    job: dict[str, Any] = {"gate": GATE, "config": {"threads": 1}}
    with DatasetWriter(path, attrs={"job": job}) as writer:
        for demo in range(15):
            episode = recording.episode(demo)
            for variant in range(3 if demo != 1 else 2):
                images = {name: passes.rgb // (variant + 1) for name, passes in episode.cameras.items()}
                made = {
                    "generator": "photometric",
                    "prompt": f"look {demo} {variant}",
                    "seed": 10 * demo + variant,
                    "gate": {"measures": mean_red(images), "tries": variant, "recipe": "default"},
                }
                arrays = {
                    "action": episode.actions,
                    "state": episode.states,
                    "timestamp": episode.timestamps_s,
                    **episode.observations,
                    **{f"{name}_image": rgb for name, rgb in images.items()},
                }
                writer.append(
                    arrays, source_demo=demo, variant=variant, accepted=True, info=made if variant else {"task": "lift"}
                )
        failed = {"seed": 5, "recipe": "stricter", "failures": ["wrist/least_motion 0.01, expected at least 0.10"]}
        rejected = [
            {
                "source_demo": 1,
                "variant": 2,
                "prompt": "look 1 2",
                "reason": "gate",
                "tries": [{**failed, "measures": {"wrist/least_motion": 0.01}}],
                "strips": {"wrist": "rejected/000001_002_wrist.jpg"},
            },
            {"source_demo": 15, "variant": 0, "reason": "short"},
        ]
        (writer.path / "rejected").mkdir()
        (writer.path / "rejected" / "000001_002_wrist.jpg").write_bytes(strip.getvalue())
        (writer.path / "rejected.json").write_text(json.dumps(rejected))
        writer.finish(build_certificate(recording, writer, config=job, weights_sha256={}))
