"""Measure how recordings and datasets grow: many episodes, and long ones.

    python benchmarks/big.py [--episodes 1000 3000 10000] [--frames 1000 3000 10000]

Every line is measured in processes of its own, one for writing, one for opening and one for verifying, so that the peak
of memory is theirs alone. What linear means: seconds an episode (or a frame) stay the same from the first line to the
last. Many episodes have 8 frames of 16x16; a long one has frames of 32x32; both have one camera with all passes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from storage import ENV_ARGS, made_episode

from cosmos_engine.data import (
    Dataset,
    DatasetWriter,
    Recording,
    RecordingWriter,
    build_certificate,
    verify_dataset,
    verify_recording,
)

CAMERA = "agentview"
SHORT_FRAMES, SHORT_SIZE, LONG_SIZE = 8, 16, 32


def write_recording(folder: Path, episodes: int, frames: int, size: int) -> None:
    """Write a recording of `episodes` episodes."""
    with RecordingWriter(folder / "demos", ENV_ARGS) as writer:
        for seed in range(episodes):
            episode = made_episode(frames, size, seed)
            writer.append(dataclasses.replace(episode, cameras={CAMERA: episode.cameras[CAMERA]}))


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
