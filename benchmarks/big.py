"""Measure how recordings and datasets grow: many episodes, and long ones.

    python benchmarks/big.py [--episodes 1000 3000 10000] [--frames 1000 3000 10000]

Every line is measured in processes of its own, one for writing, one for opening and one for verifying, so that the peak
of memory is theirs alone. What linear means: seconds an episode (or a frame) stay the same from the first line to the
last. Many episodes have 8 frames of 16x16; a long one has frames of 32x32; both have one camera with all passes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

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
    verify_recording,
)

ENV_ARGS = {"env_name": "benchmark", "type": 2, "env_kwargs": {}}
CAMERA = "agentview"
SHORT_FRAMES, SHORT_SIZE, LONG_SIZE = 8, 16, 32


def made_episode(frames: int, size: int, seed: int) -> Episode:
    """Return an episode of `frames` noisy frames of size x size."""
    rng = np.random.default_rng(seed)
    passes = CameraPasses(
        rgb=rng.integers(100, 110, (frames, size, size, 3), dtype=np.uint8),
        depth_m=np.full((frames, size, size), 0.7, np.float32),
        instance=np.ones((frames, size, size), np.uint16),
        intrinsics_px=np.eye(3),
        world_from_camera=np.tile(np.eye(4), (frames, 1, 1)),
    )
    return Episode(
        actions=rng.uniform(-1, 1, (frames, 7)).astype(np.float32),
        states=rng.normal(size=(frames, 9)),
        rewards=np.zeros(frames, np.float32),
        dones=np.zeros(frames, bool),
        observations={"robot0_eef_pos": np.zeros((frames, 3), np.float32)},
        cameras={CAMERA: passes},
        labels={1: InstanceLabel("ground", "ground", "scene")},
        success=True,
        seed=seed,
        step_hz=20.0,
        episode_id=str(uuid.UUID(int=seed)),
        source="benchmark",
        task="benchmark",
        instruction="wait",
    )


def write_recording(folder: Path, episodes: int, frames: int, size: int) -> None:
    """Write a recording of `episodes` episodes."""
    with RecordingWriter(folder / "demos", ENV_ARGS) as writer:
        for seed in range(episodes):
            writer.append(made_episode(frames, size, seed))


def write_dataset(folder: Path, _episodes: int, _frames: int, _size: int) -> None:
    """Write a dataset of the recording, as `augment --variants 0` does."""
    recording = Recording(folder / "demos")
    with DatasetWriter(folder / "demos.zarr", attrs={}) as writer:
        for index in range(len(recording)):
            episode = recording.episode(index)
            arrays = {"action": episode.actions, "state": episode.states, "timestamp": episode.timestamps_s}
            arrays |= episode.observations | {f"{CAMERA}_image": episode.cameras[CAMERA].rgb}
            writer.append(arrays, source_demo=index, variant=0, accepted=True, info={"prompt": "a tiny prompt"})
        writer.finish(build_certificate(recording, writer, config={}, weights_sha256={}))


def open_recording(folder: Path, *_sizes: int) -> None:
    """Open a recording and count its episodes."""
    assert len(Recording(folder / "demos")) > 0


def open_dataset(folder: Path, *_sizes: int) -> None:
    """Open a dataset, read what it says of its episodes, and the last one."""
    dataset = Dataset(folder / "demos.zarr")
    assert len(dataset.info) == dataset.episode_count
    dataset.episode(dataset.episode_count - 1)


def check_recording(folder: Path, *_sizes: int) -> None:
    """Verify a recording."""
    assert verify_recording(folder / "demos").sound


def check_dataset(folder: Path, *_sizes: int) -> None:
    """Verify a dataset against its recording."""
    assert verify_dataset(folder / "demos.zarr", folder / "demos").intact


WORK: dict[str, Callable[[Path, int, int, int], None]] = {
    "recording: write": write_recording,
    "recording: open": open_recording,
    "recording: verify": check_recording,
    "dataset: write": write_dataset,
    "dataset: open": open_dataset,
    "dataset: verify": check_dataset,
}


def measured(work: str, folder: Path, episodes: int, frames: int, size: int) -> tuple[float, float]:
    """Return the seconds of some work, imports apart, and the peak of its process's memory in MiB."""
    command = [sys.executable, __file__, "--work", work, str(folder), str(episodes), str(frames), str(size)]
    seconds, peak_mib = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, peak_mib


def table(cases: list[tuple[int, int, int]], unit: str, per: int) -> None:
    """Print the work of each case; `per` says which of its numbers the time is divided by."""
    print(f"{'':20}" + "".join(f"{case[per]:>30,} {unit}" for case in cases))
    lines: dict[str, list[str]] = {work: [] for work in WORK}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            for work in WORK:
                seconds, peak_mib = measured(work, Path(folder), *case)
                each = "" if "open" in work else f" = {1e3 * seconds / case[per]:.2f} ms each"
                lines[work].append(f"{seconds:.2f} s{each}, {peak_mib:.0f} MiB")
    for work, cells in lines.items():
        print(f"{work:20}" + "".join(f"{cell:>{31 + len(unit)}}" for cell in cells))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work, folder, *sizes = args.work
        began = time.perf_counter()
        WORK[work](Path(folder), *(int(size) for size in sizes))
        seconds = time.perf_counter() - began
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
        return
    table([(count, SHORT_FRAMES, SHORT_SIZE) for count in args.episodes], "episodes", 0)
    table([(1, frames, LONG_SIZE) for frames in args.frames], "frames", 1)


if __name__ == "__main__":
    main()
