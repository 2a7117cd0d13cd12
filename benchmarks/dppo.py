"""Time one DPPO iteration by its parts: `python benchmarks/dppo.py --config cpu --iterations 3 RUN` (a cloned policy).

Prints seconds of collecting and of learning for the critic alone and for both, and pairs learned per second. What is
measured is the shipped config's, on the embedded table-top; key=value changes it. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cosmos_engine.config import load_config
from cosmos_engine.data.dataset import IMAGE_SUFFIX
from cosmos_engine.device import choose_device
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.sim.vector import VectorEnvironment
from policies.checkpoint import load_policy
from policies.diffusion import DiffusionPolicy
from policies.dppo.actor import Actor
from policies.dppo.collection import collect
from policies.dppo.config import DppoConfig, check_dppo_config, sampling_config
from policies.dppo.learning import learn
from policies.dppo.state import DppoState
from policies.finetuned import FinetunedPolicy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cloned", type=Path, metavar="RUN")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the config")
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--task", default="lift")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = load_config(DppoConfig, f"dppo/{args.config}", args.overrides)
    check_dppo_config(config)
    cloned = load_policy(args.cloned, choose_device(config.device)).policy
    assert isinstance(cloned, DiffusionPolicy)
    policy = DiffusionPolicy(sampling_config(cloned.config, config), cloned.spec)
    policy.load_state_dict(cloned.state_dict())
    state = DppoState(FinetunedPolicy(policy.to(cloned.device), config.tuned_denoise_steps), config)
    actor = Actor(state.policy, config)
    cameras = tuple(name.removesuffix(IMAGE_SUFFIX) for name in cloned.spec.images)
    image_size = next(iter(cloned.spec.images.values()), [128])[0]
    make = partial(TabletopEnvironment, args.task, cameras=cameras, image_size=image_size, render=bool(cameras))
    collecting: list[float] = []
    learning: dict[bool, list[float]] = {False: [], True: []}
    control_steps = 0
    with VectorEnvironment(
        make,
        config.environments,
        observations=list(cloned.spec.observation_shapes),
        observation_frames=cloned.spec.observation_frames,
        workers=args.workers,
    ) as environments:
        for number in range(args.iterations):
            rng = np.random.default_rng(number)
            began = time.perf_counter()
            collected = collect(actor, state.critic, environments, config.chunks_per_iteration, config.first_seed, rng)
            collecting.append(time.perf_counter() - began)
            control_steps += collected.control_steps
            for tunes in (False, True):
                state.iteration = config.critic_warmup_iterations if tunes else -1
                began = time.perf_counter()
                learn(state, actor, collected, config, rng)
                learning[tunes].append(time.perf_counter() - began)
    pairs = config.environments * config.chunks_per_iteration * config.tuned_denoise_steps * config.epochs
    seconds = statistics.median(learning[True])
    print(f"collect   {statistics.median(collecting):8.2f} s, {control_steps / sum(collecting):.0f} control steps/s")
    print(f"learn     {seconds:8.2f} s, {pairs / seconds:.0f} pairs/s")
    print(f"          {statistics.median(learning[False]):8.2f} s for the critic alone")


if __name__ == "__main__":
    main()
