"""Measure the embedded simulator: state-only control steps/s, recording speed, and how often the experts succeed.

    MUJOCO_GL=egl python benchmarks/simulation.py [--repeats 5] [--seeds 100] [--json FILE]

Budgets (docs/performance.md): at least 2,000 state-only control steps/s on two cores, at least 40 recorded control
steps/s with two 128x128 cameras and all passes. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from cosmos_engine.sim.experts import Expert
from cosmos_engine.sim.recorder import RecordConfig, record_demos
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.tasks import TASKS

EPISODES_A_REPEAT = 10
DEMOS_A_REPEAT = 5


def expert_demos(task: str, seeds: range) -> dict[int, np.ndarray]:
    """Return the actions of the expert's successful episodes, by seed."""
    environment = TabletopEnvironment(task, render=False)
    demos = {}
    for seed in seeds:
        environment.reset(seed)
        expert, actions = Expert(task), []
        for _ in range(environment.horizon):
            actions.append(expert.act(environment))
            if environment.step(actions[-1]).terminated:
                demos[seed] = np.stack(actions)
                break
    return demos


def state_only_rates(task: str, demos: dict[int, np.ndarray], repeats: int, start: Any) -> list[float]:
    """Return control steps/s of replaying demos, resets included: the controller, grasps and all, but no expert."""
    environment = TabletopEnvironment(task, render=False)
    rates = []
    for _ in range(repeats):
        start.wait()
        began, steps = time.perf_counter(), 0
        for seed, actions in demos.items():
            environment.reset(seed)
            for action in actions:
                environment.step(action)
            steps += len(actions)
        rates.append(steps / (time.perf_counter() - began))
    return rates


def state_only_rate(task: str, demos: dict[int, np.ndarray], repeats: int, processes: int) -> float:
    """Return the median over the repeats of all processes' control steps/s together."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(processes) as pool:
        start = manager.Barrier(processes)
        rates = pool.starmap(state_only_rates, [(task, demos, repeats, start)] * processes, chunksize=1)
    return statistics.median(sum(together) for together in zip(*rates, strict=True))


def record_rate(task: str, repeats: int, workers: int) -> float:
    """Return the median control steps/s of recording: stepping, two 128x128 cameras, all passes, writing.

    The start of the workers is in it, once for `DEMOS_A_REPEAT` demos a worker.
    """
    rates = []
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            episodes = DEMOS_A_REPEAT * workers
            config = RecordConfig(task=task, episodes=episodes, seed=repeat * episodes)
            began = time.perf_counter()
            summary = record_demos(config, Path(folder) / "demos", workers)
            rates.append(summary.control_steps / (time.perf_counter() - began))
    return statistics.median(rates)


def main() -> None:
    """Print one row a task and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=100, help="resets at which each expert is tried")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()

    rows = []
    print(
        "task            expert    demo steps (median)   state-only steps/s: 1 process, 2 processes"
        "   recorded steps/s: 1 process, 2 processes"
    )
    for task in TASKS:
        demos = expert_demos(task, range(args.seeds))
        replayed = dict(list(demos.items())[:EPISODES_A_REPEAT])
        row = {
            "task": task,
            "expert_successes": len(demos),
            "expert_seeds": args.seeds,
            "demo_steps_median": statistics.median(len(actions) for actions in demos.values()),
            "state_only_steps_per_s_1_process": state_only_rate(task, replayed, args.repeats, 1),
            "state_only_steps_per_s_2_processes": state_only_rate(task, replayed, args.repeats, 2),
            "recorded_steps_per_s_1_process": record_rate(task, args.repeats, 1),
            "recorded_steps_per_s_2_processes": record_rate(task, args.repeats, 2),
        }
        rows.append(row)
        print(
            f"{task:15} {len(demos):3}/{args.seeds:<5} {row['demo_steps_median']:12.0f}"
            f" {row['state_only_steps_per_s_1_process']:31.0f} {row['state_only_steps_per_s_2_processes']:12.0f}"
            f" {row['recorded_steps_per_s_1_process']:29.1f} {row['recorded_steps_per_s_2_processes']:12.1f}"
        )
    if args.json is not None:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "mujoco": mujoco.__version__}
        args.json.write_text(json.dumps({"machine": machine, "repeats": args.repeats, "tasks": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
