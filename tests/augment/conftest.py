import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_engine.controls import ControlClip, Framing, Modality, identity_framing
from cosmos_engine.data import CameraPasses, Episode, InstanceLabel, RecordingWriter
from cosmos_engine.errors import InputError

LABELS = {
    1: InstanceLabel("robot", "robot_arm", "robot"),
    2: InstanceLabel("cube", "red cube", "manipulated"),
    3: InstanceLabel("table", "table", "scene"),
}


def make_episode(seed: int, length: int = 6) -> Episode:
    rng = np.random.default_rng(seed)
    instance = np.full((length, 16, 16), 3, np.uint16)
    instance[:, :8] = 1
    instance[:, 9:12, 4:8] = 2
    cameras = {
        name: CameraPasses(
            rgb=rng.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
            depth_m=rng.uniform(0.5, 1.5, (length, 16, 16)).astype(np.float32),
            instance=instance,
            intrinsics_px=np.eye(3),
            world_from_camera=np.tile(np.eye(4), (length, 1, 1)),
        )
        for name in ("agentview", "robot0_eye_in_hand")
    }
    return Episode(
        actions=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
        states=rng.normal(size=(length, 5)),
        rewards=np.zeros(length, np.float32),
        dones=np.zeros(length, bool),
        observations={"robot0_eef_pos": rng.normal(size=(length, 3)).astype(np.float32)},
        cameras=cameras,
        labels=LABELS,
        success=True,
        seed=seed,
        step_hz=20.0,
        episode_id=f"00000000-0000-0000-0000-{seed:012d}",
        source="test",
        task="lift",
        instruction="lift the red cube",
    )


class SeededGenerator:
    """A generator whose pixels depend on source, prompt and seed, and that remembers what it was asked."""

    name = "seeded"

    uses_prompts = True

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[str, ...], tuple[int, ...]]] = []
        self.fail_at_call: int | None = None

    @property
    def provenance(self) -> dict[str, Any]:
        return {"weights_sha256": {}}

    def framing(self, height: int, width: int) -> Framing:
        return identity_framing(height, width)

    def prepare(self, prompts: Sequence[str]) -> None:
        if any(len(prompt.split()) > 60 for prompt in prompts):
            raise InputError("prompt too long")

    def plan(self, sizes: Sequence[tuple[int, int]], modalities: Sequence[Modality], rows: int) -> str:
        self.planned = (list(sizes), list(modalities), rows)
        return "memory: a plan"

    def close(self) -> None:
        pass

    def generate(self, clips: Sequence[ControlClip], prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        tints = [
            np.random.default_rng((seed, len(prompt))).integers(0, 256, 3)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        videos = []
        for clip in clips:
            if len(self.calls) == self.fail_at_call:
                raise KeyboardInterrupt
            self.calls.append((tuple(prompts), tuple(seeds)))
            videos.append(np.stack([(clip.rgb // 2 + tint // 2).astype(np.uint8) for tint in tints]))
        return videos


@dataclass(frozen=True)
class SeededVerdict:
    measures: Mapping[str, float]
    failures: tuple[str, ...]


class SeededGate:
    """A gate that rejects by the pixels alone: as many percent of all variants as it is told to."""

    def __init__(self, percent: int = 50) -> None:
        self.percent = percent
        self.judged = 0

    @property
    def provenance(self) -> dict[str, Any]:
        return {"reader": "seeded", "percent": self.percent}

    def judge(self, source: Episode, images: Mapping[str, np.ndarray], prompt: str = "") -> SeededVerdict:
        self.judged += 1
        score = zlib.crc32(b"".join(images[camera].tobytes() for camera in sorted(images))) % 100
        line = f"agentview/score {score}, expected at least {self.percent}"
        return SeededVerdict({"agentview/score": float(score)}, (line,) if score < self.percent else ())


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    folder = tmp_path / "demos"
    with RecordingWriter(folder, {"env_name": "test", "type": 1, "env_kwargs": {}}) as writer:
        for seed in range(3):
            writer.append(make_episode(seed, length=8 + seed))
    return folder
