"""Time the tiny generator: seconds for one variant of 64 frames of 128x128 from two cameras, controls included.

    python benchmarks/augment.py [--repeats 5] [--threads 2] [--json FILE]

Budget: at most 10 s on two cores. The clip is a recorded demo of the embedded table-top, repeated to 64 frames.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cosmos_engine.controls import ControlClip, Recipe, control_clip
from cosmos_engine.data import CameraPasses, Episode, Recording
from cosmos_engine.sim.recorder import RecordConfig, record_demos
from cosmos_engine.transfer.sampling import SamplingConfig
from cosmos_engine.transfer.transfer25 import Transfer25

FRAMES = 64
PROMPT = "table: dark brown wood. wall: plain light grey. floor: grey tiles. robot: brushed grey metal. light: above."


def main() -> None:
    """Print the median of several repeats for 1, 2 and 4 denoise steps, and for the controls alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    episode = recorded_episode()
    cameras = [long_passes(passes) for passes in episode.cameras.values()]

    def clips() -> list[ControlClip]:
        return [control_clip(passes, episode.labels, Recipe(), 0) for passes in cameras]

    results = {"controls": median_s(clips, args.repeats)}
    for steps in (1, 2, 4):
        generator = Transfer25.tiny(sampling=SamplingConfig(steps=steps))
        results[f"variant, {steps} denoise steps"] = median_s(
            lambda made=generator: made.generate(clips(), [PROMPT], [1]), args.repeats
        )
    for name, seconds in results.items():
        print(f"{name:28} {seconds:7.2f} s")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


def recorded_episode() -> Episode:
    """Record one demo of lift in a temporary folder and return it."""
    with tempfile.TemporaryDirectory() as folder:
        record_demos(RecordConfig(task="lift", episodes=1), folder)
        return Recording(folder).episode(0)


def long_passes(passes: CameraPasses) -> CameraPasses:
    """Return the passes played to and fro until there are 64 frames."""
    there = np.arange(len(passes.rgb))
    frames = np.resize(np.concatenate([there, there[::-1]]), FRAMES)
    return CameraPasses(
        passes.rgb[frames],
        passes.depth_m[frames],
        passes.instance[frames],
        passes.intrinsics_px,
        passes.world_from_camera[frames],
    )


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of `repeats` calls, after one that is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
