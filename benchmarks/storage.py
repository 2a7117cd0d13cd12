"""Measure what recordings and datasets cost: time a control step, throughput, bytes a frame, and how they scale.

    python benchmarks/storage.py [RECORDING] [--episodes 20] [--many 2000]

Without a recording it makes one of moving discs before a textured ground; a recording of the simulator is closer to
what a user sees. Prints one line a figure; docs/performance.md states them.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
import uuid
from pathlib import Path

import cv2
import numpy as np

from cosmos_engine.data import (
    CameraPasses,
    Dataset,
    DatasetWriter,
    Episode,
    InstanceLabel,
    Recording,
    RecordingWriter,
    build_certificate,
    verify_dataset,
)

ENV_ARGS = {"env_name": "benchmark", "type": 2, "env_kwargs": {}}
STEPS = 80
CAMERAS = ("agentview", "robot0_eye_in_hand")


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recording", nargs="?", type=Path, help="take the episode from this recording")
    parser.add_argument("--episodes", type=int, default=20, help="episodes to write (default 20)")
    parser.add_argument("--many", type=int, default=2000, help="tiny episodes, to see how it scales (default 2000)")
    arguments = parser.parse_args()
    episode = Recording(arguments.recording).episode(0) if arguments.recording else made_episode(STEPS, 128)
    with tempfile.TemporaryDirectory() as folder:
        measure_recording(Path(folder), episode, arguments.episodes)
        measure_dataset(Path(folder), episode, arguments.episodes)
        measure_many(Path(folder), arguments.many)


def measure_recording(folder: Path, episode: Episode, count: int) -> None:
    """Print what appending and reading back one episode costs."""
    steps = count * episode.length
    raw = sum(a.nbytes for p in episode.cameras.values() for a in (p.rgb, p.depth_m, p.instance))
    start = time.perf_counter()
    with RecordingWriter(folder / "demos", ENV_ARGS) as writer:
        for _ in range(count):
            writer.append(episode)
    seconds = time.perf_counter() - start
    written = sum(file.stat().st_size for file in (folder / "demos" / "episodes").iterdir()) / count
    report("recording: append", seconds / steps * 1e3, "ms a control step, all cameras")
    report("recording: append", raw * count / seconds / 1e6, "MB/s of passes")
    report("recording: size", written / episode.length / len(episode.cameras), "bytes a frame (rgb, depth, instance)")
    report("recording: compression", raw / written, "times")
    recording = Recording(folder / "demos")
    start = time.perf_counter()
    for index in range(count):
        recording.episode(index)
    report("recording: read", raw * count / (time.perf_counter() - start) / 1e6, "MB/s of passes")


def measure_dataset(folder: Path, episode: Episode, count: int) -> None:
    """Print what appending, reading back and verifying cost; variants are the episode with noise of one grey level."""
    rng = np.random.default_rng(0)
    recording = Recording(folder / "demos")
    variants = []
    for _ in range(4):
        arrays = {"action": episode.actions, "state": episode.states, "timestamp": episode.timestamps_s}
        arrays.update(episode.observations)
        for name, passes in episode.cameras.items():
            noise = rng.integers(0, 2, passes.rgb.shape, dtype=np.uint8)
            arrays[f"{name}_image"] = cv2.add(passes.rgb, noise)
        variants.append(arrays)
    pixels = sum(array.nbytes for key, array in variants[0].items() if key.endswith("_image"))
    path = folder / "benchmark.zarr"
    with DatasetWriter(path, attrs={}) as writer:
        start = time.perf_counter()
        for index in range(count):
            writer.append(variants[index % 4], source_demo=index, variant=1, accepted=True, info={"prompt": "noise"})
        seconds = time.perf_counter() - start
        writer.finish(build_certificate(recording, writer, config={}, weights_sha256={}))
    written = sum(file.stat().st_size for file in (path / "data").glob("*_image/*"))
    report("dataset: append", pixels * count / seconds / 1e6, "MB/s of raw pixels")
    report("dataset: append", seconds / count * 1e3, "ms an episode")
    report("dataset: compression of noisy images", pixels * count / written, "times")
    dataset = Dataset(path)
    start = time.perf_counter()
    for index in range(count):
        dataset.episode(index)
    report("dataset: read", pixels * count / (time.perf_counter() - start) / 1e6, "MB/s of raw pixels")
    start = time.perf_counter()
    assert verify_dataset(path, folder / "demos").intact
    report("dataset: verify against recording", (time.perf_counter() - start) / count * 1e3, "ms an episode")


def measure_many(folder: Path, count: int) -> None:
    """Print how appending and opening scale with the number of episodes."""
    tiny = made_episode(4, 16)
    arrays = {"action": tiny.actions, "state": tiny.states, "timestamp": tiny.timestamps_s}
    half = count // 2
    with (
        RecordingWriter(folder / "many", ENV_ARGS) as recording,
        DatasetWriter(folder / "many.zarr", attrs={}) as dataset,
    ):
        seconds = {"recording": [0.0, 0.0], "dataset": [0.0, 0.0]}
        for index in range(count):
            start = time.perf_counter()
            recording.append(tiny)
            between = time.perf_counter()
            dataset.append(arrays, source_demo=index, variant=0, accepted=True, info={"prompt": "a tiny prompt"})
            seconds["recording"][index // half % 2] += between - start
            seconds["dataset"][index // half % 2] += time.perf_counter() - between
        dataset.finish({})
    for name, (first, second) in seconds.items():
        report(f"{name} of {count}: append, first half", first / half * 1e3, "ms an episode")
        report(f"{name} of {count}: append, second half", second / half * 1e3, "ms an episode")
    start = time.perf_counter()
    opened = Recording(folder / "many")
    report(f"recording of {count}: open", (time.perf_counter() - start) * 1e3, "ms")
    start = time.perf_counter()
    opened.seeds()
    report(f"recording of {count}: all headers", (time.perf_counter() - start) * 1e3, "ms")
    start = time.perf_counter()
    assert len(Dataset(folder / "many.zarr").info) == count
    report(f"dataset of {count}: open", (time.perf_counter() - start) * 1e3, "ms")


def made_episode(steps: int, size: int) -> Episode:
    """Return an episode of a disc that crosses a textured ground."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(60, 200, (size // 4, size // 4, 3), dtype=np.uint8), (size, size))
    rows, columns = np.mgrid[:size, :size]
    disc = np.stack(
        [(rows - size / 2) ** 2 + (columns - size * t / steps) ** 2 < (size / 8) ** 2 for t in range(steps)]
    )
    passes = CameraPasses(
        rgb=np.where(disc[..., None], np.array([200, 40, 40], dtype=np.uint8), ground),
        depth_m=np.where(disc, 0.7, 1 / (0.5 + rows * 0.004)).astype(np.float32),
        instance=np.where(disc, 2, 1).astype(np.uint16),
        intrinsics_px=np.eye(3),
        world_from_camera=np.tile(np.eye(4), (steps, 1, 1)),
    )
    return Episode(
        actions=rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        states=rng.normal(size=(steps, 60)),
        rewards=np.zeros(steps, dtype=np.float32),
        dones=np.zeros(steps, dtype=bool),
        observations={"robot0_eef_pos": np.zeros((steps, 3), dtype=np.float32)},
        cameras={name: dataclasses.replace(passes) for name in CAMERAS},
        labels={1: InstanceLabel("ground", "ground", "scene"), 2: InstanceLabel("disc", "disc", "manipulated")},
        success=True,
        seed=0,
        step_hz=20.0,
        episode_id=str(uuid.UUID(int=0)),
        source="benchmark",
        task="benchmark",
        instruction="move the disc",
    )


def report(name: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(f"{name:<48} {value:>12.3f} {unit}")


if __name__ == "__main__":
    main()
