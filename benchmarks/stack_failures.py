"""Where trials of stack end: how many cubes were lifted, and success by the turn of the cube against the hand.

    MUJOCO_GL=egl python benchmarks/stack_failures.py RUN [--trials 60] [--first-seed 1000000]
        [--denoise-steps N] [--action-chunk N]

RUN is a folder of `cosmos-engine train`; the last two options let its policy act otherwise than it was trained for. A
cube looks the same after a quarter turn, so the hand has to turn by 45 degrees at most; the scripted expert turns it
the nearer way. Prints a table and one line for each failure: the turn, how high the cube came, where it ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cosmos_engine.data.dataset import IMAGE_SUFFIX
from cosmos_engine.sim.environment import Observation, StepResult
from cosmos_engine.sim.experts import grasp_yaw_rad
from cosmos_engine.sim.tabletop import TabletopEnvironment
from policies.checkpoint import load_policy
from policies.diffusion import DiffusionPolicy
from policies.rollout import EnvironmentPool, run_trials

BINS_DEG = (0.0, 15.0, 30.0, 45.1)
LIFTED_M = 0.06  # of the upper cube's middle, which rests at 0.024


@dataclass
class Course:
    """What happened to the cubes in one trial."""

    turn_deg: float
    highest_m: float = 0.0
    offset_m: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))  # of the upper from the lower cube
    outcome: str = ""


class WatchedStack(TabletopEnvironment):
    """The table-top's stack, which notes the course of every trial under its seed."""

    courses: dict[int, Course]

    def reset(self, seed: int) -> Observation:
        """Start, and note the turn."""
        observation = super().reset(seed)
        turn_rad = grasp_yaw_rad(self, "cubeA")
        self._course = self.courses[seed] = Course(math.degrees(turn_rad))
        return observation

    def step(self, action: np.ndarray) -> StepResult:
        """Act, and note where the cubes are."""
        result = super().step(action)
        upper_m = self.object_position_m("cubeA")
        self._course.highest_m = max(self._course.highest_m, float(upper_m[2]))
        self._course.offset_m = upper_m - self.object_position_m("cubeB")
        return result


def main() -> None:
    """Run the trials and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--first-seed", type=int, default=1_000_000)
    parser.add_argument("--denoise-steps", type=int)
    parser.add_argument("--action-chunk", type=int)
    args = parser.parse_args()
    trained = load_policy(args.run, torch.device("cpu")).policy
    assert isinstance(trained, DiffusionPolicy)
    config = dataclasses.replace(
        trained.config,
        denoise_steps=args.denoise_steps or trained.config.denoise_steps,
        action_chunk=args.action_chunk or trained.config.action_chunk,
    )
    policy = DiffusionPolicy(config, dataclasses.replace(trained.spec, action_chunk=config.action_chunk))
    policy.load_state_dict(trained.state_dict())
    policy.eval().requires_grad_(False)
    cameras = tuple(name.removesuffix(IMAGE_SUFFIX) for name in trained.spec.images)
    size = next(iter(trained.spec.images.values()))[0]
    courses: dict[int, Course] = {}

    def make() -> WatchedStack:
        WatchedStack.courses = {}  # for the reset of the constructor
        environment = WatchedStack("stack", cameras=cameras, image_size=size)
        WatchedStack.courses = courses
        return environment

    with EnvironmentPool(make, 8) as pool:
        for trial in run_trials(policy, pool, range(args.first_seed, args.first_seed + args.trials)):
            courses[trial.seed].outcome = trial.outcome
    every = [courses[seed] for seed in sorted(courses)]
    print("turn of the cube, degrees   trials   lifted   succeeded")
    for low, high in itertools.pairwise(BINS_DEG):
        some = [course for course in every if low <= abs(course.turn_deg) < high]
        lifted = sum(course.highest_m > LIFTED_M for course in some)
        successes = sum(course.outcome == "success" for course in some)
        print(f"{f'{low:.0f} to {high:.0f}':26}{len(some):8}{lifted:9}{successes:12}")
    for course in every:
        if course.outcome != "success":
            print(
                f"{course.outcome}: turn {course.turn_deg:4.0f} degrees, highest {100 * course.highest_m:4.1f} cm, "
                f"ends {100 * np.hypot(*course.offset_m[:2]):4.1f} cm beside and {100 * course.offset_m[2]:4.1f} cm "
                "above the other cube's middle"
            )


if __name__ == "__main__":
    main()
