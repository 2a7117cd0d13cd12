"""Who makes a recording's demos: this process, others on this machine, or a Ray cluster; the demos are the same."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cosmos_engine import worker_process
from cosmos_engine.cluster import MOST_DEATHS, connected
from cosmos_engine.data import Episode
from cosmos_engine.errors import InputError

MakeDemo = Callable[[int], Episode | None]
"""Make the demo of a seed, None if the expert failed; it can be pickled if other processes shall call it."""
_GOES_ON = "the same command goes on from here"


@dataclass(frozen=True)
class DemoCrew:
    """Makers of demos.

    `begin` hands a seed to whoever is free and `end` waits for its demo; of at most `ahead` seeds at once, so that
    demos which wait for an earlier one stay few.
    """

    begin: Callable[[int], Any]
    end: Callable[[Any], Episode | None]
    ahead: int = 1

    def demos(self, first_seed: int, missing: Callable[[], int]) -> Iterator[tuple[int, Episode | None]]:
        """Yield seeds from the first on, in order, each with its demo, until no demo is missing any more.

        Raises:
            InputError: what a maker refused, or a maker that was ended from outside.
            RuntimeError: a defect in a maker on a cluster.
        """
        seeds = itertools.count(first_seed)
        begun: deque[tuple[int, Any]] = deque()
        while (count := missing()) > 0:
            while len(begun) < min(count, self.ahead):
                seed = next(seeds)
                begun.append((seed, self.begin(seed)))
            seed, demo = begun.popleft()
            yield seed, self.end(demo)


@contextmanager
def process_crew(make: MakeDemo, workers: int) -> Iterator[DemoCrew]:
    """Open a crew of `workers` processes of this machine."""
    context = multiprocessing.get_context("spawn")  # fork is unsafe once GL or a library's threads are in use
    pool = ProcessPoolExecutor(workers, context, initializer=worker_process.begin)

    def hand_over(seed: int) -> Future[Episode | None]:
        with worker_process.inherited_environment(threads=1):  # a submitted demo is what starts a process
            return pool.submit(make, seed)

    try:
        yield DemoCrew(hand_over, Future.result, 2 * workers)
    except BrokenProcessPool:
        raise InputError(
            f"a worker was ended, as when memory runs out; {_GOES_ON}, and fewer --workers need less memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def ray_crew(make: MakeDemo, address: str, workers: int | None) -> Iterator[DemoCrew]:
    """Open a crew on a Ray cluster, one on a core; a demo whose maker died is made anew by another.

    Args:
        make: makes a demo.
        address: as `cluster.connected` takes it.
        workers: makers; None for one on every core of the cluster.
    """
    with connected(address, workers, needs_gpu=False) as (ray, count):
        variables = worker_process.environment(threads=1)
        if "MUJOCO_GL" in os.environ:
            variables["MUJOCO_GL"] = os.environ["MUJOCO_GL"]
        task = ray.remote(num_cpus=1, max_retries=MOST_DEATHS - 1, runtime_env={"env_vars": variables})(_made)

        def wait_for(answer: Any) -> Episode | None:
            try:
                made: Episode | None = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, InputError):
                    raise InputError(str(error.cause)) from None
                raise RuntimeError(f"a worker failed:\n{error}") from None
            except ray.exceptions.RayError as error:
                raise InputError(
                    f"{MOST_DEATHS} Ray workers died over a demo, as when memory runs out ({type(error).__name__}); "
                    f"{_GOES_ON}"
                ) from None
            return made

        yield DemoCrew(functools.partial(task.remote, make), wait_for, 2 * count)


def _made(make: MakeDemo, seed: int) -> Episode | None:
    return make(seed)
