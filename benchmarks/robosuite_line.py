"""The whole line on robosuite's lift, from a file in robomimic's layout to success rates under shifts.

    MUJOCO_GL=egl python benchmarks/robosuite_line.py --out rs/ [--demos 50] [--trials 50] [--updates 4000]

robosuite itself, with no code of the engine, acts the demos of a short scripted expert and writes low_dim.hdf5 as its
own collection tools do. Then the engine's commands: rerender, augment (the demos alone, and with photometric variants),
verify, train, benchmark. Every command is printed; a stopped run goes on. Needs the extra `robosuite`
(docs/robosuite.md).
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

HORIZON = 120
HOVER_M, LIFT_M = 0.08, 0.12
ARMS = {"originals": [], "photometric": ["--generator", "photometric", "--gate", "off"]}
VARIANTS = {"originals": 0, "photometric": 3}
SHIFTS = "vanilla,light_intensity,light_color,camera_pose"


def expert(observation: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield actions that reach for the cube, grasp and lift it; `observation` is robosuite's and is kept up to date."""

    def towards(target_m: np.ndarray, gripper: float) -> np.ndarray:
        shift = (target_m - observation["robot0_eef_pos"]) / 0.05  # of robosuite's default controller, a control step
        return np.concatenate([shift.clip(-0.6, 0.6), np.zeros(3), [gripper]])

    grasp_m = observation["cube_pos"].copy()
    for target_m, tolerance_m in ((grasp_m + [0, 0, HOVER_M], 0.01), (grasp_m, 0.006)):
        while np.linalg.norm(target_m - observation["robot0_eef_pos"]) > tolerance_m:
            yield towards(target_m, -1.0)
    for _ in range(8):
        yield towards(grasp_m, 1.0)
    while True:
        yield towards(grasp_m + [0, 0, LIFT_M], 1.0)


def write_demos(path: Path, count: int) -> None:
    """Write `count` successful demos, whose starts robosuite draws from a generator of its own, seeded with 0."""
    import robosuite

    environment = robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        hard_reset=False,
        control_freq=20,
        horizon=HORIZON + 1,
        seed=0,
    )
    written = failed = 0
    with h5py.File(path.with_suffix(".part"), "w") as file:
        data = file.create_group("data")
        arguments = {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": "Panda", "control_freq": 20}}
        data.attrs["env_args"] = json.dumps(arguments)
        while written < count:
            observation = environment.reset()
            model = environment.sim.model.get_xml()
            actions = expert(observation)
            states, acted, held = [], [], 0
            while len(acted) < HORIZON and held < 5:
                states.append(environment.sim.get_state().flatten())
                acted.append(next(actions))
                after, *_ = environment.step(acted[-1])
                observation.update(after)
                held = held + 1 if environment._check_success() else 0
            if held < 5:
                failed += 1
                continue
            demo = data.create_group(f"demo_{written}")
            demo.attrs["model_file"] = model
            demo.attrs["num_samples"] = len(acted)
            demo["states"], demo["actions"] = np.stack(states), np.stack(acted)
            demo["rewards"] = np.zeros(len(acted))
            written += 1
        data.attrs["total"] = sum(len(demo["actions"]) for demo in data.values())
    path.with_suffix(".part").rename(path)
    print(f"{path}: {written} demos; the expert failed {failed} times")


def run(*words: str | Path) -> None:
    """Run one of the engine's commands, printed first."""
    line = [str(word) for word in words]
    print("\n$ cosmos-engine " + shlex.join(line), flush=True)
    subprocess.run([sys.executable, "-m", "cosmos_engine", *line], check=True)


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--demos", type=int, default=50)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=1, help="of the benchmark")
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "low_dim.hdf5").exists():
        write_demos(out / "low_dim.hdf5", args.demos)
    run("rerender", out / "low_dim.hdf5", "--out", out / "demos")
    for arm, words in ARMS.items():
        run("augment", out / "demos", "--variants", str(VARIANTS[arm]), *words, "--out", out / f"{arm}.zarr")
        run("verify", out / f"{arm}.zarr", "--against", out / "demos")
        run("train", out / f"{arm}.zarr", "--config", "study", f"updates={args.updates}", "--out", out / arm)
    policies = [out / arm for arm in ARMS]
    environment = ["--environment", "robosuite", "--task", "lift"]
    measured = ["--shifts", SHIFTS, "--trials", str(args.trials), "--workers", str(args.workers)]
    run("benchmark", *policies, *environment, *measured, "--out", out / "bench")


if __name__ == "__main__":
    main()
