"""Measure acting: control steps/s of vectorised environments, and rollouts/s of diffusion policies in them.

    MUJOCO_GL=egl python benchmarks/rollouts.py [--task lift] [--environments 50] [--workers 1 2] [--json FILE]

The first table has no policy: random action chunks, states only (budget: 2,000 control steps/s on two cores), then with
both cameras. The second has policies of random weights, which cost what trained ones do, to the horizon: the state
policy of configs/train/state.yaml (DDPM, 20 denoise steps) and the image policy of configs/train/default.yaml. Run it
on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from cosmos_engine.config import load_config
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.vector import VectorEnvironment
from policies.diffusion import DiffusionPolicy
from policies.dppo.evaluation import evaluate
from policies.policy import PolicySpec
from policies.training import TrainConfig

CHUNK = 4
IMAGE_SIZE = 128
CAMERAS = ("agentview", "robot0_eye_in_hand")
STATES = {"robot0_eef_pos": [3], "robot0_eef_quat": [4], "robot0_gripper_qpos": [2]}


def environment_rate(environments: VectorEnvironment, chunks: int, repeats: int) -> float:
    """Return the median control steps/s of random action chunks, resets included."""
    slots, rng, rates = range(environments.count), np.random.default_rng(0), []
    seeds = iter(range(2**31))
    for _ in range(repeats):
        environments.reset(slots, [next(seeds) for _ in slots])
        actions = rng.uniform(-1, 1, (chunks, environments.count, CHUNK, 7)).astype(np.float32)
        began, steps = time.perf_counter(), 0
        for action in actions:
            steps += sum(result.steps for result in environments.step(slots, action, [next(seeds) for _ in slots]))
        rates.append(steps / (time.perf_counter() - began))
    return statistics.median(rates)


def untrained_policy(config: str, task: str, observations: dict[str, list[int]]) -> DiffusionPolicy:
    """Return a policy of a shipped training config, of random weights, that sees these observations."""
    sizes = load_config(TrainConfig, config).policy
    torch.manual_seed(0)
    return DiffusionPolicy(
        sizes, PolicySpec(observations, 7, 20.0, sizes.observation_frames, sizes.action_chunk)
    ).eval()


def main() -> None:
    """Print both tables and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="lift")
    parser.add_argument("--environments", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--chunks", type=int, default=25, help="action chunks a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    states = partial(TabletopEnvironment, args.task, cameras=(), render=False)
    images = partial(TabletopEnvironment, args.task, cameras=CAMERAS, image_size=IMAGE_SIZE)
    object_width = states().observation_spec["object"][0]
    seen_images = {f"{camera}_image": [IMAGE_SIZE, IMAGE_SIZE, 3] for camera in CAMERAS}
    rows: list[dict[str, Any]] = []

    def row(measure: str, workers: int, rate: float, unit: str) -> None:
        rows.append({"measure": measure, "workers": workers, "rate": rate, "unit": unit})
        print(f"{measure:42} {workers} workers {rate:10.2f} {unit}")

    cases: Sequence[tuple[str, Any, dict[str, list[int]], int]] = (
        ("states", states, STATES | {"object": [object_width]}, 1),
        ("two 128x128 cameras, 2 frames a chunk", images, seen_images | STATES, 2),
    )
    for name, make, observations, frames in cases:
        for workers in args.workers:
            with VectorEnvironment(
                make, args.environments, observations=list(observations), observation_frames=frames, workers=workers
            ) as environments:
                rate = environment_rate(environments, args.chunks, args.repeats)
            row(f"environments, {name}", workers, rate, "control steps/s")
    for (name, make, observations, frames), config in zip(cases, ("train/state", "train/default"), strict=True):
        policy = untrained_policy(config, args.task, observations)
        for workers in args.workers:
            with VectorEnvironment(
                make, args.environments, observations=list(observations), observation_frames=frames, workers=workers
            ) as environments:
                began = time.perf_counter()
                trials = evaluate(policy, environments, range(args.environments))
                seconds = time.perf_counter() - began
            finished = trials.successes + trials.failures
            row(f"policy, {name.split(',')[0]}, to the horizon", workers, finished / seconds, "rollouts/s")
    if args.json is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "mujoco": mujoco.__version__}
        content = {"machine": machine, "task": args.task, "environments": args.environments, "rows": rows}
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
